"""The phases of every sweep: the search, that of each baseline, and the finalists over several seeds."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace

from raydistill import config as configuration
from raydistill.artifacts.store import Store
from raydistill.config import Config
from raydistill.records.budget import SEARCH
from raydistill.records.journal import Journal, TrialRecord, role_of
from raydistill.records.noise import describe
from raydistill.sweep.context import Phase
from raydistill.sweep.display.progress import pluralize
from raydistill.sweep.driver import Driver
from raydistill.sweep.final.choice import Choice, candidates, choose
from raydistill.sweep.final.finalists import FinalConfig, competing, default_config, final_key, ranked, seeded
from raydistill.sweep.plan import SweepPlan
from raydistill.sweep.preflight.cost import expected_epochs
from raydistill.sweep.preflight.teachers import redrawn_epochs, train_redrawn_teachers
from raydistill.sweep.search.baselines import Baseline, baselines_of, hints
from raydistill.sweep.search.samplers import FixedProposer, make_proposer, observe_past_trials
from raydistill.sweep.search.schedulers import make_scheduler
from raydistill.sweep.search.warm_start import images_of, load_prior_trials
from raydistill.sweep.settings import SweepSettings, other_images
from raydistill.training.checkpoint_files import newest
from raydistill.trial_spec import TrialSpec


def run_search(settings: SweepSettings, driver: Driver) -> list[TrialRecord]:
    """Propose and train the trials of the search; return all their records, those of before a resume included."""
    space = settings.space
    known = load_prior_trials(settings)
    for directory in settings.warm_start:
        if other := other_images(images_of(directory) or settings.contents, settings.contents):
            driver.progress.note(f"--warm-start {directory}: other images ({other}), so its settings are tried anew")
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
            resolve=driver.plan.spec,
            scheduler=lambda: make_scheduler(
                space,
                settings.base.method.name,
                settings.epochs,
                _searched(driver.journal),
                seed=settings.search_seed,
            ),
            seeds=settings.seeds_per_trial,
            population=space.population is not None,
            together=space.population is not None or (stop is not None and stop.type == "hyperband"),
            stop=driver.budget.exhausted,
        )
    )


def choose_winner(
    settings: SweepSettings, driver: Driver, store: Store, best: list[TrialRecord]
) -> tuple[TrialRecord, Choice]:
    """Train near-equal trials with every seed; return the winner and the choice, which is empty if there was none.

    Args:
        settings: the sweep.
        driver: runs the trials.
        store: receives teachers that are redrawn for the seeds.
        best: the search's trials, best first.
    """
    space = settings.space
    scores = [] if space.also else [record.last(space.metric) or 0.0 for record in best]
    seeds = [record.seed_scores(space.metric) for record in best]
    if text := describe(space.metric, scores, settings.validation_images, seeds):
        driver.progress.note(text)
    near = candidates(settings, best, settings.trials)
    if len(near) == 1:
        return best[0], Choice([], [], {})
    competitors = competing(near[0].spec.config.method.name, near)
    train_redrawn_teachers(settings, driver, store, [each.spec.config for each in competitors])
    runs = run_finals(settings, driver, competitors, later=settings.baseline_final_runs)
    choice = choose(competitors, runs, space.metric, space.goal)
    winner = choice.chosen[0].found
    assert winner is not None
    driver.progress.note(f"of {', '.join(r.key for r in near)}, {winner.key} has the best mean over the seeds")
    return winner, choice


def search_baselines(
    settings: SweepSettings, driver: Driver, store: Store, winner: TrialRecord, final_runs: int
) -> dict[Baseline, list[TrialRecord]]:
    """Search each baseline; return its best trials, among which the seeds choose; none if none came to its end.

    Args:
        settings: the sweep.
        driver: runs the trials.
        store: has the teachers that were redrawn for the seeds by now.
        winner: the search's best trial.
        final_runs: that are still to come, for the budget.
    """
    if SEARCH in driver.budget.stopped_by_hand():  # both arms are searched alike
        begun = len(_searched(driver.journal))
        settings = replace(settings, baseline_trials=min(settings.baseline_trials, begun))
    best: dict[Baseline, list[TrialRecord]] = {}
    driver.retention.pin(winner.key)
    baselines = baselines_of(settings.baselines, winner.spec.config) if settings.baseline_trials else []
    for number, baseline in enumerate(baselines, start=1):
        left = epochs_after(driver.plan, store, winner.spec.config, len(baselines) - number, final_runs)
        driver.budget.reserve(left, baseline.name)
        run_baseline_search(settings, driver, baseline, winner)
        space = settings.space
        same = driver.plan.baseline_config(baseline, winner.spec.config)
        prefix = search_name(driver.journal, baseline, same)
        found = ranked(searched_under(driver.journal, prefix), space.metric, space.goal)
        best[baseline] = candidates(settings, found, settings.baseline_trials)
        driver.retention.pin(*(record.key for record in best[baseline]))
    return best


def epochs_after(
    plan: SweepPlan,
    store: Store,
    winner: Config | None = None,
    baselines: int | None = None,
    final_runs: int | None = None,
) -> int:
    """Return the trial-epochs to expect after a search: those of so many baselines' searches, and of the final.

    Each seed of a search's trial counts. The final's are those of its runs, and of teachers that are still to be
    redrawn for them.

    Args:
        plan: of the sweep.
        store: where teachers are.
        winner: of the search; None: it is to come.
        baselines: whose searches are to come; None: all.
        final_runs: that are to come; None: all.
    """
    settings = plan.settings
    trials, stop = settings.baseline_trials, settings.space.early_terminate
    each = float(trials * settings.epochs)
    if stop is not None:
        each = expected_epochs(trials, settings.epochs, stop, every=settings.base.eval.every)
    searches = settings.baseline_count if baselines is None else baselines
    runs = settings.final_runs if final_runs is None else final_runs
    searching = math.ceil(searches * each) * settings.seeds_per_trial
    return searching + runs * settings.epochs + redrawn_epochs(plan, store, winner)


def run_baseline_search(settings: SweepSettings, driver: Driver, baseline: Baseline, winner: TrialRecord) -> None:
    """Search a baseline with the winner's student, augmentation and batches.

    The winner's optimiser settings and those of the baseline's preset are tried first, as far as the space has them.

    Args:
        settings: the sweep.
        driver: runs the trials.
        baseline: what is searched.
        winner: the search's best trial.
    """
    same = driver.plan.baseline_config(baseline, winner.spec.config)
    space = driver.plan.baseline_space(baseline, same)
    if not space.parameters:
        driver.progress.note(f"{baseline.name} has nothing to search")
        return
    prefix = search_name(driver.journal, baseline, same)
    past = searched_under(driver.journal, prefix)
    first = hints(space, same, default_config(baseline, driver.plan, winner.spec.config))
    proposer = make_proposer(
        space,
        trials=settings.baseline_trials,
        seed=settings.search_seed,
        directory=settings.directory,
        name=f"{settings.name}-{prefix}",
        earlier=first,
        tried=[record.settings for record in past],
    )
    observe_past_trials(proposer, past)
    driver.progress.baseline(settings.baseline_trials)
    number = pluralize(settings.baseline_trials, "trial")
    driver.progress.note(f"searching the baseline {baseline.name} with the student of {winner.key}: {number}")
    for record in past:
        if record.outcome is not None:
            driver.progress.already(record.key, record.epochs, record.last(space.metric))
            driver.keep(record, make_room=False)
    base = configuration.dump(same)
    stop = space.early_terminate
    driver.run(
        Phase(
            role="baseline",
            trials=settings.baseline_trials,
            epochs=settings.epochs,
            metric=space.metric,
            goal=space.goal,
            proposer=proposer,
            key=lambda index: f"{prefix}-t{index:04d}",
            resolve=lambda chosen: driver.plan.complete(
                TrialSpec(configuration.load(configuration.assign(base, chosen)))
            ),
            scheduler=lambda: make_scheduler(
                space,
                baseline.method,
                settings.epochs,
                searched_under(driver.journal, prefix),
                seed=settings.search_seed,
            ),
            seeds=settings.seeds_per_trial,
            together=stop is not None and stop.type == "hyperband",
            stop=driver.budget.exhausted,
        )
    )


def run_finals(
    settings: SweepSettings, driver: Driver, final_configs: list[FinalConfig], later: int = 0
) -> dict[tuple[str, int], TrialRecord]:
    """Train every final configuration with every seed; return the runs by name and seed.

    The first seed of a configuration that the search found is the search's own trial, unless it copied others on its
    way or lost its checkpoint.

    Args:
        settings: the sweep.
        driver: runs the trials.
        final_configs: what is trained.
        later: full runs of the sweep that follow.
    """
    known = driver.journal.trials
    plan = {
        (final_config.name, seed): final_key(final_config, seed, known, redraw=settings.redraw_teachers)
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
    specs = {
        plan[final_config.name, seed]: driver.plan.complete(
            seeded(final_config.spec, seed, redraw=settings.redraw_teachers)
        )
        for seed in range(settings.seeds)
        for final_config in final_configs
    }
    keys = [key for key in specs if key not in own]
    driver.budget.reserve(0, "final")
    driver.retention.pin(*keys, *(record.key for record in own.values()))
    driver.progress.final(len(keys), later)
    if keys:
        seeds, names = pluralize(settings.seeds, "seed"), ", ".join(final_config.name for final_config in final_configs)
        begun = "" if settings.arms and not settings.arm_trials else "the search is over; "
        driver.progress.note(f"{begun}training {names} with {seeds}")
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
            resolve=lambda chosen: specs[chosen["final"]],
        )
    )
    by_key = {record.key: record for record in records} | own
    return {run: by_key[key] for run, key in plan.items() if key in by_key}


def search_name(journal: Journal, baseline: Baseline, same: Config) -> str:
    """Return the name of a baseline's search; another where one of before was made for another winner.

    Args:
        journal: of the sweep.
        baseline: what is searched.
        same: the baseline with the settings of the present winner.
    """
    names = itertools.chain(
        [f"baseline-{baseline.name}"], (f"baseline-{baseline.name}-{again}" for again in itertools.count(2))
    )
    base = configuration.dump(same)
    for name in names:
        first = next(iter(searched_under(journal, name)), None)
        if first is None or configuration.load(configuration.assign(base, first.settings)) == first.spec.config:
            return name
    raise AssertionError("there is always another name")


def searched_under(journal: Journal, name: str) -> list[TrialRecord]:
    """The trials of a baseline's search, by the search's name."""
    pattern = re.compile(rf"{re.escape(name)}-t\d+")
    return [record for key, record in journal.trials.items() if pattern.fullmatch(key)]


def _searched(journal: Journal) -> list[TrialRecord]:
    return [record for key, record in journal.trials.items() if role_of(key) == "search"]
