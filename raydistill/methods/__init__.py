"""Learning algorithms: the five methods and their baselines, one file each.

Which methods there are, and what each lets you choose, is declared in `raydistill.options`.
"""

from __future__ import annotations

from importlib import import_module

import torch

from raydistill.methods.base import Batch, Given, Method, Progress, Teacher, Widths
from raydistill.options import Options

__all__ = ["Batch", "Given", "Method", "Progress", "Teacher", "Widths", "build"]


def build(options: Options, given: Given, *, seed: int) -> Method:
    """The method that `options` describe, its weights drawn from `seed` alone.

    The caller's random state is left as it was. Raises ValueError for an unknown backbone, a stem that it
    cannot take, or a teacher or classes that are not as the method needs them.
    """
    module, _, name = options.implementation.partition(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(import_module(module), name)(options, given)
