"""Runs a sweep: search, finalists over several seeds, test scores, table."""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.tune.schedulers import FIFOScheduler

from raydistill import config as configuration
from raydistill.artifacts.store import open_store
from raydistill.storage import Place
from raydistill.sweep.broker import Broker
from raydistill.sweep.budget import Budget, Limits, describe_spent
from raydistill.sweep.driver import Driver, Phase, SweepFailed, write_config
from raydistill.sweep.ending import end
from raydistill.sweep.environment import environment
from raydistill.sweep.finalists import Arm, final_key, front, make_arms, ranked, seeded
from raydistill.sweep.group import GroupSettings, Launcher, on_this_node
from raydistill.sweep.journal import Journal, TrialRecord, role_of
from raydistill.sweep.keeper import Keeper
from raydistill.sweep.mlflow_runs import EXPERIMENT
from raydistill.sweep.outbox import without_password
from raydistill.sweep.prerequisites import make_teachers
from raydistill.sweep.progress import Progress, counted
from raydistill.sweep.rows import rows_of
from raydistill.sweep.scheduler import make_scheduler
from raydistill.sweep.search import Listed, catch_up, make_proposer
from raydistill.sweep.security import MODE, refuse_open_cluster, refuse_open_head
from raydistill.sweep.settings import FILE, SHOWN, SweepSettings
from raydistill.sweep.sizing import FIRST, MOST
from raydistill.sweep.table import Row, plain, render, render_front
from raydistill.sweep.telling import (
    BUDGET,
    JOURNAL,
    ORIGIN,
    RESULTS,
    TABLE,
    WINNERS_CONFIG,
    described,
    tell_conclusion,
    tell_trials,
)
from raydistill.sweep.tracking import Tracker
from raydistill.sweep.warm import earlier
from raydistill.training.checkpoint_files import WINNER, newest, write_atomically
from raydistill.training.checkpoints import latest_checkpoint

log = logging.getLogger(__name__)
CLOSING_SECONDS = 600.0


@dataclass(frozen=True)
class SweepResult:
    rows: list[Row]
    table: str
    winner: Place


def run_sweep(settings: SweepSettings, *, resume: bool = False) -> SweepResult:
    """Run or resume a sweep to its end.

    Raises: ConfigError if it may not start, or the cluster is open to others; TrackingError if the tracking
    server does not answer, before Ray starts; SweepFailed if no trial finished.
    """
    settings.check_start(resume=resume)
    if not ray.is_initialized():
        refuse_open_cluster(os.environ.get("RAY_ADDRESS"), os.environ.get(MODE))
    origin = _origin(settings, resume=resume)
    tracker = Tracker(settings.tracking_uri, EXPERIMENT, settings.name, **described(settings.identity(), origin))
    outcome = "failed"
    try:
        settings.store()
        write_atomically(settings.directory / ORIGIN, json.dumps(origin, indent=1).encode())
        tracker.artifact(None, settings.directory / FILE)
        with _cluster():
            result = _run(settings, tracker)
        outcome = "finished"
        return result
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    finally:
        undelivered = tracker.close(outcome)
        if undelivered:
            log.warning("%d events were not delivered to %s", undelivered, without_password(settings.tracking_uri))


def _origin(settings: SweepSettings, *, resume: bool) -> dict[str, Any]:
    """The command that started the sweep, and where; a resumed sweep keeps what was written down.

    `id` tells it from others of its name, which another storage may hold.
    """
    path = settings.directory / ORIGIN
    if path.exists():
        with suppress(ValueError):  # damaged
            return dict(json.loads(path.read_text()))
    own = {} if resume else {"id": uuid.uuid4().hex}
    return own | {
        "command": settings.command, "storage": str(settings.storage), "artifacts": str(settings.artifacts),
        "environment": environment(), "images": dict(settings.images),
        "image_size": settings.image_size,
        **({"teachers": dict(settings.teachers)} if settings.teachers else {}),
    }  # fmt: skip


def _run(settings: SweepSettings, tracker: Tracker) -> SweepResult:
    if settings.gpu is None:
        settings = replace(settings, gpu=ray.cluster_resources().get("GPU", 0) > 0)
    space = settings.space
    journal = Journal(settings.directory / JOURNAL)
    broker, broker_name = _start_broker(settings)
    budget = _budget(settings)
    progress = Progress(
        trials=settings.trials, epochs=settings.epochs, metric=space.metric, goal=space.goal,
        later=settings.finalists,
        spent=lambda: describe_spent(budget.spent()) if settings.limits != Limits() else "",
    )  # fmt: skip
    driver = Driver(
        settings.directory, broker, broker_name, journal, tracker, progress, budget,
        Keeper(settings.directory, settings.checkpoints_gib, goal=space.goal),
    )  # fmt: skip
    tell_trials(tracker, journal.path)
    try:
        trials, epochs = counted(settings.trials, "trial"), counted(settings.epochs, "epoch")
        progress.note(f"sweep {settings.name}: {trials} of {epochs}")
        budget.reserve(settings.finalists * settings.epochs)
        make_teachers(settings, driver, open_store(settings.artifacts, settings.artifacts_gib))
        records = _search(settings, driver)
        best = front(records, space.objectives) if space.also else ranked(records, space.metric, space.goal)
        if not best:
            raise SweepFailed(_why_none(records, budget.exhausted()))
        arms = make_arms(best[:SHOWN] if space.also else best[:1], settings)
        finals = _finals(settings, driver, arms)
        with suppress(ray.exceptions.GetTimeoutError):
            ray.get(broker.close.remote(), timeout=CLOSING_SECONDS)
        rows = rows_of(settings, driver, ranked(records, space.metric, space.goal), arms, finals)
        driver.account()
        progress.note(f"spent: {describe_spent(budget.spent())}")
    finally:
        journal.close()
        end(broker)
    return _conclude(settings, tracker, progress, rows, arms[0], finals, best)


def _start_broker(settings: SweepSettings) -> tuple[Any, str]:
    """The broker and its name; it starts worker groups as trials ask for them."""
    groups = settings.packs * (settings.most_workers or settings.workers)
    group = GroupSettings(
        workers=settings.workers, most=settings.most_workers,
        resize_seconds=float(os.environ.get("RAYDISTILL_RESIZE_SECONDS", "60")),
        threads=settings.threads or max(1, (os.cpu_count() or 1) // groups), gpu=bool(settings.gpu),
        artifacts=str(settings.artifacts), artifacts_gib=settings.artifacts_gib,
    )  # fmt: skip
    storage = settings.directory / "ray" / f"train-{int(time.time())}"
    name = f"raydistill-broker-{settings.name}-{uuid.uuid4().hex[:8]}"
    # A model that proposes wants to know what the trials before found.
    patient = settings.space.search == "bayes"
    most = min(MOST, max(FIRST, settings.trials // 4 if patient else settings.trials))
    actor = ray.remote(Broker).options(
        name=name, num_cpus=0, max_concurrency=10_000, scheduling_strategy=on_this_node()
    )  # fmt: skip
    return actor.remote(settings.packs, settings.learners, most=most, launch=Launcher(group, str(storage))), name


def _budget(settings: SweepSettings) -> Budget:
    """What is left of the limits; a resumed sweep goes on counting."""
    path = settings.directory / BUDGET
    if path.exists():
        return Budget.from_dict(json.loads(path.read_text()), settings.limits)
    return Budget(settings.limits)


def _search(settings: SweepSettings, driver: Driver) -> list[TrialRecord]:
    space = settings.space
    known = earlier(settings)
    if known.results or known.hints:
        driver.progress.note(
            f"from earlier sweeps: {len(known.results)} results, and {len(known.hints)} settings to try first"
        )
    past = _searched(driver.journal)
    proposer = make_proposer(
        space, trials=settings.trials, seed=settings.search_seed, directory=settings.directory,
        name=settings.name, earlier=known, tried=[record.settings for record in past],
    )  # fmt: skip
    stop = space.early_terminate
    catch_up(proposer, past)
    for record in past:
        if record.outcome is not None:
            driver.progress.already(record.key, record.epochs, record.last(space.metric))
            driver.keep(record, make_room=False)
    return driver.run(
        Phase(
            role="search",
            trials=settings.trials,
            epochs=settings.epochs,
            metric=space.metric,
            goal=space.goal,
            proposer=proposer,
            key=lambda index: f"t{index:04d}",
            resolve=settings.resolve,
            scheduler=lambda: make_scheduler(
                space,
                settings.base.method.name,
                settings.epochs,
                _searched(driver.journal),
                seed=settings.search_seed,
            ),
            population=space.population is not None,
            together=space.population is not None or (stop is not None and stop.type == "hyperband"),
            stop=driver.budget.exhausted,
        )
    )


def _searched(journal: Journal) -> list[TrialRecord]:
    return [record for key, record in journal.trials.items() if role_of(key) == "search"]


def _finals(settings: SweepSettings, driver: Driver, arms: list[Arm]) -> dict[tuple[str, int], TrialRecord]:
    """Train every arm with every seed; the first seed of one that the search found is the search's own trial,
    unless it copied others on its way or lost its checkpoint."""
    known = driver.journal.trials
    plan = {
        (arm.name, seed): final_key(arm, seed, known) for seed in range(settings.seeds) for arm in arms
    }  # fmt: skip
    own = {
        plan[arm.name, 0]: arm.found for arm in arms
        if arm.found and not arm.found.copies and newest(driver.trial_directory(arm.found.key))
    }  # fmt: skip
    configs = {plan[arm.name, seed]: seeded(arm.config, seed) for seed in range(settings.seeds) for arm in arms}
    keys = [key for key in configs if key not in own]
    driver.budget.reserve(0)
    driver.keeper.protect(*keys, *(record.key for record in own.values()))
    driver.progress.final(len(keys))
    if keys:
        seeds, names = counted(settings.seeds, "seed"), ", ".join(arm.name for arm in arms)
        driver.progress.note(f"the search is over, best: {_found(arms[0]).key}; training {names} with {seeds}")
    for key in keys:
        record = known.get(key)
        if record is not None and record.outcome is not None:
            driver.progress.already(key, record.epochs, None)
    proposer = Listed([{"final": key} for key in keys if key not in known])
    records = driver.run(
        Phase(
            role="final",
            trials=len(keys),
            epochs=settings.epochs,
            metric=settings.space.metric,
            goal=settings.space.goal,
            proposer=proposer,
            key=lambda index: keys[index],
            resolve=lambda chosen: configs[chosen["final"]],
            scheduler=FIFOScheduler,
        )
    )
    by_key = {record.key: record for record in records} | own
    return {run: by_key[key] for run, key in plan.items() if key in by_key}


def _found(arm: Arm) -> TrialRecord:
    assert arm.found is not None
    return arm.found


def _why_none(records: list[TrialRecord], exhausted: str) -> str:
    if exhausted:
        return f"the budget was spent before a trial finished: {exhausted}"
    causes = [record.message for record in records if record.outcome == "failed"]
    if causes:
        common = max(set(causes), key=causes.count)
        return f"{len(causes)} of {len(records)} trials failed and none finished: {common}"
    return f"none of {len(records)} trials finished"


def _conclude(
    settings: SweepSettings,
    tracker: Tracker,
    progress: Progress,
    rows: list[Row],
    arm: Arm,
    finals: dict[tuple[str, int], TrialRecord],
    best: list[TrialRecord],
) -> SweepResult:
    """Files and tags that say who won. The winner's own run is its first seed that finished."""
    directory, space = settings.directory, settings.space
    own = [record for (name, _), record in finals.items() if name == arm.name and record.outcome == "finished"]
    winner = own[0] if own else _found(arm)
    state = latest_checkpoint(directory / "trials" / winner.key) or {}
    config = configuration.assign(winner.config, {"train.offsets": state.get("offsets") or [[0, 0]]})
    path = directory / WINNERS_CONFIG
    write_config(path, config)
    table = render(rows, [name for name, _ in space.objectives])
    if space.also:
        table = f"{render_front(best, space.objectives)}\n\n{table}"
    (directory / TABLE).write_text(table + "\n")
    (directory / RESULTS).write_text(json.dumps(plain(rows), indent=1))
    if isinstance(directory, Path):
        (directory / WINNER).unlink(missing_ok=True)
        link = directory / "winner"
        link.unlink(missing_ok=True)
        link.symlink_to(Path("trials") / winner.key)
    else:
        (directory / WINNER).write_text(winner.key)
    tell_conclusion(tracker, directory)
    progress.note("done")
    return SweepResult(rows, table, path)


@contextmanager
def _cluster() -> Iterator[None]:
    """The cluster of RAY_ADDRESS (a job's own), else a private one on this machine."""
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "600")
    os.environ.setdefault("TUNE_WARN_THRESHOLD_S", "10")
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "64")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    already = ray.is_initialized()
    address = os.environ.get("RAY_ADDRESS")
    if not already:
        local: dict[str, Any] = {} if address else {"address": "local", "include_dashboard": False}
        context = ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=True, **local)
    try:
        if not already and address:
            refuse_open_head(address, getattr(context, "dashboard_url", ""))
        yield
    finally:
        if not already:
            ray.shutdown()
