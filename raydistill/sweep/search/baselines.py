"""The baselines that a sweep compares its winner with, and what the search of each one tries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from raydistill import config as configuration
from raydistill.config import Config, ConfigError, parse_setting
from raydistill.sweep.search.adapt import fit_to_images, leaves_a_value
from raydistill.sweep.search.samplers import PriorTrials, Settings
from raydistill.sweep.search.space import Parameter, Space, changes_loss_scale, default_space
from raydistill.sweep.search.space_parser import load_space

# What the student is and sees; the baseline has the winner's.
RECIPES = ("recipe", "second_recipe", "recipes", "student_recipe")
STUDENT = ("backbone", "backbones", "stem", "zero_init_residual", "objectives", *RECIPES)


# docs/architecture.md#search-of-the-baseline
@dataclass(frozen=True)
class Baseline:
    """A method, and settings in which it differs from its preset; or, for the method of the sweep, from the winner."""

    method: str
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Name in tables and folders: `simclr`, `dogo-lambda_kd-0`."""
        parts = [self.method]
        for path, value in self.settings:
            parts += [path.partition(".")[2], re.sub(r"[^\w.]+", "_", str(value)).strip("_")]
        return "-".join(parts)

    def method_of(self, winner: Config, preset: Mapping[str, Any]) -> Config:
        """Return the winner's configuration with this method in place of its own.

        Args:
            winner: what the baseline is compared with.
            preset: of the baseline's method: its section `method`.

        Raises: ConfigError where the settings do not fit the method.
        """
        if self.method == winner.method.name:
            method = winner.method
        else:
            own = winner.method.baseline()
            # What the method hands on to its own baseline, such as DoGo's temperature, comes before the preset.
            handed_on = {name: getattr(own, name) for name in own.model_fields_set} if own.name == self.method else {}
            values = dict(preset) | handed_on | {"name": self.method}
            method = configuration.options_class(self.method).model_validate(values).with_student_of(winner.method)
        values = configuration.dump(winner.model_copy(update={"method": method}))
        try:
            return configuration.load(configuration.assign(values, dict(self.settings)))
        except ConfigError as error:
            raise ConfigError(f"baseline {self.name}: {error}") from None


def parse_baseline(text: str) -> Baseline:
    """`METHOD`, or `METHOD:KEY=VALUE,KEY=VALUE` for one with settings of its own. Raises: ConfigError."""
    method, colon, rest = text.partition(":")
    try:
        known = configuration.paths(method)
    except ConfigError as error:
        raise ConfigError(f"--baseline {text}: {error}") from None
    settings = []
    for part in re.split(r",(?![^\[]*\])", rest) if colon else []:
        try:
            key, value = parse_setting(part.strip())
        except ConfigError:
            raise ConfigError(f"--baseline {text}: write METHOD:KEY=VALUE, for instance dogo:lambda_kd=0") from None
        path = key if "." in key else f"method.{key}"
        if not path.startswith("method.") or path not in known:
            options = [name.partition(".")[2] for name in known if name.startswith("method.")]
            raise ConfigError(f"--baseline {text}: {method} has no option {key!r}{configuration.nearest(key, options)}")
        settings.append((path, value))
    return Baseline(method, tuple(settings))


def baselines_of(texts: tuple[str, ...], config: Config) -> list[Baseline]:
    """Return the baselines that were asked for; without any, the student of `config` trained without distillation.

    A method that is its own baseline, such as simclr, has none.
    """
    if texts:
        return [parse_baseline(text) for text in texts]
    own = config.method.baseline()
    return [] if own == config.method else [Baseline(own.name)]


def baseline_space(baseline: Baseline, sweep: Space, method: str, images: int | None = None) -> Space:
    """Return what the search of a baseline tries.

    That is: its method's own settings, by its file in search_spaces/, and what the sweep searches of the optimiser.
    What the student is and sees stays the winner's. The metric and early stopping are the sweep's. A search by the
    training loss leaves out what changes the loss's scale, as that of the method must. A parameter may depend on a
    setting that is not among the parameters; `beside` decides then.

    Args:
        baseline: what is searched.
        sweep: the space of the sweep.
        method: of the sweep.
        images: training images, beyond which no queue and no number of clusters goes; None: not known.
    """
    own = _own_parameters(baseline, sweep, method)
    options = [p for p in own if p.path.startswith("method.")]
    left_out = incomparable(baseline, sweep, method)
    train = [p for p in sweep.parameters if p.path.startswith("train.")]
    train = train or [p for p in own if p.path.startswith("train.")]
    space = replace(
        sweep,
        search="bayes" if sweep.search == "bayes" else "random",
        sampler="tpe" if sweep.sampler == "nsga2" else sweep.sampler,
        also=(),
        population=None,
        run_cap=None,
        parameters=tuple(p for p in (*options, *train) if p.path not in left_out and leaves_a_value(p, images)),
    )
    return space if images is None else fit_to_images(space, images, lambda _: None)


def incomparable(baseline: Baseline, sweep: Space, method: str) -> list[str]:
    """Return what a baseline's search leaves out because the sweep goes by the training loss.

    Args:
        baseline: what is searched.
        sweep: the space of the sweep.
        method: of the sweep. The space of its own arms is refused instead.
    """
    if sweep.metric != "loss" or baseline.method == method:
        return []
    options = configuration.options_class(baseline.method)
    return [p.path for p in _own_parameters(baseline, sweep, method) if changes_loss_scale(p, options)]


def beside(space: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Return a baseline's space without conditions on settings that it does not search.

    A parameter whose condition fails is left out, and so is what depends on it.

    Args:
        space: as `Space.to_dict` writes it.
        config: the baseline, which fixes these settings.
    """
    fixed, parameters = configuration.dump(config), space["parameters"]
    kept: dict[str, Any] = {}

    def holds(parent: str, values: list[Any]) -> bool:
        if parent in parameters:
            return parent in kept
        section, _, name = parent.partition(".")
        return name in fixed[section] and fixed[section][name] in values

    for path, spec in parameters.items():  # parents come first
        when = spec.get("when", {})
        if all(holds(parent, values) for parent, values in when.items()):
            rest = {parent: values for parent, values in when.items() if parent in parameters}
            kept[path] = {key: value for key, value in spec.items() if key != "when"} | ({"when": rest} if rest else {})
    return dict(space) | {"parameters": kept}


def hints(space: Space, *configs: Config) -> PriorTrials:
    """Return settings to try first: those of each configuration, as far as the space has them."""
    found: list[Settings] = []
    for config in configs:
        values, chosen = configuration.dump(config), dict[str, Any]()
        for parameter in space.parameters:
            if space.is_active(parameter, chosen):
                section, _, name = parameter.path.partition(".")
                chosen[parameter.path] = values[section].get(name)
        if space.contains(chosen) and chosen not in found:
            found.append(chosen)
    return PriorTrials(hints=found)


def _own_parameters(baseline: Baseline, sweep: Space, method: str) -> list[Parameter]:
    """Return the parameters of a baseline's method but for what is fixed."""
    own = sweep if baseline.method == method else load_space(default_space(baseline.method), baseline.method, {})
    fixed = {*(f"method.{name}" for name in STUDENT), *(path for path, _ in baseline.settings)}
    return [p for p in own.parameters if p.path not in fixed]
