"""Memory that runs out, which fewer neighbours cure, and GPUs that compute no more, which a new process cures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Of the machine, of torch's allocator, of cuBLAS and cuDNN; the last is what cuDNN says when no workspace has room.
_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "alloc_failed",
    "allocation_failed",
    "unable to find a valid cudnn algorithm",
)
_LOST = ("cuda error", "hip error", "execution_failed", "status_not_initialized", "status_internal_error")


def out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory ran out, of a GPU or of the machine."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _NO_MEMORY)


def lost_device(error: BaseException) -> bool:
    """Return whether an exception says that this process can use its GPU no more.

    After a failed assertion in a kernel, an illegal address or a fault of the hardware, all later calls fail, whoever
    makes them. Such errors arrive late, so that the call that raises one need not have caused it.
    """
    if out_of_memory(error) or not isinstance(error, RuntimeError):
        return False
    text = str(error).lower()
    return isinstance(error, torch.AcceleratorError) or any(sign in text for sign in _LOST)


def release(error: BaseException, device: torch.device) -> None:
    """Let go of the tensors in the frames that an exception has come through, and of the device's free blocks."""
    error.__traceback__ = None
    if device.type == "cuda":
        torch.cuda.empty_cache()


def in_parts(function: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Return `function(batch)`, in halves of the rows as often as memory runs out; a single row must have room.

    Args:
        function: of every row alone.
        batch: (N, ...).
    """
    try:
        return function(batch)
    except Exception as error:
        if len(batch) < 2 or not out_of_memory(error):
            raise
        release(error, batch.device)
    half = len(batch) // 2
    return torch.cat([in_parts(function, part) for part in (batch[:half], batch[half:])])


def memory_in_use(device: torch.device) -> float:
    """The share of memory in use: the GPU's at this process's peak since last asked, or the machine's now."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        spare = torch.cuda.memory_reserved(device) - torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return 1 - (free + max(spare, 0)) / total
    import psutil

    return psutil.virtual_memory().percent / 100
