"""The front page and the notebook that it is made from say the same, and what it says to type works."""

import re
import shlex
import shutil

from conftest import BRIEF, LONG, sets
from tools.readme import LINK, ROOT, readme
from wearable_imagenet.cli import main


def test_readme_is_in_step_with_index():
    """What people read first is what the notebook says."""
    assert (ROOT / "README.md").read_text(encoding="utf-8") == readme(), "README.md is out of step: make readme"


def test_every_local_link_and_picture_is_there():
    """No dead link, no missing picture."""
    links = [link for _, link in LINK.findall(readme())]
    assert any(link.endswith(".jpg") for link in links)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing, missing


def blocks(kind):
    """Lines of the fenced blocks in one language, without their comments."""
    found = re.findall(rf"^```{kind}\n(.*?)^```", readme(), re.MULTILINE | re.DOTALL)
    return [line for block in found for line in block.splitlines() if line.strip()]


def test_no_block_is_left_out():
    """Every block is in a language that a test below, or in tests/test_front.py, runs."""
    kinds = re.findall(r"^```(\w+)", readme(), re.MULTILINE)
    assert sorted(set(kinds)) == ["bibtex", "python", "sh"] and kinds.count("python") == 2
    assert {line.split()[0] for line in blocks("sh")} == {"make", "wearable-imagenet"}


def test_targets_of_make_are_there():
    """`make demo` and the others, which tests/test_install.py and the workflows run."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [line.split()[1] for line in blocks("sh") if line.startswith("make ")]
    assert len(targets) >= 5 and all(re.search(rf"^{target}:.*## ", makefile, re.MULTILINE) for target in targets)


def test_the_second_block_of_python_runs(monkeypatch):
    """From the root of a checkout. The first one is in tests/test_front.py."""
    _, block = re.findall(r"^```python\n(.*?)^```", readme(), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(block, {})


def test_commands_run_one_after_the_other(photos, tmp_path, monkeypatch, capsys):
    """As they stand, on a few photographs, one class of which is called rust, and at a small size."""
    monkeypatch.chdir(tmp_path)
    for folder, name in zip(sorted(photos.iterdir()), ("moss", "rust", "slate")):
        shutil.copytree(folder, tmp_path / "path/to/photographs" / name)
    done = []
    for line in blocks("sh"):
        words = shlex.split(
            line.split(" > ")[0] if LONG else line.split(" > ")[0].replace("42x36in", "9x7in"), comments=True
        )[1:]
        if not line.startswith("wearable-imagenet") or words[0] == "gallery" and not LONG:  # garments take a while
            continue
        if words[0] == "print" and words[1].endswith(".zip"):  # it was sent
            shutil.copy(tmp_path / "runs/mine/mine.zip", tmp_path)
        try:
            status = main(words + (sets(**BRIEF) if words[0] == "demo" else []))
        except SystemExit as end:  # help, completion
            status = end.code
        assert status == 0, (line, capsys.readouterr().err)
        done.append(words[0])
    assert {"demo", "print", "share", "settings", "runs", "distill"} <= set(done)
    assert "rust_001.png" in {path.name for path in (tmp_path / "runs/cloth/prints").iterdir()}
