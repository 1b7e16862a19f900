"""Resolution of RUN: a sweep's winner, a trial, an export, a run in MLflow. Torch is imported once there is one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from raydistill import config as configuration
from raydistill.artifacts.sources import PROVENANCE as PROVENANCE
from raydistill.artifacts.sources import words_for
from raydistill.config import DEFAULT_OFFSETS, Config, ConfigError, nearest
from raydistill.records.journal import Offsets, TrialRecord, read_records
from raydistill.records.layout import CONFIG_FILE, JOURNAL_FILE, ORIGIN_FILE, RESULTS_FILE, is_sweep, named, run_folder
from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.records.locations import artifact_store, tracking, working_folder
from raydistill.records.run_keys import read_spec
from raydistill.records.scores import read_scores
from raydistill.storage import Remote, StoragePath, reason, to_path
from raydistill.training.checkpoint_files import CheckpointError, winner_of
from raydistill.trial_spec import TrialSpec

MLFLOW = "mlflow:"
ACCEPTED = f"a sweep's name or folder, SWEEP/TRIAL, a trial's or an export's folder, {MLFLOW}RUN_ID"


class CheckpointRemovedError(ConfigError):
    """A trial was trained and has no checkpoint; `config` and its `record` in the journal suffice to train it again."""

    def __init__(self, run: str, folder: StoragePath, config: Config, record: TrialRecord) -> None:
        super().__init__(
            f"{run} was trained to epoch {record.epochs}, but its checkpoint was removed (--checkpoints-gib, or by "
            f"hand); train it again: raydistill train {folder} --out FOLDER"
        )
        self.run, self.config, self.record = run, config, record


@dataclass(frozen=True)
class ResolvedRun:
    """A run with what it was told and what became of it.

    `name` is what was asked for, fit to be part of a path; `run` names the trial itself. `config` has the stream's
    epochs that the trial saw (`train.offsets`); `context` is what its method was built for. `state` is its newest
    checkpoint; an export has none, and is the folder `export`. `outcome` is empty where nobody said; `copies` are
    those of a population's trial. `origin` is what its sweep wrote down of itself (`origin.json`), and `taught` has
    words for each of its teachers in the store. `final` has the rows of its sweep's table if it is the winner, else
    nothing. `encoder` is the one that an export holds, or that is wanted. `decided` has the keys of its teachers and
    labels.
    """

    name: str
    run: str
    config: Config
    context: dict[str, Any]
    epoch: int
    state: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    outcome: str = ""
    copies: tuple[str, ...] = ()
    sweep: str = ""
    trial: str = ""
    origin: dict[str, Any] = field(default_factory=dict)
    taught: dict[str, str] = field(default_factory=dict)
    final: tuple[LeaderboardEntry, ...] = ()
    encoder: str = "student"
    export: Path | None = None
    decided: TrialSpec | None = None

    @property
    def spec(self) -> TrialSpec:
        """Spec of the run; keys of teachers and labels are open where nobody wrote them down."""
        return (self.decided or TrialSpec(self.config)).with_config(self.config)

    @property
    def complete(self) -> bool:
        return self.epoch >= self.config.train.epochs

    @property
    def suffix(self) -> str:
        """Ending of the names of its encoder's scores."""
        return suffix_of(self.encoder)


def suffix_of(encoder: str) -> str:
    return "" if encoder == "student" else f"_{encoder}"


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
        from raydistill.export.mlflow_source import resolve_mlflow_run

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


def from_checkpoint(config: Config, state: dict[str, Any], *, scores: dict[str, float], **known: Any) -> ResolvedRun:
    """Make a run of a configuration and a checkpoint, which knows the epochs of the stream that it saw.

    Args:
        config: of the run.
        state: the checkpoint.
        scores: of the run.
        **known: further fields of `ResolvedRun`.
    """
    config = _replaying(config, tuple((epoch, offset) for epoch, offset in state["offsets"]) or DEFAULT_OFFSETS)
    known_scores = {k: v for k, v in {**state["metrics"], **scores}.items() if k.startswith(("val_", "test_"))}
    return ResolvedRun(
        config=config, context=state["given"], epoch=state["epoch"], state=state, scores=known_scores, **known
    )


def _replaying(config: Config, offsets: Offsets) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update={"offsets": offsets})})


def _without_checkpoint(run: str, folder: StoragePath, config: Config, record: TrialRecord | None) -> ConfigError:
    if record is None or not record.epochs:
        return ConfigError(f"{run} has no checkpoint; it has not finished its first epoch")
    return CheckpointRemovedError(run, folder, _replaying(config, record.offsets), record)


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
