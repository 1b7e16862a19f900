"""Reads search spaces from YAML; every complaint names the file, the key, the value and what would do."""

from __future__ import annotations

import itertools
import json
import random
import re
import sys
import typing
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from raydistill.config import ConfigError, assign, dump, load, nearest, number, paths, read_yaml, takes
from raydistill.sweep.search.space import (
    CONTINUOUS,
    COSTS,
    KEYS,
    METRICS,
    STOP_KEYS,
    EarlyStop,
    Goal,
    Parameter,
    Population,
    Sampler,
    Search,
    Space,
    Spec,
    Stop,
    changeable,
)

OTHER_IMAGES = "trials would be scored on different images"
FORBIDDEN = {
    "method.name": "a sweep explores one method; choose it with --method",
    "train.epochs": "trials of different length do not compare; set it with --epochs",
    "train.seed": "the search would pick the lucky seed; --seeds repeats the winner and its baseline",
    "teacher.epochs_factor": "the teacher's length is decided before the search; search teacher.epochs instead",
    "train.patience": "trials of different length do not compare; early_terminate stops the weak ones",
    "train.checkpoint_every": "it changes no result; set it with --set",
    "train.offsets": "it replays a late joiner, and the sweep sets it",
    "teacher.augment": "it is a whole section; set it with --set, or search augment",
    "data.source": OTHER_IMAGES,
    "data.labelled": OTHER_IMAGES,
    "data.split_seed": OTHER_IMAGES,
    "data.validation_fraction": OTHER_IMAGES,
    "data.limit": OTHER_IMAGES,
}
MAX_GRID_POINTS = 10_000
PROBED_DRAWS = 2_000  # of a larger space, to find values that do not go together
TOP = ("method", "sampler", "metric", "metrics", "run_cap", "early_terminate", "population", "parameters")
SHARES = {"quantile": 0.5, "resample": 1.0}
AT_MOST = re.compile(r"images(?: */ *([1-9]\d*))?")


def load_space(path: Path, method: str, fixed: Mapping[str, Any], preset: Mapping[str, Any] | None = None) -> Space:
    """Read and check a search space, on top of a preset and of fixed settings.

    A searched parameter that is also fixed keeps the fixed value; one that the preset sets is searched.

    Args:
        path: the file.
        method: whose settings are searched.
        fixed: settings by dotted path.
        preset: settings that the search starts from.

    Raises:
        ConfigError: names the file, the key, the value and what would be accepted.
    """
    return parse_space(read_yaml(path), str(path), method, fixed, preset)


def parse_space(
    values: Any, called: str, method: str, fixed: Mapping[str, Any], preset: Mapping[str, Any] | None = None
) -> Space:
    """Check a search space that has been read, as `load_space` does.

    Args:
        values: the content of a file.
        called: what messages call it.
        method: whose settings are searched.
        fixed: settings by dotted path.
        preset: settings that the search starts from.

    Raises:
        ConfigError: names the key, the value and what would be accepted.
    """
    return _Reader(called, method, fixed, preset or {}).space(values)


class _Reader:
    """Reads one file, for one method; every complaint names the file."""

    def __init__(self, file: str, method: str, fixed: Mapping[str, Any], preset: Mapping[str, Any]) -> None:
        self.file, self.fixed, self.fields = file, fixed, paths(method)
        self.base = assign(dict(preset), {"method.name": method, **fixed})
        load(self.base)

    def space(self, values: Any) -> Space:
        top = self.mapping("", values, TOP)
        search = self.choice("method", self.need("", top, "method"), typing.get_args(Search))
        (metric, goal), *also = self.objectives(top)
        cap = self.whole("run_cap", top["run_cap"], 1) if "run_cap" in top else None
        stop = self.early_stop(top["early_terminate"]) if "early_terminate" in top else None
        sampler = self.sampler(top, search, several=bool(also))
        population = self.population(top["population"], top) if "population" in top else None
        specs = self.mapping("parameters", self.need("", top, "parameters"))
        space = Space(
            search, metric, goal, cap, stop, self.ordered(self.parameters(specs)), sampler, tuple(also), population
        )
        self.check_population(space)
        self.check_combinations(space)
        return space

    def fail(self, key: str, value: Any, problem: str) -> NoReturn:
        raise ConfigError(f"{self.file}: {key} = {value!r}: {problem}" if key else f"{self.file}: {problem}")

    def mapping(self, key: str, value: Any, known: tuple[str, ...] = ()) -> Spec:
        if not isinstance(value, dict) or not value:
            kind = type(value).__name__ if value or isinstance(value, bool | int) else "nothing"
            self.fail(key, value, f"expected a mapping, got {kind}{'; keys: ' + ', '.join(known) if known else ''}")
        for name in value:
            if known and name not in known:
                inner = f"{key}.{name}" if key else str(name)
                self.fail(inner, value[name], f"no such key{nearest(str(name), known)}")
        return value

    def need(self, key: str, spec: Spec, name: str) -> Any:
        if name not in spec:
            self.fail(key, spec, f"{name!r} is missing")
        return spec[name]

    def choice(self, key: str, value: Any, valid: typing.Iterable[str]) -> Any:
        if value not in list(valid):
            begun = [name for name in valid if name.startswith(str(value))]
            self.fail(key, value, f"unknown{nearest(str(value), begun or valid)}")
        return value

    def whole(self, key: str, value: Any, least: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.fail(key, value, f"must be a whole number, at least {least}")
        return value

    def metric(self, key: str, value: Any) -> tuple[str, Goal]:
        spec = self.mapping(key, value, ("name", "goal"))
        name = self.choice(f"{key}.name", self.need(key, spec, "name"), METRICS)
        if "goal" in spec and spec["goal"] != METRICS[name]:
            self.fail(f"{key}.goal", spec["goal"], f"{name} has the goal {METRICS[name]!r}")
        return name, METRICS[name]

    def objectives(self, top: Spec) -> list[tuple[str, Goal]]:
        """`metric`, or a list of `metrics`."""
        if "metrics" not in top:
            name, goal = self.metric("metric", top.get("metric", {"name": "val_knn"}))
            if name in COSTS:
                self.fail("metric.name", name, "says nothing about quality; name it second, in a list of metrics")
            return [(name, goal)]
        if "metric" in top:
            self.fail("metric", top["metric"], "give metric or metrics, not both")
        specs = top["metrics"]
        if not isinstance(specs, list) or len(specs) < 2:
            self.fail("metrics", specs, "expected a list of two metrics or more; for one write metric")
        found = [self.metric(f"metrics.{i}", spec) for i, spec in enumerate(specs)]
        names = [name for name, _ in found]
        if len(set(names)) < len(names):
            self.fail("metrics", names, "names one twice")
        if names[0] in COSTS:
            self.fail("metrics.0.name", names[0], "the first metric ranks the trials and must tell their quality")
        return found

    def sampler(self, top: Spec, search: str, *, several: bool) -> Sampler:
        if "sampler" not in top:
            return "nsga2" if several else "tpe"
        sampler = self.choice("sampler", top["sampler"], typing.get_args(Sampler))
        if search != "bayes":
            self.fail("sampler", sampler, f"is for method: bayes, not {search}")
        if several and sampler == "cmaes":
            self.fail("sampler", sampler, "takes one metric; for several use nsga2, tpe or gp")
        return sampler

    def early_stop(self, value: Any) -> EarlyStop:
        key = "early_terminate"
        kind = self.choice(f"{key}.type", self.need(key, self.mapping(key, value), "type"), typing.get_args(Stop))
        spec = self.mapping(key, value, ("type", *STOP_KEYS[kind]))
        found: dict[str, int] = {}
        if "min_iter" in STOP_KEYS[kind]:
            found["min_iter"] = self.whole(f"{key}.min_iter", self.need(key, spec, "min_iter"), 1)
        if "eta" in STOP_KEYS[kind]:
            found["eta"] = self.whole(f"{key}.eta", spec.get("eta", 3), 2)
        return EarlyStop(kind, **found)

    def population(self, value: Any, top: Spec) -> Population:
        key = "population"
        spec = self.mapping(key, value, ("type", "interval", "quantile", "resample"))
        kind = self.choice(f"{key}.type", self.need(key, spec, "type"), ("pbt", "pb2"))
        if "early_terminate" in top:
            self.fail(key, value, "a population replaces its losers; take early_terminate out")
        if top["method"] != "random":
            self.fail(key, value, f"begins with random settings; write method: random, not {top['method']}")
        if "metrics" in top:
            self.fail(key, value, "goes by one metric; write metric, not metrics")
        interval = self.whole(f"{key}.interval", self.need(key, spec, "interval"), 1)
        shares = {name: self.number(f"{key}.{name}", spec.get(name, 0.25), whole=False) for name in SHARES}
        for name, most in SHARES.items():
            if not 0 <= shares[name] <= most or (name == "quantile" and shares[name] == 0):
                self.fail(f"{key}.{name}", shares[name], f"must be a share of at most {most}")
        return Population(kind, interval, **shares)

    def parameters(self, specs: Spec) -> dict[str, Parameter]:
        for path, spec in specs.items():
            key, name = f"parameters.{path}", str(path)
            reason = "trials would be scored differently" if name.startswith("eval.") else FORBIDDEN.get(name)
            if reason:
                self.fail(key, spec, f"may not be searched, since {reason}")
            if path not in self.fields:
                self.fail(key, spec, f"no such setting{nearest(name, self.fields)}")
            known = (*dict.fromkeys(itertools.chain(*KEYS.values())), "distribution", "when", "at_most")
            self.mapping(key, spec, known)
        specs = {path: {"value": self.fixed[path]} if path in self.fixed else spec for path, spec in specs.items()}
        return {path: self.parameter(path, spec, specs) for path, spec in specs.items()}

    def parameter(self, path: str, spec: Spec, specs: Mapping[str, Spec]) -> Parameter:
        key = f"parameters.{path}"
        distribution = self.distribution(path, spec)
        keys = KEYS[distribution]
        limited = ("at_most",) if distribution != "constant" else ()
        for name in spec:
            if name not in (*keys, *limited, "distribution", "when"):
                self.fail(f"{key}.{name}", spec[name], f"not a key of {distribution}; its keys: {', '.join(keys)}")
        raw = {name: self.need(key, spec, name) for name in keys}
        # Some values are possible only beside others (as many objectives as backbones).
        beside = {other: _first(s) for other, s in specs.items() if "when" not in s and _first(s) is not None}
        when = self.when(path, spec["when"], specs, beside) if "when" in spec else {}
        beside |= {parent: values[0] for parent, values in when.items()}
        divisor = self.at_most(path, spec["at_most"]) if "at_most" in spec else None
        if distribution == "constant":
            return Parameter(path, distribution, (self.resolve(f"{key}.value", path, raw["value"], beside),), when=when)
        if distribution == "categorical":
            values = self.values(f"{key}.values", path, raw["values"], beside)
            return Parameter(path, distribution, values, when=when, divisor=divisor)
        low, high, q = self.bounds(path, distribution, raw)
        for name, end in (("min", low), ("max", high)):
            self.resolve(f"{key}.{name}", path, end, beside)
        return Parameter(path, distribution, low=low, high=high, q=q, when=when, divisor=divisor)

    def at_most(self, path: str, raw: Any) -> int:
        """Return what the number of images is divided by to get the largest value."""
        key = f"parameters.{path}.at_most"
        if not takes(self.fields[path], int):
            self.fail(key, raw, "is for settings that take whole numbers")
        match = AT_MOST.fullmatch(raw) if isinstance(raw, str) else None
        if match is None:
            self.fail(key, raw, "expected images, or a part of them such as images / 5")
        return int(match[1] or 1)

    def distribution(self, path: str, spec: Spec) -> str:
        key = f"parameters.{path}"
        if "distribution" in spec:
            return self.choice(f"{key}.distribution", spec["distribution"], KEYS)
        if "value" in spec or "values" in spec:
            return "constant" if "value" in spec else "categorical"
        if "min" not in spec and "max" not in spec:
            self.fail(key, spec, "give value, or values, or min and max")
        if "q" in spec:
            self.fail(f"{key}.q", spec["q"], "needs distribution: q_uniform or q_log_uniform_values")
        whole = takes(self.fields[path], int) and all(isinstance(spec.get(end, 0), int) for end in ("min", "max"))
        return "int_uniform" if whole else "uniform"

    def values(self, key: str, path: str, raw: Any, beside: Mapping[str, Any]) -> tuple[Any, ...]:
        """A list of values as the field reads them, each once."""
        if not isinstance(raw, list) or not raw:
            self.fail(key, raw, "expected a list of at least one value")
        values: list[Any] = []
        for item in raw:
            value = self.resolve(key, path, item, beside)
            if value in values:
                self.fail(key, raw, f"{item!r} is there twice")
            values.append(value)
        return tuple(values)

    def resolve(self, key: str, path: str, raw: Any, beside: Mapping[str, Any]) -> Any:
        """The value as the field reads it. `beside`: other settings to try it with if it fails alone."""
        section, _, name = path.partition(".")
        problem: object = "not a finite number"
        for others in ({}, beside):
            try:
                json.dumps(number(raw), allow_nan=False, default=str)
                return dump(load(assign(self.base, {**others, path: number(raw)})))[section][name]
            except ConfigError as error:
                problem = problem if others else error
            except ValueError:
                break
        self.fail(key, raw, str(problem))
        return None

    def bounds(self, path: str, distribution: str, raw: Spec) -> tuple[float, float, float | None]:
        key, annotation = f"parameters.{path}", self.fields[path]
        if not {int, float} & {annotation, *typing.get_args(annotation)}:
            self.fail(key, raw, "takes no range; list its values")
        if takes(annotation, int) and distribution in CONTINUOUS:
            self.fail(f"{key}.distribution", distribution, "takes whole numbers; use int_uniform, or q: 1 with q_...")
        whole = takes(annotation, int) or distribution == "int_uniform"
        numbers = {name: self.number(f"{key}.{name}", value, whole=whole) for name, value in raw.items()}
        low, high, q = numbers["min"], numbers["max"], numbers.get("q")
        if low >= high:
            self.fail(f"{key}.min", raw["min"], f"must be below max = {raw['max']!r}; for one value use value")
        if "log" in distribution and low <= 0:
            self.fail(f"{key}.min", raw["min"], "a log scale needs min > 0")
        if q is not None and not 0 < q <= high - low:
            self.fail(f"{key}.q", raw["q"], f"must be above 0 and at most max - min = {high - low!r}")
        return (float(low), float(high), q) if distribution in CONTINUOUS else (low, high, q)

    def number(self, key: str, raw: Any, *, whole: bool) -> float | int:
        value = number(raw)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            self.fail(key, raw, "must be a finite number")
        if whole and value != int(value):
            self.fail(key, raw, "must be a whole number")
        return int(value) if whole else value

    def when(self, path: str, raw: Any, specs: Mapping[str, Spec], beside: Spec) -> dict[str, tuple[Any, ...]]:
        key = f"parameters.{path}.when"
        for parent, values in self.mapping(key, raw).items():
            if parent not in specs:
                self.fail(f"{key}.{parent}", values, f"not a parameter of this file{nearest(str(parent), specs)}")
        return {
            parent: self.values(f"{key}.{parent}", parent, values, beside) for parent, values in sorted(raw.items())
        }

    def ordered(self, parameters: dict[str, Parameter]) -> tuple[Parameter, ...]:
        """Sort parameters by name, parents first, so that the order in the file changes nothing."""
        done: dict[str, Parameter] = {}
        rest = dict(sorted(parameters.items()))
        while rest:
            ready = next((path for path, p in rest.items() if p.when.keys() <= done.keys()), None)
            if ready is None:
                chain = {path: list(p.when) for path, p in rest.items()}
                self.fail("parameters", chain, "these depend on each other in a circle (when)")
            done[ready] = rest.pop(ready)
        for path, parameter in done.items():
            for parent, values in parameter.when.items():
                if parent not in self.fixed:
                    self.check_condition(f"parameters.{path}.when.{parent}", done[parent], values)
        return tuple(done.values())

    def check_condition(self, key: str, parent: Parameter, values: tuple[Any, ...]) -> None:
        if parent.distribution in CONTINUOUS:
            self.fail(key, list(values), f"{parent.path} is continuous and never meets a value exactly")
        for value in values:
            if not parent.contains(value):
                self.fail(key, value, f"{parent.path} never has this value; it has {parent.to_dict()}")

    def check_population(self, space: Space) -> None:
        """Refuse a population that has nothing to change."""
        if space.population is None:
            return
        if not changeable(space, self.fields):
            ranges = " with a range" if space.population.type == "pb2" else ""
            names = [parameter.path for parameter in space.parameters]
            self.fail("population", names, f"none of these is a real number{ranges} that training can change")

    def check_combinations(self, space: Space) -> None:
        """Refuse grids without end, and values that the method refuses beside each other."""
        if space.search == "grid":
            for parameter in space.parameters:
                if parameter.distribution in CONTINUOUS:
                    key = f"parameters.{parameter.path}.distribution"
                    self.fail(key, parameter.distribution, "a grid needs values or q, not a continuous range")
            if sum(1 for _ in itertools.islice(space.combinations(), MAX_GRID_POINTS + 1)) > MAX_GRID_POINTS:
                self.fail("method", "grid", f"the grid has more than {MAX_GRID_POINTS} points; use random or bayes")
        probes = tuple(
            p if p.values else replace(p, distribution="constant", values=(p.low,)) for p in space.parameters
        )
        probed, rng = replace(space, parameters=probes), random.Random(0)
        points = list(itertools.islice(probed.combinations(), MAX_GRID_POINTS + 1))
        if len(points) > MAX_GRID_POINTS:
            points = [probed.sample(rng) for _ in range(PROBED_DRAWS)]
        for chosen in points:
            try:
                load(assign(self.base, chosen))
            except ConfigError as error:
                self.fail("parameters", chosen, f"do not go together: {error}")


def _first(spec: Spec) -> Any:
    """The constant or the first value of a parameter not yet checked; None for a range."""
    values = spec.get("values")
    return values[0] if isinstance(values, list) and values else spec.get("value")
