"""Resolution of RUN: a sweep's winner, a trial, an export, a run in MLflow. Torch is imported once there is one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from raydistill import config as configuration
from raydistill.artifacts.sources import PROVENANCE, words_for
from raydistill.config import Config, ConfigError, nearest
from raydistill.export.mlflow_source import resolve_mlflow_run
from raydistill.export.run import MLFLOW, CheckpointRemovedError, ResolvedRun, from_checkpoint, replaying, suffix_of
from raydistill.records.journal import TrialRecord, read_records
from raydistill.records.layout import CONFIG_FILE, JOURNAL_FILE, ORIGIN_FILE, RESULTS_FILE, is_sweep, named, run_folder
from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.records.locations import artifact_store, tracking, working_folder
from raydistill.records.run_keys import read_spec
from raydistill.records.scores import read_scores
from raydistill.storage import Remote, StoragePath, reason, to_path
from raydistill.training.checkpoint_files import CheckpointError, winner_of

ACCEPTED = f"a sweep's name or folder, SWEEP/TRIAL, a trial's or an export's folder, {MLFLOW}RUN_ID"


def find_run(given: str, storage: str | None = None, tracking_uri: str | None = None) -> ResolvedRun:
    """Find the run that a command names.

    Args:
        given: what was typed.
        storage: the folder of sweeps, or None.
        tracking_uri: of MLflow, or None.

    Raises:
        ConfigError: nothing is there.
    """
    home = to_path(storage or working_folder() / "runs").absolute()
    return resolve_run(given, home, tracking(tracking_uri), artifact_store(None, home))


def resolve_run(given: str, home: StoragePath, tracking_uri: str, artifacts: StoragePath | None = None) -> ResolvedRun:
    """Find the run that a name means.

    Args:
        given: what was typed.
        home: the folder of sweeps.
        tracking_uri: of MLflow.
        artifacts: where teachers are, unless the run's sweep says where.

    Raises:
        ConfigError: nothing is there, the sweep has no winner, or the run no checkpoint.
    """
    found = _found(given, home, tracking_uri)
    return replace(found, taught=found.taught | words_for(found.config, found.origin, artifacts))


def _found(given: str, home: StoragePath, tracking_uri: str) -> ResolvedRun:
    if given.startswith(MLFLOW):
        return resolve_mlflow_run(given.removeprefix(MLFLOW), tracking_uri)
    try:
        folder = _folder(given, home)
        if (folder / PROVENANCE).exists():
            return _exported(folder)
        return _trial(_winner(folder), folder.name) if is_sweep(folder) else _trial(folder)
    except OSError as error:
        raise ConfigError(f"{given} cannot be read ({reason(error)})") from None


def _folder(given: str, home: StoragePath) -> StoragePath:
    """Find the folder of a sweep, a trial or an export."""
    if (folder := run_folder(given, home)) is not None:
        return folder
    places = named(given, home)
    sweep, _, trial = given.rstrip("/").rpartition("/")
    for place in (one.parent for one in places if sweep and is_sweep(one.parent)):
        trials = sorted(path.name for path in (place / "trials").iterdir()) if (place / "trials").exists() else []
        raise ConfigError(f"sweep {place.name} has no trial {trial!r}{nearest(trial, trials) if trials else ''}")
    if any(place.is_dir() for place in places):
        raise ConfigError(f"{given} is the folder of no sweep, trial or export; accepted: {ACCEPTED}")
    sweeps = [place.name for place in home.iterdir() if is_sweep(place)] if home.exists() else []
    hint = nearest(given, sweeps) if sweeps else ""
    raise ConfigError(f"there is no run {given!r}, neither in {home} nor as a path{hint}; accepted: {ACCEPTED}")


def _winner(sweep: StoragePath) -> StoragePath:
    if (folder := winner_of(sweep)) is not None:
        return folder
    trials = read_records(sweep / JOURNAL_FILE)
    begun = [key for key, record in trials.items() if record.epochs]
    some = next((key for key in begun if trials[key].outcome == "finished"), next(iter(begun), ""))
    hint = f"; give one of its trials, for instance {sweep.name}/{some}" if some else ""
    raise ConfigError(f"sweep {sweep.name} has no winner: it has not come to its end{hint}")


def _trial(folder: StoragePath, name: str = "") -> ResolvedRun:
    """`name`: of the sweep whose winner it is."""
    sweep = folder.parent.parent if folder.parent.name == "trials" else None
    record = read_records(sweep / JOURNAL_FILE).get(folder.name) if sweep and is_sweep(sweep) else None
    run = f"{sweep.name}/{folder.name}" if sweep else folder.name
    config = configuration.read(folder / CONFIG_FILE)
    from raydistill.training.checkpoints import latest_checkpoint

    try:
        state = latest_checkpoint(folder)
    except CheckpointError as error:
        raise ConfigError(str(error)) from None
    if state is None:
        raise _without_checkpoint(run, folder, config, record)
    scores, last = read_scores(folder), record.epochs if record else config.train.epochs
    return from_checkpoint(
        config,
        state,
        name=name or run.replace("/", "-"),
        run=run,
        scores=scores.values if scores and scores.fits(folder, state["epoch"], last) else {},
        outcome=(record.outcome or "") if record else "",
        copies=tuple(map(str, record.copies)) if record else (),
        sweep=sweep.name if sweep else "",
        trial=folder.name if sweep else "",
        origin=_origin(sweep) if sweep else {},
        final=_final(sweep, folder) if sweep else (),
        decided=record.spec if record else read_spec(folder, config),
    )


def _origin(sweep: StoragePath) -> dict[str, Any]:
    """Empty where a sweep has none, or a damaged one."""
    try:
        return dict(json.loads((sweep / ORIGIN_FILE).read_text())) if (sweep / ORIGIN_FILE).exists() else {}
    except (ValueError, TypeError):
        return {}


def _final(sweep: StoragePath, trial: StoragePath) -> tuple[LeaderboardEntry, ...]:
    """The table of a sweep for its winner, nothing for any other trial, and for a table that is damaged."""
    try:
        if (winner := winner_of(sweep)) is None or winner.name != trial.name:
            return ()
        return tuple(LeaderboardEntry(**row) for row in json.loads((sweep / RESULTS_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return ()


def _without_checkpoint(run: str, folder: StoragePath, config: Config, record: TrialRecord | None) -> ConfigError:
    if record is None or not record.epochs:
        return ConfigError(f"{run} has no checkpoint; it has not finished its first epoch")
    return CheckpointRemovedError(run, folder, replaying(config, record.offsets), record)


def _exported(folder: StoragePath) -> ResolvedRun:
    if isinstance(folder, Remote):
        raise ConfigError(f"{folder} is an export; copy its folder to this machine")
    try:
        about = json.loads((folder / PROVENANCE).read_text())
        config = configuration.read(folder / CONFIG_FILE)
        suffix = suffix_of(about["encoder"])
        return ResolvedRun(
            folder.name,
            about["run"],
            config,
            about["given"],
            about["epoch"],
            scores={name + suffix: value for name, value in about["scores"].items()},
            outcome=about["outcome"],
            copies=tuple(about["copies"]),
            sweep=about["sweep"],
            trial=about["trial"],
            origin={"id": about["sweep_id"], "environment": about["versions"]["training"]},
            taught=dict(zip(config.teacher.sources, about["teachers"], strict=False)),
            encoder=about["encoder"],
            export=folder,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder / PROVENANCE}: damaged, or not of an export ({error})") from None
