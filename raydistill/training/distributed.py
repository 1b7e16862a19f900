"""Communication of a pack's workers: they gather rows, sum gradients, agree on directives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from raydistill.models.queue import Queue

T = TypeVar("T")
Network = TypeVar("Network", bound=nn.Module)
# What gloo says, in a plain RuntimeError, when a peer has died; NCCL and the store have exceptions of their own.
_GONE = ("connection reset by peer", "connection closed by peer", "broken pipe", "gloo/transport", "nccl")


class Workers:
    """The process group of a pack, or a single process where none is initialised."""

    def __init__(self) -> None:
        active = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if active else 0
        self.world = dist.get_world_size() if active else 1

    # docs/architecture.md#global-losses
    def gather(self, rows: Tensor) -> Tensor:
        """All workers' rows in rank order: (n, ...) to (world * n, ...), gradient for the own rows only.

        Every worker computes the same global loss of the gathered rows; the sum of the workers'
        gradients is then the gradient of that loss, with no communication in the backward pass.
        """
        if self.world == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.world)]
        dist.all_gather(parts, rows.detach().contiguous())
        parts[self.rank] = rows
        return torch.cat(parts)

    def gather_of(self, batch_size: int) -> Callable[[Tensor], Tensor]:
        """`gather`, or where the workers' shares of a batch differ `gather_uneven`."""
        return self.gather if batch_size % self.world == 0 else self.gather_uneven

    def gather_uneven(self, rows: Tensor) -> Tensor:
        """`gather` where the workers' rows may differ in number, as in an elastic group."""
        if self.world == 1:
            return rows
        sizes = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor([len(rows)], device=rows.device))
        counts = [int(size) for size in sizes]
        padded = rows.detach().new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows.detach()
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        parts = [part[:count] for part, count in zip(parts, counts, strict=True)]
        parts[self.rank] = rows
        return torch.cat(parts)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the workers, in one transfer."""
        grads = [p.grad for p in parameters if p.grad is not None]
        if self.world == 1 or not grads:
            return
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    def average_buffers(self, module: nn.Module) -> None:
        """Give all workers the mean of their floating-point buffers (batch-norm statistics).

        Queues stay as they are: they hold the gathered rows, and may share them with other learners.
        """
        if self.world == 1:
            return
        parts = (part for part in module.modules() if not isinstance(part, Queue))
        for buffer in (buffer for part in parts for buffer in part.buffers(recurse=False)):
            if buffer.is_floating_point():
                dist.all_reduce(buffer)
                buffer /= self.world

    def first_alone(self, work: Callable[[], T]) -> T:
        """`work()` by worker 0 first; by the others after it, when what it makes is there.

        Raises: what it raised on worker 0, as a RuntimeError on the others.
        """
        if self.world == 1:
            return work()
        error = ""
        if self.rank == 0:
            try:
                result = work()
            except Exception as failure:
                self.broadcast(f"{type(failure).__name__}: {failure}")
                raise
        error = self.broadcast(error)
        if error:
            raise RuntimeError(error)
        return result if self.rank == 0 else work()

    # docs/architecture.md#lost-workers
    def lost(self, error: BaseException) -> bool:
        """Return whether `error` comes of the group's end, not of the work that raised it.

        When a worker has died, or a group changes its size, Ray Train takes the process group away from under the
        loops of the others (`_shutdown_torch` in Ray 2.60), and what they raise then may be of any kind.
        """
        return self.world > 1 and (self.ended or lost_worker(error))

    @property
    def ended(self) -> bool:
        """Return whether the process group of several workers is no more."""
        return self.world > 1 and not dist.is_initialized()

    def broadcast(self, value: T) -> T:
        """Worker 0's value, on every worker."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


def lost_worker(error: BaseException) -> bool:
    """Return whether an exception says that another worker, or the line to it, is gone."""
    if isinstance(error, dist.DistError | ConnectionError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _GONE)


def with_shared_norms(network: Network) -> Network:
    """Replace batch norms by those that see the rows of all workers; activations inside timm's norms stay."""
    from timm.layers import convert_sync_batchnorm  # torch's own drops them: MobileNets, EfficientNets, DenseNets

    converted: Network = convert_sync_batchnorm(network)
    return converted
