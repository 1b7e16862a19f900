"""The files and tags that say who won a sweep, and the cause when nobody did."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from raydistill.data.images import LABELS
from raydistill.experiments.table import judge, render_experiment
from raydistill.records.few_labels import few_label_table
from raydistill.records.journal import TrialRecord
from raydistill.records.layout import EXPERIMENT_FILE, RESULTS_FILE, TABLE_FILE, WINNER_CONFIG_FILE
from raydistill.records.leaderboard import LeaderboardEntry, plain, render, render_front
from raydistill.storage import StoragePath
from raydistill.sweep.context import write_config
from raydistill.sweep.settings import SweepSettings
from raydistill.training.checkpoint_files import WINNER
from raydistill.training.checkpoints import latest_checkpoint


def write_conclusion(
    settings: SweepSettings,
    rows: list[LeaderboardEntry],
    best: list[TrialRecord],
    finals: dict[tuple[str, int], TrialRecord],
    name: str,
    left_out: int = 0,
    notes: Sequence[str] = (),
    again: str = "",
) -> tuple[str, StoragePath]:
    """Write the table, the results, the winner's configuration and the pointer to its checkpoints.

    Args:
        settings: of the sweep.
        rows: of the leaderboard.
        best: the search's finished trials, best first.
        finals: the final runs by configuration's name and seed.
        name: of the winner's configuration. Its own run is its first seed that finished.
        left_out: runners-up without a row.
        notes: lines below the table.
        again: says that test scores had been seen before the last trials; empty where they had not.

    Returns: the table, and the path of the winner's configuration.
    """
    directory, space = settings.directory, settings.space
    own = [record for (run, _), record in finals.items() if run == name and record.outcome == "finished"]
    winner = own[0] if own else best[0]
    state = latest_checkpoint(directory / "trials" / winner.key) or {}
    spec = winner.spec.assign({"train.offsets": state.get("offsets") or [[0, 0]]})
    path = directory / WINNER_CONFIG_FILE
    write_config(path, spec.config)
    table = render(rows, [name for name, _ in space.objectives])
    if left_out:
        are = "trial was" if left_out == 1 else "trials were"
        table = f"{table}\n\n{left_out} more {are} trained to the end; the report shows every trial."
    if space.also:
        table = f"{render_front(best, space.objectives)}\n\n{table}"
    if (few := few_label_table(rows)).body:
        table = f"{table}\n\n{few.markdown()}"
    if missing := [line for line in settings.overview if line.startswith(LABELS)]:
        table = "\n\n".join([table, *missing])
    table = "\n\n".join([table, *notes, *([again] if again else [])])
    if settings.experiment:
        described = {**settings.experiment, **({"scored_again": again} if again else {})}
        table = f"{render_experiment(described, rows)}\n\n{table}"
        results = [asdict(each) for each in judge(described, rows)]
        (directory / EXPERIMENT_FILE).write_text(json.dumps({**described, "results": results}, indent=1))
    (directory / TABLE_FILE).write_text(table + "\n")
    (directory / RESULTS_FILE).write_text(json.dumps(plain(rows), indent=1))
    if isinstance(directory, Path):
        (directory / WINNER).unlink(missing_ok=True)
        link = directory / "winner"
        link.unlink(missing_ok=True)
        link.symlink_to(Path("trials") / winner.key)
    else:
        (directory / WINNER).write_text(winner.key)
    return table, path


def why_none_finished(records: list[TrialRecord], exhausted: str) -> str:
    """Return the cause when no trial finished: the spent budget, or the most common failure."""
    if exhausted:
        return f"the budget was spent before a trial finished: {exhausted}"
    causes = [record.message for record in records if record.outcome == "failed"]
    if causes:
        common = max(set(causes), key=causes.count)
        return f"{len(causes)} of {len(records)} trials failed and none finished: {common}"
    return f"none of {len(records)} trials finished"
