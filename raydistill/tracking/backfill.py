"""A sweep that is over, told to another MLflow out of its folder."""

from __future__ import annotations

import json

from raydistill.config import ConfigError, read_yaml
from raydistill.records.journal import read_events
from raydistill.records.layout import JOURNAL_FILE, ORIGIN_FILE, RESULTS_FILE, SCORES_FILE, SWEEP_FILE
from raydistill.redaction import redact
from raydistill.storage import StoragePath
from raydistill.tracking.client import EXPERIMENT
from raydistill.tracking.sync import (
    log_conclusion,
    log_scores,
    log_trials,
    moment,
    sweep_tags,
)
from raydistill.tracking.tracker import Tracker, TrackingError
from raydistill.training.failures import ERROR_FILE

DELIVERY_TIMEOUT_S = 600.0  # seconds that a slow server has for what is left at the end


def backfill(folder: StoragePath, tracking_uri: str) -> int:
    """Tell the MLflow at `tracking_uri` what it would have last_delivered_epoch of the sweep in `folder` while it ran.

    The runs have the sweep's own times, and the name of its folder. Checkpoints and configurations of trials are
    uploaded where the folder has them. What that MLflow has it keeps, so that nothing is there twice. A sweep
    without results, and trials without an end, count as interrupted.

    Returns: the number of trials.
    Raises: ConfigError where there is no sweep; TrackingError if the address cannot be used, or stops answering.
    """
    if not (folder / JOURNAL_FILE).exists() or not (folder / SWEEP_FILE).exists():
        raise ConfigError(f"{folder}: there is no sweep; expected a folder with {SWEEP_FILE} and {JOURNAL_FILE}")
    times = [moment(event) for event in read_events(folder / JOURNAL_FILE)]
    begun, ended = (times[0], times[-1]) if times else (None, None)
    origin = json.loads((folder / ORIGIN_FILE).read_text()) if (folder / ORIGIN_FILE).exists() else {}
    tracker = Tracker(
        tracking_uri,
        EXPERIMENT,
        folder.name,
        **sweep_tags(read_yaml(folder / SWEEP_FILE), origin),
        system_metrics=False,
        when=begun,
    )
    tracker.artifact(None, folder / SWEEP_FILE)
    trials = log_trials(tracker, folder / JOURNAL_FILE)
    for config in folder.glob("trials/*/config.yaml"):
        tracker.artifact(config.parent.name, config)
    for traceback in folder.glob(f"trials/*/{ERROR_FILE}"):
        tracker.artifact(traceback.parent.name, traceback)
    for scores in folder.glob(f"trials/*/{SCORES_FILE}"):
        log_scores(tracker, trials[scores.parent.name], scores.parent, ended)
    concluded = (folder / RESULTS_FILE).exists()
    if concluded:
        log_conclusion(tracker, folder, ended)
    left = tracker.close("finished" if concluded else "interrupted", DELIVERY_TIMEOUT_S, ended)
    if left:
        raise TrackingError(f"{redact(tracking_uri)} did not take {left} events; tell it again")
    return len(trials)
