"""Devices: what a name means, what it can do, whether it computes, and how long its work takes."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from raydistill.config import ConfigError

if TYPE_CHECKING:
    import torch

NARROW = 8  # numbers in a vector of AVX2


def device_of(given: str | None) -> torch.device:
    """Parse a device. Raises ConfigError for one that is not there."""
    import torch

    name = given or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
        if torch.device(name).type == "meta":
            raise RuntimeError("it computes nothing")
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {name} cannot be used ({str(error).splitlines()[0].partition('. ')[0]})") from None
    return torch.device(name)


def has_bf16(device: torch.device) -> bool:
    """Return whether a device is a GPU that computes in bf16 itself: AMD's, and NVIDIA's from Ampere on.

    torch emulates it on older ones, where it is slower than float32 and lacks convolutions.
    """
    import torch

    if device.type != "cuda":
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)


def is_unsound(network: torch.nn.Module, device: torch.device) -> bool:
    """Return whether oneDNN would write beyond its memory while a network is trained; see `sound_kernels`.

    oneDNN of torch 2.15 does so in the backward pass of convolutions with channels last and fewer than eight output
    channels, on CPUs without AVX-512.
    """
    import torch

    if device.type != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512":
        return False
    convolutions = (module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    return any(convolution.out_channels < NARROW for convolution in convolutions)


def sound_kernels(*, unsound: bool) -> AbstractContextManager[None]:
    """Kernels for a backward pass: those of torch itself where oneDNN `is_unsound`."""
    return _without_onednn() if unsound else nullcontext()


@contextmanager
def _without_onednn() -> Iterator[None]:
    """Leave oneDNN out for a while; `mkldnn.flags` would warn about GPUs of Intel."""
    import torch

    kernels: Any = torch.backends.mkldnn
    before, kernels.enabled = kernels.enabled, False
    try:
        yield
    finally:
        kernels.enabled = before


def check_computes(device: torch.device) -> None:
    """Multiply and convolve on a GPU, and compare. Raises RuntimeError, naming the machine, if it does not compute."""
    import torch

    if device.type != "cuda":
        return
    what = f"{device} of {socket.gethostname()}"
    try:
        ones = torch.ones(1, 8, 8, 8, device=device)
        sums = [(ones[0, 0] @ ones[0, 0]).sum().item(), torch.conv2d(ones, ones).sum().item()]
    except torch.OutOfMemoryError:
        return  # another process holds it, perhaps for a moment; it does compute
    except (RuntimeError, AssertionError) as error:
        cause = " ".join(str(error).split())
        raise RuntimeError(f"{what} does not compute ({cause}); `raydistill doctor` there says more") from error
    if sums != [512.0, 512.0]:
        raise RuntimeError(f"{what} computes sums of {sums} where they are 512; `raydistill doctor` there says more")


# docs/architecture.md#measured-capacity
class Clock:
    """Times of work on a device: by the host's clock, or by events on a GPU, which works while the host goes on.

    Args:
        device: where the work is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._gpu = device.type == "cuda"

    def mark(self) -> Any:
        """Mark this point of the work."""
        if not self._gpu:
            return time.perf_counter()
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self, spans: Iterable[tuple[Any, Any]]) -> float:
        """Return how long the work between pairs of marks took, after all of it is done."""
        if not self._gpu:
            return sum(end - began for began, end in spans)
        total = 0.0
        for began, end in spans:
            end.synchronize()
            total += began.elapsed_time(end) / 1000
        return total
