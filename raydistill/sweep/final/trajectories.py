"""One picture of the ways that all final runs took through function space (DoGo, figure 5)."""

from __future__ import annotations

from raydistill.errors import one_line
from raydistill.evaluation.tasks.base import TaskError
from raydistill.evaluation.tasks.trajectory import trajectory_picture
from raydistill.evaluation.trajectory_files import read_features
from raydistill.records.layout import TRAJECTORIES_FILE
from raydistill.sweep.driver import Driver
from raydistill.sweep.final.choice import Choice
from raydistill.sweep.settings import SweepSettings
from raydistill.training.checkpoint_files import TRAJECTORY, CheckpointError, write_atomically


def draw_trajectories(settings: SweepSettings, driver: Driver, choice: Choice) -> None:
    """Draw what the final runs have kept of their epochs into the sweep's folder; nothing where none has kept any.

    A picture that cannot be drawn is left out with a warning.

    Args:
        settings: the sweep.
        driver: knows the folders of the runs.
        choice: the final configurations and their runs.
    """
    order = [arm.name for arm in settings.arms] or [each.name for each in choice.chosen]
    ended = [(name, seed, record) for (name, seed), record in choice.finished().items() if name in order]
    ended.sort(key=lambda run: (order.index(run[0]), run[1]))
    asked = [run for run in ended if run[2].spec.config.eval.trajectory]
    if not asked:
        return
    try:
        names = [f"{name}, seed {seed}" for name, seed, _ in asked]
        kept = [read_features(driver.trial_directory(record.key) / TRAJECTORY) for _, _, record in asked]
        runs = {name: found for name, found in zip(names, kept, strict=True) if found}
        groups = {name: arm for name, (arm, _, _) in zip(names, asked, strict=True)}
        picture = trajectory_picture(runs, groups=groups)
        path = settings.directory / TRAJECTORIES_FILE
        write_atomically(path, picture)
    except (TaskError, CheckpointError, OSError) as error:
        driver.progress.note(f"warning: the trajectories are not drawn: {one_line(error)}")
        return
    epochs = sum(map(len, runs.values()))
    driver.progress.note(f"trajectories of {len(runs)} runs, {epochs} checkpoints in all: {path}")
