"""What each part of the method is worth: `python tools/ablate.py runs/ablations nbs/notes/ablations.json`.

Distils the embedded materials once for every arm below, each with one thing changed, from the same experts, and tests
the textures on held-out training images. Seams are those of the plain grid. Can be stopped and continued: what is there is not made again."""

import argparse
import dataclasses
import shutil
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from wearable_imagenet import student
from wearable_imagenet.core import write_json
from wearable_imagenet.distill import distill
from wearable_imagenet.evaluate import evaluate
from wearable_imagenet.network import cross_entropy
from wearable_imagenet.repeat import REPEATS
from wearable_imagenet.run import Run, open_run
from wearable_imagenet.seams import seam_ratio
from wearable_imagenet.settings import make_settings
from wearable_imagenet.stages import find_data, run_experts

BASE = dict(hold_out=0.3, distill_steps=100, eval_networks=3, compile="off", method="store")
ARMS = {
    "base": {},
    "ordinary crops": dict(repeat="none", canvas_size="96"),
    "canvas 32": dict(canvas_size="32"),
    "canvas 64": dict(canvas_size="64"),
    "canvas 128": dict(canvas_size="128"),
    "α 0.02": dict(student_lr=0.02),
    "α slow": dict(student_lr_lr=0.01),
    "α fast": dict(student_lr_lr=0.1),
    "noise": dict(start="noise"),
    "mosaic": dict(start="mosaic"),
    "sgd": dict(optimiser="sgd", pixel_lr=50.0, momentum=0.5),
    "no recursion": {},
    "soft labels": dict(label_lr=0.01),
}


def forgetful_step(net, theta, x, y, student_lr):
    "A step whose gradient forgets that where it stands follows from the steps before: λ never changes"
    here = theta.detach().requires_grad_()
    (g,) = torch.autograd.grad(cross_entropy(net, here, x, y), here, create_graph=True)
    return theta - student_lr * g


def distil_arm(name, folder, experts, bar):
    "One arm: its run, distilled, and what it came to"
    settings = make_settings("materials", **BASE | ARMS[name])
    data = find_data(settings)
    run = open_run(folder / name.replace(" ", "_"), settings, data)
    if not run.experts_folder.exists() and experts.experts_folder.exists():
        shutil.copytree(experts.experts_folder, run.experts_folder)
    run_experts(run, settings, data, bar)
    exact = student.student_step
    student.student_step = forgetful_step if name == "no recursion" else exact
    distill(settings, data, run, bar)
    student.student_step = exact
    t = run.textures
    laid = dataclasses.replace(t, settings=dataclasses.replace(settings, repeat=REPEATS["grid"]))
    arms = ("textures", "mosaic", "real") if name == "base" else ("textures",)
    result = evaluate(t, data, run.evaluation_folder, arms, bar)
    return dict(
        changes={k: str(v) for k, v in ARMS[name].items()},
        accuracy={arm: {k: r[k] for k in ("mean", "std", "values")} for arm, r in result.items()},
        seam_ratio=[round(max(seam_ratio(tile)), 3) for tile in laid],
        clipped=round(t.clipped.max().item(), 4),
        losses=[round(loss, 4) for loss in run.losses],
        student_lr=t.student_lr,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--arms", default=",".join(ARMS))
    a = parser.parse_args()
    found, bar = {}, partial(tqdm, mininterval=10)
    for name in a.arms.split(","):
        found[name] = distil_arm(name, a.folder, Run(a.folder / "base"), bar)
        print(name, found[name]["accuracy"], flush=True)
        write_json(a.out, dict(base=BASE, arms=found))


if __name__ == "__main__":
    main()
