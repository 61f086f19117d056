"""Images of as many classes as asked for, to see how the machinery bears them: python tools/classes.py FOLDER

Each class is a wave of a direction, a length and two colors of its own, at a random place and with noise, as JPEG files
in train/NAME and test/NAME. The defaults have the shape of Tiny ImageNet: 200 classes of 500 and 50 images of 64 px.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image


def draw_image(label: int, rng: np.random.Generator, side: int) -> Image.Image:
    """One image of a class."""
    own = np.random.default_rng(label)
    angle, length, colors = own.uniform(0, np.pi), own.uniform(0.1, 0.5), own.uniform(0, 255, (2, 3))
    y, x = np.mgrid[:side, :side] / side
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * ((x * np.cos(angle) + y * np.sin(angle)) / length + rng.uniform()))
    image = colors[0] + wave[..., None] * (colors[1] - colors[0]) + rng.normal(0, 20, (side, side, 3))
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


def main() -> None:
    """Write them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for name, number in (("classes", 200), ("train", 500), ("test", 50), ("side", 64)):
        parser.add_argument(f"--{name}", type=int, default=number)
    a = parser.parse_args()
    for part, count in (("train", a.train), ("test", a.test)):
        for label in range(a.classes):
            folder, rng = a.folder / part / f"n{label:04d} wave", np.random.default_rng((label, count))
            folder.mkdir(parents=True, exist_ok=True)
            for k in range(count):
                draw_image(label, rng, a.side).save(folder / f"{k:04d}.jpg", quality=85)


if __name__ == "__main__":
    main()
