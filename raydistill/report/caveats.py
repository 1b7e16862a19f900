"""Caveats that a reader needs before trusting a sweep."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from raydistill import config as configuration
from raydistill.records.budget import TRIAL_BY_HAND
from raydistill.report.comparison import finalists
from raydistill.report.formatting import count, is_number, missing, setting
from raydistill.report.importance import log_scaled
from raydistill.report.load import SweepData
from raydistill.report.savings import cut_off, full_epochs
from raydistill.tracking.client import SCORED_AGAIN

EDGE = 0.05  # of a range
FEW_SEEDS = 3
EARLY = 0.1  # of the training


def caveats(sweep: SweepData) -> list[str]:
    """Sentences; none where there is nothing to say."""
    found = (_unfinished, _failed, _edges, _seeds, _stopping, _budget, _scored_again, _images)
    return [sentence for check in found for sentence in check(sweep)]


def _unfinished(sweep: SweepData) -> Iterator[str]:
    if sweep.outcome == "running":
        yield "The sweep is still running, or its process ended without a word: numbers will change."
    elif sweep.outcome != "finished":
        yield f"The sweep was {sweep.outcome if sweep.outcome == 'interrupted' else 'ended by a fault'} before its end."
    cut = sweep.role("search", "interrupted")
    if cut:
        yield f"{count(len(cut), 'trial was', 'trials were')} interrupted: {_some(cut)}."


def _budget(sweep: SweepData) -> Iterator[str]:
    ended = cut_off(sweep)
    by_hand = [key for key in ended if str(sweep.trials.message[key]).endswith(TRIAL_BY_HAND)]
    if by_hand:
        yield f"{count(len(by_hand), 'trial was', 'trials were')} stopped by hand: {_some(by_hand)}."
    cut = [key for key in ended if key not in by_hand]
    if cut:
        were = count(len(cut), "trial was", "trials were")
        yield f"{were} cut off by the sweep's budget: {sweep.trials.message[cut[0]]}."


def _failed(sweep: SweepData) -> Iterator[str]:
    names = {"search": "trial", "baseline": "baseline trial", "final": "final run", "teacher": "teacher"}
    for role, name in names.items():
        failed = sweep.role(role, "failed")
        if failed:
            (message, _), *_ = Counter(sweep.trials.message[failed]).most_common(1)
            cause = f", most often with: {message}" if message else ""
            yield f"{len(failed)} of {count(len(sweep.role(role)), name)} failed{cause}"


def _edges(sweep: SweepData) -> Iterator[str]:
    """Yield a caveat where the winner lies at an end of its range: better settings may lie beyond."""
    best, who = sweep.best, "The winner" if sweep.rows else "The best trial so far"
    for path in sweep.searched if best else []:
        value, spec = sweep.setting(str(best), path), sweep.spec(path)
        values = spec.get("values") or [spec[end] for end in ("min", "max") if end in spec]
        if missing(value) or not all(map(is_number, [value, *values])):
            continue
        ranged = "values" not in spec and len(values) == 2
        if ranged or len(values) > 2:
            room = EDGE if ranged else 0.0
            end = _end(float(value), min(values), max(values), room, logarithmic=log_scaled(sweep, path))
            if end and (min if end == "lower" else max)(values) not in _bounds(sweep, path):
                ends = f"{setting(min(values))} to {setting(max(values))}"
                yield f"{who}: {path} = {setting(value)} lies at the {end} end of {ends}; widen the range."


def _bounds(sweep: SweepData, path: str) -> list[float]:
    """The least and the greatest value that the setting may have, where it is bounded."""
    try:
        declared = configuration.fields(sweep.method)[path].metadata
    except (configuration.ConfigError, KeyError):  # a method or a setting that is not installed here
        return []
    return [bound for each in declared for name in ("ge", "le") if (bound := getattr(each, name, None)) is not None]


def _end(value: float, low: float, high: float, room: float, *, logarithmic: bool) -> str:
    """Return which end of a range a value is within `room` of, as a share of the range; empty for none."""
    if logarithmic:
        value, low, high = math.log(value), math.log(low), math.log(high)
    if high == low:
        return ""
    share = (value - low) / (high - low)
    return "lower" if share <= room else "upper" if share >= 1 - room else ""


def _seeds(sweep: SweepData) -> Iterator[str]:
    fewest = min((len(row.scores) for row in finalists(sweep)), default=FEW_SEEDS)
    if fewest < FEW_SEEDS:
        yield f"The final rests on {count(fewest, 'seed')}; to tell configurations apart takes three or more."


def _stopping(sweep: SweepData) -> Iterator[str]:
    """Early stopping that may have judged too soon."""
    stop = sweep.identity.get("space", {}).get("early_terminate") or {}
    first, length, warmup = stop.get("min_iter"), full_epochs(sweep), sweep.base("train.warmup_epochs", 0)
    if first is None or not sweep.role("search", "stopped_early"):
        return
    if warmup >= first:
        yield (
            f"Trials were judged from epoch {first} on, but their learning rate rises for {warmup:g}; raise "
            "early_terminate.min_iter."
        )
    elif first < EARLY * length:
        yield (
            f"Trials were judged from epoch {first} of {length} on; slow starters may have been stopped. Where the "
            "learning curves cross later, raise early_terminate.min_iter."
        )


def _scored_again(sweep: SweepData) -> Iterator[str]:
    if again := sweep.tags.get(SCORED_AGAIN):
        yield f"{again[:1].upper()}{again[1:]}. Whoever decided to go on knew them."


def _images(sweep: SweepData) -> Iterator[str]:
    bad = int(sweep.scores.bad_images.max()) if "bad_images" in sweep.scores else 0
    if bad > 0:
        yield f"{count(bad, 'broken image was', 'broken images were')} passed over (data.on_bad_image: skip)."


def _some(keys: list[str], most: int = 5) -> str:
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")
