"""The stream: an endless, seeded supplier of augmented batches, addressed by (epoch, step)."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from queue import Empty, Full, Queue
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from raydistill.data.images import DataError, Images
from raydistill.data.views.augment import Normalization, View, augment
from raydistill.data.views.recipes import Kind

T = TypeVar("T")
_LARGE_PX = 96  # larger images are seldom kept decoded in memory
VIEW_SEED = 0  # of fixed views, so that one teacher bank serves every seed
Views = Mapping[View, Tensor]
Fetched = tuple[list[Tensor] | Tensor, Tensor]


class Stream:
    """Batches that depend on (seed, epoch, step) and on nothing else.

    Each epoch is a permutation of the images without the last, incomplete batch. Worker `rank` of `world`
    gets its consecutive share of every global batch; an image's augmentation depends on the image, the
    epoch and the draw, so any number of workers sees the same global batch.

    Args:
        images: the training split.
        size: pixels of the views.
        batch_size: images per global batch.
        seed: of order and augmentations.
        normalize: mean and standard deviation per channel.
        prefetch: batches prepared ahead in a thread; 0 prepares each when asked.
        fixed_views: the augmentations of epoch e are those of epoch e modulo this, whatever the seed.
        kind: of the images, which the recipes are fitted to.

    Raises: DataError if a batch is larger than the data or gives a worker less than two images.
    """

    def __init__(
        self,
        images: Images,
        *,
        size: int,
        batch_size: int,
        seed: int,
        normalize: Normalization,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        prefetch: int = 2,
        fixed_views: int | None = None,
        kind: Kind = "photographs",
    ) -> None:
        if batch_size > len(images):
            raise DataError(
                f"data.batch_size = {batch_size} is larger than the {len(images)} training images; "
                f"use at most {len(images)}"
            )
        if batch_size < 2 * world:
            raise DataError(f"data.batch_size = {batch_size} leaves {world} workers less than two images each")
        self.images = images
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.normalize = normalize
        self.device = torch.device(device)
        self.rank = rank
        self.share = (batch_size * rank // world, batch_size * (rank + 1) // world)
        self.prefetch = prefetch
        self.fixed_views = fixed_views
        self.kind = kind

    @property
    def steps_per_epoch(self) -> int:
        return len(self.images) // self.batch_size

    def indices(self, epoch: int, step: int) -> Tensor:
        """(share,) indices of this worker's images; shares differ by one where the batch does not divide."""
        first, last = self.share
        return self._order(epoch)[step * self.batch_size + first : step * self.batch_size + last]

    def batch(self, epoch: int, step: int, views: Iterable[View]) -> tuple[Views, Tensor]:
        """Return the views (share, 3, size, size) of one step, and the indices of the images really used.

        Args:
            epoch, step: the batch's address.
            views: the views to make.
        """
        return self._drawn(epoch, views, self._fetch(epoch, step))

    def _fetch(self, epoch: int, step: int) -> Fetched:
        return self.images.fetch(self.indices(epoch, step), self.device if self.device.type == "cuda" else None)

    def _drawn(self, epoch: int, views: Iterable[View], fetched: Fetched) -> tuple[Views, Tensor]:
        images, indices = fetched
        seed, version = (VIEW_SEED, epoch % self.fixed_views) if self.fixed_views else (self.seed, epoch)
        drawn = {
            view: augment(
                images,
                indices,
                view,
                size=self.size,
                seed=seed,
                epoch=version,
                normalize=self.normalize,
                device=self.device,
                kind=self.kind,
            )
            for view in views
        }
        return drawn, indices

    def epoch(self, epoch: int, views: Iterable[View]) -> Iterator[tuple[Views, Tensor]]:
        """All batches of an epoch, prepared ahead of their use."""
        views, steps = tuple(views), range(self.steps_per_epoch)
        if not self.prefetch:
            return (self.batch(epoch, step, views) for step in steps)
        decoded: Iterator[Fetched] = (self._fetch(epoch, step) for step in steps)
        if self.size > _LARGE_PX:  # the next batch is decoded while this one is augmented
            decoded = _ahead(decoded, 1)
        return _ahead((self._drawn(epoch, views, each) for each in decoded), self.prefetch)

    def _order(self, epoch: int) -> Tensor:
        generator = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        return torch.from_numpy(generator.permutation(len(self.images)))


def _ahead(items: Iterator[T], depth: int) -> Iterator[T]:
    """Draw `items` in a thread, at most `depth` ahead; its exceptions are raised here."""
    ready: Queue[tuple[str, T | BaseException | None]] = Queue(depth)
    stopped = threading.Event()

    def put(kind: str, item: T | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return ready.put((kind, item), timeout=0.1)
            except Full:
                continue
        return None

    def produce() -> None:
        torch.set_num_threads(1)  # of this thread alone: a second team of all cores would fight the learners'
        try:
            for item in items:
                put("item", item)
                if stopped.is_set():
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=produce, name="stream", daemon=True)
    thread.start()
    try:
        while True:
            kind, item = ready.get()
            if kind == "end":
                return
            if isinstance(item, BaseException):
                raise item
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        while True:
            try:
                ready.get_nowait()
            except Empty:
                break
        thread.join()
