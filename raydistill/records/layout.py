"""Layout of a sweep's folder: the names of its files, and which folder a name means."""

from __future__ import annotations

from pathlib import Path

from raydistill.config import ConfigError
from raydistill.storage import Remote, StoragePath, is_remote

# docs/architecture.md#folder-layout
SWEEP_FILE = "sweep.yaml"  # what the sweep was asked to do
PLAN_FILE = "plan.json"  # the teachers and the baseline that it decided on; absent in sweeps of before
ORIGIN_FILE = "origin.json"  # what was typed, where, and with which versions
JOURNAL_FILE = "journal.jsonl"  # what the sweep resumes from
BUDGET_FILE = "budget.json"
RESULTS_FILE = "results.json"  # the leaderboard, for programs
TABLE_FILE = "table.md"  # the leaderboard, for people
WINNER_CONFIG_FILE = "winner.yaml"
CONFIG_FILE = "config.yaml"  # a trial's complete configuration
KEYS_FILE = "keys.json"  # of the teachers and labels of a run outside sweeps; a sweep's are in its journal
REFERENCES_FILE = "references.json"  # scores of raw pixels, the untrained student and the teachers
IMAGES_FILE = "images.txt"  # how the images were understood
SHEET_FILE = "images.png"  # some of them, with their augmented views
TRAJECTORIES_FILE = "trajectories.png"  # the ways of all final runs through function space (`eval.trajectory`)
TIMINGS_FILE = "timings.json"  # moments of the last run of the command, in seconds
SCORES_FILE = "scores.json"  # a trial's final scores
CONTROL_FOLDER = "control"  # requests to a running sweep, and its answers
RUNNING_FILE = "running.json"  # in there while the sweep takes requests: its process
EXPERIMENT_FILE = "experiment.json"  # what an experiment compares, with the published numbers


def is_sweep(folder: StoragePath) -> bool:
    return (folder / JOURNAL_FILE).exists()


def named(given: str, home: StoragePath) -> list[StoragePath]:
    """List the places that `given` may mean, sweeps being in `home`: one in there, or a path.

    Raises: ConfigError for the home folder of nobody.
    """
    if is_remote(given):
        return [Remote(given)]
    try:
        return [home / given, Path(given).expanduser()]
    except RuntimeError:
        raise ConfigError(f"there is no run {given!r}: {given.partition('/')[0]} is nobody's home folder") from None


def run_folder(given: str, home: StoragePath) -> StoragePath | None:
    """The folder of a sweep, of SWEEP/TRIAL, or of any other run; None where there is none."""
    for place in (place for one in named(given, home) for place in (one, one.parent / "trials" / one.name)):
        if is_sweep(place) or (place / CONFIG_FILE).exists():
            return place.resolve() if isinstance(place, Path) else place
    return None
