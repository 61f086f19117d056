"""Keep what a run came to: `python tools/results.py RUN nbs/results/NAME [--networks 5] [--arms textures,mosaic,real]`.

Writes NAME.safetensors, the textures with canvases of 16 bits, and NAME.jpg, all of them tiled; evaluates that very
file, and writes NAME.json: settings, accuracies, losses, seams, clipping, seconds and versions. Can be stopped and
continued."""

import argparse
import dataclasses
import hashlib
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm

from wearable_imagenet.cloth.share import sendable
from wearable_imagenet.core import write_json
from wearable_imagenet.evaluate import ARMS, asked, digest, evaluate
from wearable_imagenet.figure import own_style
from wearable_imagenet.pictures import draw_tilings
from wearable_imagenet.run import Run
from wearable_imagenet.settings import settings_text
from wearable_imagenet.stages import find_data, make_report
from wearable_imagenet.textures import Textures


def start_arm(run: Run, t: Textures) -> Textures:
    "What the textures began as, with their step size"
    first = Textures.load(run.frame_file(0))
    return dataclasses.replace(t, canvases=first.canvases)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--start", action="store_true", help="evaluate what the canvases began as, too")
    a = parser.parse_args()
    run, file = Run(a.run), a.out.with_suffix(".safetensors")
    t = run.textures
    data, bar = find_data(t.settings), partial(tqdm, mininterval=5)
    sendable(t).save(file)
    t = Textures.load(file)
    with own_style():
        picture = draw_tilings(t, 3)
        picture.savefig(a.out.with_suffix(".jpg"), format="jpeg", dpi=160, pil_kwargs=dict(quality=88))
    t = asked(t, dataclasses.replace(t.settings, eval_networks=a.networks))
    result = evaluate(t, data, run.evaluation_folder, tuple(a.arms.split(",")), bar)
    report = make_report(run, result)
    if a.start and t.settings.start != "noise":
        began = evaluate(start_arm(run, t), data, run.evaluation_folder, ("textures",), bar)["textures"]
        report["accuracy_start"] = {k: began[k] for k in ("mean", "std", "values")}
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    about = dict(settings=settings_text(t.settings), images=dict(train=len(data.train), test=len(data.test)))
    write_json(
        a.out.with_suffix(".json"), about | dict(classes=t.classes, digest=digest(t, data), sha256=sha, **report)
    )
    for arm in [k for k in report if k.startswith("accuracy_")]:
        print(f"{arm.removeprefix('accuracy_'):10} {100 * report[arm]['mean']:5.1f} ± {100 * report[arm]['std']:.1f} %")


if __name__ == "__main__":
    main()
