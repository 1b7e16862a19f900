"""The MLP through which a student predicts a teacher's feature."""

from __future__ import annotations

from typing import Literal

from torch import nn


def regression_head(
    student_dim: int,
    out_dim: int,
    *,
    depth: int = 4,
    width: float = 2.0,
    hidden: Literal["alternating", "output"] = "alternating",
    bn_relu: Literal["all_hidden", "every_other"] = "all_hidden",
) -> nn.Sequential:
    """Build SimReg's head: m -> 2m -> m -> 2m -> d at depth 4; the last of the `depth` linear layers stands alone.

    Args:
        student_dim: m.
        out_dim: d.
        depth: number of linear layers, >= 1.
        width: the 1st, 3rd, ... hidden layers have `width` * m units, at least 1; the others m.
        hidden: `output` makes all hidden layers d wide (the paper's study of the inference layer).
        bn_relu: batch norm and ReLU after every hidden layer, or after the 1st, 3rd, ... only.

    Source: SimReg (arXiv 2201.05131) section 3; `every_other` is UCDvision/simreg's four-layer head.
    """
    wide = max(1, round(width * student_dim))
    alternating = [wide if layer % 2 == 0 else student_dim for layer in range(depth - 1)]
    dims = [student_dim, *(alternating if hidden == "alternating" else [out_dim] * (depth - 1)), out_dim]
    modules: list[nn.Module] = []
    for layer in range(depth):
        modules.append(nn.Linear(dims[layer], dims[layer + 1]))
        if layer < depth - 1 and (bn_relu == "all_hidden" or layer % 2 == 0):
            modules += [nn.BatchNorm1d(dims[layer + 1]), nn.ReLU(inplace=True)]
    return nn.Sequential(*modules)


def first_layers(head: nn.Sequential, count: int) -> nn.Sequential:
    """The first `count` linear layers with what follows each; shares its modules with `head`.

    Raises ValueError if `head` has fewer.
    """
    linear = [index for index, module in enumerate(head) if isinstance(module, nn.Linear)]
    if count > len(linear):
        raise ValueError(f"{count} layers of a head with {len(linear)}")
    return head[: [*linear, len(head)][count]]
