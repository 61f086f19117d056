"""Every lesson in a real JupyterLab and a real browser; in the third and the fourth, what is shown is what the
controls say, and what Python computes."""

import ast
import random
import re
import time

import pytest

from conftest import ROOT

from .lesson import Lesson, png

LESSONS = sorted((ROOT / "nbs/tutorials").glob("*.ipynb"))
EXPERT, T, N, M, ALPHA = SLIDERS = ["expert", "start epoch t", "student steps N", "expert epochs M", "step size α"]
# Pictures that the explorer keeps, wherever the sliders were meanwhile, and that are not what it computes anew.
MISREMEMBERED = "[key for key, shown in list(explorer.shown.items()) if explorer.shown.pop(key) and explorer.picture(**dict(key)) != shown]"


MAIN = "__import__('wearable_imagenet.cli').cli.main"  # in a notebook that does not import it
# What every explorer of a lesson has to say, once it has caught up with its controls. Widgets that are no explorers
# follow nothing.
CAPTIONS = (
    "[e.wait() or e.describe() for e in list(globals().values()) if hasattr(e, 'compute') and not isinstance(e, type)]"
)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson_runs(path, browser, server):
    """From top to bottom, with no error in a cell, in an explorer or in the browser, and no image missing."""
    with Lesson(browser.new_page(), server, f"tutorials/{path.name}") as lesson:
        lesson.run_all()
        for caption in ast.literal_eval(lesson.python(CAPTIONS)):
            lesson.page.locator("figcaption", has_text=caption).first.wait_for(state="attached")
        lesson.screenshot(path.stem)
        assert (lesson.errors(), lesson.alerts(), lesson.console) == ([], [], [])
        assert (
            lesson.page.locator(".jp-Notebook img").evaluate_all(
                "images => images.filter(image => image.complete && !image.naturalWidth).map(image => image.alt)"
            )
            == []
        )


def test_picture_or_widget(browser, server):
    """Before it runs, a lesson shows the saved picture of its explorer; afterwards the explorer itself, and nothing
    twice."""
    with Lesson(browser.new_page(), server, "tutorials/02_experts.ipynb") as lesson:
        saved = lesson.page.locator(".jp-OutputArea-output img")
        lesson.screenshot("02_experts saved")
        assert (saved.count(), lesson.explorer().count(), lesson.console) == (1, 0, [])
        lesson.run_all()
        lesson.screenshot("02_experts live")
        assert (saved.count(), lesson.explorer().locator("img").count()) == (1, 1)


@pytest.fixture(scope="module")
def student(browser, server):
    """Lesson 3, run once; M is at its least, so that the expert is long enough for every t."""
    with Lesson(browser.new_page(), server, "tutorials/03_the_student_follows.ipynb") as lesson:
        lesson.run_all()
        lesson.press(M, "Home")
        lesson.caption(says="M = 1,")
        yield lesson


def assert_agrees(student):
    """Sliders, caption and picture say the same, and it is what Python computes anew; so is every picture shown on
    the way."""
    seen = [student.value(text) for text in SLIDERS]
    where = f"t = {student.value(T)}, N = {student.value(N)}, M = {student.value(M)}, α = {student.value(ALPHA)}"
    student.caption(says=where)
    student.python("explorer.wait()")  # nothing is under way that could change the picture again
    assert (
        student.python(
            "'{expert} {start_epoch} {student_steps} {expert_epochs} {student_lr:.4f}'.format(**explorer.values)"
        ).split()
        == seen
    )
    assert (
        where in student.caption()
        and student.python("f'matching loss {explorer.result().loss:.4f}'") in student.caption()
    )
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
    """Rounds of keys and drags, quicker than pictures can be drawn: then the sliders are where they were left, and
    the picture is theirs."""
    dice = random.Random(0)
    for turn in range(12):
        left = {}
        for text in dice.choices([EXPERT, T, N, ALPHA], k=6):
            if dice.random() < 0.5:
                student.drag(text, dice.random())
            else:
                student.press(text, dice.choice(["ArrowLeft", "ArrowRight"]), dice.randint(1, 8))
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


@pytest.fixture(scope="module")
def studio(browser, server):
    """Lesson 4, run once. The first studio is at rest; the second was driven by cells and has stopped."""
    with Lesson(browser.new_page(), server, "tutorials/04_distil_a_texture.ipynb") as lesson:
        lesson.run_all()
        yield lesson


def steps(studio, says: str = "") -> int:
    """The number of steps in the status line."""
    return int(re.search(r"(\d+) of \d+ steps", studio.status(says=says))[1])


def settled(studio) -> int:
    """The number of steps, the same in status, caption and Python, when nothing is under way."""
    assert studio.python("studio.wait()") == "None" and studio.python("studio.thread") == "None"
    n = int(studio.python("len(studio.losses)"))
    studio.status(says=f": {n} of 200 steps")
    studio.caption(says=f"After {n} of 200 distillation steps")
    assert studio.picture() == png(studio.python("studio.view.value"))
    loss = studio.python("f'{sum(studio.losses[-10:]) / len(studio.losses[-10:]):.3f}'")
    assert f"Mean matching loss of the last {min(n, 10)}: {loss}." in studio.caption()
    return n


def test_studio(studio):
    """Start, pause, one step, a slider, resume, stop: by hand, while the kernel answers; then the folder is
    complete."""
    assert studio.status() == "ready: 0 of 200 steps"
    studio.button("Start").click()
    studio.button("Pause").wait_for()
    seen, answers = [], []
    while len(seen) < 3:  # the number rises, and the kernel answers all the while
        asked = time.monotonic()
        studio.python("1 + 1")
        answers.append(time.monotonic() - asked)
        if (now := steps(studio)) and now not in seen:
            seen.append(now)
    assert seen == sorted(seen) and max(answers) < 2
    studio.screenshot("studio running", n=0)
    studio.button("Pause").click()
    studio.button("Resume").wait_for()
    paused = settled(studio)
    assert paused >= seen[-1] and "a second" not in studio.status()
    time.sleep(1)
    assert settled(studio) == paused

    studio.button("Step once").click()
    studio.status(says=f"paused: {paused + 1} of 200 steps")
    assert settled(studio) == paused + 1

    studio.press("student steps N", "ArrowLeft", 3)
    studio.caption(says="N = 17,")
    assert (studio.value("student steps N"), studio.python("studio.distiller.settings.student_steps")) == ("17", "17")
    studio.drag("latest start epoch T⁺", 0)
    studio.caption(says="T⁺ = 0,")
    assert settled(studio) == paused + 1

    studio.button("Resume").click()
    studio.status(says="running")
    studio.press("pixel lr", "ArrowRight", 2)  # while it runs
    studio.caption(says=f"pixel lr = {studio.value('pixel lr')}.")
    while steps(studio) < paused + 5:
        time.sleep(0.1)
    studio.button("Stop").click()
    stopped = steps(studio, says="stopped")
    assert stopped == settled(studio) > paused + 1
    assert all(button.is_disabled() for button in studio.explorer().get_by_role("button").all())
    studio.screenshot("studio stopped", n=0)
    assert (studio.alerts(), studio.console) == ([], [])

    assert (
        studio.python(
            "{'run.json', 'experts', 'checkpoint.safetensors', 'textures.safetensors', 'tiling.png', 'loss.png'} - {path.name for path in run.folder.iterdir()}"
        )
        == "set()"
    )
    assert (
        studio.python("[(change['name'], change['step']) for change in read_json(run.settings_file)['changes']][-1][0]")
        == "pixel_lr"
    )
    assert studio.python("run.textures.settings.distill_steps") == str(stopped)
    assert studio.python("(run.textures.canvases == studio.textures().canvases).all().item()") == "True"
    assert (
        studio.python(f"{MAIN}(['distill', '--run', str(run.folder), '--set', 'distill_steps={stopped + 2}'])") == "0"
    )
    assert studio.python("run.textures.settings.distill_steps") == str(stopped + 2)


def test_studios_side_by_side(studio):
    """The one that the cells drove is as they left it, whatever happened to the other."""
    n = studio.python("stopped_at")
    assert studio.status(
        1
    ) == f"stopped: {n} of 200 steps" and f"After {n} of 200 distillation steps" in studio.caption(1)
    assert studio.value("student steps N", 1) == "10"
