"""The front page and the notebook that it is made from say the same."""
from readme import ROOT, readme


def test_readme_is_in_step_with_index():
    assert (ROOT / "README.md").read_text(encoding="utf-8") == readme(), "README.md is out of step: make readme"


def test_every_local_link_and_picture_is_there():
    import re
    links = re.findall(r"""(?:\]\(|src="|href=")([^)"#\s]+)""", readme())
    assert links and any(link.endswith(".png") for link in links)
    for link in links:
        if "://" not in link: assert (ROOT / link).exists(), link
