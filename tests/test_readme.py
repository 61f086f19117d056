"""The front page and the notebook that it is made from say the same."""

from tools.readme import LINK, ROOT, readme


def test_readme_is_in_step_with_index():
    """What people read first is what the notebook says."""
    assert (ROOT / "README.md").read_text(encoding="utf-8") == readme(), "README.md is out of step: make readme"


def test_every_local_link_and_picture_is_there():
    """No dead link, no missing picture."""
    links = [link for _, link in LINK.findall(readme())]
    assert any(link.endswith(".jpg") for link in links)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert not missing, missing
