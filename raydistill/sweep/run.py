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
from raydistill.records.budget import Budget, Limits, describe_spent
from raydistill.records.journal import Journal, TrialRecord, role_of
from raydistill.records.layout import (
    BUDGET_FILE,
    JOURNAL_FILE,
    ORIGIN_FILE,
    RESULTS_FILE,
    SWEEP_FILE,
    TABLE_FILE,
    WINNER_CONFIG_FILE,
)
from raydistill.records.leaderboard import LeaderboardEntry, plain, render, render_front
from raydistill.storage import StoragePath
from raydistill.sweep.checkpoint_retention import CheckpointRetention
from raydistill.sweep.driver import Driver, Phase, SweepError, write_config
from raydistill.sweep.environment import environment
from raydistill.sweep.final_scoring import score_finals
from raydistill.sweep.finalists import FinalConfig, final_key, make_final_configs, pareto_front, ranked, seeded
from raydistill.sweep.preflight.security import MODE, refuse_open_cluster, refuse_open_head
from raydistill.sweep.preflight.teachers import train_missing_teachers
from raydistill.sweep.progress import ProgressReporter, pluralize
from raydistill.sweep.search.samplers import FixedProposer, make_proposer, observe_past_trials
from raydistill.sweep.search.schedulers import make_scheduler
from raydistill.sweep.search.warm_start import load_prior_trials
from raydistill.sweep.settings import LEADERBOARD_SIZE, SweepSettings
from raydistill.sweep.workers.broker import Broker
from raydistill.sweep.workers.capacity import INITIAL_LEARNERS, MAX_LEARNERS
from raydistill.sweep.workers.cleanup import kill_actor_tree
from raydistill.sweep.workers.worker_group import RayLauncher, WorkerGroupSettings, on_this_node
from raydistill.tracking.client import EXPERIMENT
from raydistill.tracking.delivery_queue import without_password
from raydistill.tracking.sync import (
    log_conclusion,
    log_trials,
    sweep_tags,
)
from raydistill.tracking.tracker import Tracker
from raydistill.training.checkpoint_files import WINNER, newest, write_atomically
from raydistill.training.checkpoints import latest_checkpoint

log = logging.getLogger(__name__)
CLOSE_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class SweepResult:
    rows: list[LeaderboardEntry]
    table: str
    winner: StoragePath


def run_sweep(settings: SweepSettings, *, resume: bool = False) -> SweepResult:
    """Run or resume a sweep to its end.

    Raises: ConfigError if it may not start, or the cluster is open to others; TrackingError if the tracking
    server does not answer, before Ray starts; SweepFailed if no trial finished.
    """
    settings.check_start(resume=resume)
    if not ray.is_initialized():
        refuse_open_cluster(os.environ.get("RAY_ADDRESS"), os.environ.get(MODE))
    origin = _origin(settings, resume=resume)
    tracker = Tracker(settings.tracking_uri, EXPERIMENT, settings.name, **sweep_tags(settings.identity(), origin))
    outcome = "failed"
    try:
        settings.store()
        write_atomically(settings.directory / ORIGIN_FILE, json.dumps(origin, indent=1).encode())
        tracker.artifact(None, settings.directory / SWEEP_FILE)
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
    path = settings.directory / ORIGIN_FILE
    if path.exists():
        with suppress(ValueError):  # damaged
            return dict(json.loads(path.read_text()))
    own = {} if resume else {"id": uuid.uuid4().hex}
    return own | {
        "command": settings.command,
        "storage": str(settings.storage),
        "artifacts": str(settings.artifacts),
        "environment": environment(),
        "images": dict(settings.images),
        "image_size": settings.image_size,
        **({"teachers": dict(settings.teachers)} if settings.teachers else {}),
    }


def _run(settings: SweepSettings, tracker: Tracker) -> SweepResult:
    if settings.gpu is None:
        settings = replace(settings, gpu=ray.cluster_resources().get("GPU", 0) > 0)
    space = settings.space
    journal = Journal(settings.directory / JOURNAL_FILE)
    broker, broker_name = _start_broker(settings)
    budget = _budget(settings)
    progress = ProgressReporter(
        trials=settings.trials,
        epochs=settings.epochs,
        metric=space.metric,
        goal=space.goal,
        later=settings.finalists,
        spent=lambda: describe_spent(budget.spent()) if settings.limits != Limits() else "",
    )
    driver = Driver(
        settings.directory,
        broker,
        broker_name,
        journal,
        tracker,
        progress,
        budget,
        CheckpointRetention(settings.directory, settings.checkpoints_gib, goal=space.goal),
    )
    log_trials(tracker, journal.path)
    try:
        trials, epochs = pluralize(settings.trials, "trial"), pluralize(settings.epochs, "epoch")
        progress.note(f"sweep {settings.name}: {trials} of {epochs}")
        budget.reserve(settings.finalists * settings.epochs)
        train_missing_teachers(settings, driver, open_store(settings.artifacts, settings.artifacts_gib))
        records = _search(settings, driver)
        best = pareto_front(records, space.objectives) if space.also else ranked(records, space.metric, space.goal)
        if not best:
            raise SweepError(_why_none(records, budget.exhausted()))
        final_configs = make_final_configs(best[:LEADERBOARD_SIZE] if space.also else best[:1], settings)
        finals = _finals(settings, driver, final_configs)
        with suppress(ray.exceptions.GetTimeoutError):
            ray.get(broker.close.remote(), timeout=CLOSE_TIMEOUT_S)
        rows = score_finals(settings, driver, ranked(records, space.metric, space.goal), final_configs, finals)
        driver.account()
        progress.note(f"spent: {describe_spent(budget.spent())}")
    finally:
        journal.close()
        kill_actor_tree(broker)
    return _conclude(settings, tracker, progress, rows, final_configs[0], finals, best)


def _start_broker(settings: SweepSettings) -> tuple[Any, str]:
    """The broker and its name; it starts worker groups as trials ask for them."""
    groups = settings.packs * (settings.most_workers or settings.workers)
    group = WorkerGroupSettings(
        workers=settings.workers,
        most=settings.most_workers,
        resize_seconds=float(os.environ.get("RAYDISTILL_RESIZE_SECONDS", "60")),
        threads=settings.threads or max(1, (os.cpu_count() or 1) // groups),
        gpu=bool(settings.gpu),
        artifacts=str(settings.artifacts),
        artifacts_gib=settings.artifacts_gib,
    )
    storage = settings.directory / "ray" / f"train-{int(time.time())}"
    name = f"raydistill-broker-{settings.name}-{uuid.uuid4().hex[:8]}"
    # A model that proposes wants to know what the trials before found.
    patient = settings.space.search == "bayes"
    most = min(MAX_LEARNERS, max(INITIAL_LEARNERS, settings.trials // 4 if patient else settings.trials))
    actor = ray.remote(Broker).options(
        name=name, num_cpus=0, max_concurrency=10_000, scheduling_strategy=on_this_node()
    )
    return actor.remote(settings.packs, settings.learners, most=most, launch=RayLauncher(group, str(storage))), name


def _budget(settings: SweepSettings) -> Budget:
    """What is left of the limits; a resumed sweep goes on counting."""
    path = settings.directory / BUDGET_FILE
    if path.exists():
        return Budget.from_dict(json.loads(path.read_text()), settings.limits)
    return Budget(settings.limits)


def _search(settings: SweepSettings, driver: Driver) -> list[TrialRecord]:
    space = settings.space
    known = load_prior_trials(settings)
    if known.results or known.hints:
        driver.progress.note(
            f"from earlier sweeps: {len(known.results)} results, and {len(known.hints)} settings to try first"
        )
    past = _searched(driver.journal)
    proposer = make_proposer(
        space,
        trials=settings.trials,
        seed=settings.search_seed,
        directory=settings.directory,
        name=settings.name,
        earlier=known,
        tried=[record.settings for record in past],
    )
    stop = space.early_terminate
    observe_past_trials(proposer, past)
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


def _finals(
    settings: SweepSettings, driver: Driver, final_configs: list[FinalConfig]
) -> dict[tuple[str, int], TrialRecord]:
    """Train every final_config with every seed; the first seed of one that the search found is the search's own trial,
    unless it copied others on its way or lost its checkpoint."""
    known = driver.journal.trials
    plan = {
        (final_config.name, seed): final_key(final_config, seed, known)
        for seed in range(settings.seeds)
        for final_config in final_configs
    }
    own = {
        plan[final_config.name, 0]: final_config.found
        for final_config in final_configs
        if final_config.found
        and not final_config.found.copies
        and newest(driver.trial_directory(final_config.found.key))
    }
    configs = {
        plan[final_config.name, seed]: seeded(final_config.config, seed)
        for seed in range(settings.seeds)
        for final_config in final_configs
    }
    keys = [key for key in configs if key not in own]
    driver.budget.reserve(0)
    driver.retention.pin(*keys, *(record.key for record in own.values()))
    driver.progress.final(len(keys))
    if keys:
        seeds, names = pluralize(settings.seeds, "seed"), ", ".join(final_config.name for final_config in final_configs)
        driver.progress.note(f"the search is over, best: {_found(final_configs[0]).key}; training {names} with {seeds}")
    for key in keys:
        record = known.get(key)
        if record is not None and record.outcome is not None:
            driver.progress.already(key, record.epochs, None)
    proposer = FixedProposer([{"final": key} for key in keys if key not in known])
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


def _found(final_config: FinalConfig) -> TrialRecord:
    assert final_config.found is not None
    return final_config.found


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
    progress: ProgressReporter,
    rows: list[LeaderboardEntry],
    final_config: FinalConfig,
    finals: dict[tuple[str, int], TrialRecord],
    best: list[TrialRecord],
) -> SweepResult:
    """Files and tags that say who won. The winner's own run is its first seed that finished."""
    directory, space = settings.directory, settings.space
    own = [record for (name, _), record in finals.items() if name == final_config.name and record.outcome == "finished"]
    winner = own[0] if own else _found(final_config)
    state = latest_checkpoint(directory / "trials" / winner.key) or {}
    config = configuration.assign(winner.config, {"train.offsets": state.get("offsets") or [[0, 0]]})
    path = directory / WINNER_CONFIG_FILE
    write_config(path, config)
    table = render(rows, [name for name, _ in space.objectives])
    if space.also:
        table = f"{render_front(best, space.objectives)}\n\n{table}"
    (directory / TABLE_FILE).write_text(table + "\n")
    (directory / RESULTS_FILE).write_text(json.dumps(plain(rows), indent=1))
    if isinstance(directory, Path):
        (directory / WINNER).unlink(missing_ok=True)
        link = directory / "winner"
        link.unlink(missing_ok=True)
        link.symlink_to(Path("trials") / winner.key)
    else:
        (directory / WINNER).write_text(winner.key)
    log_conclusion(tracker, directory)
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
