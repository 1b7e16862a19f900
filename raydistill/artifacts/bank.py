"""The teacher bank: a teacher's embeddings of fixed views of every training image, in half precision.

With `data.fixed_views = V` the augmentations of epoch e are those of epoch e mod V, drawn from a seed of
their own. So the embeddings can be kept, one array (N, D) for each view and each of the V versions, and an
epoch reads its rows by image index instead of running the teacher. The plain image has one version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raydistill.artifacts.store import ArtifactError, Store
from raydistill.data.images import Images
from raydistill.data.stream import VIEW_SEED
from raydistill.data.views.augment import Normalization, View, augment
from raydistill.data.views.recipes import NOT_IN_0_1, Kind, recipe_for
from raydistill.options import Output

FILE = "embeddings.npy"
BATCH = 256


# docs/architecture.md#teacher-bank-pages
@dataclass(frozen=True, eq=True)
class BankPage:
    """Address of embeddings: teacher, images, view, and version."""

    teacher: str
    images: dict[str, Any]
    view: View
    version: int
    output: Output
    kind: Kind = "photographs"

    def provenance(self) -> dict[str, Any]:
        """Return what it takes to draw the very same views again and to embed them with the same teacher."""
        recipe = asdict(recipe_for(self.view.recipe, self.kind, self.view.changes))
        for name in NOT_IN_0_1:
            if not recipe[name]:
                del recipe[name]  # so that pages of version 0.1 are found
        return {
            "teacher": self.teacher,
            "images": self.images,
            "view": [self.view.recipe, self.view.draw],
            "recipe": _plain(recipe),
            "version": self.version,
            "view_seed": VIEW_SEED,
            "output": self.output,
        }


def open_page(
    store: Store,
    page: BankPage,
    images: Images,
    embed: Callable[[Tensor], Tensor],
    *,
    size: int,
    normalize: Normalization,
    device: torch.device,
) -> np.ndarray:
    """Open the page's (N, D) float16 rows, memory-mapped; make them first if there are none.

    Args:
        store: where pages are.
        page: which one.
        images: the training images.
        embed: the teacher, views (B, 3, S, S) -> (B, D).
        size: S in pixels.
        normalize: of the views.
        device: where views are made.

    Raises:
        ArtifactError: the storage refuses, or an embedding does not fit in half precision.
    """

    def make(folder: Path) -> None:
        rows: np.memmap[Any, Any] | None = None
        for start in range(0, len(images), BATCH):
            wanted = torch.arange(start, min(start + BATCH, len(images)))
            pixels, used = images.fetch(wanted)
            drawn = augment(
                pixels,
                used,
                page.view,
                size=size,
                seed=VIEW_SEED,
                epoch=page.version,
                normalize=normalize,
                device=device,
                kind=page.kind,
            )
            half = embed(drawn).half().cpu().numpy()
            if not np.isfinite(half).all():
                raise ArtifactError("the teacher's embeddings exceed half precision; set teacher.bank=false")
            if rows is None:
                rows = np.lib.format.open_memmap(
                    folder / FILE, mode="w+", dtype=np.float16, shape=(len(images), half.shape[1])
                )
            rows[start : start + len(half)] = half
        assert rows is not None
        rows.flush()

    folder = store.get("bank", page.provenance(), make)
    try:
        found: np.ndarray = np.load(folder / FILE, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder / FILE} is damaged ({error}); remove it with `raydistill artifacts`") from None
    return found


def _plain(recipe: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in recipe.items()}
