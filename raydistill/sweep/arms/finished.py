"""The answer of an experiment that is finished: what its folder says, without images, networks, Ray or MLflow."""

from __future__ import annotations

import json
from dataclasses import dataclass

from raydistill.records.layout import (
    EXPERIMENT_FILE,
    RESULTS_FILE,
    TABLE_FILE,
    TRAJECTORIES_FILE,
    WINNER_CONFIG_FILE,
)
from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.storage import StoragePath
from raydistill.sweep.more_trials import stored_trials
from raydistill.sweep.settings import SweepSettings

COMPLETE = "complete"  # in an experiment's file, once MLflow has all that the sweep's folder has


@dataclass(frozen=True)
class SweepResult:
    """Result of a finished sweep: the leaderboard, as text too, and the path of the winner's configuration."""

    rows: list[LeaderboardEntry]
    table: str
    winner: StoragePath


def is_whole(plan: SweepSettings) -> bool:
    """Return whether an experiment ended with the test scores of every seed of every arm, and with all references."""
    path = plan.directory / RESULTS_FILE
    if not (plan.directory / EXPERIMENT_FILE).exists() or not path.exists():
        return False
    described = json.loads((plan.directory / EXPERIMENT_FILE).read_text())
    rows = {row["name"]: row["scores"] for row in json.loads(path.read_text())}
    searched = stored_trials(plan.directory)
    if searched is not None and searched != plan.arm_trials:
        return False
    if not described.get(COMPLETE) or not {"pixels", "untrained", *described.get("teachers_of", ())} <= set(rows):
        return False
    drawn = any(arm.config.eval.trajectory for arm in plan.arms)
    if drawn and not (plan.directory / TRAJECTORIES_FILE).exists():
        return False
    scores = [rows.get(arm.name, []) for arm in plan.arms]
    return all(
        len(found) == plan.seeds and all(any(key.startswith("test_") for key in score) for score in found)
        for found in scores
    )


def finished_result(plan: SweepSettings) -> SweepResult | None:
    """The result of an experiment that is whole; None of any other sweep.

    Raises: ConfigError where it was started with other settings.
    """
    if not plan.arms or not is_whole(plan):
        return None
    plan.check_unchanged()
    rows = [LeaderboardEntry(**row) for row in json.loads((plan.directory / RESULTS_FILE).read_text())]
    table = (plan.directory / TABLE_FILE).read_text().rstrip("\n")
    return SweepResult(rows, table, plan.directory / WINNER_CONFIG_FILE)


def mark_complete(plan: SweepSettings, *, complete: bool = True) -> None:
    """Note in an experiment's file that nothing of it is left to do, or that something is again."""
    path = plan.directory / EXPERIMENT_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), COMPLETE: complete}, indent=1))
