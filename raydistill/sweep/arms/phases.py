"""The phases of an experiment: each arm's own search where it has one, and every arm with every seed."""

from __future__ import annotations

from dataclasses import replace

from raydistill import config as configuration
from raydistill.artifacts.store import Store
from raydistill.experiments.scales import Arm
from raydistill.records.journal import TrialRecord
from raydistill.sweep.context import Phase
from raydistill.sweep.display.progress import pluralize
from raydistill.sweep.driver import Driver, SweepError
from raydistill.sweep.final.choice import Choice, scores
from raydistill.sweep.final.finalists import FinalConfig, ranked
from raydistill.sweep.phases import run_finals, searched_under
from raydistill.sweep.preflight.teachers import train_redrawn_teachers
from raydistill.sweep.search.baselines import Baseline, baseline_space, beside, hints
from raydistill.sweep.search.samplers import make_proposer, observe_past_trials
from raydistill.sweep.search.space import Space
from raydistill.sweep.search.space_parser import parse_space
from raydistill.sweep.settings import SweepSettings
from raydistill.trial_spec import TrialSpec


# docs/architecture.md#experiments-as-sweeps-of-arms
def run_arms(settings: SweepSettings, driver: Driver, store: Store) -> Choice:
    """Train every arm with every seed; return the arms and their runs, the best one on validation first.

    Args:
        settings: the sweep.
        driver: runs the trials.
        store: receives teachers that are redrawn for the seeds.

    Raises:
        SweepError: no arm came to its end.
    """
    found = {arm.name: search_arm(settings, driver, arm) for arm in settings.arms} if settings.arm_trials else {}
    final_configs = []
    for arm in settings.arms:
        best = found.get(arm.name)
        final_configs.append(FinalConfig(arm.name, TrialSpec(arm.config) if best is None else best.spec, best))
    train_redrawn_teachers(settings, driver, store, [each.spec.config for each in final_configs])
    runs = run_finals(settings, driver, final_configs)
    metric = settings.space.metric
    values = {each.name: scores(each.name, runs, metric) for each in final_configs}
    if not any(values.values()):
        raise SweepError(_why(list(runs.values())))

    def worth(each: FinalConfig) -> tuple[int, float]:
        own = values[each.name]
        return len(own), sum(own) / len(own) if own else 0.0

    return Choice(sorted(final_configs, key=worth, reverse=True), [], runs)


def search_arm(settings: SweepSettings, driver: Driver, arm: Arm) -> TrialRecord | None:
    """Search an arm's own settings, with as many trials as every other arm; return its best trial.

    What the experiment decides stays as it is: networks, images, augmentation, teachers, and whatever its file sets.
    The arm's own settings are tried first.

    Args:
        settings: the sweep.
        driver: runs the trials.
        arm: what is searched.

    Returns: None where there is nothing to search, or no trial came to its end.
    """
    space = arm_space(settings, arm)
    if not space.parameters:
        driver.progress.note(f"{arm.name} has nothing to search")
        return None
    prefix = f"baseline-{arm.name}"
    past = searched_under(driver.journal, prefix)
    proposer = make_proposer(
        space,
        trials=settings.arm_trials,
        seed=settings.search_seed,
        directory=settings.directory,
        name=f"{settings.name}-{prefix}",
        earlier=hints(space, arm.config),
        tried=[record.settings for record in past],
    )
    observe_past_trials(proposer, past)
    driver.progress.baseline(settings.arm_trials)
    driver.progress.note(f"searching {arm.name}: {pluralize(settings.arm_trials, 'trial')}")
    for record in past:
        if record.outcome is not None:
            driver.progress.already(record.key, record.epochs, record.last(space.metric))
            driver.keep(record, make_room=False)
    base = configuration.dump(arm.config)
    driver.run(
        Phase(
            role="baseline",
            trials=settings.arm_trials,
            epochs=arm.config.train.epochs,
            metric=space.metric,
            goal=space.goal,
            proposer=proposer,
            key=lambda index: f"{prefix}-t{index:04d}",
            resolve=lambda chosen: driver.plan.complete(
                TrialSpec(configuration.load(configuration.assign(base, chosen)))
            ),
        )
    )
    best = next(iter(ranked(searched_under(driver.journal, prefix), space.metric, space.goal)), None)
    if best is not None:
        driver.retention.pin(best.key)
    return best


def arm_space(settings: SweepSettings, arm: Arm) -> Space:
    """Space of an arm's search: that of its method, without what the experiment has decided."""
    sweep = replace(settings.space, search="bayes")
    name = arm.config.method.name
    found = baseline_space(Baseline(name), sweep, "", settings.images.get("train"))
    kept = tuple(
        p for p in found.parameters if p.path not in arm.fixed and not p.path.startswith(("teacher.", "data."))
    )
    stored = beside(replace(found, parameters=kept).to_dict(), arm.config)
    if not stored["parameters"]:
        return replace(sweep, parameters=())
    return parse_space(stored, f"the search space of {name}", name, {})


def _why(records: list[TrialRecord]) -> str:
    """Cause of an experiment in which no run came to its end: the most common failure."""
    causes = [record.message for record in records if record.outcome == "failed"]
    if not causes:
        return f"none of {len(records)} runs finished"
    common = max(set(causes), key=causes.count)
    return f"{len(causes)} of {len(records)} runs failed and none finished: {common}"
