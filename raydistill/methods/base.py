"""The contract between a method and everything that trains it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from raydistill.data.views.augment import View
from raydistill.models.queue import TeacherBatch
from raydistill.options import Output

Gather = Callable[[Tensor], Tensor]
Embed = Callable[[View, Output], Tensor]


def no_gather(tensor: Tensor) -> Tensor:
    """The gather of a single worker."""
    return tensor


@dataclass(frozen=True)
class TeacherOutputs:
    """A frozen teacher as one step sees it; everything is computed once for all learners.

    Called with a view and an output, what it makes of this worker's rows, (n, D), without gradient. `entries`
    are the same of all workers, (N, D), as a queue takes them.
    """

    embed: Embed
    entries: Callable[[View, Output], TeacherBatch]

    def __call__(self, view: View, output: Output) -> Tensor:
        return self.embed(view, output)


@dataclass(frozen=True)
class Batch:
    """Batch of one step: views of the images, and their numbers. n rows of this worker.

    `gather` joins the rows of all workers, in the order of the global batch, with gradient for the own
    rows. A method computes its loss on gathered rows, so that the loss is the global one on every worker
    and the sum of the workers' gradients is its gradient. Layers with weights come before the gather: after
    it every worker would add the same gradient of all rows.

    `teachers[i](view, output)` is what the i-th frozen teacher makes of this worker's rows of a view,
    (n, D), without gradient; computed once for all learners, or read from a teacher bank. A queue of a teacher's
    embeddings takes `teachers[i].entries(view, output)`, so that it is shared. The view `View("eval", 0)`, the
    plain image, may be asked for without being in `views`. `labels` (n,) are the classes of the images under
    the method's label source.
    """

    views: Mapping[View, Tensor]
    indices: Tensor
    gather: Gather = field(default=no_gather)
    teachers: Sequence[TeacherOutputs] = ()
    labels: Tensor | None = None


@dataclass(frozen=True)
class StepInfo:
    """Position of a learner in its training: the steps done, and the steps in all."""

    step: int
    total: int


class FeatureDims(NamedTuple):
    """Dimensions of a teacher's outputs: its pooled backbone features, and its SSL head if it has one."""

    features: int
    head: int | None


@dataclass(frozen=True)
class MethodContext:
    """Context that a method is built for: pixels, training images, images per class, and the teachers' widths.

    `levels` are black and white of images with more than 8 bits; None where images have 8.
    """

    image_size: int
    images: int = 0
    class_counts: tuple[int, ...] = ()
    teachers: tuple[FeatureDims, ...] = ()
    levels: tuple[float, float] | None = None

    def teacher_width(self, output: Output) -> int:
        """Width of what a method looks at that has one teacher. Raises ValueError as `teacher_widths`."""
        (width, *others) = self.teacher_widths(output)
        if others:
            given = len(self.teachers)
            raise ValueError(f"this method takes one teacher and {given} are given; simreg and simreg_exits take more")
        return width

    def teacher_widths(self, output: Output) -> list[int]:
        """Widths of what the method looks at, one for each teacher.

        Raises: ValueError where there is no teacher, or one without such an output.
        """
        if not self.teachers:
            raise ValueError("this method needs a teacher and none is given")
        widths = [teacher.head if output == "head" else teacher.features for teacher in self.teachers]
        if None in widths:
            raise ValueError("the teacher has no head; set method.teacher=features to use its backbone")
        return [width for width in widths if width is not None]


class Method(nn.Module):
    """A learning algorithm; all its state is in `state_dict`.

    Constructed as `Method(options, context)`. It asks for what it needs (`views`; its options name the
    teacher output and the label source) and never loads data or teachers itself.
    """

    views: tuple[View, ...]

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        """`loss` (scalar, minimised) and the named terms that it is made of."""
        raise TypeError(f"{type(self).__name__} must define loss")

    def after_step(self, progress: StepInfo) -> None:
        """Move what is not moved by gradients: EMA, queues. Called after every optimisation step."""

    def encoders(self) -> dict[str, nn.Module]:
        """The encoders to evaluate and export; the first is the student. Each has `dim`, its output width."""
        raise TypeError(f"{type(self).__name__} must define encoders")

    def head(self) -> nn.Sequential | None:
        """The SSL head that belongs to the student, if this method can be a teacher with one."""
        return None

    def regression(self, images: Tensor, outputs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Pairs of a prediction and its target, (N, D) each, one for each teacher; in eval mode, to measure the error.

        Only of a method whose options say that it `regresses`.

        Args:
            images: (N, 3, S, S).
            outputs: what each teacher makes of them, (N, D).
        """
        raise TypeError(f"{type(self).__name__} must define regression")
