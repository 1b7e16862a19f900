"""Learning algorithms: the five methods and their baselines, one file each.

Which methods there are, and what each lets you choose, is declared in `raydistill.options`.
"""

from __future__ import annotations

from importlib import import_module

import torch

from raydistill.methods.base import Batch, FeatureDims, Method, MethodContext, StepInfo, TeacherOutputs
from raydistill.options import MethodConfig

__all__ = ["Batch", "FeatureDims", "Method", "MethodContext", "StepInfo", "TeacherOutputs", "build"]


def build(options: MethodConfig, context: MethodContext, *, seed: int) -> Method:
    """Build the method that `options` describe. The caller's random state is left unchanged.

    Args:
        options: of the method.
        context: what it is built for.
        seed: the weights are drawn from it alone.

    Raises:
        ValueError: an unknown backbone, a stem that it cannot take, or a teacher or classes that are not as the
            method needs them.
    """
    module, _, name = options.implementation.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method: Method = getattr(import_module(module), name)(options, context)
        return method
