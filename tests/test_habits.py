"""What a person's own settings, terminal, files and machine must not change: pictures, numbers, and whether a run
that is done has succeeded."""

import gc
import io
import json
import os
import shutil
import stat
import subprocess
import sys
from contextlib import nullcontext

import matplotlib
import pytest
import torch
from matplotlib import style
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from conftest import ROOT, SMALL, assert_same, command, run_command, sets
from wearable_imagenet.cli import main
from wearable_imagenet.cloth.proof import print_proof
from wearable_imagenet.cloth.sheet import Order
from wearable_imagenet.cloth.wear import draw_wardrobe
from wearable_imagenet.commands import find_settings
from wearable_imagenet.core import UserError, generator
from wearable_imagenet.experts import TrajectoryBuffer
from wearable_imagenet.explore.crop import CropExplorer
from wearable_imagenet.explore.evaluation import EvaluationExplorer
from wearable_imagenet.explore.fitting import TextureStudio
from wearable_imagenet.explore.folder import FolderExplorer
from wearable_imagenet.explore.student import StudentExplorer
from wearable_imagenet.explore.studio import DistillStudio
from wearable_imagenet.explore.trail import TrailExplorer
from wearable_imagenet.figure import save_figure
from wearable_imagenet.images.cache import load_data
from wearable_imagenet.images.known import class_names
from wearable_imagenet.network import accuracy, init_theta, network
from wearable_imagenet.pictures import draw_method, draw_tilings
from wearable_imagenet.repeat import REPEATS
from wearable_imagenet.seams import draw_worst_line
from wearable_imagenet.settings import make_settings
from wearable_imagenet.student import Student, matching_loss, sample_steps, unroll
from wearable_imagenet.textures import Textures

TINY = dict(
    crop_size=8,
    canvas_size=8,
    width=4,
    depth=2,
    levels=2,
    experts=1,
    train_epochs=2,
    expert_batch=8,
    expert_epochs=1,
    min_start_epoch=0,
    max_start_epoch=1,
    student_steps=2,
    distill_steps=2,
    eval_networks=1,
    eval_epochs=2,
)


# PyTorch


class defaults:
    """What another library of the notebook may have done to PyTorch."""

    def __init__(self, dtype=torch.float32, device=None, around=nullcontext):
        self.dtype, self.device, self.around = dtype, device, around

    def __enter__(self):
        torch.set_default_dtype(self.dtype)
        torch.set_default_device(self.device)
        self.inside = self.around()
        self.inside.__enter__()

    def __exit__(self, *error):
        self.inside.__exit__(*error)
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "habit",
    [
        defaults(torch.float64),
        defaults(torch.float16, "meta"),
        defaults(around=torch.no_grad),
        defaults(torch.float64, "meta", torch.inference_mode),
    ],
    ids=["float64", "float16 elsewhere", "no_grad", "inference_mode, float64, elsewhere"],
)
def test_defaults_of_pytorch_change_no_byte(habit, tmp_path, photos, undisturbed):
    """Experts, textures, evaluation and every picture of a run are the same, bit for bit."""
    with habit:
        assert main(["demo", "--run", str(tmp_path / "run"), "--data", f"folder:{photos}", *sets(**SMALL)]) == 0
    assert_same(tmp_path / "run", undisturbed)


@pytest.mark.parametrize(
    "habit",
    [defaults(torch.float64), defaults(torch.float64, "meta", torch.inference_mode)],
    ids=["float64", "inference_mode, elsewhere"],
)
def test_defaults_of_pytorch_change_no_explorer(habit, tmp_path, photos, undisturbed):
    """A studio distils the same, and explorers show the same figures, if they are opened under such defaults."""
    for name in ("run.json", "experts"):
        (shutil.copytree if name == "experts" else shutil.copy)(
            undisturbed / name, (tmp_path / "run").mkdir(exist_ok=True) or tmp_path / "run" / name
        )
    t = Textures.load(undisturbed / "textures.safetensors")
    shown = StudentExplorer(TrajectoryBuffer(undisturbed / "experts"), t).describe()
    with habit:
        data = load_data(f"folder:{photos}", 8)
        loaded = Textures.load(undisturbed / "textures.safetensors")
        assert StudentExplorer(TrajectoryBuffer(undisturbed / "experts"), loaded).describe() == shown
        studio = DistillStudio(tmp_path / "run", None, data, 10**6, 1)
        studio.start()
        studio.wait()
        assert studio.error is None, studio.error
    assert Textures.load(tmp_path / "run/textures.safetensors").canvases.equal(t.canvases)


class NoDoubles(TorchDispatchMode):
    """Apple's GPUs have no 64-bit floats. The meta device, which has shapes and no values, plays one."""

    def __torch_dispatch__(self, f, types, args=(), kwargs=None):
        out = f(*args, **(kwargs or {}))
        assert not [
            t
            for t in tree_leaves(out)
            if isinstance(t, torch.Tensor) and t.device.type == "meta" and t.dtype == torch.float64
        ], f
        return out


def test_no_64_bit_floats_on_the_device():
    net, rng = network("convnet", 3, 2, 8, width=4, depth=2), generator(0, "no doubles")
    theta, x, y = (
        init_theta(net, rng).to("meta"),
        torch.zeros(4, 3, 8, 8, device="meta"),
        torch.zeros(4, dtype=torch.long, device="meta"),
    )
    with NoDoubles():
        assert accuracy(net, theta, x, y) != accuracy(net, theta, x, y)  # no values: not a number
        canvases, steps = (
            torch.zeros(2, 3, 8, 8, device="meta", requires_grad=True),
            sample_steps(2, 2, (8, 8), 8, rng, REPEATS["grid"]),
        )
        for method in ("store", "rebuild"):
            lr = torch.tensor(0.1, device="meta")
            end = unroll(Student(net, canvases, y[:2], lr, steps, 8, REPEATS["grid"]), theta, method)
            torch.autograd.grad(matching_loss(end, theta, theta + 1), canvases)
    with pytest.raises(AssertionError), NoDoubles():
        x.double()


# matplotlib

HOSTILE = {
    "text.usetex": True,
    "image.origin": "lower",
    "savefig.dpi": 300,
    "savefig.bbox": "tight",
    "savefig.transparent": True,
    "figure.constrained_layout.use": True,
    "font.size": 24,
    "axes.facecolor": "k",
    "figure.facecolor": "k",
    "text.color": "w",
    "axes.prop_cycle": matplotlib.cycler(color=["lime"]),
    "image.cmap": "jet",
    "axes.grid": True,
    "lines.linewidth": 9,
}


def pictures(folder, run, photos):
    """Every figure that a run and its explorers can draw, as files."""
    t, buffer = Textures.load(run / "textures.safetensors"), TrajectoryBuffer(run / "experts")
    data = load_data(f"folder:{photos}", 8)
    figures = dict(
        tilings=draw_tilings(t), worst=draw_worst_line(t[0]), method=draw_method(t, 0), wardrobe=draw_wardrobe(t[0])
    )
    for explorer in (
        CropExplorer(t),
        TrailExplorer(buffer),
        StudentExplorer(buffer, t),
        TextureStudio(t),
        FolderExplorer(f"folder:{photos}"),
        EvaluationExplorer(t, data, run / "evaluation", (1,)),
        DistillStudio(run, None, data),
    ):
        assert "alert" not in explorer.view.value, explorer.view.value[-300:]
        figures[type(explorer).__name__] = explorer.figure()
        explorer.close()
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")
    print_proof(t, 0, folder / "proof.png", Order())
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def own(tmp_path_factory, undisturbed, photos):
    folder = tmp_path_factory.mktemp("own")
    run = shutil.copytree(undisturbed, folder / "run")
    (folder / "pictures").mkdir()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        return run, pictures(folder / "pictures", run, photos)


@pytest.mark.parametrize(
    "context",
    [
        lambda: matplotlib.rc_context(HOSTILE),
        lambda: style.context("dark_background"),
        lambda: style.context(["ggplot", "grayscale"]),
    ],
    ids=["matplotlibrc", "dark", "ggplot"],
)
def test_settings_of_matplotlib_change_no_picture(context, own, tmp_path, photos):
    with context():
        before = dict(matplotlib.rcParams)
        drawn = pictures(tmp_path, own[0], photos)
        assert dict(matplotlib.rcParams) == before
    assert len(drawn) == 12 and [name for name in own[1] if drawn[name] != own[1][name]] == []


# text


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_terminals_that_lack_letters(encoding, tmp_path, photos):
    """Nothing that is said can end a run; names are told in any way that can be read."""
    shutil.copytree(photos, tmp_path / "p")
    for split in ("train", "test"):
        (tmp_path / "p" / split / "snow").rename(tmp_path / "p" / split / "雪 $x_1^2$ ±")
    done = subprocess.run(
        command("demo", "--run", tmp_path / "r", "--data", f"folder:{tmp_path}/p", *sets(**TINY)),
        env=os.environ | dict(PYTHONIOENCODING=encoding),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr[-500:]
    said = done.stdout.decode(encoding)
    assert "matching loss" in said and ("→" in said or "->" in said) and (tmp_path / "r/report.json").exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "utf-8", "utf-16", "shift-jis"])
@pytest.mark.parametrize("words", [["--help"], ["demo", "--help"], ["print", "--help"]], ids=" ".join)
def test_help_on_any_terminal(encoding, words, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0 and "wearable-imagenet" in out.buffer.getvalue().decode(encoding)


@pytest.mark.skipif(os.name == "nt", reason="a shell of Unix")
@pytest.mark.parametrize(
    "where", ["| head -1", "| true", "2>&1 | true", ">&-", "2>&-", "> /dev/full", "2> /dev/full > /dev/full"]
)
def test_nobody_listens(where, tmp_path, undisturbed):
    """All files are written, and the exit status is that of the work."""
    words = " ".join(
        map(
            lambda w: "'" + w.replace("'", "'\\''") + "'",
            command("print", "--run", undisturbed, "--out", tmp_path / "out", "--inches", "0.5"),
        )
    )
    done = subprocess.run(["bash", "-c", f"{words} {where}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "Exception" not in done.stderr, done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_files_from_other_editors(encoding, tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(dict(width=8, data="folder:Wälder")), encoding=encoding)
    s = find_settings(tmp_path / "run", file=tmp_path / "mine.json")
    assert (s.width, s.data) == (8, "folder:Wälder")
    (tmp_path / "words.txt").write_text("n01443537\tpoisson doré, Carassius\r\n", encoding=encoding)
    assert class_names(["n01443537"], tmp_path) == ["poisson doré"]


def test_paths_as_they_are_pasted(tmp_path, photos, monkeypatch, capsys):
    """Quotes around a path and a tilde in it, for what is read and for what is written."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    shutil.copytree(photos, tmp_path / "my photos")
    for data in (
        "folder:~/my photos",
        f'folder:"{tmp_path}/my photos"',
        f"folder:'{tmp_path}/my photos'",
        f"folder:{(tmp_path / 'my photos').as_uri()}",
    ):
        assert load_data(data, 8).classes == ["cliff", "grass", "snow"]
    assert main(["experts", "--run=~/runs/a", "--data", "folder:~/my photos", *sets(**TINY)]) == 0
    assert (tmp_path / "runs/a/run.json").is_file()
    assert FolderExplorer(' "~/my photos" ').data().classes == ["cliff", "grass", "snow"]
    assert main(["distill", "--run", f'"{tmp_path}/runs/a"']) == 0
    assert main(["tile", "--run", "~/runs/a", "--out=~/out/t.png"]) == 0 and (tmp_path / "out/t.png").is_file()
    assert (
        TextureStudio(Textures.load(tmp_path / "runs/a/textures.safetensors"), "~/prints").folder == tmp_path / "prints"
    )


# machines


@pytest.mark.skipif(os.name == "nt", reason="permissions of Unix")
def test_others_may_read_what_the_umask_allows(tmp_path, undisturbed):
    """Not only who made a run can read it, whichever library wrote a file."""
    run_command("experts", "--run", tmp_path / "run", *sets(**TINY), before="import os; os.umask(0o022)")
    run_command("experts", "--run", tmp_path / "closed", *sets(**TINY), before="import os; os.umask(0o077)")
    for name, mode in (("run", 0o644), ("closed", 0o600)):
        files = [p for p in (tmp_path / name).rglob("*") if p.is_file()]
        assert len(files) > 4 and {stat.S_IMODE(p.stat().st_mode) for p in files} == {mode}


@pytest.mark.skipif(os.name == "nt", reason="limits of Unix")
@pytest.mark.parametrize("limit", [10, 3000, 20000])
def test_a_disk_that_is_full(limit, tmp_path, photos):
    """One line that names the file, and no traceback."""
    load_data(f"folder:{photos}", 8)
    before = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    done = subprocess.run(
        command("demo", "--run", tmp_path / "run", "--data", f"folder:{photos}", *sets(**TINY), before=before),
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.startswith("wearable-imagenet: ")]
    assert (
        done.returncode == 1
        and "Traceback" not in done.stderr
        and len(lines) == 1
        and str(tmp_path / "run") in lines[0]
    ), done.stderr[-800:]


def test_a_step_size_that_collapses(tmp_path, photos, capsys):
    """A first loss that explodes would take the learned step size to nothing, and the rest of the run would change
    nothing."""
    assert (
        main(
            [
                "distill",
                "--run",
                str(tmp_path / "run"),
                "--data",
                f"folder:{photos}",
                *sets(**TINY | dict(optimiser="sgd", pixel_lr=50, student_lr=1e3, distill_steps=20, student_lr_lr=10)),
            ]
        )
        == 2
    )
    said = capsys.readouterr().err
    assert "student_lr" in said and "Traceback" not in said


@pytest.mark.parametrize(
    "settings, words",
    [
        (dict(expert_lr=1e-12, expert_storage="float16"), ["did not move", "expert_lr"]),
        (dict(expert_lr=1e-30), ["did not move", "expert_lr"]),
    ],
)
def test_experts_that_stand_still(settings, words, tmp_path, photos, capsys):
    assert (
        main(["distill", "--run", str(tmp_path / "run"), "--data", f"folder:{photos}", *sets(**TINY | settings)]) == 2
    )
    said = capsys.readouterr().err
    assert [word for word in words if word not in said] == []


@pytest.mark.parametrize(
    "settings",
    [dict(seed=2**70), dict(seed="1e30"), dict(width="1e300"), dict(student_steps=10**25), dict(width=10**400)],
)
def test_numbers_beyond_all_bounds(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        make_settings(**settings)


# widgets


def test_widgets_that_cannot_open(tmp_path, photos, undisturbed, monkeypatch):
    """One line each; nothing stays behind, on disk or in memory, and Python has nothing to add when it clears up."""
    from ipywidgets.widgets import widget

    beside, data, t = [], load_data(f"folder:{photos}", 8), Textures.load(undisturbed / "textures.safetensors")
    monkeypatch.setattr(sys, "unraisablehook", lambda e: beside.append(str(e.exc_value)))
    gc.collect()
    before = len(widget._instances)
    for make in (
        lambda: DistillStudio(tmp_path / "nowhere", None, data),
        lambda: DistillStudio(tmp_path / "new", t.settings, data),
        lambda: FolderExplorer(str(photos), "no preset"),
        lambda: EvaluationExplorer(t, data, tmp_path / "nowhere", (1, 999)),
        lambda: TrailExplorer(TrajectoryBuffer(tmp_path / "nowhere")),
    ):
        with pytest.raises(UserError) as e:
            make()
        assert "\n" not in str(e.value)
        del e
    for make in (
        lambda: CropExplorer(None),
        lambda: StudentExplorer(None, None),
        lambda: TextureStudio(None),
        lambda: DistillStudio(None, None, None),
    ):
        with pytest.raises(Exception):  # noqa: B017  whatever it is
            make()
    gc.collect()
    assert beside == [] and not list(tmp_path.iterdir())
    assert len(widget._instances) == before


def test_names_that_are_no_formulas(tmp_path):
    """Dollars, underscores, backslashes, and letters that no font here may have, on every picture."""
    source = sorted((ROOT / "wearable_imagenet/materials/train/cliff").glob("*.jpg"))
    for k, name in enumerate(("Ba$$in", "US$ x_1^2, CA$", r"\frac{木}{$", "かべ石")):
        (tmp_path / "p" / name).mkdir(parents=True)
        for path in source[6 * k : 6 * k + 6]:
            shutil.copy(path, tmp_path / "p" / name)
    run_command("demo", "--run", tmp_path / "r", "--data", f"folder:{tmp_path}/p", *sets(**TINY | dict(canvas_size=16)))
    (tmp_path / "out").mkdir()
    assert len(pictures_of_names(tmp_path)) == 8


def pictures_of_names(folder):
    run, s = folder / "r", Textures.load(folder / "r/textures.safetensors").settings
    data, t, buffer = (
        load_data(s.data, 8),
        Textures.load(run / "textures.safetensors"),
        TrajectoryBuffer(run / "experts"),
    )
    for explorer in (
        CropExplorer(t),
        StudentExplorer(buffer, t),
        TextureStudio(t),
        FolderExplorer(s.data),
        EvaluationExplorer(t, data, run / "evaluation", (1,)),
        DistillStudio(run, None, data),
    ):
        assert "alert" not in explorer.view.value, explorer.view.value[-300:]
        save_figure(explorer.figure(), folder / "out" / f"{type(explorer).__name__}.png")
        explorer.close()
    save_figure(draw_tilings(t), folder / "out/tilings.png")
    print_proof(t, 1, folder / "out/proof.png", Order())
    return [Image.open(path).size for path in (folder / "out").iterdir()]
