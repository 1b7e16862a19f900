"""Initial scale of residual blocks."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from raydistill.models.wide_resnets import PreActBlock

ALWAYS_RESIDUAL = ("BasicBlock", "Bottleneck")  # classes of timm and torchvision
SKIPS = ("has_skip", "use_res_connect")  # what timm and torchvision call it in MobileNets and EfficientNets


def init_residual(net: nn.Module, *, zero: bool) -> int:
    """Scale the last batch norm of every residual block by 0, so that it starts as the identity, or by 1.

    A block of `WideResNet` ends in a convolution, whose weights become 0; they stay as drawn without `zero`.

    Args:
        net: changed in place.
        zero: whether blocks start as the identity.

    Returns: the number of blocks.
    Source: arXiv 1706.02677, section 5.1; `zero_init_residual` of torchvision, `zero_init_last` of timm.
    """
    norms = list(_last_norms(net))
    for norm in norms:
        nn.init.constant_(norm.weight, 0.0 if zero else 1.0)
    blocks = [module for module in net.modules() if isinstance(module, PreActBlock)]
    for block in blocks if zero else ():
        nn.init.zeros_(block.conv2.weight)
    return len(norms) + len(blocks)


def _last_norms(net: nn.Module) -> Iterator[nn.BatchNorm2d]:
    for block in net.modules():
        if type(block).__name__ not in ALWAYS_RESIDUAL and not any(getattr(block, name, False) for name in SKIPS):
            continue
        branch = [child for name, child in block.named_children() if name != "downsample"]
        norms = [module for child in branch for module in child.modules() if isinstance(module, nn.BatchNorm2d)]
        if norms and norms[-1].affine:
            yield norms[-1]
