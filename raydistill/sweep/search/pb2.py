"""PB2 (arXiv 2002.02518): a population whose steps a Gaussian process proposes.

A file of its own, since Tune's PB2 imports scikit-learn, which takes a second.
"""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers.pb2 import PB2

from raydistill.sweep.search.populations import Replacing
from raydistill.sweep.search.space import Parameter, Space


class SweepPB2(Replacing, PB2):
    """PB2, synchronous, over the ranges."""

    def __init__(self, space: Space, mutable: tuple[Parameter, ...], **settings: Any) -> None:
        bounds = {"settings": {parameter.path: [parameter.low, parameter.high] for parameter in mutable}}
        super().__init__(
            time_attr="epoch", synch=True, log_config=False, require_attrs=False, hyperparam_bounds=bounds, **settings
        )
        self._space, self._mutable = space, mutable

    def _explored(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        config, operations = super()._explored(trial, trial_to_clone)
        settings = dict(config["settings"])
        for parameter in self._mutable:
            if parameter.q is not None:
                settings[parameter.path] = parameter.round(settings[parameter.path])
        return {**config, "settings": settings}, operations
