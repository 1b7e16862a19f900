"""Trials as the papers' figures draw them: values of a setting, scores beside them, and groups that share a mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib import colormaps

from raydistill.report.comparison import baselines, metrics
from raydistill.report.figures import style
from raydistill.report.figures.scales import Scale, jitter
from raydistill.report.formatting import factor, is_number, missing, setting
from raydistill.report.load import SweepData

BINS = 5  # of a range, in which trials count as alike
ORDERED = colormaps["viridis"]
WIDE, NEAR = 0.25, 0.05  # over which trials of one value are spread: of a choice's place, of an axis of logarithms


def expect(sweep: SweepData, method: str) -> None:
    """Refuse a sweep of another method with a ValueError."""
    if sweep.method != method:
        raise ValueError(f"{sweep.name} is a sweep of {sweep.method}; this is a figure of {method}")


def varied(sweep: SweepData, path: str) -> bool:
    """Return whether the search gave a setting more than one value."""
    if path not in sweep.settings:
        return False
    return len({setting(v) for v in sweep.settings.loc[sweep.role("search"), path] if not missing(v)}) > 1


def used(sweep: SweepData, path: str, default: Any = math.nan) -> pd.Series:
    """Value of a setting in each trial of the search, searched or not.

    Args:
        sweep: the sweep.
        path: the setting.
        default: for a trial that neither searched nor fixed it.
    """
    keys = sweep.role("search")
    asked = sweep.base(path, default)
    values = sweep.params.reindex(columns=[path]).loc[keys, path]
    return pd.Series([asked if missing(value) else value for value in values], keys, dtype=object)


def with_setting(sweep: SweepData, name: str, values: pd.Series, order: Sequence[str]) -> SweepData:
    """Return the sweep with one more searched setting, made of others.

    Args:
        sweep: the sweep.
        name: of the new setting.
        values: a text for each trial.
        order: of those texts.
    """
    space = sweep.identity.get("space", {})
    parameters = {**space.get("parameters", {}), name: {"values": list(order)}}
    return replace(
        sweep,
        settings=sweep.settings.assign(**{name: values}),
        params=sweep.params.assign(**{name: values}),
        identity={**sweep.identity, "space": {**space, "parameters": parameters}},
    )


def trials(sweep: SweepData, path: str, scale: Scale) -> pd.DataFrame:
    """Frame of the search's trials that have a score and a value of the setting.

    `place` on the axis, `shown` a little beside it, so that points of one value do not hide each other; `level` of
    their mean, `score` in the unit of its axis, `full` for those trained to the end.

    Args:
        sweep: the sweep.
        path: the setting.
        scale: of the setting.
    """
    keys = sweep.role("search", "finished", "stopped_early")
    scores = sweep.scores[sweep.metric] if sweep.metric in sweep.scores else pd.Series(dtype=float)
    frame = pd.DataFrame(
        {
            "place": [scale.place(value) for value in sweep.settings.loc[keys, path]],
            "score": scores.reindex(keys).to_numpy() * factor(sweep.metric),
            "full": (sweep.trials.outcome[keys] == "finished").to_numpy(),
        },
        index=pd.Index(keys, dtype=object),
    ).dropna()
    ranged = "values" not in sweep.spec(path)
    frame["level"] = [_middle(scale, place) if ranged else place for place in frame.place]
    frame["shown"] = frame.place
    if scale.choices:
        frame["shown"] += jitter(len(frame), WIDE)
    elif scale.logarithmic and not ranged:
        frame["shown"] *= (scale.high / scale.low) ** jitter(len(frame), NEAR)
    return frame


def groups(sweep: SweepData, by: str, frame: pd.DataFrame) -> dict[str, tuple[pd.Index, Any]]:
    """Group trials by their value of another setting, each with a colour: numbers in order, from dark to light.

    Trials that a condition leaves without a value are grey.

    Args:
        sweep: the sweep.
        by: the setting.
        frame: as `trials` returns it.
    """
    values = sweep.settings.loc[frame.index, by]
    distinct = list({setting(value): value for value in values if not missing(value)}.values())
    numbers = all(map(is_number, distinct))
    distinct.sort(key=float if numbers else str)
    count = max(len(distinct) - 1, 1)
    found = {
        setting(value): (
            frame.index[[setting(v) == setting(value) for v in values]],
            ORDERED(0.92 * i / count) if numbers else style.COLORS[i % len(style.COLORS)],
        )
        for i, value in enumerate(distinct)
    }
    without = frame.index[[missing(value) for value in values]]
    return found | ({"not used": (without, style.GREY)} if len(without) else {})


def baseline(sweep: SweepData) -> float | None:
    """The better baseline's mean in the sweep's metric, in the unit of its axis.

    None where it has none, and of a metric by which two methods do not compare, such as the loss.
    """
    if sweep.metric not in metrics(sweep):
        return None
    means = [found[0] for row in baselines(sweep)[:1] if (found := row.mean(sweep.metric))]
    return means[0] * factor(sweep.metric) if means else None


def _middle(scale: Scale, place: float) -> float:
    """The middle of the part of a range in which a place lies."""
    low, high = (math.log(v) if scale.logarithmic else v for v in (scale.low, scale.high))
    part = min(int(scale.share(place) * BINS), BINS - 1)
    at = low + (part + 0.5) / BINS * (high - low)
    return math.exp(at) if scale.logarithmic else at
