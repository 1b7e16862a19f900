"""Cost of a sweep from the timings of its parts: hours, accelerator hours, money, bytes. Arithmetic only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from raydistill.sweep.preflight.step_benchmark import MissingTeacher, StepTimings
from raydistill.sweep.search.space import EarlyStop


@dataclass(frozen=True)
class Cost:
    """`hours` of wall time; `money` in the currency of the price, None without one. Teachers are included.

    `trial_epochs` count each seed of a trial.
    """

    trial_epochs: float
    hours: float
    accelerator_hours: float
    money: float | None


@dataclass(frozen=True)
class BaselineRuns:
    """Runs of a baseline: `trials` of its search, `finals` of the final, and the timings of both."""

    timings: StepTimings
    trials: int
    finals: int


@dataclass(frozen=True)
class CostEstimate:
    """Estimated cost of a sweep.

    `expected` with early stopping as it goes on average, `at_most` if it stops nothing; `baselines`, as expected, is
    the part of the baselines' searches; `checkpoint_gib` of all trials at the end, at most.
    """

    expected: Cost
    at_most: Cost
    checkpoint_gib: float
    baselines: Cost = Cost(0.0, 0.0, 0.0, None)


def estimate(
    timings: StepTimings,
    *,
    trials: int,
    epochs: int,
    final_runs: int = 0,
    learners: int = 1,
    packs: int = 1,
    seeds: int = 1,
    early_stop: EarlyStop | None = None,
    every: int = 1,
    teachers: Sequence[MissingTeacher] | None = None,
    baselines: Sequence[BaselineRuns] = (),
    checkpoints: int = 2,
    price_per_hour: float | None = None,
    accelerators: int = 0,
) -> CostEstimate:
    """Estimate the cost of the teachers, the search, the baselines' searches and the final, one after the other.

    All trials are taken to go at the same speed and to fill the packs evenly; the test scores at the end
    and the start of the cluster are left out.

    Args:
        timings: measured seconds of the parts.
        trials, epochs: of the search.
        final_runs: of the method; trained as long as a trial, and never stopped early.
        learners, packs: side by side in each pack, and packs.
        seeds: learners of each trial of a search.
        early_stop: None: every trial runs to its end.
        every: epochs between two scores.
        teachers: to train first; None: those that the timings name.
        baselines: what is trained of each.
        checkpoints: kept of each trial.
        price_per_hour: of one accelerator.
        accelerators: held by the sweep from its start to its end.

    Raises:
        ValueError: a count below 0, or epochs, learners, packs, seeds or every below 1.
    """
    for name, value, least in (
        ("trials", trials, 0),
        ("epochs", epochs, 1),
        ("final_runs", final_runs, 0),
        ("learners", learners, 1),
        ("packs", packs, 1),
        ("seeds", seeds, 1),
        ("every", every, 1),
        ("checkpoints", checkpoints, 0),
        ("accelerators", accelerators, 0),
    ):
        if value < least:
            raise ValueError(f"{name} = {value}; expected at least {least}")
    wanted = timings.teachers_missing if teachers is None else teachers
    groups = Counter((teacher.timings, teacher.epochs) for teacher in wanted)
    before = sum(t.start_seconds for t, _ in groups) + timings.start_seconds + timings.prepare_seconds
    for (teacher, length), count in groups.items():
        before += _full_seconds(teacher, count, length, learners=learners, packs=packs, every=every)
    for runs, count, length in [(timings, final_runs, epochs), *((b.timings, b.finals, epochs) for b in baselines)]:
        before += _full_seconds(runs, count, length, learners=learners, packs=packs, every=every)
    finals = final_runs + sum(baseline.finals for baseline in baselines)
    other_epochs = finals * epochs + sum(teacher.epochs for teacher in wanted)

    searches = [(timings, trials), *((baseline.timings, baseline.trials) for baseline in baselines)]
    searches = [(_of_a_trial(part, seeds), number) for part, number in searches]
    beside = max(learners // seeds, 1)
    most_seconds, likely, searched = [], [], []
    for part, number in searches:
        most_seconds.append(_full_seconds(part, number, epochs, learners=beside, packs=packs, every=every))
        likely.append(most_seconds[-1])
        searched.append(float(number * epochs))
        if early_stop is not None:
            searched[-1] = expected_epochs(number, epochs, early_stop, every=every)
            stopped = _stopped_seconds(part, number, searched[-1], epochs, learners=beside, packs=packs, every=every)
            likely[-1] = min(likely[-1], stopped)
    total = sum(number for _, number in searches)
    most = _cost(total * epochs * seeds + other_epochs, before + sum(most_seconds), price_per_hour, accelerators)
    expected = _cost(sum(searched) * seeds + other_epochs, before + sum(likely), price_per_hour, accelerators)
    theirs = _cost(sum(searched[1:]) * seeds, sum(likely[1:]), price_per_hour, accelerators)
    size = sum(number * part.checkpoint_bytes for part, number in searches)
    size += final_runs * timings.checkpoint_bytes + sum(t.timings.checkpoint_bytes for t in wanted)
    size += sum(b.finals * b.timings.checkpoint_bytes for b in baselines)
    return CostEstimate(expected, most, checkpoints * size / 2**30, theirs)


def pack_epoch_seconds(timings: StepTimings, learners: int, scorings_per_epoch: float = 1.0) -> float:
    """Seconds of one epoch of a pack, with the scores and checkpoints of its learners.

    Args:
        timings: measured seconds of the parts.
        learners: of the pack.
        scorings_per_epoch: how often each is scored.
    """
    return _stream_seconds(timings) + learners * _learner_seconds(timings, scorings_per_epoch)


def expected_epochs(trials: int, epochs: int, stop: EarlyStop, *, every: int = 1) -> float:
    """Trial-epochs of a search with early stopping, on average.

    asha: at each rung (`min_iter * eta^k` epochs, or the first score after it) those that `going_on` counts go on.
    median: half of the trials end at the first score. hyperband, bohb: their brackets are not modelled, so that
    every trial counts in full.

    Args:
        trials, epochs: of the search, and of a whole trial.
        stop: the rule.
        every: epochs between two scores.
    """
    total, left, done = 0.0, float(trials), 0
    if stop.type in ("hyperband", "bohb"):
        return total + left * epochs
    halves = stop.type == "median"
    for rung in _rungs(epochs, stop, every)[: 1 if halves else None]:
        total += left * (rung - done)
        left, done = going_on(left, 2 if halves else stop.eta), rung
    return total + left * (epochs - done)


def going_on(trials: float, eta: int) -> float:
    """Average number of `trials` that go on, of those that reach a rung one after another in random order of merit.

    The rule is Ray Tune's: a trial goes on if it is not below the (1 - 1 / eta) quantile, interpolated, of the
    m before it, so with probability (1 + (m - 1) / eta) / (m + 1); the first always does. Between whole
    numbers of trials the count is interpolated.
    """
    whole = int(trials)
    passed = [1.0, *((1 + (m - 1) / eta) / (m + 1) for m in range(1, whole + 1))]
    return sum(passed[:whole]) + (trials - whole) * passed[whole]


def describe(estimate: CostEstimate) -> dict[str, str]:
    """Describe an estimate in words; where the most differs from the expected, both."""
    expected, most = estimate.expected, estimate.at_most
    lines = {
        "trial-epochs": _range(f"{expected.trial_epochs:.0f}", f"{most.trial_epochs:.0f}") + " in all",
        "time": "about " + _range(duration(expected.hours), duration(most.hours)),
    }
    if estimate.baselines.trial_epochs:
        lines["of which baseline search"] = f"about {duration(estimate.baselines.hours)}"
    if most.accelerator_hours:
        used, limit = _number(expected.accelerator_hours), _number(most.accelerator_hours)
        lines["workers"] = _range(used, limit, " worker hours")
    if expected.money is not None and most.money is not None:
        lines["money"] = _range(f"${expected.money:.2f}", f"${most.money:.2f}")
    lines["checkpoints"] = f"{_number(estimate.checkpoint_gib)} GiB"
    return lines


def duration(hours: float) -> str:
    """`2 h 40 min`, `12 min` or `45 s`, rounded to what is shown."""
    if hours * 3600 < 89.5:
        return f"{hours * 3600:.0f} s"
    whole, minutes = divmod(round(hours * 60), 60)
    return f"{whole} h {minutes:02d} min" if whole else f"{minutes} min"


def _rungs(epochs: int, stop: EarlyStop, every: int) -> list[int]:
    """The epochs after which trials are stopped."""
    found: set[int] = set()
    milestone = stop.min_iter
    while milestone < epochs:
        found.add(math.ceil(milestone / every) * every)
        milestone *= stop.eta
    return sorted(rung for rung in found if rung < epochs)


def _range(expected: str, most: str, unit: str = "") -> str:
    return expected + unit + ("" if expected == most else f", at most {most}")


def _full_seconds(timings: StepTimings, trials: int, epochs: int, *, learners: int, packs: int, every: int) -> float:
    """Seconds of trials that all run to their end; the fullest pack ends last."""
    fullest = math.ceil(trials / packs)
    rounds = math.ceil(fullest / learners)
    own = _learner_seconds(timings, _scorings(epochs, every))
    return rounds * epochs * _stream_seconds(timings) + fullest * epochs * own


def _stopped_seconds(
    timings: StepTimings, trials: int, trial_epochs: float, epochs: int, *, learners: int, packs: int, every: int
) -> float:
    """Seconds of trials that are stopped early, where the next one takes a free place at once."""
    if not trials:
        return 0.0
    own = _learner_seconds(timings, _scorings(epochs, every))
    streams = max(float(epochs), trial_epochs / (packs * learners))
    return streams * _stream_seconds(timings) + max(float(epochs), trial_epochs / packs) * own


def _of_a_trial(timings: StepTimings, seeds: int) -> StepTimings:
    """Timings of a trial of several seeds: those of all its learners together."""
    return replace(
        timings,
        learner_seconds=timings.learner_seconds * seeds,
        evaluation_seconds=timings.evaluation_seconds * seeds,
        checkpoint_seconds=timings.checkpoint_seconds * seeds,
        checkpoint_bytes=timings.checkpoint_bytes * seeds,
    )


def _stream_seconds(timings: StepTimings) -> float:
    return timings.steps_per_epoch * timings.shared_seconds


def _learner_seconds(timings: StepTimings, scorings_per_epoch: float) -> float:
    training = timings.steps_per_epoch * timings.learner_seconds
    return training + scorings_per_epoch * timings.evaluation_seconds + timings.checkpoint_seconds


def _scorings(epochs: int, every: int) -> float:
    """Per epoch; the last epoch is always scored."""
    return math.ceil(epochs / every) / epochs


def _cost(trial_epochs: float, seconds: float, price_per_hour: float | None, accelerators: int) -> Cost:
    hours = seconds / 3600
    used = hours * accelerators
    return Cost(trial_epochs, hours, used, None if price_per_hour is None else used * price_per_hour)


def _number(value: float) -> str:
    """One decimal, or two digits below 1."""
    return f"{value:.1f}" if value >= 1 or not value else f"{value:.2g}"
