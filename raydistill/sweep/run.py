"""The flow of a sweep: teachers, search, baselines, finalists over several seeds, test scores, conclusion."""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray

from raydistill.artifacts.store import Store, open_store
from raydistill.records.budget import Budget, Limits, describe_spent
from raydistill.records.journal import FinalRecord, Journal, TrialRecord, role_of, scored_again
from raydistill.records.layout import (
    BUDGET_FILE,
    EXPERIMENT_FILE,
    JOURNAL_FILE,
    ORIGIN_FILE,
    RESULTS_FILE,
    SCORES_FILE,
    SWEEP_FILE,
)
from raydistill.redaction import redact, redact_values
from raydistill.sweep.arms.finished import SweepResult as SweepResult
from raydistill.sweep.arms.finished import finished_result, mark_complete
from raydistill.sweep.arms.phases import run_arms
from raydistill.sweep.checkpoint_retention import CheckpointRetention
from raydistill.sweep.cluster import check_ray, connected_cluster
from raydistill.sweep.context import SEARCHES
from raydistill.sweep.control.requests import Inbox
from raydistill.sweep.control.sweep_control import SweepControl
from raydistill.sweep.display.live_view import LiveView, wanted
from raydistill.sweep.display.progress import ProgressReporter, pluralize
from raydistill.sweep.display.timings import CLOSED, EPOCH, RAY, READY, SCORES, SETTINGS, Timings
from raydistill.sweep.driver import Driver, SweepError
from raydistill.sweep.environment import environment
from raydistill.sweep.final.choice import Choice, choose
from raydistill.sweep.final.conclusion import why_none_finished, write_conclusion
from raydistill.sweep.final.finalists import make_final_configs, pareto_front, ranked, say_which_are_one
from raydistill.sweep.final.scoring import score_finals
from raydistill.sweep.final.teacher_rows import refer
from raydistill.sweep.final.trajectories import draw_trajectories
from raydistill.sweep.more_trials import stored_trials
from raydistill.sweep.phases import choose_winner, epochs_after, run_finals, run_search, search_baselines
from raydistill.sweep.plan import SweepPlan
from raydistill.sweep.preflight.cost import expected_epochs
from raydistill.sweep.preflight.given_teachers import describe_given_teachers
from raydistill.sweep.preflight.images import write_images
from raydistill.sweep.preflight.security import MODE, refuse_open_cluster
from raydistill.sweep.preflight.teachers import train_missing_teachers, train_redrawn_teachers
from raydistill.sweep.settings import LEADERBOARD_SIZE, SweepSettings
from raydistill.sweep.workers.broker import Broker
from raydistill.sweep.workers.capacity import INITIAL_LEARNERS, MAX_LEARNERS
from raydistill.sweep.workers.cleanup import kill_actor_tree
from raydistill.sweep.workers.local_launcher import (
    ON_CPU,
    Launcher,
    check_launcher,
    default_launcher,
    named_launcher,
)
from raydistill.sweep.workers.worker_group import WorkerGroupSettings, on_this_node
from raydistill.tracking.client import EXPERIMENT
from raydistill.tracking.loggers.available import open_loggers
from raydistill.tracking.sync import (
    log_conclusion,
    log_trials,
    sweep_tags,
)
from raydistill.tracking.tracker import Tracker
from raydistill.training.checkpoint_files import write_atomically

log = logging.getLogger(__name__)
CLOSE_TIMEOUT_S = 600.0


def run_sweep(
    settings: SweepSettings,
    *,
    resume: bool = False,
    launcher: Launcher | None = None,
    timings: Timings | None = None,
) -> SweepResult:
    """Run or resume a sweep to its end. An experiment that is finished gives its result at once.

    Args:
        settings: of the sweep.
        resume: continue a sweep that was interrupted, or one that is to try more trials.
        launcher: starts the worker groups; None: that of RAYDISTILL_LAUNCHER, else of `default_launcher`.
        timings: receives the moments of the sweep, which its folder keeps, too; None: they count from this call.

    Raises: ConfigError if it may not start, or the cluster is open to others; TrackingError if the tracking
    server does not answer, before Ray starts; SweepError if no trial finished.
    """
    if resume and (known := finished_result(settings)) is not None:
        return known
    timings = timings or Timings(began=time.time())
    timings.mark(SETTINGS)
    settings.check_start(resume=resume)
    if launcher is None:
        launcher = named_launcher(settings)
    else:
        check_launcher(launcher, settings)
    alone = not ray.is_initialized() and not os.environ.get("RAY_ADDRESS")
    if not ray.is_initialized():
        refuse_open_cluster(os.environ.get("RAY_ADDRESS"), os.environ.get(MODE))
        check_ray(os.environ.get("RAY_ADDRESS"))
    origin = _origin(settings, resume=resume)
    tracker = Tracker(settings.tracking_uri, EXPERIMENT, settings.name, **sweep_tags(settings.identity(), origin))
    identity = str(origin.get("id") or settings.directory)
    tracker.forward_to(open_loggers(settings.loggers, settings.directory, settings.name, identity))
    outcome = "failed"
    try:
        with connected_cluster():
            timings.mark(RAY)
            if resume:
                _reopen(settings)
            settings.store()
            write_atomically(settings.directory / ORIGIN_FILE, json.dumps(origin, indent=1).encode())
            for file in (settings.directory / SWEEP_FILE, *write_images(settings)):
                tracker.artifact(None, file)
            result = _run(settings, tracker, launcher, timings, alone=alone)
        outcome = "finished"
        timings.mark(CLOSED)
        with suppress(OSError):
            timings.write(settings.directory)
        return result
    except (KeyboardInterrupt, BrokenPipeError):
        outcome = "interrupted"
        raise
    finally:
        undelivered = tracker.close(outcome)
        if undelivered:
            log.warning("%d events were not delivered to %s", undelivered, redact(settings.tracking_uri))
        elif outcome == "finished" and settings.arms:
            mark_complete(settings)


def _reopen(settings: SweepSettings) -> None:
    """Prepare a sweep that has begun for another number of trials: a search stopped by hand goes on with more."""
    before, asked = stored_trials(settings.directory), settings.arm_trials if settings.arms else settings.trials
    if before is None or before == asked:
        return
    if settings.arms and (settings.directory / EXPERIMENT_FILE).exists():
        mark_complete(settings, complete=False)
    path = settings.directory / BUDGET_FILE
    if asked > before and path.exists():
        budget = _budget(settings)
        budget.reopen()
        write_atomically(path, json.dumps(budget.to_dict()).encode())


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
        "command": redact(settings.command),
        "storage": str(settings.storage),
        "artifacts": str(settings.artifacts),
        "environment": environment(),
        "images": dict(settings.images),
        "image_size": settings.image_size,
        **({"teachers": redact_values(settings.teachers)} if settings.teachers else {}),
    }


def _run(
    settings: SweepSettings, tracker: Tracker, launcher: Launcher | None, timings: Timings, *, alone: bool
) -> SweepResult:
    """Run the sweep on the cluster that is connected now.

    Args:
        settings: of the sweep.
        tracker: receives its results.
        launcher: starts the worker groups; None: the default.
        timings: receives the moments of the sweep.
        alone: whether the cluster is the sweep's own on this machine.
    """
    if settings.gpu is None:
        gpus = 0 if launcher in ON_CPU else ray.cluster_resources().get("GPU", 0)
        settings = replace(settings, gpu=gpus > 0)
    launcher = launcher or default_launcher(settings, alone=alone)
    space, plan = settings.space, SweepPlan(settings, write=True)
    journal = Journal(settings.directory / JOURNAL_FILE)
    broker, broker_name = _start_broker(settings, launcher)
    budget = _budget(settings)
    progress = ProgressReporter(
        trials=0 if settings.arms else settings.trials,
        epochs=settings.epochs,
        metric=space.metric,
        goal=space.goal,
        later=settings.final_runs,
        later_searched=settings.baseline_search_runs or len(settings.arms) * settings.arm_trials,
        expected=_expected_epochs(settings),
        seeds=settings.seeds_per_trial,
        spent=lambda: describe_spent(budget.spent()) if settings.limits != Limits() else "",
    )
    inbox = Inbox(settings.directory)
    control = SweepControl(inbox, journal, budget, space, progress.note)
    driver = Driver(
        settings.directory,
        broker,
        broker_name,
        journal,
        tracker,
        progress,
        budget,
        CheckpointRetention(settings.directory, settings.checkpoints_gib, goal=space.goal),
        plan,
        control,
    )
    log_trials(tracker, journal.path)
    found: list[TrialRecord] = []
    best: list[TrialRecord] = []
    try:
        if wanted():
            progress.watch(LiveView())
        timings.mark(READY)
        inbox.open()
        progress.note(f"sweep {settings.name}: {_size(settings)}")
        if not journal.finals and _is_scored(settings):  # by a version that did not write it down
            journal.final(FinalRecord(_tried(journal), "", {}))
        store = open_store(settings.artifacts, settings.artifacts_gib)
        for line in describe_given_teachers(settings, store, plan.images(settings.base.data)):
            progress.note(line)
        if settings.arms:
            train_missing_teachers(settings, driver, store)
            choice = run_arms(settings, driver, store)
            settings = replace(settings, experiment={**settings.experiment, **refer(settings, choice).described()})
        else:
            found, best, choice = _search_and_final(settings, driver, store)
        timings.mark(EPOCH)
        inbox.close("its final runs are trained, and are being scored")
        timings.told(ray.get(broker.moments.remote()))
        with suppress(ray.exceptions.GetTimeoutError):
            ray.get(broker.close.remote(), timeout=CLOSE_TIMEOUT_S)
        # Before anything is scored, so that scores of a sweep that is interrupted meanwhile count as seen.
        journal.final(_decided(journal, choice))
        again = scored_again(journal.finals)
        if again:
            progress.note(again)
        notes = control.notes(settings.trials)
        for line in notes:
            progress.note(line)
        rows, left_out = score_finals(settings, driver, found, choice)
        timings.mark(SCORES)
        draw_trajectories(settings, driver, choice)
        driver.account()
        progress.note(f"spent: {describe_spent(budget.spent())}")
    finally:
        progress.close()
        with suppress(OSError):
            inbox.close("it has ended")
        journal.close()
        kill_actor_tree(broker)
    table, path = write_conclusion(settings, rows, best, choice.runs, choice.chosen[0].name, left_out, notes, again)
    log_conclusion(tracker, settings.directory)
    progress.note("done")
    return SweepResult(rows, table, path)


def _is_scored(settings: SweepSettings) -> bool:
    """Return whether a sweep has scores on test already."""
    folder = settings.directory
    return (folder / RESULTS_FILE).exists() or any(folder.glob(f"trials/*/{SCORES_FILE}"))


def _tried(journal: Journal) -> int:
    """Number of trials that the searches have begun, those of baselines included."""
    return sum(role_of(key) in SEARCHES for key in journal.trials)


def _decided(journal: Journal, choice: Choice) -> FinalRecord:
    """Return what is about to be scored on test."""
    chosen: dict[str, list[str]] = {each.name: [] for each in choice.chosen}
    for (name, _), record in choice.finished().items():
        if name in chosen:
            chosen[name].append(record.key)
    first = chosen[choice.chosen[0].name]
    return FinalRecord(_tried(journal), first[0] if first else "", chosen)


def _search_and_final(
    settings: SweepSettings, driver: Driver, store: Store
) -> tuple[list[TrialRecord], list[TrialRecord], Choice]:
    """Search, search the baselines, and train what was found with every seed.

    Args:
        settings: the sweep.
        driver: runs the trials.
        store: receives teachers.

    Returns: the search's trials that came to their end, best first; those in the order of all objectives, the winner
        first; and the final configurations.
    Raises: SweepError if no trial finished.
    """
    space = settings.space
    driver.budget.reserve(epochs_after(driver.plan, store))
    train_missing_teachers(settings, driver, store)
    records = run_search(settings, driver)
    best = pareto_front(records, space.objectives) if space.also else ranked(records, space.metric, space.goal)
    if not best:
        raise SweepError(why_none_finished(records, driver.budget.exhausted()))
    driver.retention.pin(*(record.key for record in best[:LEADERBOARD_SIZE]))  # what the final may need
    winner, decided = choose_winner(settings, driver, store, best)
    left = settings.baseline_final_runs if decided.chosen else settings.final_runs
    searched = search_baselines(settings, driver, store, winner, left)
    selected = best[:LEADERBOARD_SIZE] if space.also else [winner]
    final_configs = make_final_configs(selected, driver.plan, searched)
    for line in say_which_are_one(final_configs):
        driver.progress.note(line)
    train_redrawn_teachers(settings, driver, store, [each.spec.config for each in final_configs])
    finals = run_finals(settings, driver, final_configs[len(decided.chosen) :])
    choice = choose(final_configs, decided.runs | finals, space.metric, space.goal)
    choice = replace(choice, passed_over=[*decided.passed_over, *choice.passed_over])
    ended = [winner, *(record for record in best if record is not winner)]
    return ranked(records, space.metric, space.goal), ended, choice


def _expected_epochs(settings: SweepSettings) -> float:
    """Epochs of a trial of the search on average."""
    stop = settings.space.early_terminate
    if stop is None or settings.arms:
        return settings.epochs
    return expected_epochs(settings.trials, settings.epochs, stop, every=settings.base.eval.every) / settings.trials


def _size(settings: SweepSettings) -> str:
    """Say how much a sweep trains."""
    epochs = pluralize(settings.epochs, "epoch")
    if settings.arms:
        return f"{pluralize(len(settings.arms), 'arm')} with {pluralize(settings.seeds, 'seed')}, {epochs} each"
    return f"{pluralize(settings.trials, 'trial')} of {epochs}"


def _start_broker(settings: SweepSettings, launcher: Launcher) -> tuple[Any, str]:
    """Start the broker; return it and its name. It starts worker groups as trials ask for them."""
    group = WorkerGroupSettings(
        workers=settings.workers,
        most=settings.most_workers,
        resize_seconds=float(os.environ.get("RAYDISTILL_RESIZE_SECONDS", "60")),
        groups=settings.packs,
        per_gpu=settings.packs_per_gpu,
        threads=settings.threads,
        gpu=bool(settings.gpu),
        artifacts=str(settings.artifacts),
        artifacts_gib=settings.artifacts_gib,
    )
    storage = settings.directory / "ray" / f"train-{int(time.time())}"
    name = f"raydistill-broker-{settings.name}-{uuid.uuid4().hex[:8]}"
    # A model proposes better settings when it knows what earlier trials found, so fewer run at once.
    patient = settings.space.search == "bayes"
    seeds = settings.seeds_per_trial
    most = min(MAX_LEARNERS, max(INITIAL_LEARNERS, settings.trials // 4 if patient else settings.trials) * seeds)
    actor = ray.remote(Broker).options(
        name=name, num_cpus=0, max_concurrency=10_000, scheduling_strategy=on_this_node()
    )
    start = launcher(group, str(storage))
    return actor.remote(settings.packs, settings.learners, most=most, unit=seeds, launch=start), name


def _budget(settings: SweepSettings) -> Budget:
    """Return the sweep's budget; a resumed sweep goes on counting."""
    path = settings.directory / BUDGET_FILE
    if path.exists():
        return Budget.from_dict(json.loads(path.read_text()), settings.limits)
    return Budget(settings.limits)
