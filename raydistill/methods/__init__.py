"""Learning algorithms: the five methods, two that join them, and their baselines, one file each.

Which methods there are, and what each lets you choose, is declared in `raydistill.options`.
"""

from __future__ import annotations

from importlib import import_module

import torch

from raydistill.methods.base import Batch, FeatureDims, Method, MethodContext, StepInfo, TeacherOutputs
from raydistill.models.backbones import Backbone
from raydistill.options import MethodConfig

__all__ = ["Batch", "FeatureDims", "Method", "MethodContext", "StepInfo", "TeacherOutputs", "advice", "build"]


def build(options: MethodConfig, context: MethodContext, *, seed: int) -> Method:
    """Build the method that `options` describe. The caller's random state is left unchanged.

    Args:
        options: of the method.
        context: what it is built for.
        seed: the weights are drawn from it alone.

    Raises:
        ValueError: an unknown backbone, a stem or an initialisation that it cannot take, or a teacher or classes that
            are not as the method needs them.
    """
    module, _, name = options.implementation.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method: Method = getattr(import_module(module), name)(options, context)
    if options.zero_init_residual is not None:
        for backbone in _backbones(method):
            backbone.init_residual(zero=options.zero_init_residual)
    return method


def advice(method: Method) -> list[str]:
    """Return what to know about the backbones of a method at its size of images, each line once."""
    return list(dict.fromkeys(backbone.advice for backbone in _backbones(method) if backbone.advice))


def _backbones(method: Method) -> list[Backbone]:
    return [part for part in method.modules() if isinstance(part, Backbone)]
