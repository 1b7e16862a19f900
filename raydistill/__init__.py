"""Sweeps over self-supervised distillation: one command from a laptop to a cluster.

Public is what `raydistill.__all__` names and docs/api.md describes; it keeps to semantic versioning. Everything else,
every module of the package included, is private and may change in any version.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raydistill.api import (
        evaluate,
        load_config,
        load_encoder,
        load_sweep,
        plan_experiment,
        plan_sweep,
        run_sweep,
        train,
    )
    from raydistill.config import Config
    from raydistill.errors import RaydistillError
    from raydistill.methods import Method
    from raydistill.options import MethodConfig
    from raydistill.sweep.settings import SweepSettings

# docs/architecture.md#public-python-api
__version__ = "0.1.0"
__all__ = [
    "Config",
    "Method",
    "MethodConfig",
    "RaydistillError",
    "SweepSettings",
    "__version__",
    "evaluate",
    "load_config",
    "load_encoder",
    "load_sweep",
    "plan_experiment",
    "plan_sweep",
    "run_sweep",
    "train",
]

_HOMES = {
    "Config": "raydistill.config",
    "Method": "raydistill.methods",
    "MethodConfig": "raydistill.options",
    "RaydistillError": "raydistill.errors",
    "SweepSettings": "raydistill.sweep.settings",
}
"""Where a public name lives if not in `raydistill.api`; imported when asked for, since torch and Ray take seconds."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOMES.get(name, "raydistill.api")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
