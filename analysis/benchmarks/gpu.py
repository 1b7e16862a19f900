"""One call on a GPU box: parity with the CPU, images per second, utilisation, packs.

    python analysis/benchmarks/gpu.py [--quick] [--device cuda|cpu]

Needs torch, torchvision, timm, pydantic, PyYAML, Pillow and safetensors only (no Ray, MLflow, Optuna, faiss), and
makes its images itself. Under 8 minutes.

1. parity: SimCLR and DoGo, five SGD steps in float32 (no TF32) on the device and on the CPU from the same weights
   and views; the largest relative difference of the losses and of the weights.
2. throughput: SimCLR, ResNet-18 with the small stem at 32 px, in float32 and bf16, from the stream on the device;
   the share of time that training waits for the stream; model FLOPs (three forward passes, counted by hooks on
   convolutions and linear layers) against a bf16 matrix product measured in the same run.
3. packs: trial-images per second of 1, 4, 16 and 32 learners that share a stream, whose images lie on the device,
   and how many times those of a learner alone, one trial after the other.
4. fused: `fused.py`'s arms (stacked by `torch.func`, a CUDA graph, a stream each) against learners in turn.

Without a CUDA device it runs on the CPU, with tiny sizes, and says so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fused import Work, arms_of, seconds_in_turn, speedups
from measure import MIN_REPEATS, Spread, as_json, in_turn, ratio, spread
from PIL import Image

from raydistill import config
from raydistill.data.images import Decoder, Images, Raw
from raydistill.data.stream import Stream
from raydistill.data.views.augment import normalization
from raydistill.methods import Batch, MethodContext
from raydistill.training.learner import Learner
from raydistill.training.teachers import LearnerInputs

SIZE = 32
NORMALIZE = normalization("noise", SIZE)


def noise(count: int) -> Images:
    """A split of random images."""
    pixels = torch.randint(0, 256, (count, SIZE, SIZE, 3), dtype=torch.uint8).numpy()
    raw = Raw(count, lambda i: Image.fromarray(pixels[i]), lambda i: f"image {i}", None, ())
    rows = torch.arange(count)
    return Images(Decoder(raw, rows.numpy(), skip=False, cache_bytes=2**30), rows, None, (), SIZE)


def stream_of(images: Images, batch: int, device: torch.device) -> Stream:
    return Stream(images, size=SIZE, batch_size=batch, seed=0, normalize=NORMALIZE, device=device)


def learner_of(method: dict, batch: int, device: torch.device, steps: int, **train: object) -> Learner:
    values = {"method": method, "data": {"batch_size": batch}, "train": {"epochs": 1000, "lr": 0.01, **train}}
    return Learner(config.load(values), LearnerInputs(MethodContext(SIZE)), steps_per_epoch=steps, device=device)


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double().cpu() - b.double().cpu()).norm() / b.double().cpu().norm().clamp_min(1e-12))


def parity(device: torch.device) -> dict[str, float]:
    """Largest relative difference after five steps, device against CPU."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    images, found = noise(320), {}
    for method in ({"name": "simclr"}, {"name": "dogo", "objectives": ["simclr", "simsiam"]}):
        stream = stream_of(images, 64, torch.device("cpu"))
        arms = [learner_of(method, 64, d, 5, optimizer="sgd", precision="fp32") for d in (torch.device("cpu"), device)]
        worst = 0.0
        for learner in arms:
            learner.start_epoch()
        for views, indices in stream.epoch(0, arms[0].views):
            for learner in arms:
                learner.train_step(Batch({v: x.to(learner.device) for v, x in views.items()}, indices))
        sums = [learner._sums["loss"] for learner in arms]
        worst = relative(sums[1], sums[0])
        for mine, theirs in zip(arms[1].parameters, arms[0].parameters, strict=True):
            worst = max(worst, relative(mine.detach(), theirs.detach()))
        found[method["name"]] = worst
    return found


def flops_per_image(learner: Learner) -> float:
    """Of one view, forward and backward (three forward passes)."""
    counted = [0.0]

    def count(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        weight = module.weight
        positions = output[0, 0].numel() if isinstance(module, torch.nn.Conv2d) else 1
        counted[0] += 2.0 * weight.numel() * positions

    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    hooks = [m.register_forward_hook(count) for m in learner.method.modules() if isinstance(m, kinds)]
    view = torch.zeros(2, 3, SIZE, SIZE, device=learner.device)
    with torch.no_grad():
        learner.method.embed(view)
    for hook in hooks:
        hook.remove()
    return 3 * counted[0]


def matmul_peak(device: torch.device) -> float:
    """FLOP per second of a large bf16 matrix product."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = in_turn({"product": lambda: a @ b}, MIN_REPEATS, steps=10, settle=lambda: settle(device))
    return 2 * n**3 / spread(seconds["product"]).value


def speed(
    learners: list[Learner], stream: Stream, device: torch.device, epochs: int
) -> tuple[list[float], list[float]]:
    """Images per second of all learners together, and the share of time spent waiting for the stream, by epoch."""
    rates, waits = [], []
    images = stream.steps_per_epoch * stream.batch_size * len(learners)
    for epoch in range(epochs + 1):
        for learner in learners:
            learner.start_epoch()
        settle(device)
        began = mark = time.perf_counter()
        idle = 0.0
        for views, indices in stream.epoch(epoch, learners[0].views):
            idle += time.perf_counter() - mark
            for learner in learners:
                learner.train_step(Batch(views, indices))
            mark = time.perf_counter()
        settle(device)
        if epoch:
            seconds = time.perf_counter() - began
            rates.append(images / seconds)
            waits.append(idle / seconds)
    return rates, waits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else "cpu"
    print(f"device: {name}, torch {torch.__version__}" + ("" if cuda else "; no CUDA device, tiny sizes"))
    result: dict = {"device": name, "torch": torch.__version__, "parity": parity(device)}
    print(f"parity, relative difference to the CPU after five steps: {result['parity']}")
    student = {"name": "simclr", "backbone": "resnet18" if cuda else "resnet10_w16"}
    images = noise(16_384 if cuda else 256)
    peak = matmul_peak(device)
    result["matmul_tflops"] = peak / 1e12
    measured: dict[str, dict[str, Spread]] = {"images_per_second": {}, "waiting": {}, "utilisation": {}}
    for precision in ("fp32", "bf16"):
        for batch in (256, 1024) if cuda else (64,):
            stream = stream_of(images, batch, device)
            learner = learner_of(student, batch, device, stream.steps_per_epoch, precision=precision)
            rates, waits = speed([learner], stream, device, MIN_REPEATS)
            rate, waiting, used = spread(rates), spread(waits), spread(rates) / (peak / 2 / flops_per_image(learner))
            key = f"{precision}, batch {batch}"
            for name, figure in zip(measured, (rate, waiting, used), strict=True):
                measured[name][key] = figure
            print(f"{key:16} {rate} images/s of two views, waiting {waiting}, {used} of the matmul rate")
    measured |= {"pack_images_per_second": {}, "pack_vs_serial": {}}
    batch, alone = 256 if cuda else 64, []
    for count in (1, 4, 16, 32) if cuda else (1, 2):
        stream = stream_of(images, batch, device)
        pack = [learner_of(student, batch, device, stream.steps_per_epoch, seed=i) for i in range(count)]
        rates, _ = speed(pack, stream, device, MIN_REPEATS)
        alone = alone or rates
        rate, gain = spread(rates), ratio(rates, alone)
        measured["pack_images_per_second"][str(count)], measured["pack_vs_serial"][str(count)] = rate, gain
        print(f"pack of {count:2}       {rate} trial-images/s, {gain} times serial")
    for name, figures in measured.items():
        result[name] = {key: figure.value for key, figure in figures.items()}
        result[f"{name}_spread"] = {key: [figure.low, figure.high] for key, figure in figures.items()}
    result["fused_vs_serial"] = {}
    for count in (4, 16) if cuda else (2,):
        work = Work(student["backbone"], count, batch if cuda else 8, device)
        work.check()
        seconds = seconds_in_turn(arms_of(work), 5 if cuda else MIN_REPEATS, 20 if cuda else 1, device)
        gains = speedups(seconds)
        result["fused_vs_serial"][count] = as_json(gains)
        shown = ", ".join(f"{name} {gain}" for name, gain in gains.items())
        print(f"{count} learners in turn {spread(seconds['serial']) / 0.001} ms a step; times faster: {shown}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
