"""Which trials go on to the final: the winner and the un-distilled student beside it, over several seeds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from raydistill import config as configuration
from raydistill.config import Train
from raydistill.presets import load_preset, preset_names
from raydistill.sweep.journal import TrialRecord
from raydistill.sweep.settings import SweepSettings


@dataclass(frozen=True)
class Arm:
    """One configuration that is trained with several seeds; `records` maps a seed to its trial's key."""

    name: str
    config: dict[str, Any]


def ranked(records: list[TrialRecord], metric: str, goal: str) -> list[TrialRecord]:
    """Trials that got their full budget, best first. Early-stopped ones are never pooled with them."""
    full = [record for record in records if record.outcome == "finished" and record.last(metric) is not None]
    return sorted(full, key=lambda record: record.last(metric) or 0.0, reverse=goal == "maximize")


def make_arms(winner: TrialRecord, settings: SweepSettings) -> list[Arm]:
    """The winner, and its baseline twice: with the winner's settings and with its own preset's.

    The search tuned the distilled method; the better of two baselines on validation keeps the comparison
    from resting on a learning rate that suits the winner alone.
    """
    best = configuration.load(winner.config)
    tuned = best.model_copy(update={"method": best.method.baseline()})
    default = settings.base.model_copy(
        update={"method": settings.base.method.baseline(), "train": _own_train(settings)}
    )
    arms = [Arm(best.method.name, configuration.dump(best))]
    if tuned.method == best.method:
        return arms
    arms.append(Arm(f"{tuned.method.name}-tuned", configuration.dump(tuned)))
    if default != tuned:
        arms.append(Arm(f"{default.method.name}-default", configuration.dump(default)))
    return arms


def _own_train(settings: SweepSettings) -> Train:
    """How the baseline's own preset optimises, for as long as the sweep's trials."""
    method = settings.base.method.baseline().name
    preset = load_preset(method, settings.preset if settings.preset in preset_names(method) else "default")
    own = configuration.load({"method": method, "train": preset.get("train", {})}).train
    kept = {name: getattr(settings.base.train, name) for name in ("epochs", "seed", "precision", "sync_batchnorm")}
    return own.model_copy(update=kept)


def seeded(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """The configuration with another draw of weights, order and augmentations, on the same split."""
    base = configuration.load(config)
    return configuration.dump(
        base.model_copy(
            update={
                "train": base.train.model_copy(update={"seed": base.train.seed + seed, "offsets": ((0, 0),)}),
                "data": base.data.model_copy(update={"stream_seed": base.data.stream_seed + seed}),
            }
        )
    )


def final_key(arm: Arm, seed: int) -> str:
    return f"final-{arm.name}-seed{seed}"


def mean_std(values: list[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; None for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
