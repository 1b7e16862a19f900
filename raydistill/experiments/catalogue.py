"""The catalogue of experiments: its files, read and checked. Free of torch and Ray."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill import config as configuration
from raydistill.config import ConfigError, nearest, read_yaml
from raydistill.records.leaderboard import BASELINES, REFERENCES
from raydistill.records.locations import SHIPPED

FOLDER = SHIPPED / "experiments"
SCALES_FILE = "scales.yaml"
SCALES = ("paper", "small", "cpu", "smoke")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
SECTIONS = ("method", "data", "augment", "teacher", "train", "eval")
Settings = dict[str, Any]


@dataclass(frozen=True)
class ArmSpec:
    """One configuration that an experiment compares, as its file writes it.

    Args:
        name: of its row and its runs.
        method: which one.
        settings: by dotted path; a mapping of scales to values where they differ.
        preset: of the method; a mapping of scales to names where they differ; None: the scale's.
        scales: those that have the arm.
    """

    name: str
    method: str
    settings: Settings
    preset: Any = None
    scales: tuple[str, ...] = SCALES


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: `better` beats `worse` by `metric` (less is better of an error).

    Args:
        better, worse: names of arms, or of references.
        metric: of the first arm, and of the second unless `than` names another.
        than: metric of the second arm.
    """

    better: str
    worse: str
    metric: str
    than: str = ""

    @property
    def metrics(self) -> tuple[str, str]:
        """The metrics of both arms."""
        return self.metric, self.than or self.metric


@dataclass(frozen=True)
class Experiment:
    """An experiment as its file has it.

    Args:
        name: `PAPER/ITEM`, or the path of a file of one's own.
        title: in a line.
        source: paper, table or figure.
        ids: of the items of the papers that it covers, such as SR-01.
        images: the data set of the paper, by its name in the scales.
        arms: at least one.
        varies: paths of the settings in which arms may differ.
        metrics: columns of the table.
        published: the paper's numbers, by arm and metric; in percent, errors as they are.
        claims: what the paper concludes.
        seeds: by scale, where they are not the scale's.
        search: trials of each arm's own search by scale; empty: no search.
        searched: paths of settings that are only where the searches begin.
        needs: what has to be given; of `teacher` a text, at scale paper, or a mapping of scales to texts.
        notes: what a reader must know of it.
    """

    name: str
    title: str
    source: str
    ids: tuple[str, ...]
    images: str
    arms: tuple[ArmSpec, ...]
    varies: tuple[str, ...]
    metrics: tuple[str, ...]
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    seeds: Any = None
    search: Any = None
    searched: tuple[str, ...] = ()
    needs: Mapping[str, Any] = field(default_factory=dict)
    notes: str = ""


KEYS = (
    *("title", "source", "ids", "images", "method", "preset", "settings", "arms", "varies", "metrics", "published"),
    *("claims", "seeds", "search", "searched", "needs", "notes"),
)


def experiment_names() -> list[str]:
    """The names of all experiments that ship, `PAPER/ITEM`, in order."""
    return sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.glob("*/*.yaml"))


def load_experiment(name: str) -> Experiment:
    """Read an experiment by its name, or from a file of one's own. Raises: ConfigError, which names file and key."""
    own = Path(name).expanduser()
    path = own if own.suffix in (".yaml", ".yml") else FOLDER / f"{name}.yaml"
    if not path.is_file():
        if own.suffix in (".yaml", ".yml"):
            raise ConfigError(f"--experiment {name}: there is no such file")
        raise ConfigError(f"--experiment {name!r} is unknown{nearest(name, experiment_names())}")
    try:
        return _parse(name, read_yaml(path))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def at_scale(value: Any, scale: str) -> Any:
    """The value at a scale: of a mapping of scales the scale's own, None where it has none; else the value itself."""
    if isinstance(value, dict) and value and set(value) <= set(SCALES):
        return value.get(scale)
    return value


def _parse(name: str, values: Any) -> Experiment:
    if not isinstance(values, dict):
        raise ConfigError("expected a mapping of keys")
    for key in values:
        if key not in KEYS:
            raise ConfigError(f"{key}: there is no such key{nearest(str(key), KEYS)}")
    for key in ("title", "source", "images", "arms", "metrics"):
        if not values.get(key):
            raise ConfigError(f"{key}: is missing")
    common = _settings("settings", values.get("settings") or {})
    default = values.get("method")
    arms = tuple(
        _arm(str(arm), own, default, values.get("preset"), common) for arm, own in _mapping("arms", values["arms"])
    )
    _check_known(common, {str(arm): own for arm, own in values["arms"].items()}, arms)
    names = [arm.name for arm in arms]
    metrics = _texts("metrics", values["metrics"])
    published = {
        str(arm): _numbers(f"published.{arm}", row) for arm, row in _mapping("published", values.get("published") or {})
    }
    for arm in published:
        if arm not in names and arm.partition("-")[0] not in REFERENCES:
            raise ConfigError(f"published.{arm}: there is no such arm{nearest(arm, names)}")
    claims = tuple(_claim(index, each, names) for index, each in enumerate(values.get("claims") or ()))
    for metric in (*metrics, *(each for claim in claims for each in claim.metrics)):
        if not metric.startswith(("test_", "val_")):
            raise ConfigError(f"metrics: {metric!r} is no score of a final; such scores begin with test_ or val_")
    for index, claim in enumerate(claims):
        for metric in claim.metrics:
            if metric not in metrics:
                raise ConfigError(f"claims[{index}]: {metric!r} is not among the metrics{nearest(metric, metrics)}")
    return Experiment(
        name=name,
        title=str(values["title"]),
        source=str(values["source"]),
        ids=_texts("ids", values.get("ids")),
        images=str(values["images"]),
        arms=arms,
        varies=_texts("varies", values.get("varies")),
        metrics=metrics,
        published=published,
        claims=claims,
        seeds=values.get("seeds"),
        search=values.get("search"),
        searched=_texts("searched", values.get("searched")),
        needs=dict(_mapping("needs", values.get("needs") or {})),
        notes=" ".join(str(values.get("notes") or "").split()),
    )


def _arm(name: str, own: Any, method: Any, preset: Any, common: Settings) -> ArmSpec:
    if not NAME.fullmatch(name):
        raise ConfigError(f"arms.{name}: names have small letters, digits, points and hyphens")
    if name.partition("-")[0] in REFERENCES or name.endswith(BASELINES):
        raise ConfigError(f"arms.{name}: the name is taken by references and baselines of a sweep's table")
    values = dict(own or {}) if isinstance(own, dict) or own is None else None
    if values is None:
        raise ConfigError(f"arms.{name}: expected a mapping of settings")
    chosen = values.pop("method", method)
    preset = values.pop("preset", preset)
    scales = _texts(f"arms.{name}.scales", values.pop("scales", list(SCALES)))
    if not chosen:
        raise ConfigError(f"arms.{name}: no method; give `method` to the arm, or to the experiment")
    if unknown := [scale for scale in scales if scale not in SCALES]:
        raise ConfigError(f"arms.{name}.scales: {unknown[0]!r} is no scale{nearest(str(unknown[0]), SCALES)}")
    return ArmSpec(name, str(chosen), {**common, **_settings(f"arms.{name}", values)}, preset, scales)


def _settings(where: str, values: Any) -> Settings:
    for path, _ in _mapping(where, values):
        section, _, key = str(path).partition(".")
        if section not in SECTIONS or not key:
            raise ConfigError(f"{where}.{path}: is not a setting; write section.field, such as train.lr")
        if isinstance(values[path], dict) and (unknown := sorted(set(map(str, values[path])) - set(SCALES))):
            raise ConfigError(f"{where}.{path}: {unknown[0]!r} is no scale{nearest(unknown[0], SCALES)}")
    return dict(values)


def _check_known(common: Settings, written: Mapping[Any, Any], arms: tuple[ArmSpec, ...]) -> None:
    """Refuse settings that no arm has; those of an arm have to be its method's."""
    fields = {arm.method: configuration.fields(arm.method) for arm in arms}
    every = {path for known in fields.values() for path in known}
    for path in common:
        if path not in every:
            raise ConfigError(f"settings.{path}: no arm has such a setting{nearest(path, every)}")
    for arm in arms:
        for path in written[arm.name] or {}:
            if "." in path and path not in fields[arm.method]:
                raise ConfigError(f"arms.{arm.name}.{path}: {arm.method} has none{nearest(path, fields[arm.method])}")


def _claim(index: int, values: Any, names: list[str]) -> Claim:
    where = f"claims[{index}]"
    if not isinstance(values, dict) or not {"better", "worse", "metric"} <= set(values) <= {*Claim.__annotations__}:
        raise ConfigError(f"{where}: expected better, worse and metric, and perhaps than")
    claim = Claim(**{key: str(value) for key, value in values.items()})
    for arm in (claim.better, claim.worse):
        if arm not in names and arm.partition("-")[0] not in REFERENCES:
            raise ConfigError(f"{where}: there is no arm {arm!r}{nearest(arm, names)}")
    return claim


def _numbers(where: str, values: Any) -> dict[str, float]:
    if not isinstance(values, dict) or not all(isinstance(value, int | float) for value in values.values()):
        raise ConfigError(f"{where}: expected numbers by metric")
    return {str(metric): float(value) for metric, value in values.items()}


def _texts(where: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list | None):
        raise ConfigError(f"{where}: expected a list, as in [{values}]")
    return tuple(map(str, values or ()))


def _mapping(where: str, values: Any) -> list[tuple[Any, Any]]:
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected a mapping")
    return list(values.items())
