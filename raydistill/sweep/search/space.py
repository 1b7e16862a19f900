"""Search spaces: a strict subset of W&B's sweep files, with `when` and `at_most` added. Free of torch and Ray.

Reference of the keys: https://docs.wandb.ai/guides/sweeps/sweep-config-keys
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from raydistill.config import ConfigError, takes
from raydistill.options import MethodConfig
from raydistill.records.locations import SHIPPED

Goal = Literal["maximize", "minimize"]
Search = Literal["random", "grid", "bayes"]
METRICS: dict[str, Goal] = {
    "val_knn": "maximize",
    "val_instance": "maximize",
    "val_rank": "maximize",
    "loss": "minimize",
    "student_parameters": "minimize",
}
COSTS = ("student_parameters",)
Sampler = Literal["tpe", "gp", "cmaes", "nsga2"]
Stop = Literal["asha", "hyperband", "bohb", "median"]
KEYS = {
    "constant": ("value",),
    "categorical": ("values",),
    "uniform": ("min", "max"),
    "log_uniform_values": ("min", "max"),
    "int_uniform": ("min", "max"),
    "q_uniform": ("min", "max", "q"),
    "q_log_uniform_values": ("min", "max", "q"),
}
STOP_KEYS = {"asha": ("min_iter", "eta"), "hyperband": ("eta",), "bohb": ("eta",), "median": ("min_iter",)}
CONTINUOUS = ("uniform", "log_uniform_values")
Spec = dict[str, Any]
PAPER = "paper"  # the name of a space with every axis of the paper
OF_PAPER = f"-{PAPER}"


@dataclass(frozen=True)
class Parameter:
    """One searched setting: `values` (constant, categorical) or a range `low`..`high`, both ends included.

    With `q`, or as int_uniform, a range has the points low, low + q, low + 2q, ... up to high. `when` maps
    other parameters to those of their values under which this one is active. With `divisor`, no value may exceed
    the number of training images divided by it (`at_most`); `adapt.fit_to_images` applies this.
    """

    path: str
    distribution: str
    values: tuple[Any, ...] = ()
    low: float | int | None = None
    high: float | int | None = None
    q: float | None = None
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    divisor: int | None = None

    def sample(self, rng: random.Random) -> Any:
        """A random value, by the distribution."""
        if self.values:
            return rng.choice(self.values)
        if self.distribution in ("int_uniform", "q_uniform"):
            return self._point(rng.randint(0, self._steps))
        low, high = self._bounds
        if self.distribution == "uniform":
            return rng.uniform(low, high)
        drawn = min(max(math.exp(rng.uniform(math.log(low), math.log(high))), low), high)
        return drawn if self.q is None else self.round(drawn)

    def grid(self) -> list[Any]:
        """Every value, in order. Raises ValueError for a continuous range."""
        return list(self.points())

    def points(self) -> Iterator[Any]:
        """`grid`, one after the other."""
        return iter(self.values) if self.values else map(self._point, range(self._steps + 1))

    def contains(self, value: Any) -> bool:
        """Return whether the parameter can take this value; points of a range up to rounding."""
        if self.values:
            return value in self.values
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        low, high = self._bounds
        if self.distribution in CONTINUOUS:
            return low <= value <= high
        return math.isclose(value, self.round(value), rel_tol=1e-9, abs_tol=1e-9 * self._step)

    def round(self, value: float) -> float | int:
        """The point of the range nearest to `value`. Raises ValueError for a continuous range."""
        return self._point(min(max(round((value - self._bounds[0]) / self._step), 0), self._steps))

    def to_dict(self) -> Spec:
        """The parameter as a search-space file writes it, the distribution spelt out."""
        content: Spec = {"min": self.low, "max": self.high, "q": self.q, "values": list(self.values)}
        content["value"] = self.values[0] if self.values else None
        plain = {"distribution": self.distribution} | {key: content[key] for key in KEYS[self.distribution]}
        if self.divisor is not None:
            plain["at_most"] = self.at_most
        return plain | ({"when": {key: list(values) for key, values in self.when.items()}} if self.when else {})

    @property
    def at_most(self) -> str:
        """The limit by the number of images, as a file writes it."""
        return "images" if self.divisor == 1 else f"images / {self.divisor}"

    @property
    def _bounds(self) -> tuple[float, float]:
        if self.low is None or self.high is None:
            raise ValueError(f"{self.path} ({self.distribution}) is not a range")
        return self.low, self.high

    @property
    def _step(self) -> float:
        if self.distribution in CONTINUOUS:
            raise ValueError(f"{self.path} ({self.distribution}) is continuous and has no points")
        return 1 if self.q is None else self.q

    @property
    def _steps(self) -> int:
        low, high = self._bounds
        return int((_decimal(high) - _decimal(low)) // _decimal(self._step))

    def _point(self, k: int) -> float | int:
        low, step = self._bounds[0], self._step
        point = _decimal(low) + k * _decimal(step)
        return int(point) if isinstance(low, int) and isinstance(step, int) else float(point)


@dataclass(frozen=True)
class EarlyStop:
    """Rule by which trials end before their time.

    asha: asynchronous successive halving, first rung after `min_iter` epochs, one in `eta` goes on. hyperband: in
    synchronous brackets, pausing trials. bohb: the same, its largest bracket first, for a model-based search.
    median: below the median of the others' means after `min_iter` epochs.
    """

    type: Stop
    min_iter: int = 1
    eta: int = 3


@dataclass(frozen=True)
class Population:
    """Population-based training: every `interval` epochs the worst `quantile` of the trials copy the best.

    pbt: a copy changes each of its settings by 0.8 or 1.2, or to a neighbouring value, or with probability
    `resample` to a new draw. pb2: a Gaussian-process bandit chooses within the ranges.
    """

    type: Literal["pbt", "pb2"]
    interval: int
    quantile: float = 0.25
    resample: float = 0.25


@dataclass(frozen=True)
class Space:
    """Search space: the parameters, the search and the metric. Parents come before the parameters that depend on them.

    `also` has further objectives (name, goal) beside `metric`, which early stopping and the table go by.
    """

    search: Search
    metric: str
    goal: Goal
    run_cap: int | None
    early_terminate: EarlyStop | None
    parameters: tuple[Parameter, ...]
    sampler: Sampler = "tpe"
    also: tuple[tuple[str, Goal], ...] = ()
    population: Population | None = None

    @property
    def objectives(self) -> tuple[tuple[str, Goal], ...]:
        """Every metric with its goal, the first one first."""
        return ((self.metric, self.goal), *self.also)

    def is_active(self, parameter: Parameter, chosen: Mapping[str, Any]) -> bool:
        """Return whether the values chosen so far ask for this parameter; else it keeps its default."""
        return all(parent in chosen and chosen[parent] in values for parent, values in parameter.when.items())

    def propose(self, suggest: Callable[[Parameter], Any]) -> dict[str, Any]:
        """Ask `suggest` for each active parameter, in order. Returns: value by path."""
        chosen: dict[str, Any] = {}
        for parameter in self.parameters:
            if self.is_active(parameter, chosen):
                chosen[parameter.path] = suggest(parameter)
        return chosen

    def sample(self, rng: random.Random) -> dict[str, Any]:
        """A random value for each active parameter, by path."""
        return self.propose(lambda parameter: parameter.sample(rng))

    def grid(self) -> list[dict[str, Any]]:
        """All combinations, each once, the last parameter fastest. Raises ValueError for a continuous range."""
        return list(self.combinations())

    def combinations(self, chosen: dict[str, Any] | None = None, index: int = 0) -> Iterator[dict[str, Any]]:
        """`grid`, one after the other: what the parameters from `index` on add to `chosen`."""
        chosen = chosen or {}
        if index == len(self.parameters):
            yield chosen
        elif not self.is_active(parameter := self.parameters[index], chosen):
            yield from self.combinations(chosen, index + 1)
        else:
            for value in parameter.points():
                yield from self.combinations(chosen | {parameter.path: value}, index + 1)

    def contains(self, settings: Mapping[str, Any]) -> bool:
        """Return whether `settings` has a possible value for every active parameter, and nothing else."""
        active = {p.path: p for p in self.parameters if self.is_active(p, settings)}
        return active.keys() == settings.keys() and all(p.contains(settings[path]) for path, p in active.items())

    def to_dict(self) -> dict[str, Any]:
        """The space as a file would write it, in canonical order: what `load_space` reads back as the same."""
        plain: dict[str, Any] = {"method": self.search}
        if self.search == "bayes":
            plain["sampler"] = self.sampler
        objectives = [{"name": name, "goal": goal} for name, goal in self.objectives]
        plain |= {"metrics": objectives} if self.also else {"metric": objectives[0]}
        if self.run_cap is not None:
            plain["run_cap"] = self.run_cap
        if stop := self.early_terminate:
            plain["early_terminate"] = {key: getattr(stop, key) for key in ("type", *STOP_KEYS[stop.type])}
        if self.population:
            plain["population"] = asdict(self.population)
        return plain | {"parameters": {parameter.path: parameter.to_dict() for parameter in self.parameters}}


def changes_loss_scale(parameter: Parameter, method: MethodConfig | type[MethodConfig]) -> bool:
    """Return whether the training loss does not compare between the parameter's values.

    Args:
        parameter: searched, unless it has one value.
        method: the options of the method that is searched.
    """
    comparable = parameter.path.removeprefix("method.") in method.comparable_loss
    return len(parameter.values) != 1 and not comparable and not parameter.path.startswith("train.")


def changeable(space: Space, fields: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """Return the parameters that a population changes while it trains: real numbers.

    What decides shapes and data (whole numbers, names, lists) travels with the weights. pb2 needs ranges, and
    parameters that are always active.
    """
    ranges = space.population is not None and space.population.type == "pb2"
    return tuple(
        p
        for p in space.parameters
        if p.path.startswith(("train.", "method.", "augment."))
        and takes(fields[p.path], float)
        and p.distribution != "constant"
        and not (ranges and (p.values or p.when))
    )


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List the changes between two nested mappings, one line per key (`a.b: 1 -> 2`); empty when equal.

    Args:
        old, new: the mappings.
        prefix: of the keys.
    """
    lines: list[str] = []
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += difference(before, after, f"{prefix}{key}.")
        elif before != after or (key in old) != (key in new):
            shown = [str(side[key]) if key in side else "(absent)" for side in (old, new)]
            lines.append(f"{prefix}{key}: {' -> '.join(shown)}")
    return lines


def default_space(method: str) -> Path:
    """The file of `method` in search_spaces/. Raises ConfigError, which lists those there are."""
    found = {path.stem: path for path in SHIPPED.glob("*.yaml") if not path.stem.endswith(OF_PAPER)}
    if method not in found:
        there = ", ".join(sorted(found)) or "none"
        raise ConfigError(f"no search space for method {method!r} in {SHIPPED} (there: {there}); give --search-space")
    return found[method]


def paper_space(method: str, flag: str = f"--search-space {PAPER}") -> Path:
    """The file with every axis of the method's paper; `flag` is what asked for it.

    Raises: ConfigError, which lists the methods that have one.
    """
    found = {path.stem.removesuffix(OF_PAPER): path for path in SHIPPED.glob(f"*{OF_PAPER}.yaml")}
    if method not in found:
        there = ", ".join(sorted(found)) or "none"
        raise ConfigError(f"{flag}: there is none for method {method!r} (there: {there})")
    return found[method]


def _decimal(value: float) -> Decimal:
    return Decimal(str(value))
