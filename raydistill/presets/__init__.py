"""Presets: settings that belong together, per method; the paper's, and smaller ones that keep its structure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raydistill.config import ConfigError, nearest, read_yaml

HERE = Path(__file__).parent
# Settings that presets have and version 0.1 lacked, with the value at which everything is as it was.
NEW_IN_PRESETS: dict[str, Any] = {
    "data.kind": "photographs",
    "data.split": "draw",
    "eval.probe": "dogo",
    "method.stem": "auto",
    "method.zero_init_residual": None,
    "teacher.stem": "auto",
    "teacher.zero_init_residual": None,
    "method.momentum_window": None,
    "method.normalizer": "none",
}
# What presets of version 0.1 decided otherwise, by method and preset, for teachers of its sweeps that are resumed.
OTHER_IN_PRESETS: dict[tuple[str, str], dict[str, Any]] = {
    ("mocov2", "default"): {"train.lr": 3e-3},
}


def settings_of_before(method: str, preset: str) -> dict[str, Any]:
    """Settings by dotted path that make a preset what it was in version 0.1, beside all that it decides alike."""
    return NEW_IN_PRESETS | OTHER_IN_PRESETS.get((method, preset), {})


def preset_names(method: str) -> list[str]:
    """The presets of a method, in the order of its file."""
    return list(_presets(method))


def load_preset(method: str, name: str) -> dict[str, Any]:
    """Nested settings, the method's name included. Raises ConfigError, naming the presets there are."""
    presets = _presets(method)
    if name not in presets:
        raise ConfigError(f"preset {name!r} of method {method!r} is unknown{nearest(name, presets)}")
    values: dict[str, Any] = presets[name] or {}
    return values | {"method": {"name": method, **values.get("method", {})}}


def _presets(method: str) -> dict[str, Any]:
    path = HERE / f"{method}.yaml"
    return read_yaml(path) if path.exists() else {"default": {}}
