"""Common part of BYOL and MoCo v3: a momentum network with a projector follows the trained one."""

from __future__ import annotations

from torch import nn

from raydistill.methods.base import Method, StepInfo
from raydistill.models.backbones import Backbone, with_blocks
from raydistill.models.ema import follow
from raydistill.options.momentum import Momentum


class MomentumMethod(Method):
    """Method with a momentum network, and whose encoder is the trained network or its average."""

    backbone: Backbone
    projector: nn.Sequential
    momentum: Momentum
    encoder: str

    def average(self) -> tuple[Backbone, nn.Sequential]:
        """Return the momentum network's backbone and projector."""
        raise TypeError(f"{type(self).__name__} must define average")

    def after_step(self, progress: StepInfo) -> None:
        momentum = self.momentum.at(progress.step, progress.total)
        for target, source in zip(self.average(), (self.backbone, self.projector), strict=True):
            follow(target, source, momentum)

    def encoders(self) -> dict[str, nn.Module]:
        return with_blocks(self.average()[0] if self.encoder == "ema" else self.backbone)

    def head(self) -> nn.Sequential:
        return self.average()[1] if self.encoder == "ema" else self.projector
