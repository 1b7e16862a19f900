"""Selection for the final: the winner and its baselines, over several seeds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raydistill import config as configuration
from raydistill.config import Config
from raydistill.options import MethodConfig
from raydistill.planning.resolve import redraw_teachers
from raydistill.records.journal import TrialRecord, role_of
from raydistill.records.leaderboard import OWN_AUGMENTATION, SEARCHED
from raydistill.sweep.plan import SweepPlan
from raydistill.sweep.search.baselines import Baseline, baselines_of
from raydistill.trial_spec import TrialSpec


@dataclass(frozen=True)
class FinalConfig:
    """One configuration that is trained with several seeds.

    `found` is the trial that it comes from, of the search or of a baseline's; `baseline`, whether it is one. `place` is
    the row of the table for which it competes with near-equal trials; empty if it has its own row for sure.
    """

    name: str
    spec: TrialSpec
    found: TrialRecord | None = None
    baseline: bool = False
    place: str = ""


def ranked(records: list[TrialRecord], metric: str, goal: str) -> list[TrialRecord]:
    """Sort trials that got their full budget, best first. Early-stopped ones are never pooled with them.

    Args:
        records: the trials.
        metric: which score.
        goal: maximize or minimize.
    """
    full = [record for record in records if record.outcome == "finished" and record.last(metric) is not None]
    return sorted(full, key=lambda record: record.last(metric) or 0.0, reverse=goal == "maximize")


def pareto_front(records: list[TrialRecord], objectives: Sequence[tuple[str, str]]) -> list[TrialRecord]:
    """The finished trials that no other beats in one objective without losing in another, best first by the first.

    Of trials that are equal in all objectives the first stays.
    """
    full = [r for r in records if r.outcome == "finished" and all(r.last(name) is not None for name, _ in objectives)]

    def worth(record: TrialRecord) -> tuple[float, ...]:
        return tuple((record.last(name) or 0.0) * (1 if goal == "maximize" else -1) for name, goal in objectives)

    worths = [worth(record) for record in full]
    kept = [
        (mine, record)
        for i, (mine, record) in enumerate(zip(worths, full, strict=True))
        if not any(
            all(a >= b for a, b in zip(other, mine, strict=True)) and (other != mine or j < i)
            for j, other in enumerate(worths)
            if j != i
        )
    ]
    return [record for _, record in sorted(kept, key=lambda pair: pair[0], reverse=True)]


def make_final_configs(
    selected: list[TrialRecord], plan: SweepPlan, searched: Mapping[Baseline, Sequence[TrialRecord]] | None = None
) -> list[FinalConfig]:
    """The selected trials, and each baseline of the first one in several rows.

    A baseline is trained with the winner's settings: its student, augmentation, batches, steps and optimiser. The
    search tuned the distilled method, so a second row keeps the comparison from resting on settings that suit the
    winner alone: the best that a search of the baseline found, or each near-equal one, or, without a search, the
    baseline's preset. Where the baseline's own augmentation is another, a third row has it: the best that the search
    found or, without one, the winner's settings, with the recipe of the baseline's preset.

    Args:
        selected: trials of the search, best first.
        plan: of the sweep.
        searched: the best trials of each baseline's search, among which the seeds choose; none where it has none.
    """
    winner, *others = selected
    best, settings = winner.spec.config, plan.settings
    final_configs = [
        FinalConfig(best.method.name if record is winner else f"{best.method.name}-{record.key}", record.spec, record)
        for record in (winner, *others)
    ]
    for baseline in baselines_of(settings.baselines, best):
        same = plan.baseline_config(baseline, best)
        trials = (searched or {}).get(baseline, ())
        final_configs += competing(f"{baseline.name}-searched", trials, baseline=True)
        if all(trial.spec.config != same for trial in trials):
            final_configs.append(FinalConfig(f"{baseline.name}-same-settings", TrialSpec(same), baseline=True))
        default = None if trials else default_config(baseline, plan, best)
        if default is not None and default != same:
            final_configs.append(FinalConfig(f"{baseline.name}-default", TrialSpec(default), baseline=True))
        own = plan.with_own_augmentation(baseline, trials[0].spec.config if trials else same)
        if own is not None and own != default:
            final_configs.append(FinalConfig(f"{baseline.name}{OWN_AUGMENTATION}", TrialSpec(own), baseline=True))
    return final_configs


def say_which_are_one(final_configs: Sequence[FinalConfig]) -> list[str]:
    """Lines about baselines whose search chose the winner's settings, so that they have one row instead of two."""
    names = {each.name for each in final_configs}
    searched = [name.removesuffix(SEARCHED) for name in names if name.endswith(SEARCHED)]
    return [
        f"{name}{SEARCHED} has the winner's settings, so there is no row {name}-same-settings"
        for name in sorted(searched)
        if f"{name}-same-settings" not in names
    ]


def competing(place: str, trials: Sequence[TrialRecord], *, baseline: bool = False) -> list[FinalConfig]:
    """Return the trials as configurations of one row of the table; several are named by their trials until one has it.

    Args:
        place: name of the row.
        trials: of one search, best first.
        baseline: whether they are a baseline's.
    """
    if len(trials) == 1:
        return [FinalConfig(place, trials[0].spec, trials[0], baseline)]
    named = [(f"{place}-{trial.key.rpartition('-')[2]}", trial) for trial in trials]
    return [FinalConfig(name, trial.spec, trial, baseline, place) for name, trial in named]


def default_config(baseline: Baseline, plan: SweepPlan, winner: Config) -> Config:
    """Return a baseline as its own preset has it, with the student of the sweep's base configuration.

    The section `augment` is the winner's, so that a found augmentation is never credited to distillation.

    Args:
        baseline: what is compared.
        plan: of the sweep.
        winner: what it is compared with.
    """
    base = plan.baseline_config(baseline, plan.settings.base).model_copy(update={"augment": winner.augment})
    if baseline.method == plan.settings.base.method.name:
        return base
    return base.model_copy(
        update={
            "method": _own_augmentation(base.method, plan.baseline_recipe(baseline)),
            "train": plan.baseline_train(baseline),
        }
    )


def _own_augmentation(method: MethodConfig, recipe: str | None) -> MethodConfig:
    """Return a baseline with its preset's recipe; where it is a method's framework, as SDSSL's, it keeps its two.

    Args:
        method: the baseline.
        recipe: of its preset; None: of the method's own default.
    """
    if "recipe" not in type(method).model_fields or getattr(method, "second_recipe", None) is not None:
        return method
    return method.model_copy(update={"recipe": recipe or type(method).model_fields["recipe"].get_default()})


def seeded(spec: TrialSpec, seed: int, *, redraw: bool = False) -> TrialSpec:
    """The trial with another draw of weights, order and augmentations, on the same split.

    Args:
        spec: the trial.
        seed: number of the draw; 0 is the trial itself.
        redraw: whether its teachers and clusters are drawn anew, too (`--redraw-teachers`).
    """
    base = redraw_teachers(spec.config, seed) if redraw else spec.config
    return spec.with_config(
        base.model_copy(
            update={
                "train": base.train.model_copy(update={"seed": base.train.seed + seed, "offsets": ((0, 0),)}),
                "data": base.data.model_copy(update={"stream_seed": base.data.stream_seed + seed}),
            }
        )
    )


def final_key(final_config: FinalConfig, seed: int, known: Mapping[str, TrialRecord], *, redraw: bool = False) -> str:
    """Return the trial's name; another where an earlier final of the sweep used it for another configuration.

    A run of an earlier final that trained the same configuration under another name is taken instead of a new one.

    Args:
        final_config: what is trained.
        seed: of the run.
        known: trials of the journal.
        redraw: as for `seeded`.
    """
    name, config = f"final-{final_config.name}-seed{seed}", seeded(final_config.spec, seed, redraw=redraw).config
    names = itertools.chain([name], (f"{name}-{again}" for again in itertools.count(2)))
    own = next(key for key in names if key not in known or known[key].spec.config == config)
    return own if own in known else _same_run(config, known) or own


def _same_run(config: Config, known: Mapping[str, TrialRecord]) -> str | None:
    """Find a run of an earlier final that finished with this very configuration."""
    wanted = configuration.dump(config)
    ended = (key for key, record in known.items() if record.outcome == "finished" and record.config == wanted)
    return next((key for key in ended if role_of(key) == "final"), None)
