"""The command line: what it offers, and that it refuses bad input in one line before anything is written."""

import re
import shutil
import subprocess

import pytest
from PIL import Image
from safetensors.torch import load_file

from conftest import SMALL, command, run_command, sets, tree
from wearable_imagenet.cli import main
from wearable_imagenet.core import UserError
from wearable_imagenet.distill import distill
from wearable_imagenet.experts import epoch_file
from wearable_imagenet.images.cache import load_data
from wearable_imagenet.settings import make_settings

COMMANDS = {
    "demo": ["--run", "--preset", "--data", "--settings", "--set"],
    "experts": ["--run", "--preset", "--data", "--settings", "--set"],
    "distill": ["--run", "--preset", "--data", "--settings", "--set"],
    "evaluate": ["--run", "--preset", "--data", "--settings", "--set"],
    "tile": ["--run", "--out", "--force", "--yes", "--tiles", "--repeat", "--for"],
    "gallery": ["--out", "--force", "--inches", "0.5 to 16 inches"],
    "check": ["--repair"],
    "fork": ["--from", "--set", "checkpoint"],
    "print": [
        "--run",
        "--out",
        "--class",
        "--inches",
        "--cm",
        "--pixels",
        "--dpi",
        "--sheet",
        "--repeat",
        "--format",
        "--tone",
        "--inks",
        "--proof",
        "--force",
    ],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name, capsys):
    """`--help` names every option, succeeds, and shows the defaults of a run's folder."""
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    text = capsys.readouterr()
    assert end.value.code == 0 and text.err == ""
    assert f"wearable-imagenet {name}" in text.out and "runs/" in text.out
    assert [option for option in COMMANDS[name] if option not in " ".join(text.out.split())] == []


def test_help_lists_every_command(capsys):
    """Whoever types `--help` sees all there is."""
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert [name for name in COMMANDS if not re.search(rf"^ +{name} ", text, re.MULTILINE)] == []


def shown(errors: str) -> list[str]:
    """What is left to read on a terminal, where a finished progress bar is overwritten by what follows its carriage
    return."""
    return [line for line in (line.rsplit("\r", 1)[-1].strip() for line in errors.split("\n")) if line]


@pytest.fixture
def refuse(tmp_path, monkeypatch, capsys):
    """`refuse(words, *arguments)`: the command refuses in one line that holds all words, and leaves every folder as
    it was."""
    (tmp_path / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")

    def folders():
        return {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")}

    def check(words, *arguments):
        before, names = tree(tmp_path), folders()
        capsys.readouterr()
        assert main(list(map(str, arguments))) not in (0, None)
        out, err = capsys.readouterr()
        (line,) = shown(err)
        assert line.startswith("wearable-imagenet: ") and out == ""
        assert [word for word in words if word not in line] == [], line
        assert folders() == names
        assert tree(tmp_path) == before

    return check


# What is wrong with a setting → what the message must hold: what was found, and what would be right.
BAD_SETTINGS = {
    "max_start_epoch=11": ["max_start_epoch 11", "expert_epochs 2", "13 epochs", "12"],
    "expert_epochs=10": ["max_start_epoch 3", "expert_epochs 10", "13 epochs", "12"],
    "canvas_size=7": ["canvas_size 7×7", "crop_size of 8", "8 or more"],
    "canvas_size=64x7": ["canvas_size 64×7", "crop_size of 8", "8 or more"],
    "canvas_size=8x8x8": ["canvas_size '8x8x8'", "64x96"],
    "canvas_size=0": ["canvas_size 0", "more than zero"],
    "canvas_size=-8x8": ["canvas_size -8", "more than zero"],
    "crop_size=0": ["crop_size 0", "more than zero"],
    "crop_size=-8": ["crop_size -8", "more than zero"],
    "width=0": ["width 0", "more than zero"],
    "depth=-1": ["depth -1", "more than zero"],
    "depth=4": ["depth 4", "8 px", "3 or less"],
    "experts=0": ["experts 0", "more than zero"],
    "student_steps=0": ["student_steps 0", "more than zero"],
    "distill_steps=-5": ["distill_steps -5", "more than zero"],
    "eval_networks=0": ["eval_networks 0", "more than zero"],
    "max_start_epoch=-1": ["max_start_epoch -1", "zero or more"],
    "student_lr=-0.1": ["student_lr -0.1", "more than zero"],
    "pixel_lr=nan": ["pixel_lr nan", "more than zero"],
    "pixel_lr=many": ["pixel_lr 'many'", "not a number"],
    "width=4.5": ["width '4.5'", "not a whole number"],
    "momentum=1": ["momentum 1", "below 1"],
    "hold_out=1": ["hold_out 1", "below 1"],
    "canvases_per_class=9": ["canvases_per_class 9", "8"],
    "repeat=drop": ["repeat 'drop'", "half-drop"],
    "parametrisation=pixel": ["parametrisation 'pixel'", "pixels"],
    "augment=flip_blur": ["blur", "flip"],
    "eval_network=vgg": ["eval_network 'vgg'", "convnet", "resnet18"],
    "widht=8": ["'widht'", "width"],
    "width": ["'width'", "name=value"],
}


@pytest.mark.parametrize("setting", BAD_SETTINGS)
def test_bad_setting(setting, refuse, photos):
    """A setting that cannot work is refused before the run's folder is made."""
    refuse(
        BAD_SETTINGS[setting], "demo", "--run", "run", "--data", f"folder:{photos}", *sets(**SMALL), "--set", setting
    )


@pytest.mark.parametrize("repeat", ["half-drop", "half-brick"])
@pytest.mark.parametrize("parametrisation", ["pixels", "pyramid"])
def test_canvas_that_cannot_be_halved(repeat, parametrisation, refuse, photos):
    """Half a drop of nine pixels is no whole number, so the tile would not meet itself."""
    changes = dict(canvas_size="9x9", repeat=repeat, parametrisation=parametrisation, levels=1)
    refuse(["canvas_size 9×9", repeat], "demo", "--run", "run", "--data", f"folder:{photos}", *sets(**SMALL | changes))


# What a settings file holds → what the message must hold.
BAD_FILES = {
    '{"widht": 8}': ["'widht'", "width"],
    '{"preset": "imagesquak"}': ["preset"],
    '{"canvas_size": [64, "wide"]}': ["canvas_size", "wide"],
    '{"width": null}': ["width", "None"],
    '{"settings": 3}': ["bad.json"],
    "[1, 2]": ["bad.json", "object"],
    '{"width": 8': ["bad.json"],
    "": ["bad.json"],
}


@pytest.mark.parametrize("content", BAD_FILES)
def test_bad_settings_file(content, refuse, tmp_path, photos):
    """A file of settings is checked as the command line is."""
    (tmp_path / "bad.json").write_text(content)
    refuse(
        BAD_FILES[content], "demo", "--run", "run", "--data", f"folder:{photos}", "--settings", tmp_path / "bad.json"
    )


def test_settings_file_that_is_missing(refuse):
    """The file is named."""
    refuse(["nowhere.json"], "demo", "--run", "run", "--settings", "nowhere.json")


def test_bad_data(refuse, tmp_path, photos):
    """Folders that hold no data set, each told apart from the others."""

    def class_of(folder, name, *sizes):
        for i, size in enumerate(sizes):
            (tmp_path / folder / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, "teal").save(tmp_path / folder / name / f"{i}.png")

    class_of("one", "cat", (9, 9), (9, 9))
    class_of("small", "cat", (9, 9), (9, 9))
    class_of("small", "dog", (9, 9), (9, 7))
    class_of("hollow", "cat", (9, 9), (9, 9))
    (tmp_path / "hollow/dog").mkdir()
    (tmp_path / "file").write_text("no folder")
    for data, words in {
        "folder:nowhere": ["nowhere", "does not exist", "path of a folder"],
        f"folder:{tmp_path}/file": ["file", "path of a folder"],
        f"folder:{tmp_path}/one": ["one", "cat", "two"],
        f"folder:{tmp_path}/hollow": ["dog", "no image", "at least one"],
        f"folder:{tmp_path}/small": ["dog/1.png", "9×7", "crop_size of 8", "7 or less"],
        f"imagesquawk:{photos}": ["20 of 20 class folders", "n01806143", "train/<wnid>/*.JPEG"],
        "photos": ["'photos'", "folder:PATH"],
        "folder": ["'folder'", "folder:PATH"],
    }.items():
        refuse(words, "experts", "--run", "run", "--data", data, *sets(**SMALL))


def test_commands_that_need_a_finished_run(refuse):
    """A run that is not there is not begun by looking at it."""
    refuse(["nowhere", "distil first"], "tile", "--run", "nowhere")
    refuse(["nowhere", "distil first"], "print", "--run", "nowhere")
    refuse(["nowhere", "distil first"], "gallery", "nowhere")


def test_evaluate_needs_textures(refuse, photos):
    """Evaluating what was never distilled makes no run."""
    refuse(["distil"], "evaluate", "--run", "run", "--data", f"folder:{photos}", *sets(**SMALL))


def test_run_that_is_a_file(refuse, tmp_path, photos):
    """A file where the run's folder should be is named, and kept."""
    (tmp_path / "taken").write_text("mine")
    refuse(["taken"], "experts", "--run", tmp_path / "taken", "--data", f"folder:{photos}", *sets(**SMALL))


@pytest.fixture
def finished(undisturbed, tmp_path):
    """A finished run to do something wrong to."""
    shutil.copytree(undisturbed, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    "setting, words",
    {
        "seed=1": ["seed 0", "not 1"],
        "width=8": ["width 4", "not 8"],
        "train_epochs=20": ["train_epochs 12", "not 20"],
        "distill_steps=20": ["distill_steps 20", "40"],
        "data=materials": ["data folder:", "materials"],
    }.items(),
)
def test_finished_run_is_not_made_another(setting, words, refuse, finished):
    """Settings that would mix two runs in one folder are refused, and all that was made stays as it is."""
    refuse([str(finished), *words], "distill", "--run", finished, "--set", setting)


def test_other_images_in_the_same_place(refuse, tmp_path, photos):
    """A run remembers which images it saw: experts of other images are no experts."""
    shutil.copytree(photos, tmp_path / "photos")
    arguments = [
        "experts",
        "--run",
        tmp_path / "run",
        "--data",
        f"folder:{tmp_path}/photos",
        *sets(**SMALL | dict(experts=1)),
    ]
    assert main(list(map(str, arguments))) == 0
    shutil.copy(photos / "train/snow/000.jpg", tmp_path / "photos/train/cliff/000.jpg")
    refuse([str(tmp_path / "run"), "other images"], *arguments)


@pytest.mark.parametrize("name", ["run.json", "textures.safetensors", "checkpoint.safetensors"])
@pytest.mark.parametrize("content", ["", "not what it should be"])
def test_damaged_run(name, content, refuse, finished):
    """A file that was damaged from outside is named; no traceback."""
    (finished / name).write_text(content)
    refuse([name], *(["distill"] if name != "textures.safetensors" else ["tile"]), "--run", finished)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["tile", "--tiles", "0"], ["--tiles 0", "1 to 100"]),
        (["print", "--class", "gras"], ["'gras'", "cliff, grass, snow"]),
        (["print", "--inches", "0"], ["--inches 0", "0.01"]),
        (["print", "--inches", "nan"], ["inches nan"]),
        (["print", "--inches", "inf"], ["inches inf"]),
        (["print", "--dpi", "-1"], ["--dpi -1", "1 to 10000"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else value,
)
def test_bad_view(arguments, words, refuse, finished):
    """Looking and printing refuse what they cannot draw."""
    refuse(words, *arguments, "--run", finished)


def test_print_does_not_overwrite(refuse, finished, capsys):
    """A print that exists stays, unless it was said that it need not."""
    assert main(["print", "--run", str(finished), "--class", "grass", "--inches", "0.25"]) == 0
    (path,) = (finished / "prints").iterdir()
    path.write_text("notes that somebody keeps under this name")
    refuse([path.name, "no png file"], "print", "--run", finished, "--inches", "0.25", "--force")
    Image.new("RGB", (3, 3)).save(path)
    refuse([path.name, "--force"], "print", "--run", finished, "--inches", "0.25")
    assert main(["print", "--run", str(finished), "--class", "grass", "--inches", "0.25", "--force"]) == 0
    assert Image.open(path).size == (38, 26)  # 37.5 px are wanted; both sides are even


def test_stored_experts_that_are_too_short(tmp_path, photos, undisturbed):
    """Settings may ask for more epochs than the stored experts have; the loop says so before it writes."""
    for expert in range(3):
        for epoch in range(4):
            path = epoch_file(tmp_path / "experts", expert, epoch)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(epoch_file(undisturbed / "experts", expert, epoch), path)
    before = tree(tmp_path)
    s = make_settings(data=f"folder:{photos}", **SMALL)
    with pytest.raises(
        UserError, match="^max_start_epoch 3 [+] expert_epochs 2 needs experts of 5 epochs; these have 3$"
    ):
        distill(s, load_data(s.data, s.crop_size), tmp_path)
    assert tree(tmp_path) == before


def test_evaluation_waits_for_the_textures_it_is_named_after(finished, capsys):
    """Results carry the number of distillation steps: asking for more steps than the textures have must not measure
    the old textures."""
    main(["evaluate", "--run", str(finished), "--set", "distill_steps=44"])
    assert [p.name for p in (finished / "evaluation").iterdir() if "_44steps_" in p.name] == []


def test_longer_run_goes_on(finished, tmp_path, undisturbed, photos):
    """More steps on a finished run are the steps of a longer run made at once."""
    assert main(["distill", "--run", str(finished), "--set", "distill_steps=44"]) == 0
    longer = tmp_path / "longer"
    shutil.copytree(undisturbed / "experts", longer / "experts")
    assert (
        main(["distill", "--run", str(longer), "--data", f"folder:{photos}", *sets(**SMALL | {"distill_steps": 44})])
        == 0
    )
    for name in (
        "run.json",
        "checkpoint.safetensors",
        "textures.safetensors",
        "frames/step_000044.safetensors",
        "loss.png",
        "timelapse.webp",
    ):
        assert (finished / name).read_bytes() == (longer / name).read_bytes(), name
    assert len(load_file(finished / "checkpoint.safetensors")["losses"]) == 44


def test_no_compiler(tmp_path, photos, undisturbed):
    """Where nothing can be compiled a run says so once, in one line, and makes the same."""
    done = run_command(
        "demo",
        "--run",
        tmp_path / "run",
        "--data",
        f"folder:{photos}",
        *sets(**SMALL, compile="on", method="store"),
        CXX="no-such-compiler",
        TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert done.stderr.count("cannot compile") == 1
    (line,) = [line for line in done.stderr.replace("\r", "\n").splitlines() if "cannot compile" in line]
    assert line.startswith("wearable-imagenet: ") and "install a C++ compiler" in line and "compile to off" in line
    ours, theirs = (load_file(run / "textures.safetensors")["canvases"] for run in (tmp_path / "run", undisturbed))
    assert ours.equal(theirs)


def test_unknown_choice(capsys):
    """What the parser itself refuses also names what was found and what there is."""
    bad_choices = [
        (["demo", "--preset", "imagesquak"], ["'imagesquak'", "imagesquawk"]),
        (["tile", "--repeat", "drop"], ["'drop'", "half-drop"]),
        (["dmeo"], ["'dmeo'", "demo"]),
        ([], ["COMMAND"]),
    ]
    for arguments, words in bad_choices:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        line = capsys.readouterr().err.splitlines()[-1]
        assert end.value.code == 2 and line.startswith("wearable-imagenet")
        assert [word for word in words if word not in line] == []


def test_real_process(tmp_path):
    """Nothing but the one line reaches a terminal: no warning of a library, no traceback."""
    done = subprocess.run(
        command("demo", "--run", tmp_path / "run", "--set", "crop_size=0"), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("wearable-imagenet: crop_size 0 ") and not list(tmp_path.iterdir())
