"""Options of Regress-BN."""

from __future__ import annotations

from typing import ClassVar, Literal

from raydistill.options.baselines.regress import RegressConfig


class RegressBNConfig(RegressConfig):
    """Regress-BN: both features through a batch norm without affine parameters first."""

    implementation: ClassVar[str] = "raydistill.methods.baselines.regress_bn:RegressBN"
    batch_norm: ClassVar[bool] = True

    name: Literal["regress_bn"] = "regress_bn"  # type: ignore[assignment]
