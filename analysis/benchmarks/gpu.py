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

from fused import Work, arms_of, seconds_in_turn
from PIL import Image

from raydistill import config
from raydistill.data.augment import normalization
from raydistill.data.images import Decoder, Images, Raw
from raydistill.data.stream import Stream
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
        for views, indices in stream.epoch(0, arms[0].method.views):
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
    for _ in range(3):
        a @ b
    settle(device)
    began = time.perf_counter()
    for _ in range(10):
        a @ b
    settle(device)
    return 10 * 2 * n**3 / (time.perf_counter() - began)


def speed(learners: list[Learner], stream: Stream, device: torch.device, epochs: int) -> tuple[float, float]:
    """Images per second of all learners together, and the share of time spent waiting for the stream."""
    waited = total = 0.0
    for epoch in range(epochs + 1):
        for learner in learners:
            learner.start_epoch()
        settle(device)
        began = mark = time.perf_counter()
        idle = 0.0
        for views, indices in stream.epoch(epoch, learners[0].method.views):
            idle += time.perf_counter() - mark
            for learner in learners:
                learner.train_step(Batch(views, indices))
            mark = time.perf_counter()
        settle(device)
        if epoch:
            total += time.perf_counter() - began
            waited += idle
    images = epochs * stream.steps_per_epoch * stream.batch_size * len(learners)
    return images / total, waited / total


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
    epochs = 1 if options.quick or not cuda else 3
    images = noise(16_384 if cuda else 256)
    peak = matmul_peak(device)
    result["matmul_tflops"] = peak / 1e12
    result["images_per_second"], result["waiting"], result["utilisation"] = {}, {}, {}
    for precision in ("fp32", "bf16"):
        for batch in (256, 1024) if cuda else (64,):
            stream = stream_of(images, batch, device)
            learner = learner_of(student, batch, device, stream.steps_per_epoch, precision=precision)
            rate, waiting = speed([learner], stream, device, epochs)
            used = 2 * rate * flops_per_image(learner) / peak
            key = f"{precision}, batch {batch}"
            result["images_per_second"][key], result["waiting"][key], result["utilisation"][key] = rate, waiting, used
            print(f"{key:16} {rate:9.0f} images/s of two views, waiting {waiting:.1%}, {used:.1%} of the matmul rate")
    result["pack_images_per_second"] = {}
    batch = 256 if cuda else 64
    result["pack_vs_serial"] = {}
    for count in (1, 4, 16, 32) if cuda else (1, 2):
        stream = stream_of(images, batch, device)
        pack = [learner_of(student, batch, device, stream.steps_per_epoch, seed=i) for i in range(count)]
        rate, _ = speed(pack, stream, device, 1)
        result["pack_images_per_second"][count] = rate
        result["pack_vs_serial"][count] = rate / result["pack_images_per_second"][1]
        print(f"pack of {count:2}       {rate:9.0f} trial-images/s, {result['pack_vs_serial'][count]:.2f} times serial")
    result["fused_vs_serial"] = {}
    for count in (4, 16) if cuda else (2,):
        work = Work(student["backbone"], count, batch if cuda else 8, device)
        work.check()
        seconds = seconds_in_turn(arms_of(work), 5 if cuda else 1, 20 if cuda else 1, device)
        ratios = {name: seconds["serial"] / value for name, value in seconds.items() if name != "serial"}
        result["fused_vs_serial"][count] = ratios
        print(f"{count} learners in turn {1000 * seconds['serial']:.1f} ms a step; times faster: {ratios}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
