"""The rows of the table: what was selected is scored on the test split, once, and stands before the runners-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray

from raydistill import config as configuration
from raydistill.evaluation.final import score_all
from raydistill.records.journal import TrialRecord
from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.records.scores import Scores, identity, read_scores, write_scores
from raydistill.sweep.driver import Driver
from raydistill.sweep.final.choice import Choice
from raydistill.sweep.final.finalists import FinalConfig
from raydistill.sweep.final.references import start_references
from raydistill.sweep.final.teacher_rows import refer
from raydistill.sweep.settings import LEADERBOARD_SIZE, SweepSettings
from raydistill.tracking.sync import flatten, log_scores
from raydistill.training.checkpoint_files import LEFT_OUT, newest

# A process takes seconds to start and to open the images, and a task that is killed is repeated as a whole.
RUNS_PER_TASK = 4
VALUES = ("val_knn", "val_instance", "val_rank", "val_mse", "loss", "student_parameters")


def score_finals(
    settings: SweepSettings,
    driver: Driver,
    best: list[TrialRecord],
    choice: Choice,
) -> tuple[list[LeaderboardEntry], int]:
    """Make the leaderboard: selected configurations with test scores, references, runners-up with validation only.

    Args:
        settings: the sweep.
        driver: runs the scoring tasks.
        best: the search's trials, best first.
        choice: the selected configurations, those that near equals beat, and the runs of both.

    Returns: the rows, and how many runners-up have none.
    """
    final_configs = choice.chosen
    names = {final_config.name for final_config in final_configs}
    metric, goal = settings.space.metric, settings.space.goal
    driver.progress.at("final scores")
    driver.progress.note("scoring the selected configurations on the test split")
    ended = {run: record for run, record in choice.finished().items() if run[0] in names}
    referred = refer(settings, choice)
    waiting = start_scoring(driver, list(ended.values()), settings)
    # Where one task has all final runs, the references follow in its process: another start would take as long.
    # After a task with a GPU, Ray starts another process anyway.
    beside = len(waiting.tasks) > 1 or settings.gpu
    references = start_references(settings, driver, referred) if beside else None
    scores = collect_scores(driver, list(ended.values()), waiting)
    references = references or start_references(settings, driver, referred)
    rows = {
        final_config.name: LeaderboardEntry(
            final_config.name,
            _shown_settings(settings, final_config),
            final_config.spec.config.train.epochs,
            [scores[record.key] for (name, _), record in ended.items() if name == final_config.name],
            [record.key for (name, _), record in ended.items() if name == final_config.name],
        )
        for final_config in final_configs
    }
    found = [rows[final_config.name] for final_config in final_configs if not final_config.baseline]
    baselines = [
        rows[final_config.name]
        for final_config in final_configs
        if final_config.baseline and rows[final_config.name].mean(metric)
    ]
    sign = 1 if goal == "maximize" else -1
    baselines.sort(key=lambda row: sign * (row.mean(metric) or (0.0,))[0], reverse=True)
    beaten = [_beaten(settings, final_config, choice) for final_config in choice.passed_over]
    selected = {each.found.key for each in (*final_configs, *choice.passed_over) if each.found}
    rest = [record for record in best if record.key not in selected]
    others = [LeaderboardEntry(r.key, _searched_settings(settings, r), r.epochs, [_means(r)], [r.key]) for r in rest]
    ours = [row for row in beaten if row.name in {record.key for record in best}]
    runners_up = [*ours, *others]
    shown = runners_up[: LEADERBOARD_SIZE - 1]
    of_baselines = [row for row in beaten if row not in ours]
    return [*found, *baselines, *references(), *shown, *of_baselines], len(runners_up) - len(shown)


def _beaten(settings: SweepSettings, final_config: FinalConfig, choice: Choice) -> LeaderboardEntry:
    """The row of a trial that lost to a near equal over the seeds: its validation scores, and no test score."""
    trial = final_config.found
    assert trial is not None
    runs = [record for (name, _), record in choice.finished().items() if name == final_config.name]
    shown = _shown_settings(settings, final_config)
    return LeaderboardEntry(
        trial.key, shown, settings.epochs, list(map(_values, runs)), [record.key for record in runs]
    )


@dataclass
class Scoring:
    """Scores that are known, and the tasks that make the others: their result, and (key, checkpoint) of each run."""

    known: dict[str, dict[str, float]]
    tasks: list[tuple[Any, list[tuple[str, dict[str, Any] | None]]]]


def start_scoring(driver: Driver, records: list[TrialRecord], settings: SweepSettings) -> Scoring:
    """Start scoring trials; scores of before a resume are read again, unless the trial was trained on since.

    Args:
        driver: knows the trials' directories.
        records: the trials.
        settings: the sweep.
    """
    # After a GPU's failure a new process may do: Ray takes one for each task that has a GPU.
    task = ray.remote(num_cpus=1, num_gpus=1 if settings.gpu else 0, retry_exceptions=[RuntimeError])(score_all)
    found = Scoring({}, [])
    pending: list[tuple[TrialRecord, dict[str, Any] | None]] = []
    for record in records:
        directory = driver.trial_directory(record.key)
        checkpoint, known = identity(newest(directory)), read_scores(directory)
        if known and (None in (checkpoint, known.checkpoint) or checkpoint == known.checkpoint):
            found.known[record.key] = known.values
        else:
            pending.append((record, checkpoint))
    for start in range(0, len(pending), RUNS_PER_TASK):
        part = pending[start : start + RUNS_PER_TASK]
        runs = [(record.spec.config, str(driver.trial_directory(record.key))) for record, _ in part]
        teachers = [tuple(record.spec.teachers or ()) for record, _ in part]
        where: dict[str, Any] = {"teachers": teachers, "store": str(settings.artifacts)}
        result = task.remote(runs, threads=1, gpu=bool(settings.gpu), **where)
        found.tasks.append((result, [(record.key, checkpoint) for record, checkpoint in part]))
    return found


def collect_scores(driver: Driver, records: list[TrialRecord], scoring: Scoring) -> dict[str, dict[str, float]]:
    """Wait for the scores of trials, keep them and log them; one that cannot be scored has those of its training.

    Args:
        driver: has the trials' directories and the tracker.
        records: the trials.
        scoring: their scores, or the tasks that make them.

    Returns: the scores by the trial's key.
    """
    by_key, scores = {record.key: record for record in records}, dict(scoring.known)
    for result, runs in scoring.tasks:
        for (key, checkpoint), found in zip(runs, _scores_of(result, len(runs)), strict=True):
            scores[key] = _values(by_key[key])
            if isinstance(found, str):
                driver.progress.note(f"warning: {key} has no test score: {found}; `--resume` tries again")
                continue
            scores[key] |= found
            write_scores(driver.trial_directory(key), Scores(scores[key], checkpoint))
    said = set()
    for record in records:
        path = driver.trial_directory(record.key) / LEFT_OUT
        for line in path.read_text().splitlines() if path.exists() else ():
            if line not in said:
                said.add(line)
                driver.progress.note(f"warning: {record.key} is without {line}")
        log_scores(driver.tracker, record, driver.trial_directory(record.key))
    return scores


def _scores_of(result: Any, runs: int) -> list[dict[str, float] | str]:
    """Scores that a task found for its runs, or why it found none for any of them."""
    try:
        return list(ray.get(result))
    except ray.exceptions.RayError as error:
        return [str(error).strip().splitlines()[-1]] * runs


def _values(record: TrialRecord) -> dict[str, float]:
    """Return what a run's own network has on validation, which is that of a trial's first seed."""
    return {name: value for name in VALUES if (value := record.own(name)) is not None}


def _means(record: TrialRecord) -> dict[str, float]:
    """Return what ranks a trial: the means of its seeds."""
    return {name: value for name in VALUES if (value := record.last(name)) is not None}


def _shown_settings(settings: SweepSettings, final_config: FinalConfig) -> dict[str, Any]:
    """Return what the row of a final configuration says about its settings."""
    for arm in settings.arms:
        if arm.name == final_config.name:
            return {**arm.settings, **(final_config.found.settings if final_config.found else {})}
    if final_config.found is None:
        return _differences(settings, configuration.dump(final_config.spec.config))
    return final_config.found.settings if final_config.baseline else _searched_settings(settings, final_config.found)


def _searched_settings(settings: SweepSettings, record: TrialRecord) -> dict[str, Any]:
    """A trial's values of what the search could vary, in the order of the space."""
    varied = [parameter.path for parameter in settings.space.parameters if len(parameter.values) != 1]
    return {path: record.settings[path] for path in varied if path in record.settings}


def _differences(settings: SweepSettings, config: dict[str, Any]) -> dict[str, Any]:
    """Settings of a configuration that differ from the student without distillation of the sweep's base."""
    base, name = settings.base, config["method"]["name"]
    own = base.method.baseline()
    if own.name == name:
        own = own.with_student_of(base.method)
    elif base.method.name == name:
        own = base.method
    else:
        own = configuration.load({"method": name}).method
    default = flatten(configuration.dump(base.model_copy(update={"method": own})))
    return {path: value for path, value in flatten(config).items() if default.get(path) != value}
