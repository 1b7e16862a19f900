"""Regress-BN (UMBCvision/CompRess; SimReg's table 3): both sides pass a batch norm without parameters first."""

from __future__ import annotations

from raydistill.methods.baselines.regress import Regress


class RegressBN(Regress):
    """Mean squared error of standardised features."""
