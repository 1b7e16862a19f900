"""Does it pay to step learners of one architecture together? `torch.func` stacking against one after the other.

    python analysis/benchmarks/fused.py [--device cpu] [--quick]

K students (backbone and head) learn SEED's loss on the same views and targets, each with temperatures and weights of
its own, on a GPU in bf16. Arms: serial, as a pack steps them (channels-last, foreach Adam each); fused, `vmap` over
stacked parameters and one Adam over the stack; on a GPU also serial as a replayed CUDA graph, and each learner on a
stream of its own. Batch norm uses each learner's own batch statistics in all arms; running statistics are left out of
the fused one. Before the clock starts the gradients of every learner are compared with the serial ones. Arms take
turns; the first turn is dropped. Last line: serial time over each arm's, above 1 where the arm pays.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from typing import Any

import torch
from measure import MIN_REPEATS, Spread, as_json, in_turn, ratio, spread
from torch import Tensor, nn
from torch.func import functional_call, grad, replace_all_batch_norm_modules_, stack_module_state, vmap

from raydistill.losses.queues import seed_loss
from raydistill.models.backbones import Backbone
from raydistill.models.heads import relu_head

SIZE, WIDTH, QUEUE, LR = 32, 128, 512, 1e-3


class Work:
    """K students, one batch of views, and the teacher's side of it."""

    def __init__(self, backbone: str, count: int, batch: int, device: torch.device) -> None:
        torch.manual_seed(0)
        self.device = device
        self.students = [self._student(backbone) for _ in range(count)]
        self.views = torch.randn(batch, 3, SIZE, SIZE, device=device)
        self.teacher = nn.functional.normalize(torch.randn(batch, WIDTH, device=device), dim=1)
        self.queue = nn.functional.normalize(torch.randn(QUEUE, WIDTH, device=device), dim=1)
        self.taus = torch.linspace(0.1, 0.4, count, device=device)
        self.half = device.type == "cuda"  # bf16, as a pack's step there

    def _student(self, backbone: str) -> nn.Module:
        net = Backbone(backbone, image_size=SIZE)
        student = nn.Sequential(net, relu_head(net.dim, net.dim, WIDTH)).to(self.device)
        return replace_all_batch_norm_modules_(student).train()

    def embed(self, student: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half, cache_enabled=False):
            return student(views)

    def loss(self, embedded: Tensor, tau: Tensor | float) -> Tensor:
        return seed_loss(embedded, self.teacher, self.queue, tau, 0.1, True)  # type: ignore[arg-type]

    def serial(self) -> tuple[Callable[[], None], list[nn.Module]]:
        students = [copy.deepcopy(s).to(memory_format=torch.channels_last) for s in self.students]
        optimizers = [torch.optim.Adam(s.parameters(), lr=LR, foreach=True) for s in students]
        views, taus = self.views.to(memory_format=torch.channels_last), self.taus.tolist()

        def step() -> None:
            for student, optimizer, tau in zip(students, optimizers, taus, strict=True):
                optimizer.zero_grad(set_to_none=True)
                self.loss(self.embed(student, views), tau).backward()
                optimizer.step()

        return step, students

    def fused(self) -> tuple[Callable[[], None], Callable[[], dict[str, Tensor]]]:
        base = copy.deepcopy(self.students[0]).to("meta")
        parameters, buffers = stack_module_state(self.students)  # type: ignore[arg-type]
        stacked = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
        optimizer = torch.optim.Adam(stacked.values(), lr=LR, foreach=True)

        def one(own: dict[str, Tensor], still: dict[str, Tensor], tau: Tensor) -> Tensor:
            return self.loss(self.embed(lambda views: functional_call(base, (own, still), (views,)), self.views), tau)

        every = vmap(grad(one))

        def gradients() -> dict[str, Tensor]:
            return every({name: value.detach() for name, value in stacked.items()}, buffers, self.taus)

        def step() -> None:
            for name, gradient in gradients().items():
                stacked[name].grad = gradient
            optimizer.step()

        return step, gradients

    def check(self) -> None:
        """Every learner's gradient in the stack is the one it has alone, in float32."""
        half, self.half = self.half, False
        _, gradients = self.fused()
        found = gradients()
        for i, student in enumerate(self.students):
            student.zero_grad()
            self.loss(student(self.views), self.taus[i].item()).backward()
            for name, parameter in student.named_parameters():
                assert parameter.grad is not None
                scale = parameter.grad.abs().max().clamp(min=1e-6)
                if (found[name][i] - parameter.grad).abs().max() > 1e-2 * scale:
                    raise SystemExit(f"learner {i}: the fused gradient of {name} is not its own")
            student.zero_grad()
        self.half = half

    def graphed(self) -> Callable[[], None]:
        """The serial step, captured once and replayed."""
        students = [copy.deepcopy(s).to(memory_format=torch.channels_last) for s in self.students]
        optimizers = [torch.optim.Adam(s.parameters(), lr=LR, capturable=True) for s in students]
        views, taus = self.views.to(memory_format=torch.channels_last), self.taus.tolist()

        def step() -> None:
            for student, optimizer, tau in zip(students, optimizers, taus, strict=True):
                optimizer.zero_grad(set_to_none=False)
                self.loss(self.embed(student, views), tau).backward()
                optimizer.step()

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return graph.replay

    def streamed(self) -> Callable[[], None]:
        """Each learner on a CUDA stream of its own."""
        students = [copy.deepcopy(s).to(memory_format=torch.channels_last) for s in self.students]
        optimizers = [torch.optim.Adam(s.parameters(), lr=LR, foreach=True) for s in students]
        streams = [torch.cuda.Stream() for _ in students]
        views, taus = self.views.to(memory_format=torch.channels_last), self.taus.tolist()

        def step() -> None:
            for student, optimizer, tau, stream in zip(students, optimizers, taus, streams, strict=True):
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    optimizer.zero_grad(set_to_none=True)
                    self.loss(self.embed(student, views), tau).backward()
                    optimizer.step()
            for stream in streams:
                torch.cuda.current_stream().wait_stream(stream)

        return step


def arms_of(work: Work) -> dict[str, Callable[[], None]]:
    arms = {"serial": work.serial()[0], "fused": work.fused()[0]}
    if work.device.type == "cuda":
        arms |= {"graphed": work.graphed(), "streamed": work.streamed()}
    return arms


def seconds_in_turn(
    arms: dict[str, Callable[[], None]], repeats: int, steps: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of a step of each arm, in turn."""
    settle = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    return in_turn(arms, repeats, steps=steps, settle=settle)


def speedups(seconds: dict[str, list[float]]) -> dict[str, Spread]:
    """Serial time over each other arm's."""
    return {name: ratio(seconds["serial"], values) for name, values in seconds.items() if name != "serial"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--backbones", nargs="+", default=["resnet10_w4", "resnet10_w16", "resnet18"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one tiny network, two learners: a check that it runs")
    given = parser.parse_args()
    device = torch.device(given.device)
    backbones, counts = (["resnet10_w4"], [2]) if given.quick else (given.backbones, given.counts)
    repeats, steps = (MIN_REPEATS, 1) if given.quick else (given.repeats, 20 if device.type == "cuda" else 2)
    result: dict[str, dict[str, Any]] = {}
    for backbone in backbones:
        for count in counts:
            work = Work(backbone, count, 8 if given.quick else given.batch, device)
            work.check()
            seconds = seconds_in_turn(arms_of(work), repeats, steps, device)
            shown = ", ".join(f"{name} {spread(values) / (count / 1000)}" for name, values in seconds.items())
            print(f"{backbone}, {count} learners, ms a learner and step: {shown}")
            figures = {f"{name}_{count}": figure for name, figure in speedups(seconds).items()}
            result.setdefault(backbone, {}).update(as_json(figures, 2))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
