"""A sweep that is over, told to another MLflow out of its folder."""

from __future__ import annotations

import json

from raydistill.config import ConfigError, read_yaml
from raydistill.storage import Place
from raydistill.sweep.journal import read_events
from raydistill.sweep.mlflow_runs import EXPERIMENT
from raydistill.sweep.outbox import without_password
from raydistill.sweep.scores import SCORES
from raydistill.sweep.settings import FILE
from raydistill.sweep.telling import (
    JOURNAL,
    ORIGIN,
    RESULTS,
    described,
    moment,
    tell_conclusion,
    tell_scores,
    tell_trials,
)
from raydistill.sweep.tracking import Tracker, TrackingError

PATIENCE = 600.0  # seconds that a slow server has for what is left at the end


def replay(folder: Place, tracking_uri: str) -> int:
    """Tell the MLflow at `tracking_uri` what it would have heard of the sweep in `folder` while it ran.

    The runs have the sweep's own times, and the name of its folder. Checkpoints and configurations of trials are
    uploaded where the folder has them. What that MLflow has it keeps, so that nothing is there twice. A sweep
    without results, and trials without an end, count as interrupted.

    Returns: the number of trials.
    Raises: ConfigError where there is no sweep; TrackingError if the address cannot be used, or stops answering.
    """
    if not (folder / JOURNAL).exists() or not (folder / FILE).exists():
        raise ConfigError(f"{folder}: there is no sweep; expected a folder with {FILE} and {JOURNAL}")
    times = [moment(event) for event in read_events(folder / JOURNAL)]
    begun, ended = (times[0], times[-1]) if times else (None, None)
    origin = json.loads((folder / ORIGIN).read_text()) if (folder / ORIGIN).exists() else {}
    tracker = Tracker(
        tracking_uri, EXPERIMENT, folder.name, **described(read_yaml(folder / FILE), origin),
        system_metrics=False, when=begun,
    )  # fmt: skip
    tracker.artifact(None, folder / FILE)
    trials = tell_trials(tracker, folder / JOURNAL)
    for config in folder.glob("trials/*/config.yaml"):
        tracker.artifact(config.parent.name, config)
    for scores in folder.glob(f"trials/*/{SCORES}"):
        tell_scores(tracker, trials[scores.parent.name], scores.parent, ended)
    concluded = (folder / RESULTS).exists()
    if concluded:
        tell_conclusion(tracker, folder, ended)
    left = tracker.close("finished" if concluded else "interrupted", PATIENCE, ended)
    if left:
        raise TrackingError(f"{without_password(tracking_uri)} did not take {left} events; tell it again")
    return len(trials)
