"""Settings that a user wants tried: some values of the space, as typed. Free of torch and Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raydistill.config import ConfigError, nearest, parse_setting
from raydistill.sweep.search.space import CONTINUOUS, Parameter, Space


def parse_given(space: Space, texts: Sequence[str]) -> dict[str, Any]:
    """Read settings such as `lr=0.003` or `train.lr=0.003`; the section may be left out.

    Args:
        space: that is searched.
        texts: as typed.

    Raises:
        ConfigError: a setting that the space does not search, is given twice, or has a value outside of it.
    """
    known = {parameter.path: parameter for parameter in space.parameters}
    given: dict[str, Any] = {}
    for text in texts:
        name, equals, _ = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"{text!r}: write a setting and its value, for instance lr=0.003")
        try:
            path, value = parse_setting(text)
        except ConfigError as error:
            raise ConfigError(str(error).removeprefix("--set ")) from None
        path = _path(path, known)
        if path in given:
            raise ConfigError(f"{path}: is given twice")
        given[path] = _as_searched(known[path], value)
    check_given(space, given)
    return given


def check_given(space: Space, given: Mapping[str, Any]) -> None:
    """Refuse settings that the space does not have, or does not search beside each other.

    What is not given is left to the search, but for what decides whether a setting is searched at all.

    Raises:
        ConfigError: names the setting, its value and what would be accepted.
    """
    known = {parameter.path: parameter for parameter in space.parameters}
    for path, value in given.items():
        parameter = known.get(path)
        if parameter is None:
            raise ConfigError(f"{path} = {value!r}: not a parameter of the search space{nearest(path, known)}")
        if not parameter.contains(value):
            raise ConfigError(f"{path} = {value!r}: {path} never has this value; it has {parameter.to_dict()}")
        for parent, values in parameter.when.items():
            if not _is_one_of(known[parent], given, values):
                raise ConfigError(
                    f"{path} = {value!r}: is searched only where {parent} is one of {list(values)}; give that, too"
                )
    if not given:
        raise ConfigError("give a setting to try, for instance lr=0.003")


def _path(name: str, known: Mapping[str, Parameter]) -> str:
    """The path of a searched setting. Raises: ConfigError."""
    if name in known:
        return name
    found = [path for path in known if path.partition(".")[2] == name]
    if len(found) > 1:
        raise ConfigError(f"{name}: may be {' or '.join(found)}; write one of these")
    if not found:
        names = [*known, *(path.partition(".")[2] for path in known)]
        raise ConfigError(f"{name}: not a parameter of the search space{nearest(name, names)}")
    return found[0]


def _as_searched(parameter: Parameter, value: Any) -> Any:
    """The value as the search would propose it: 100 of a range of real numbers is 100.0."""
    if parameter.contains(value) and not parameter.values:
        return float(value) if parameter.distribution in CONTINUOUS else parameter.round(value)
    return next((each for each in parameter.values if each == value), value)


def _is_one_of(parent: Parameter, given: Mapping[str, Any], values: tuple[Any, ...]) -> bool:
    """Return whether a parameter is sure to have one of these values."""
    if parent.path in given:
        return given[parent.path] in values
    return not parent.when and bool(parent.values) and all(value in values for value in parent.values)
