"""Which trials go on to the final: the winner and the un-distilled student beside it, over several seeds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raydistill import config as configuration
from raydistill.config import TrainConfig
from raydistill.presets import load_preset, preset_names
from raydistill.records.journal import TrialRecord
from raydistill.sweep.settings import SweepSettings


@dataclass(frozen=True)
class FinalConfig:
    """One configuration that is trained with several seeds; `found` is the search's trial that it comes from."""

    name: str
    config: dict[str, Any]
    found: TrialRecord | None = None


def ranked(records: list[TrialRecord], metric: str, goal: str) -> list[TrialRecord]:
    """Trials that got their full budget, best first. Early-stopped ones are never pooled with them."""
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


def make_final_configs(selected: list[TrialRecord], settings: SweepSettings) -> list[FinalConfig]:
    """The selected trials, and the first one's baseline twice: with its settings and with the baseline's preset.

    The search tuned the distilled method; the better of two baselines on validation keeps the comparison
    from resting on a learning rate that suits the winner alone.
    """
    winner, *others = selected
    best = configuration.load(winner.config)
    tuned = best.model_copy(update={"method": best.method.baseline()})
    default = settings.base.model_copy(
        update={"method": settings.base.method.baseline(), "train": _own_train(settings)}
    )
    final_configs = [FinalConfig(best.method.name, configuration.dump(best), winner)]
    final_configs += [FinalConfig(f"{best.method.name}-{other.key}", other.config, other) for other in others]
    if tuned.method == best.method:
        return final_configs
    final_configs.append(FinalConfig(f"{tuned.method.name}-tuned", configuration.dump(tuned)))
    if default != tuned:
        final_configs.append(FinalConfig(f"{default.method.name}-default", configuration.dump(default)))
    return final_configs


def _own_train(settings: SweepSettings) -> TrainConfig:
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


def final_key(final_config: FinalConfig, seed: int, known: Mapping[str, TrialRecord]) -> str:
    """The trial's name; another where an earlier final of the sweep used it for another configuration."""
    name, config = f"final-{final_config.name}-seed{seed}", seeded(final_config.config, seed)
    names = itertools.chain([name], (f"{name}-{again}" for again in itertools.count(2)))
    return next(key for key in names if key not in known or known[key].config == config)
