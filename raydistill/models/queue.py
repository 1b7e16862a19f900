"""A first-in, first-out memory of embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Queue(nn.Module):
    """The newest `size` rows of `dim` dimensions, in a ring; `pointer` is where the next row goes.

    Starts with random unit vectors, as MoCo and SEED do, or uniform in ±`bound`, as CompRess does.
    """

    rows: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int, *, bound: float | None = None) -> None:
        super().__init__()
        start = F.normalize(torch.randn(size, dim), dim=1) if bound is None else (2 * torch.rand(size, dim) - 1) * bound
        self.register_buffer("rows", start)
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Overwrite the oldest rows with these, (B, dim); of more than `size` the newest stay."""
        size, count = len(self.rows), len(rows)
        places = (self.pointer + torch.arange(count, device=self.rows.device)) % size
        self.rows[places[-size:]] = rows[-size:].to(self.rows.dtype)
        self.pointer.copy_((self.pointer + count) % size)


def check_length(name: str, size: int, images: int) -> None:
    """A queue longer than the data would hold several embeddings of each image.

    Raises: ValueError naming the setting and what would be accepted. `images` 0: unknown.
    """
    if images and size > images:
        raise ValueError(f"{name} = {size} is longer than the {images} training images; use at most {images}")
