"""Names of an experiment's teachers: of the arms that take them, of their networks, or as its file calls them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from raydistill import config as configuration
from raydistill.config import Config
from raydistill.experiments.catalogue import ArmSpec, Experiment, at_scale

PLACE = re.compile(r"\{([\w.-]+)\}")


def teacher_names(experiment: Experiment, scale: str) -> list[str]:
    """The names by which the different teachers of the arms are told apart; one where all arms have the same.

    Args:
        experiment: from the catalogue.
        scale: its name.
    """
    kinds: dict[tuple[Any, ...], ArmSpec] = {}
    for arm in experiment.arms:
        if is_taught(arm.method) and scale in arm.scales:
            told = ("backbone", "method", "epochs", "preset")
            how = tuple(at_scale(arm.settings.get(f"teacher.{key}"), scale) for key in told)
            kinds.setdefault((how, tuple(places_of(arm, scale))), arm)
    places = dict.fromkeys(place for _, own in kinds for place in own)
    networks = dict.fromkeys(str(how[0]) for how, _ in kinds)
    if places:
        return list(places)
    return list(networks) if len(networks) == len(kinds) else [arm.name for arm in kinds.values()]


def labels_of_teachers(experiment: Experiment, scale: str, configs: Mapping[str, Config]) -> dict[str, list[str]]:
    """The names of each arm's teachers in their order: those of its file, or of the paper's network.

    Args:
        experiment: from the catalogue.
        scale: its name.
        configs: of the arms at that scale.

    Returns: an entry for each arm that has a frozen teacher; empty where nothing but their number tells them apart.
    """
    found: dict[str, list[str]] = {}
    for arm in experiment.arms:
        config = configs.get(arm.name)
        if config is None or config.method.teacher_output() is None:
            continue
        teacher, places = config.teacher, places_of(arm, scale)
        count = len(teacher.sources) or teacher.count
        network = at_scale(arm.settings.get("teacher.backbone"), scale)
        if len(places) == count and (teacher.sources or count == 1):
            found[arm.name] = places
        else:  # several that were trained here differ in their seeds alone, whatever the paper's were
            found[arm.name] = [str(network)] if count == 1 and network else []
    return found


def is_taught(method: str) -> bool:
    """Return whether a method learns from a frozen teacher."""
    return configuration.options_class(method)().teacher_output() is not None  # type: ignore[call-arg]


def places_of(spec: ArmSpec, scale: str) -> list[str]:
    """The names of the teachers that an arm takes, in their order: `teacher.sources: ["{byol}", "{swav}"]`."""
    return places_in(spec.settings.get("teacher.sources"), scale)


def places_in(texts: Any, scale: str) -> list[str]:
    """The names in braces in a list of texts, at a scale: of images in tasks, or of teachers in sources."""
    return [name for text in at_scale(texts, scale) or () for name in PLACE.findall(text)]
