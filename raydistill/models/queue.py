"""First-in, first-out memories of embeddings, and what they share.

Queues that take the same embeddings of a frozen teacher differ in length and in when they began, not in content:
the rows are kept once, in an `EmbeddingLog`, and each such queue is a view of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ALIGNMENT = 64


# docs/architecture.md#shared-teacher-queue
class EmbeddingLog:
    """The unit embeddings of a teacher's batches, oldest first, in one block with room for more.

    A row that was written never changes: when the block is full the newest rows go on in a new one, and the old
    lives as long as a view of it. So a queue that falls behind keeps what it has, and nothing it could read is
    ever discarded. As many rows go along as the longest view that was asked for since the block was made.
    """

    def __init__(self) -> None:
        self.end = 0
        self._first = 0
        self._wanted = 0
        self._block: Tensor | None = None

    def append(self, rows: Tensor) -> int:
        """Write (N, D) behind the newest row. Returns: the end, counted from the first row ever."""
        block = self._block
        if block is None or self.end + len(rows) - self._first > len(block):
            block = self._renew(rows)
        block[self.end - self._first :][: len(rows)] = rows
        self.end += len(rows)
        return self.end

    def view(self, end: int, size: int) -> Tensor | None:
        """The `size` rows before `end`, (size, D), as a view; None where the block does not hold them all.

        Asked for at every step, it also tells how many rows a new block must begin with.
        """
        self._wanted = max(self._wanted, size)
        start = end - size - self._first
        return None if self._block is None or start < 0 else self._block[start : start + size]

    def _renew(self, rows: Tensor) -> Tensor:
        """A block that begins with the newest rows that are wanted; its room makes copying rare."""
        old, held = self._block, self.end - self._first
        kept = min(held, self._wanted)
        block = aligned(kept + 4 * len(rows) + self._wanted // 8, rows)
        if old is not None:
            block[:kept] = old[held - kept : held]
        self._block, self._first, self._wanted = block, self.end - kept, 0
        return block


class TeacherBatch:
    """A teacher's embeddings of one global batch, for every queue that takes it.

    Args:
        raw: (N, D), the rows of all workers, without gradient.
        log: of the same teacher, view and output in all steps. None: one that ends with this batch.

    `rows` (N, D) are the unit vectors that queues hold.
    """

    def __init__(self, raw: Tensor, log: EmbeddingLog | None = None) -> None:
        self.raw = raw
        self.rows = F.normalize(raw.detach().float(), dim=1)
        self.log = log or EmbeddingLog()
        self._end: int | None = None
        self._cosines: dict[tuple[int, int], Tensor] = {}

    def append(self) -> int:
        """Put the rows on the log, on the first call. Returns: their end there."""
        if self._end is None:
            self._end = self.log.append(self.rows)
        return self._end

    def cosines(self, view: Tensor, end: int) -> Tensor:
        """(N, K) with a view (K, D) of the log that ends at `end`; computed once however many ask."""
        key = (end, len(view))
        if key not in self._cosines:
            self._cosines[key] = cosines(self.rows, view)
        return self._cosines[key]


class Queue(nn.Module):
    """The newest `size` rows of `dim` dimensions, oldest first: `rows` (K, D).

    Starts with random unit vectors, as MoCo and SEED do, or uniform in ±`bound`, as CompRess does. As soon as all
    of its rows came as `TeacherBatch` of one log, without a gap, `rows` is a view of that log, of which it never
    writes a byte. Every row begins on a 64-byte boundary in either case, so that products with the rows are the
    same bit for bit wherever they lie.
    """

    rows: Tensor
    _log: EmbeddingLog | None
    _end: int  # where on that log the newest row ends
    _run: int  # how many of the newest rows came from it without a gap
    _shared: bool  # whether `rows` is a view of it

    def __init__(self, size: int, dim: int, *, bound: float | None = None) -> None:
        super().__init__()
        start = F.normalize(torch.randn(size, dim), dim=1) if bound is None else (2 * torch.rand(size, dim) - 1) * bound
        self.register_buffer("rows", aligned_copy(start))
        self._forget()

    @torch.no_grad()
    def push(self, new: Tensor | TeacherBatch) -> None:
        """Let these, (N, D), take the place of the oldest rows; of more than `size` the newest stay."""
        if isinstance(new, Tensor):
            self._slide(new)
            self._forget()
            return
        end = new.append()
        follows = self._log is new.log and self._end == end - len(new.rows)
        run = len(new.rows) + (self._run if follows else 0)
        view = new.log.view(end, len(self.rows))
        self._shared = view is not None and run >= len(self.rows)
        if view is not None and self._shared:
            self.rows = view
        else:
            self._slide(new.rows)
        self._log, self._end, self._run = new.log, end, run

    def similarities(self, batch: TeacherBatch) -> Tensor:
        """(N, K) cosines of a batch's embeddings with the rows, without gradient, in full precision."""
        if self._shared and self._log is batch.log:
            return batch.cosines(self.rows, self._end)
        return cosines(batch.rows, self.rows)

    def _slide(self, new: Tensor) -> None:
        rows = aligned(len(self.rows), self.rows)
        torch.cat((self.rows[len(new) :], new[-len(rows) :].to(rows.dtype)), out=rows)
        self.rows = rows

    def _forget(self) -> None:
        """The rows are its own, whatever log they came from."""
        self._log, self._end, self._run, self._shared = None, 0, 0, False

    def _load_from_state_dict(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        """Load into rows of its own: a state is loaded in place, and a view belongs to others too."""
        self.rows = aligned(len(self.rows), self.rows)
        self._forget()
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, *args, **kwargs) -> Queue:  # type: ignore[no-untyped-def]
        """`.to(...)` and the like do not keep the distance of the rows."""
        super()._apply(*args, **kwargs)
        self.rows = aligned_copy(self.rows)
        self._forget()
        return self


def aligned(count: int, like: Tensor) -> Tensor:
    """Uninitialised (count, D) for rows such as `like` (·, D), each on a 64-byte boundary."""
    step = max(1, ALIGNMENT // like.element_size())
    dim = like.shape[1]
    return like.new_empty(count, -(-dim // step) * step)[:, :dim]


def aligned_copy(rows: Tensor) -> Tensor:
    return aligned(len(rows), rows).copy_(rows)


@torch.no_grad()
def cosines(rows: Tensor, queue: Tensor) -> Tensor:
    """(N, K) products of unit vectors (N, D) and (K, D), whatever precision the learner runs in."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows @ queue.T


def check_length(name: str, size: int, images: int) -> None:
    """Refuse a queue longer than the data: it would hold several embeddings of each image.

    Args:
        name: the setting, for the message.
        size: length of the queue.
        images: number of training images; 0: unknown.

    Raises:
        ValueError: names the setting and what would be accepted.
    """
    if images and size > images:
        raise ValueError(f"{name} = {size} is longer than the {images} training images; use at most {images}")
