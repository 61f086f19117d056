"""Every lesson in a real JupyterLab and a real browser; in the third, what is shown is what the sliders say, and what Python computes."""
import random

import pytest

from conftest import ROOT

from .lesson import Lesson, png

LESSONS = sorted((ROOT / "nbs/tutorials").glob("*.ipynb"))
EXPERT, T, N, M, ALPHA = SLIDERS = ["expert", "start epoch t", "student steps N", "expert epochs M", "step size α"]
# Pictures that the explorer keeps, wherever the sliders were meanwhile, and that are not what it computes anew.
MISREMEMBERED = "[key for key, shown in list(explorer.shown.items()) if explorer.shown.pop(key) and explorer.picture(**dict(key)) != shown]"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson_runs(path, browser, server):
    """From top to bottom, with no error in a cell, in an explorer or in the browser, and no image missing."""
    with Lesson(browser.new_page(), server, f"tutorials/{path.name}") as lesson:
        lesson.run_all()
        lesson.screenshot(path.stem)
        assert (lesson.errors(), lesson.alerts(), lesson.console) == ([], [], [])
        assert lesson.page.locator(".jp-Notebook img").evaluate_all("images => images.filter(image => image.complete && !image.naturalWidth).map(image => image.alt)") == []


@pytest.fixture(scope="module")
def student(browser, server):
    """Lesson 3, run once; M is at its least, so that the expert is long enough for every t."""
    with Lesson(browser.new_page(), server, "tutorials/03_the_student_follows.ipynb") as lesson:
        lesson.run_all()
        lesson.press(M, "Home")
        lesson.caption(says="M = 1,")
        yield lesson


def assert_agrees(student):
    """Sliders, caption and picture say the same, and it is what Python computes anew; so is every picture shown on the way."""
    seen = [student.value(text) for text in SLIDERS]
    where = f"t = {student.value(T)}, N = {student.value(N)}, M = {student.value(M)}, α = {student.value(ALPHA)}"
    student.caption(says=where)
    student.python("explorer.wait()")           # nothing is under way that could change the picture again
    assert student.python("'{expert} {start_epoch} {student_steps} {expert_epochs} {student_lr:.4f}'.format(**explorer.values)").split() == seen
    assert where in student.caption() and student.python("'matching loss {loss:.4f}'.format(**explorer.result())") in student.caption()
    assert student.python(MISREMEMBERED) == "[]"
    same = student.picture() == png(student.python("explorer.picture(**explorer.values)"))
    assert same, "the picture is not that of the sliders"
    student.python("explorer.shown.clear()")


MOVES = {
    "t by keys": lambda student: student.press(T, "ArrowRight", 2),
    "N by keys": lambda student: student.press(N, "ArrowLeft", 3),
    "N by mouse": lambda student: student.drag(N, 0.25),
    "t by mouse": lambda student: student.drag(T, 0.9),
}


@pytest.mark.parametrize("move", MOVES)
def test_picture_follows(move, student):
    """After each move the caption has the numbers, and the picture is another, the right one."""
    before, values = student.picture(), [student.value(text) for text in SLIDERS]
    MOVES[move](student)
    assert [student.value(text) for text in SLIDERS] != values
    assert_agrees(student)
    changed = student.picture() != before
    assert changed
    student.screenshot(f"student {move}", n=0)
    assert (student.alerts(), student.console) == ([], [])


def test_quick_hands(student):
    """Rounds of keys and drags, quicker than pictures can be drawn: then the sliders are where they were left, and the picture is theirs."""
    dice = random.Random(0)
    for turn in range(12):
        left = {}
        for text in dice.choices([EXPERT, T, N, ALPHA], k=6):
            if dice.random() < 0.5: student.drag(text, dice.random())
            else: student.press(text, dice.choice(["ArrowLeft", "ArrowRight"]), dice.randint(1, 8))
            left[text] = student.value(text)
        assert_agrees(student)
        assert {text: student.value(text) for text in left} == left
        student.screenshot(f"student after quick hands {turn}", n=0)
    assert (student.alerts(), student.console) == ([], [])


def test_refusal_and_back(student):
    """Where the expert is too short, one line says so in place of the picture; the way back is open."""
    student.press(T, "End")
    student.press(M, "End")
    alert = student.explorer().get_by_role("alert")
    alert.filter(has_text=f"t + M = {int(student.value(T)) + int(student.value(M))} needs experts of").wait_for()
    assert len(student.alerts()) == 1 and student.explorer().locator("figure").count() == 0
    student.screenshot("student refused", n=0)
    student.press(M, "Home")
    assert_agrees(student)
    assert (student.alerts(), student.console) == ([], [])
