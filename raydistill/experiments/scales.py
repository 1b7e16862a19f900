"""Sizes of an experiment: as published, on small images, on two cores, or as a trial of the machinery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raydistill import config as configuration
from raydistill.config import Config, ConfigError, nearest, read_yaml
from raydistill.experiments.catalogue import FOLDER, SCALES, SCALES_FILE, ArmSpec, Experiment, Settings, at_scale
from raydistill.experiments.teachers import PLACE, is_taught, places_in, places_of, teacher_names
from raydistill.presets import load_preset, preset_names

NETWORKS = ("method.backbone", "method.backbones", "teacher.backbone")
SKIPPED = "none"


@dataclass(frozen=True)
class ExperimentScale:
    """Size of an experiment, as `scales.yaml` has it.

    Args:
        name: of the scale.
        about: what it is for, in a line.
        preset: of every method that has it; else its `default`.
        seeds: of each arm.
        settings: of every arm, before the experiment's own.
        networks: stand-ins by the names of the papers' networks; one that is not here stands for itself.
        images: sources of images by the names that experiments use; one that is not here has to be given.
    """

    name: str
    about: str
    preset: str
    seeds: int
    settings: Settings = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """One arm at a scale.

    Args:
        name: of its row and its runs.
        settings: those in which it differs from other arms.
        config: complete.
        fixed: paths that the experiment decides, which no search of the arm touches.
    """

    name: str
    settings: Settings
    config: Config
    fixed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Given:
    """Choices of a user beside the experiment's name.

    Args:
        data: source of the images.
        images: sources by the names that the experiment uses; `none` leaves out what needs them.
        teachers: sources of the teachers; `NAME=SOURCE` for the arms that take a teacher of that name
            (`teacher.sources: ["{NAME}"]`), for the arm of that name, or for the arms whose teacher's network
            (`teacher.backbone`, as the experiment's file writes it) has that name.
        settings: of every arm.
        seeds: of each arm.
        trials: of each arm's own search.
    """

    data: str | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    teachers: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: int | None = None
    trials: int | None = None


@dataclass(frozen=True)
class ScaledExperiment:
    """An experiment at a scale, ready to be trained."""

    experiment: Experiment
    scale: ExperimentScale
    arms: tuple[Arm, ...]
    seeds: int
    trials: int = 0


def load_scale(name: str) -> ExperimentScale:
    """Read a scale. Raises: ConfigError."""
    if name not in SCALES:
        raise ConfigError(f"--scale {name!r} is unknown{nearest(name, SCALES)}")
    values = read_yaml(FOLDER / SCALES_FILE)[name]
    return ExperimentScale(name, **values)


def scaled(experiment: Experiment, scale: ExperimentScale, given: Given | None = None) -> ScaledExperiment:
    """Make the arms of an experiment at a scale.

    Args:
        experiment: from the catalogue.
        scale: how large everything is.
        given: what a user gave.

    Raises:
        ConfigError: a setting is wrong, or something has to be given; the message says what.
    """
    given = given or Given()
    _check_given(experiment, scale, given)
    specs = [arm for arm in experiment.arms if scale.name in arm.scales]
    if not specs:
        there = ", ".join(dict.fromkeys(each for arm in experiment.arms for each in arm.scales))
        raise ConfigError(f"{experiment.name} has no arm at scale {scale.name}; it has some at {there}")
    configs = {spec.name: _config(experiment, spec, scale, given) for spec in specs}
    _check_teachers(experiment, scale, configs)
    check_arms(experiment, configs)
    plain = {name: _flat(config) for name, config in configs.items()}
    decided = {spec.name: (*spec.settings, *scale.settings, *given.settings) for spec in specs}
    fixed = {name: tuple(path for path in paths if path not in experiment.searched) for name, paths in decided.items()}
    arms = tuple(Arm(name, _differences(plain, name), config, fixed[name]) for name, config in configs.items())
    seeds = given.seeds or at_scale(experiment.seeds, scale.name) or scale.seeds
    trials = given.trials or at_scale(experiment.search, scale.name) or 0
    return ScaledExperiment(experiment, scale, arms, seeds, trials)


def used_images(experiment: Experiment, scale: str) -> list[str]:
    """The names of the images that an experiment's tasks look at.

    Args:
        experiment: from the catalogue.
        scale: its name.
    """
    places = [name for arm in experiment.arms for name in places_in(arm.settings.get("eval.tasks"), scale)]
    return list(dict.fromkeys(places))


def needed(experiment: Experiment, scale: ExperimentScale) -> list[str]:
    """Name what has to be given to run an experiment at a scale: images by their names, and teachers."""
    used = [experiment.images, *used_images(experiment, scale.name)]
    missing = [name for name in dict.fromkeys(used) if name not in scale.images]
    teacher = _needed_teacher(experiment, scale.name)
    return [*missing, *([teacher] if teacher else [])]


def scaled_anyway(experiment: Experiment, scale: ExperimentScale) -> ScaledExperiment:
    """Make the arms of an experiment at a scale as if all that it needs were given, to count and to check them.

    Args:
        experiment: from the catalogue.
        scale: how large everything is.

    Raises:
        ConfigError: a setting is wrong.
    """
    given = Given(
        data=None if experiment.images in scale.images else experiment.images,
        images={name: name for name in used_images(experiment, scale.name) if name not in scale.images},
        teachers=_stand_ins(experiment, scale),
    )
    return scaled(experiment, scale, given)


def _stand_ins(experiment: Experiment, scale: ExperimentScale) -> tuple[str, ...]:
    """Names in place of the teachers that would have to be given."""
    if not _needed_teacher(experiment, scale.name):
        return ()
    names = teacher_names(experiment, scale.name)
    return tuple(f"{name}={name}" for name in names) if len(names) > 1 else ("teacher",)


def check_arms(experiment: Experiment, configs: Mapping[str, Config]) -> None:
    """Refuse arms that are one configuration, or that differ in what the experiment does not say.

    What each method's preset decides of its losses, recipes and optimiser may differ between methods. Images, batches,
    epochs, scores, the section `augment` and the teachers of methods that have any may not.

    Args:
        experiment: says what varies.
        configs: of its arms.

    Raises:
        ConfigError: the message names arms and settings.
    """
    seen: dict[str, str] = {}
    for name, config in configs.items():
        text = config.model_dump_json()
        if text in seen:
            raise ConfigError(f"{experiment.name}: the arms {seen[text]} and {name} are one configuration")
        seen[text] = name
    plain = {name: _flat(config) for name, config in configs.items()}
    first = next(iter(plain))
    first_of: dict[str, str] = {}
    for name, own in plain.items():
        for base in dict.fromkeys((first, first_of.setdefault(own["method.name"], name))):
            _check_pair(experiment, base, name, plain)


def _check_pair(experiment: Experiment, first: str, second: str, plain: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse two arms that differ in what `varies` does not name; see `check_arms`."""
    base, own = plain[first], plain[second]
    same_method = own["method.name"] == base["method.name"]
    taught = all(is_taught(each["method.name"]) for each in (base, own))
    varied = {*experiment.varies}
    if any(path.startswith("teacher.") for path in varied):  # a teacher that varies may be given for each arm
        varied.add("teacher.sources")
    for path in sorted({*base, *own}):
        section = path.partition(".")[0]
        shared = section in ("data", "augment", "eval") or path == "train.epochs" or (section == "teacher" and taught)
        if path in varied or section in varied or not (shared or same_method):
            continue
        if base.get(path) != own.get(path):
            raise ConfigError(
                f"{experiment.name}: {first} and {second} differ in {path} ({base.get(path)} and {own.get(path)}), "
                "which `varies` does not name"
            )


def _check_given(experiment: Experiment, scale: ExperimentScale, given: Given) -> None:
    """Refuse to start without what has to be given."""
    if given.data is None and experiment.images not in scale.images:
        names = {*load_scale("small").images, *load_scale("smoke").images}
        near = "" if experiment.images in names else nearest(experiment.images, names)
        raise ConfigError(
            f"{experiment.name} at scale {scale.name} needs {experiment.images}: give its folder with --data{near}"
        )
    used = set(used_images(experiment, scale.name))
    if unknown := sorted(set(given.images) - used):
        there = ", ".join(sorted(used)) or "none"
        raise ConfigError(f"--images {unknown[0]}=...: {experiment.name} has no such images; it has {there}")
    if missing := sorted(used - set(given.images) - set(scale.images)):
        places = " ".join(f"--images {name}=PATH" for name in missing)
        raise ConfigError(
            f"{experiment.name} at scale {scale.name} needs {', '.join(missing)}: give {places}, or {SKIPPED} instead "
            "of a path to leave out what needs it"
        )


def _check_teachers(experiment: Experiment, scale: ExperimentScale, configs: Mapping[str, Config]) -> None:
    """Refuse to train a teacher where one has to be given."""
    needed = _needed_teacher(experiment, scale.name)
    for name, config in configs.items():
        if needed and config.method.teacher_output() and not config.teacher.sources:
            raise ConfigError(
                f"{experiment.name} at scale {scale.name} needs {needed}: give it with --teacher; arm {name} has none"
            )


def _needed_teacher(experiment: Experiment, scale: str) -> str | None:
    """The teacher that has to be given: at paper, or at the scales that `needs` names."""
    needed: Any = experiment.needs.get("teacher")
    return at_scale(needed if isinstance(needed, dict) else {"paper": needed}, scale)


def _sources(experiment: Experiment, spec: ArmSpec, scale: ExperimentScale, given: Given) -> list[str]:
    """The teachers given for an arm: under the names that it takes, its own name, or that of its teacher's network.

    Without any of these, those that were given without a name.

    Args:
        experiment: its arms and their teachers are the names.
        spec: of the arm.
        scale: of the experiment.
        given: `NAME=SOURCE`; with any other text in front of a `=` it is a source.
    """
    networks = {arm.name: str(at_scale(arm.settings.get("teacher.backbone"), scale.name)) for arm in experiment.arms}
    places = {arm.name: places_of(arm, scale.name) for arm in experiment.arms}
    known = {*networks, *networks.values(), *(place for own in places.values() for place in own)}
    found: dict[str, list[str]] = {}
    for text in given.teachers:
        name, _, source = text.partition("=")
        named = bool(source) and name in known
        found.setdefault(name if named else "", []).append(source if named else text)
    plain, own = found.get("", []), places[spec.name]
    if plain and len(several := teacher_names(experiment, scale.name)) > 1:
        raise ConfigError(
            f"--teacher {plain[0]}: the arms of {experiment.name} learn from different teachers; say whose it is, as "
            f"--teacher NAME=SOURCE, where NAME is one of {', '.join(several)}"
        )
    if own and not any(place in found for place in own) and len(own) == 1:
        return plain
    if own and (plain or any(place in found for place in own)):
        if missing := [place for place in own if place not in found]:
            names = " and ".join(f"--teacher {place}=PATH" for place in missing)
            raise ConfigError(f"{experiment.name}, arm {spec.name}: takes {', '.join(own)}; give {names}")
        return [source for place in own for source in found[place]]
    return found.get(spec.name) or found.get(networks[spec.name]) or found.get("", [])


def _config(experiment: Experiment, spec: ArmSpec, scale: ExperimentScale, given: Given) -> Config:
    preset = at_scale(spec.preset, scale.name) or scale.preset
    if preset not in (names := preset_names(spec.method)):
        if at_scale(spec.preset, scale.name):
            raise ConfigError(f"{experiment.name}: {spec.method} has no preset {preset!r}{nearest(preset, names)}")
        preset = "default"
    known = configuration.fields(spec.method)
    of_scale = {path: value for path, value in scale.settings.items() if path in known}
    own = {path: at_scale(value, scale.name) for path, value in spec.settings.items()}
    own = {path: value for path, value in own.items() if value is not None}
    common = {path: value for path, value in own.items() if path in known or not path.startswith("method.")}
    settings = {**of_scale, **common}
    for path in NETWORKS:
        if path in settings:
            settings[path] = _stand_in(settings[path], scale)
    if places_of(spec, scale.name):
        settings.pop("teacher.sources")
    settings |= {path: value for path, value in given.settings.items() if path in known}
    settings["data.source"] = given.data or scale.images[experiment.images]
    if sources := _sources(experiment, spec, scale, given):
        settings["teacher.sources"] = sources
    if "eval.tasks" in settings:
        settings["eval.tasks"] = _tasks(settings["eval.tasks"], {**scale.images, **given.images})
    try:
        return configuration.load(configuration.assign(load_preset(spec.method, preset), settings))
    except ConfigError as error:
        raise ConfigError(f"{experiment.name}, arm {spec.name} at scale {scale.name}: {error}") from None


def _stand_in(network: Any, scale: ExperimentScale) -> Any:
    if isinstance(network, list):
        return [_stand_in(each, scale) for each in network]
    return scale.networks.get(network, network)


def _tasks(tasks: Any, images: Mapping[str, str]) -> list[str]:
    """The tasks with the sources of their images; without those whose images are left out."""
    for name in (name for text in tasks for name in PLACE.findall(text)):
        if name not in images:
            raise ConfigError(f"eval.tasks: nobody says what images {name!r} are; give --images {name}=PATH")
    kept = [text for text in tasks if all(images[name] != SKIPPED for name in PLACE.findall(text))]
    return list(dict.fromkeys(PLACE.sub(lambda match: images[match[1]], text) for text in kept))


def _flat(config: Config) -> dict[str, Any]:
    plain = configuration.dump(config)
    return {f"{section}.{key}": value for section, values in plain.items() for key, value in values.items()}


def _differences(configs: Mapping[str, Mapping[str, Any]], name: str) -> Settings:
    """Settings in which an arm differs from another one; of another method those that it shares with the others."""
    own = configs[name]
    others = [config for other, config in configs.items() if other != name]
    found = {}
    for path, value in own.items():
        if any(path in config and config[path] != value for config in others):
            found[path] = value
    return found
