"""Draw exported names at random, to guess their rooms by the table of the front page: python tools/rooms.py [--seed 7]

With --answers, the room of each stands beside it. Of 25 names at least 23 should be mentioned in, or obvious from, the
words of their room.
"""

import argparse
import ast
import random
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "wearable_imagenet"


def exported() -> list[tuple[str, str]]:
    """Every (name, module) of every `__all__`, in order."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
                found += [(name, module) for name in ast.literal_eval(node.value)]
    return found


def draw(count: int, seed: int) -> list[tuple[str, str]]:
    """`count` of them, in random order; the same for the same `seed`."""
    return random.Random(seed).sample(exported(), count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=25, help="how many names (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which draw (default: %(default)s)")
    parser.add_argument("--answers", action="store_true", help="show the rooms")
    a = parser.parse_args()
    for k, (name, module) in enumerate(draw(a.count, a.seed), 1):
        print(f"{k:3}  {name:28}  {module}" if a.answers else f"{k:3}  {name}")


if __name__ == "__main__":
    main()
