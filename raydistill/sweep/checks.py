"""What a search space asks for against what the sweep has: checked before Ray starts. Free of torch and Ray."""

from __future__ import annotations

from itertools import islice
from typing import Any

from raydistill.config import ConfigError
from raydistill.sweep.space import Parameter, Space

BATCH_SIZE = "data.batch_size"


def check_batch_sizes(space: Space, workers: int, images: int) -> None:
    """Refuse a space whose `data.batch_size` can take a value that `workers` or `images` do not allow.

    Args:
        workers: of a pack; a batch must divide among them.
        images: training images; a batch may not be larger.

    Raises: ConfigError, which names the parameter, the value and what would be accepted.
    """
    for parameter in space.parameters:
        if parameter.path == BATCH_SIZE:
            for value in _telling(parameter):
                _check(value, workers, images)


def _check(value: Any, workers: int, images: int) -> None:
    if value % workers:
        problem = f"does not divide among {workers} workers; use multiples of {workers} (q_uniform for a range)"
    elif value > images:
        problem = f"is larger than the {images} training images; use at most {images - images % workers}"
    else:
        return
    raise ConfigError(f"parameters.{BATCH_SIZE} = {value!r}: {problem}")


def _telling(parameter: Parameter) -> list[Any]:
    """Every value; of a range, which may be very long, the first two, whose step all others repeat, and the last."""
    if parameter.high is None:
        return list(parameter.values)
    return [*islice(parameter.points(), 2), parameter.round(parameter.high)]
