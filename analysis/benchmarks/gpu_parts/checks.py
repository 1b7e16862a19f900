"""Does the device compute what the CPU computes, and what happens when its memory runs out?"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from gpu_parts.setting import SIZE, Setting
from raydistill import config as configuration
from raydistill import methods
from raydistill.data.views.augment import View, augment
from raydistill.methods import Batch, FeatureDims, MethodContext, StepInfo, TeacherOutputs
from raydistill.models.queue import TeacherBatch

ROOT = Path(__file__).resolve().parents[3]
STEPS, IMAGES = 3, 32
BOUND = 1e-3  # of the relative difference in float32 without TF32
PLAIN = ((0.0,) * 3, (1.0,) * 3)
HEADS = {"hidden_dim": 32, "projection_dim": 16}
TINY: dict[str, dict[str, Any]] = {
    "simclr": HEADS,
    "simsiam": {"projection_dim": 16, "predictor_dim": 8},
    "dogo": {"backbones": ["resnet10_w8", "resnet10_w16"], "objectives": ["simclr", "simsiam"], **HEADS},
    "byol": HEADS,
    "mocov2": {"queue_size": 64, **HEADS},
    "mocov3": HEADS,
    "sdssl": {"backbone": "vit_w64_p8_d3", "intermediate_dim": 16, **HEADS},
    "seed": {"hidden_dim": 32, "queue_size": 64},
    "compress_1q": {"queue_size": 64},
    "compress_2q": {"queue_size": 64},
    "crd": {"embedding_dim": 16, "negatives": 16},
    "simreg": {},
    "regress": {},
    "regress_bn": {},
    "supervised_kd": {},
    "sssd": {"clusters": 8},
    "cc": {"clusters": 8},
    "clusterfit": {"clusters": 8},
    "seed_blocks": {"backbone": "vit_w64_p8_d3", "hidden_dim": 32, "queue_size": 64},
    "simreg_exits": {},
}


def every_method(setting: Setting) -> dict[str, float]:
    """Relative difference of losses and weights after three SGD steps from the same weights, views and teachers.

    Raises AssertionError for a method that is further from the CPU than `BOUND`.
    """
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        found = {name: _difference(name, setting.device) for name in TINY}
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
    far = {name: value for name, value in found.items() if not value <= BOUND}
    assert not far, f"further from the CPU than {BOUND:g}: {far}"
    return found


def _difference(name: str, device: torch.device) -> float:
    values = {"name": name, **({} if "backbone" in str(TINY[name]) else {"backbone": "resnet10_w8"}), **TINY[name]}
    options = configuration.load({"method": values}).method
    context = MethodContext(SIZE, images=256, class_counts=(32,) * 8, teachers=(FeatureDims(24, 16),))
    arms = [methods.build(options, context, seed=0).to(each) for each in (torch.device("cpu"), device)]
    optimizers = [torch.optim.SGD([p for p in arm.parameters() if p.requires_grad], lr=0.01) for arm in arms]
    losses: list[list[float]] = [[], []]
    for step in range(STEPS):
        for place, (arm, optimizer) in enumerate(zip(arms, optimizers, strict=True)):
            torch.manual_seed(step)
            optimizer.zero_grad()
            loss = arm.loss(_batch(arm, step), StepInfo(step, 10))["loss"]
            loss.backward()
            optimizer.step()
            arm.after_step(StepInfo(step, 10))
            losses[place].append(loss.item())
    pairs = zip(arms[1].parameters(), arms[0].parameters(), strict=True)
    return max(relative(torch.tensor(losses[1]), torch.tensor(losses[0])), *(relative(a, b) for a, b in pairs))


def _batch(method: methods.Method, step: int) -> Batch:
    """Views and teachers' outputs that depend on the step alone, where the method's weights are."""
    device = next(method.parameters()).device

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(step + sum(shape))).to(device)

    views = {view: drawn(IMAGES, 3, SIZE, SIZE) for view in method.views}
    widths = {"features": 24, "head": 16}
    teacher = TeacherOutputs(
        lambda view, output: drawn(IMAGES, widths[output]),
        lambda view, output: TeacherBatch(drawn(IMAGES, widths[output])),
    )
    labels = (torch.arange(IMAGES) % 8).to(device)
    return Batch(views, torch.arange(IMAGES), teachers=[teacher], labels=labels)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    return float((a - b).norm() / b.norm().clamp_min(1e-9))


def views(setting: Setting) -> dict[str, float]:
    """Mean difference of views between the device's operations and the CPU's."""
    images, indices = setting.dataset.train.fetch(range(32))
    found = {}
    for recipe in ("simclr", "byol2", "eval"):
        made = []
        for device in (torch.device("cpu"), setting.device):
            drawn = augment(images, indices, View(recipe, 0), size=24, seed=0, epoch=0, normalize=PLAIN, device=device)
            made.append(drawn.cpu())
        found[recipe] = float((made[0] - made[1]).abs().mean())
    assert max(found.values()) < 1e-5, f"views differ: {found}"
    return found


def memory_of_one(setting: Setting) -> dict[str, Any]:
    """Memory runs out, by a real allocation, in one of four learners; the others go on."""
    pack = setting.pack([setting.config({"name": "simclr", "backbone": "resnet10_w4"}, seed=seed) for seed in range(4)])
    victim = pack.learners["2"].method
    honest = victim.loss

    def greedy(batch: Batch, progress: StepInfo) -> dict[str, torch.Tensor]:
        if not setting.large:
            raise torch.OutOfMemoryError("pretended, on a CPU")
        held = [torch.empty(2**34, dtype=torch.uint8, device=setting.device) for _ in range(64)]
        return honest(batch, progress) if held else {}

    victim.loss = greedy  # type: ignore[method-assign]
    reports = {report.key: report for report in pack.run_epoch()}
    assert reports["2"].memory, f"not known as a lack of memory: {reports['2'].error}"
    assert all(not reports[key].error for key in "013"), {key: each.error for key, each in reports.items()}
    after = [report.error for report in pack.run_epoch()]
    assert after == [""] * 3, after
    return {"left": reports["2"].error[:80], "went_on": 3}


def no_host_waits(setting: Setting) -> dict[str, bool]:
    """Steps of a pack with a teacher while torch refuses whatever waits for the device."""
    pack = setting.pack([setting.config(setting.seed | {"backbone": setting.students[-1]})])
    learner = pack.learners["0"]
    learner.start_epoch()
    (drawn, indices), *_ = pack.stream.epoch(0, dict.fromkeys(learner.views))
    learner.train_step(learner.batch(pack.provider.step(drawn, indices, 0)))  # loads kernels
    if setting.large:
        torch.cuda.set_sync_debug_mode("error")
    try:
        learner.train_step(learner.batch(pack.provider.step(drawn, indices, 0)))
    finally:
        if setting.large:
            torch.cuda.set_sync_debug_mode("default")
    return {"checked": setting.large}


def own_tests(setting: Setting) -> dict[str, str]:
    """The tests that are marked `gpu`, where pytest and hypothesis are."""
    if not setting.large or any(importlib.util.find_spec(name) is None for name in ("pytest", "hypothesis", "xdist")):
        return {"tests": "not run here"}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "gpu", "tests/data", "tests/evaluation"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    last = (done.stdout.strip().splitlines() or [done.stderr[-200:]])[-1]
    assert done.returncode == 0, last
    return {"tests": last}
