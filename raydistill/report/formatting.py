"""Numbers, settings and metrics in the words that every page and figure uses."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from raydistill.records.leaderboard import UNITS

LABELS = {
    "val_knn": "validation k-NN accuracy",
    "val_instance": "validation instance accuracy",
    "val_rank": "validation effective rank",
    "val_probe": "validation linear-probe accuracy",
    "test_knn": "test k-NN accuracy",
    "test_instance": "test instance accuracy",
    "test_probe": "test linear-probe accuracy",
    "val_mse": "validation error of the predicted teacher",
    "test_mse": "test error of the predicted teacher",
    "loss": "training loss",
    "student_parameters": "parameters of the student",
}
HEADINGS = {
    "val_knn": "val k-NN (%)",
    "val_instance": "val instance (%)",
    "val_rank": "val rank",
    "student_parameters": "parameters (M)",
    "test_knn": "test k-NN (%)",
    "test_instance": "test instance (%)",
    "test_probe": "test probe (%)",
    "val_mse": "val MSE to teacher",
    "test_mse": "test MSE to teacher",
}
ACCURACY = (100.0, 2)
UNITLESS = ("loss", "val_rank", "val_mse", "test_mse")
MISSING = "–"  # a setting that a condition leaves out, a score that there is not


def label(metric: str) -> str:
    """A metric in words, with its k (`val_knn_20`), and its encoder if that is not the student (`val_knn_peer_2`)."""
    known = max((name for name in LABELS if metric == name or metric.startswith(f"{name}_")), key=len, default=metric)
    number, encoder = _suffixes(metric.removeprefix(known))
    parts = [LABELS.get(known, known), f"k = {number}" if number else "", encoder]
    return ", ".join(filter(None, parts))


def heading(metric: str) -> str:
    """A metric at the head of a column, short, with its unit."""
    known = metric.rstrip("0123456789").removesuffix("_")
    if metric not in HEADINGS and known in HEADINGS:
        return HEADINGS[known].replace(" (", f", k = {metric.removeprefix(f'{known}_')} (")
    return HEADINGS.get(metric, metric)


def _suffixes(rest: str) -> tuple[str, str]:
    """The k and the encoder that a metric's name ends in: `_20_peer_2` has 20 and peer_2."""
    number, _, encoder = rest.strip("_").partition("_")
    return (number, encoder) if number.isdecimal() else ("", rest.strip("_"))


def axis(metric: str) -> str:
    """`label` with its unit."""
    return f"{label(metric)}{ {'points': ' (%)', 'million': ' (millions)'}.get(unit(metric), '') }"


def unit(metric: str) -> str:
    """Unit of a difference: points (of accuracy in percent), million (parameters), or nothing."""
    return "" if metric in UNITLESS else "million" if metric == "student_parameters" else "points"


def factor(metric: str) -> float:
    """Factor from the metric to the unit of its axis."""
    return UNITS.get(metric, ACCURACY)[0]


def score(metric: str, value: float | None) -> str:
    """Accuracies in percent, parameters in millions."""
    if missing(value) or value is None:
        return MISSING
    scale, digits = UNITS.get(metric, ACCURACY)
    return f"{value * scale:.{digits}f}"


def missing(value: Any) -> bool:
    """Return whether there is no value; `none` is a value."""
    return isinstance(value, float) and math.isnan(value)


def is_number(value: Any) -> bool:
    """Return whether a value is an int or a float, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def setting(value: Any) -> str:
    """A setting's value, numbers to three digits: 0.0033, none, [simclr, simsiam]."""
    if missing(value):
        return MISSING
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(setting, value))}]"
    return str(value)


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Paths without their section, where that leaves them different."""
    all_paths = list(paths)
    last = [path.rpartition(".")[2] for path in all_paths]
    return {path: name if last.count(name) == 1 else path for path, name in zip(all_paths, last, strict=True)}


def percent(share: float) -> str:
    """62 %, below 1 %."""
    return f"{share * 100:.0f} %" if share >= 0.01 or not share else "below 1 %"


def duration(seconds: float) -> str:
    """46 s, 12 min, 3 h 05 min."""
    if not math.isfinite(seconds):
        return MISSING
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def count(number: int, noun: str, plural: str = "") -> str:
    """Count in words: 1 trial, 3 trials, no trials.

    Args:
        number: how many.
        noun: the singular.
        plural: of a noun that does not end in s.
    """
    return f"{number or 'no'} {noun if number == 1 else plural or noun + 's'}"
