"""The two phases of every sweep: the search, and the finalists over several seeds."""

from __future__ import annotations

from ray.tune.schedulers import FIFOScheduler

from raydistill.records.journal import Journal, TrialRecord, role_of
from raydistill.sweep.context import Phase
from raydistill.sweep.driver import Driver
from raydistill.sweep.final.finalists import FinalConfig, final_key, seeded
from raydistill.sweep.progress import pluralize
from raydistill.sweep.search.samplers import FixedProposer, make_proposer, observe_past_trials
from raydistill.sweep.search.schedulers import make_scheduler
from raydistill.sweep.search.warm_start import load_prior_trials
from raydistill.sweep.settings import SweepSettings
from raydistill.training.checkpoint_files import newest


def run_search(settings: SweepSettings, driver: Driver) -> list[TrialRecord]:
    """Propose and train the trials of the search; return all their records, those of before a resume included."""
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
            resolve=driver.plan.spec,
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


def run_finals(
    settings: SweepSettings, driver: Driver, final_configs: list[FinalConfig]
) -> dict[tuple[str, int], TrialRecord]:
    """Train every final configuration with every seed; return the runs by name and seed.

    The first seed of a configuration that the search found is the search's own trial, unless it copied others on its
    way or lost its checkpoint.

    Args:
        settings: the sweep.
        driver: runs the trials.
        final_configs: what is trained.
    """
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
    specs = {
        plan[final_config.name, seed]: driver.plan.complete(seeded(final_config.spec, seed))
        for seed in range(settings.seeds)
        for final_config in final_configs
    }
    keys = [key for key in specs if key not in own]
    driver.budget.reserve(0)
    driver.retention.pin(*keys, *(record.key for record in own.values()))
    driver.progress.final(len(keys))
    if keys:
        winner = final_configs[0].found
        assert winner is not None
        seeds, names = pluralize(settings.seeds, "seed"), ", ".join(final_config.name for final_config in final_configs)
        driver.progress.note(f"the search is over, best: {winner.key}; training {names} with {seeds}")
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
            scheduler=FIFOScheduler,
        )
    )
    by_key = {record.key: record for record in records} | own
    return {run: by_key[key] for run, key in plan.items() if key in by_key}


def _searched(journal: Journal) -> list[TrialRecord]:
    return [record for key, record in journal.trials.items() if role_of(key) == "search"]
