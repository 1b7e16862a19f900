"""Selection for the final: the winner and the un-distilled student beside it, over several seeds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raydistill.options import MethodConfig
from raydistill.records.journal import TrialRecord
from raydistill.sweep.plan import SweepPlan
from raydistill.trial_spec import TrialSpec


@dataclass(frozen=True)
class FinalConfig:
    """One configuration that is trained with several seeds; `found` is the search's trial that it comes from."""

    name: str
    spec: TrialSpec
    found: TrialRecord | None = None


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


def make_final_configs(selected: list[TrialRecord], plan: SweepPlan) -> list[FinalConfig]:
    """The selected trials, and the first one's baseline twice: with its settings and with the baseline's preset.

    With its settings means its augmentation, batches, steps and optimiser. The search tuned the distilled method; the
    better of two baselines on validation keeps the comparison from resting on settings that suit the winner alone.
    """
    winner, *others = selected
    base, best = plan.settings.base, winner.spec.config
    same = best.model_copy(update={"method": best.method.baseline()})
    own = _own_augmentation(base.method.baseline())
    default = base.model_copy(update={"method": own, "train": plan.baseline_train()})
    final_configs = [
        FinalConfig(best.method.name if record is winner else f"{best.method.name}-{record.key}", record.spec, record)
        for record in (winner, *others)
    ]
    if same.method == best.method:
        return final_configs
    final_configs.append(FinalConfig(f"{same.method.name}-same-settings", TrialSpec(same)))
    if default != same:
        final_configs.append(FinalConfig(f"{default.method.name}-default", TrialSpec(default)))
    return final_configs


def _own_augmentation(baseline: MethodConfig) -> MethodConfig:
    """Return a baseline with its own recipe; where it is a method's framework, as SDSSL's, it keeps its two recipes."""
    if "recipe" not in type(baseline).model_fields or getattr(baseline, "second_recipe", None) is not None:
        return baseline
    return baseline.model_copy(update={"recipe": type(baseline).model_fields["recipe"].get_default()})


def seeded(spec: TrialSpec, seed: int) -> TrialSpec:
    """The trial with another draw of weights, order and augmentations, on the same split."""
    base = spec.config
    return spec.with_config(
        base.model_copy(
            update={
                "train": base.train.model_copy(update={"seed": base.train.seed + seed, "offsets": ((0, 0),)}),
                "data": base.data.model_copy(update={"stream_seed": base.data.stream_seed + seed}),
            }
        )
    )


def final_key(final_config: FinalConfig, seed: int, known: Mapping[str, TrialRecord]) -> str:
    """Return the trial's name; another where an earlier final of the sweep used it for another configuration.

    Args:
        final_config: what is trained.
        seed: of the run.
        known: trials of the journal.
    """
    name, config = f"final-{final_config.name}-seed{seed}", seeded(final_config.spec, seed).config
    names = itertools.chain([name], (f"{name}-{again}" for again in itertools.count(2)))
    return next(key for key in names if key not in known or known[key].spec.config == config)
