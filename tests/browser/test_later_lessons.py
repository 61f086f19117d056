"""Lessons 5 to 7 in a real browser: the evaluation to look at, a folder of one's own, and the fitting room."""

import pytest

from .lesson import Lesson, png

PATCHES, ARM, FOLDER, PRESET, SIZE = "patches n of a class", "trained on", "folder", "preset", "crop size"


@pytest.fixture(scope="module")
def open_lesson(browser, server):
    """`open_lesson(name)`: a lesson, run from top to bottom."""

    def open_(name):
        lesson = Lesson(browser.new_page(), server, f"tutorials/{name}.ipynb")
        lesson.run_all()
        assert (lesson.errors(), lesson.alerts(), lesson.console) == ([], [], [])
        return lesson

    return open_


@pytest.fixture(scope="module")
def judged(open_lesson):
    """Lesson 5, run once."""
    with open_lesson("05_does_it_train") as lesson:
        yield lesson


@pytest.fixture(scope="module")
def photographs(open_lesson):
    """Lesson 6, run once."""
    with open_lesson("06_your_photographs") as lesson:
        yield lesson


def assert_agrees(lesson, name: str):
    """The first explorer shows what its controls ask for, and nothing that was shown on the way was wrong."""
    lesson.python(f"{name}.wait()")
    assert (
        lesson.python(
            f"[key for key, shown in list({name}.shown.items()) if {name}.shown.pop(key) and {name}.picture(**dict(key)) != shown]"
        )
        == "[]"
    )
    assert lesson.caption() == lesson.python(f"{name}.describe()")
    same = lesson.picture() == png(lesson.python(f"{name}.picture(**{name}.values)"))
    assert same, "the picture is not that of the controls"


def choose(lesson, text: str, *keys: str):
    """Choose from a list by keys.

    It must be opened first: arrows go to another cell otherwise, and on a busy machine it opens late.
    """
    box = lesson.dropdown(text)
    before, patience = box.input_value(), 500
    while box.input_value() == before and patience < 5000:
        box.press("Alt+ArrowDown")
        lesson.page.wait_for_timeout(patience)
        for key in (*keys, "Enter"):
            lesson.page.keyboard.press(key)
        lesson.page.wait_for_timeout(patience)
        patience *= 2


MOVES = {
    "patches by keys": (lambda lesson: lesson.press(PATCHES, "ArrowLeft", 2), 10, "textures"),
    "patches by mouse": (lambda lesson: lesson.drag(PATCHES, 0), 1, "textures"),
    "real images": (lambda lesson: lesson.dropdown(ARM).select_option("real images"), 1, "real"),
    "one key more": (lambda lesson: lesson.press(PATCHES, "ArrowRight"), 2, "real"),
    "noise": (lambda lesson: (choose(lesson, ARM, "ArrowDown"), lesson.press(PATCHES, "End")), 50, "noise"),
}


@pytest.mark.parametrize("move", MOVES)
def test_evaluation_follows(move, judged):
    """After each move, the numbers in the caption are those of the networks' files, and the picture is another, the
    right one."""
    act, patches, arm = MOVES[move]
    before = judged.picture()
    act(judged)
    what = f"{patches} {'real image' if arm == 'real' else 'patch'}{'' if patches == 1 else 's' if arm == 'real' else 'es'} a class"
    caption = judged.caption(says=what)
    assert judged.value(PATCHES) == str(patches)
    assert (
        judged.python(
            f"'{{mean:.1%}} ± {{std:.1%}}'.format(**evaluate(textures, data, run.evaluation_folder, ('{arm}',), pool={patches})['{arm}'])"
        )
        in caption
    )
    shown, said, share = eval(judged.python(f"most_confused(curves['{arm}'][{patches}]['confusion'], data.classes)[0]"))
    assert f"{share:.0%} of {shown} is taken for {said}" in caption
    assert_agrees(judged, "explorer")
    changed = judged.picture() != before
    assert changed
    judged.screenshot(f"evaluation {move}", n=0)
    assert (judged.alerts(), judged.console) == ([], [])


def test_folder_was_read(photographs):
    """What the caption counts is what lies in the folder."""
    assert photographs.caption().startswith(
        "photographs: 5 classes, 159 training + 40 test images of 32 px. Skipped 1: sand/IMG_0039.jpg"
    )
    assert photographs.python("len(list(photographs.glob('*/*.jpg')))") == "200"
    assert_agrees(photographs, "look")
    photographs.screenshot("folder", n=0)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ("/nowhere", "/nowhere does not exist"),
        ("{photographs}/sand", "has too few classes"),
        ("", "no folder is named"),
    ],
)
def test_wrong_folder(wrong, words, photographs):
    """One line says what is wrong, in place of the picture; the way back is open."""
    right, field = photographs.python("photographs"), photographs.control(FOLDER).get_by_role("textbox")
    field.fill(wrong.format(photographs=right))
    field.press("Enter")
    alert = photographs.explorer().get_by_role("alert")
    alert.filter(has_text=words).wait_for()
    assert (
        alert.count() == 1 and "\n" not in alert.inner_text() and photographs.explorer().locator("figure").count() == 0
    )
    photographs.screenshot(f"folder refused {words}", n=0)
    field.fill(right)
    field.press("Enter")
    photographs.caption(says="159 training")
    assert_agrees(photographs, "look")


def test_folder_changes(photographs):
    """Another crop size and preset from their lists; images that are gone since, by *read again*."""
    photographs.dropdown(SIZE).select_option("16 px")
    photographs.caption(says="test images of 16 px")
    assert photographs.python("(look.settings().crop_size, look.data().size)") == "(16, 16)"
    photographs.dropdown(PRESET).select_option(
        photographs.python("{preset: text for text, preset in look.controls['preset'].options}['tiny64']")
    )
    photographs.python("look.wait()")
    assert photographs.python("(look.values['preset'], look.settings().levels)") == "('tiny64', 5)"
    photographs.python("[path.unlink() for path in photographs.glob('grass/*[02468].jpg')]")
    photographs.button("read again").click()
    photographs.caption(says="143 training + 36 test images")  # of 20 and 20, split anew
    assert_agrees(photographs, "look")
    photographs.screenshot("folder read again", n=0)
    assert (photographs.alerts(), photographs.console) == ([], [])


def test_studio_went_to_the_end(photographs):
    """The lesson's last picture of the studio is that of all steps."""
    assert photographs.caption(1).startswith("After 100 of 100 distillation steps")
    photographs.screenshot("folder distilled", n=1)


@pytest.fixture(scope="module")
def fitting(open_lesson):
    """Lesson 7, run once."""
    with open_lesson("07_wear_it") as lesson:
        yield lesson


FITTINGS = {
    "inches by keys": (lambda lesson: lesson.press("one tile, inches", "ArrowRight", 2), "one tile 4.5 inches"),
    "inches by mouse": (lambda lesson: lesson.drag("one tile, inches", 1), "one tile 12 inches"),
    "another garment": (lambda lesson: lesson.dropdown("garment").select_option("tote"), "on a tote"),
    "another repeat": (lambda lesson: lesson.dropdown("repeat").select_option("half-brick"), "half-brick"),
    "another class": (lambda lesson: lesson.dropdown("class").select_option("tulip"), "tulip on"),
    "a flatter tone": (lambda lesson: lesson.press("tone", "ArrowLeft", 2), "tone 0.5"),
}


@pytest.mark.parametrize("move", FITTINGS)
def test_fitting_room(move, fitting):
    """After each move, cloth and garment are those of the controls."""
    act, words = FITTINGS[move]
    before = fitting.picture()
    act(fitting)
    fitting.caption(says=words)
    assert_agrees(fitting, "studio")
    changed = fitting.picture() != before
    assert changed
    fitting.screenshot(f"fitting {move}", n=0)
    assert (fitting.alerts(), fitting.console) == ([], [])


def test_fitting_room_saves(fitting):
    """Three files at the first press, one line that refuses at the second."""
    saved = "sorted(p.name for p in folder.glob('tulip*'))"
    fitting.button("Save files").click()
    fitting.explorer().get_by_role("status").filter(has_text="saved tulip_009.png").wait_for()
    assert fitting.python(saved) == "['tulip_009.png', 'tulip_009_proof.png', 'tulip_009_tote.png']"
    fitting.button("Save files").click()
    fitting.explorer().get_by_role("alert").filter(has_text="exists").wait_for()
    assert (
        fitting.python(saved) == "['tulip_009.png', 'tulip_009_proof.png', 'tulip_009_tote.png']"
        and fitting.console == []
    )
