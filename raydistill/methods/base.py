"""The contract between a method and everything that trains it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from raydistill.data.augment import View

Gather = Callable[[Tensor], Tensor]


def alone(tensor: Tensor) -> Tensor:
    """The gather of a single worker."""
    return tensor


@dataclass(frozen=True)
class Batch:
    """What a step sees: its views of the images, and which images they are.

    `gather` joins the rows of all workers, in the order of the global batch, with gradient for the own
    rows. A method computes its loss on gathered rows, so that the loss is the global one on every worker
    and the sum of the workers' gradients is its gradient.
    """

    views: Mapping[View, Tensor]
    indices: Tensor
    gather: Gather = field(default=alone)


@dataclass(frozen=True)
class Progress:
    """Where a learner stands: the steps it has done and the steps it will do."""

    step: int
    total: int


class Method(nn.Module):
    """A learning algorithm; all its state is in `state_dict`.

    Constructed as `Method(options, image_size=...)`. It asks for what it needs (`views`) and never loads
    data or teachers itself.
    """

    views: tuple[View, ...]

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`loss` (scalar, minimised) and the named terms that it is made of."""
        raise TypeError(f"{type(self).__name__} must define loss")

    def after_step(self, progress: Progress) -> None:
        """Move what is not moved by gradients: EMA, queues."""

    def encoders(self) -> dict[str, nn.Module]:
        """The encoders to evaluate and export; the first is the student."""
        raise TypeError(f"{type(self).__name__} must define encoders")
