"""Whether a tag may be released: python tools/release.py v1.2.3

The version of a tag stands in settings.ini, in CITATION.cff, in the exported package, and, with a day, in CHANGELOG.md.
What is not released yet stands there under "## Unreleased".
"""

import re
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACES = {  # file → what it says of a version; {} stands for it
    "settings.ini": r"^version = {}$",
    "CITATION.cff": r"^version: {}$",
    "wearable_imagenet/__init__.py": r'^__version__ = "{}"$',
    "CHANGELOG.md": r"^## {} \((\d{{4}}-\d\d-\d\d)\)$",
}


def find_faults(tag: str, root: Path = ROOT) -> list[str]:
    """What keeps a tag from being released, in lines; none if nothing does."""
    if not re.fullmatch(r"v\d+\.\d+\.\d+", tag):
        return [f"the tag {tag} is not of the form v1.2.3"]
    faults, version = [], tag[1:]
    for name, says in PLACES.items():
        found = re.search(says.format(re.escape(version)), (root / name).read_text(encoding="utf-8"), re.MULTILINE)
        if not found:
            faults.append(f"{name} does not say {version}" + " with a day" * (name == "CHANGELOG.md"))
        elif found.groups() and not _is_day(found[1]):
            faults.append(f"{name} says {found[1]}, which is no day")
    return faults


def _is_day(text: str) -> bool:
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit("\n".join(find_faults(sys.argv[1])) or 0)
