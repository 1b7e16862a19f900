"""Runs in MLflow: a selected trial's checkpoint out of one, an export into one, and into the registry."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from raydistill import config as configuration
from raydistill.artifacts.sources import PROVENANCE
from raydistill.config import ConfigError
from raydistill.export.run import MLFLOW, ResolvedRun, from_checkpoint
from raydistill.records.layout import CONFIG_FILE
from raydistill.records.names import check_name
from raydistill.redaction import redact
from raydistill.tracking.client import EXPERIMENT, ID, OUTCOME, ROLE, SWEEP, TRIAL, connect, database_of
from raydistill.tracking.delivery_queue import one_line
from raydistill.training.messages import seed_metric

WINNER, COPIES = "raydistill.winner", "raydistill.copies"
CHECKPOINT, ENCODER = "checkpoint", "encoder"
PARENT_RUN = "mlflow.parentRunId"


def resolve_mlflow_run(run_id: str, uri: str) -> ResolvedRun:
    """The trial of an MLflow run; of a sweep's run its winner.

    Raises: ConfigError for a run that is not there, is not a sweep's, or has no checkpoint in MLflow.
    """
    client = open_client(uri)
    run = asked = _run(client, run_id, uri)
    sweep = asked.data.tags.get(SWEEP)
    if sweep is None:
        raise ConfigError(f"{MLFLOW}{run_id} is no run of a sweep")
    if whole := asked.data.tags.get(ROLE) == "sweep":
        if WINNER not in asked.data.tags:
            raise ConfigError(f"sweep {sweep} has not ended, so it has no winner; give the run of one of its trials")
        run = run_of_trial(client, asked, asked.data.tags[WINNER], uri)
    tags, run_id = run.data.tags, run.info.run_id
    key = f"{sweep}/{tags[TRIAL]}"
    kept = [file.path for file in client.list_artifacts(run_id, CHECKPOINT)]
    states = [path for path in kept if path.endswith(".safetensors")]
    if not states:
        raise ConfigError(
            f"{MLFLOW}{run_id} ({key}) has no checkpoint in MLflow: only trials that their sweep selected have one. "
            "Give the trial's folder"
        )
    with tempfile.TemporaryDirectory() as passing:
        config, state = (_downloaded(client, run_id, path, passing) for path in (CONFIG_FILE, max(states)))
        if (manifest := max(states).replace(".safetensors", ".json")) in kept:
            _downloaded(client, run_id, manifest, passing)
        content = _read(state)
        return from_checkpoint(
            configuration.read(config, f"{MLFLOW}{run_id}: its {CONFIG_FILE}"),
            content,
            scores=_scores(client, run, content["epoch"]),
            name=sweep if whole else key.replace("/", "-"),
            run=key,
            outcome=tags.get(OUTCOME, ""),
            origin=_origin(asked if whole else parent_of(client, run)),
            copies=tuple(filter(None, tags.get(COPIES, "").split("; "))),
            sweep=sweep,
            trial=tags[TRIAL],
        )


def _downloaded(client: Any, run_id: str, path: str, folder: str) -> Path:
    """Download a file of a run. Raises ConfigError if MLflow does not have it, or does not give it."""
    try:
        return Path(client.download_artifacts(run_id, path, folder))
    except Exception as error:  # every store of artifacts has errors of its own
        raise ConfigError(f"{MLFLOW}{run_id}: its {path} cannot be had from MLflow ({one_line(error)})") from None


def _origin(parent: Any) -> dict[str, Any]:
    """Read from the sweep's run what `origin.json` would say."""
    tags = parent.data.tags if parent else {}
    found: dict[str, Any] = {
        key: tags[f"raydistill.{key}"] for key in ("id", "artifacts") if f"raydistill.{key}" in tags
    }
    for key in ("environment", "teachers"):
        with suppress(ValueError):
            found[key] = json.loads(tags.get(f"raydistill.{key}", "{}"))
    return found


def parent_of(client: Any, run: Any) -> Any | None:
    """The run of the sweep that a trial's run belongs to, where there is one."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run.data.tags.get(PARENT_RUN, ""))
    except MlflowException:
        return None


def _scores(client: Any, run: Any, epoch: int) -> dict[str, float]:
    """Scores that the run has of the checkpoint of `epoch`; earlier and later ones are of another network."""
    names = [name for name in run.data.metrics if name.startswith(("val_", "test_"))]
    own = {name: seed_metric(name, 0) for name in names if seed_metric(name, 0) in run.data.metrics}
    points = {name: client.get_metric_history(run.info.run_id, own.get(name, name)) for name in names}
    return {name: point.value for name, history in points.items() for point in history if point.step == epoch}


def _read(path: Path) -> dict[str, Any]:
    """A checkpoint; version 0.1 kept it without its manifest."""
    from raydistill.training.checkpoints import read_checkpoint

    if not path.with_suffix(".json").exists():
        manifest = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        path.with_suffix(".json").write_text(json.dumps(manifest))
    return read_checkpoint(path)


def open_client(uri: str) -> Any:
    """Connect to MLflow. Raises ConfigError for an address where none answers."""
    if (database := database_of(uri)) is not None and not database.exists():
        raise ConfigError(f"--tracking-uri {redact(uri)}: there is no such file")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        return connect(uri, EXPERIMENT)
    except Exception as error:
        raise ConfigError(f"MLflow at {redact(uri)} cannot be used: {one_line(error)}") from None


def _run(client: Any, run_id: str, uri: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException:
        raise ConfigError(f"MLflow at {redact(uri)} has no run {run_id!r}") from None


def run_of_sweep(client: Any, sweep: str, identity: str, uri: str) -> Any:
    """Find the sweep's own run in MLflow, by its name and, where both have one, its identity.

    Args:
        client: of MLflow.
        sweep: its name.
        identity: its id.
        uri: of the store, for messages.

    Raises:
        ConfigError: there is none, or only another sweep's of that name.
    """
    experiment = client.get_experiment_by_name(EXPERIMENT)
    query = f"tags.`{SWEEP}` = '{check_name('sweep', sweep)}' AND tags.`{ROLE}` = 'sweep'"
    found = client.search_runs([experiment.experiment_id], query) if experiment else []
    own = [run for run in found if not identity or run.data.tags.get(ID, identity) == identity]
    if found and not own:
        raise ConfigError(f"MLflow at {redact(uri)} holds another sweep called {sweep!r}, not this one")
    if not own:
        raise ConfigError(f"MLflow at {redact(uri)} has no run of sweep {sweep}")
    return max(own, key=lambda run: run.data.tags.get(ID) == identity)


def run_of_trial(client: Any, parent: Any, trial: str, uri: str) -> Any:
    """Find the run of a trial.

    Args:
        client: of MLflow.
        parent: the sweep's run.
        trial: its key.
        uri: of the store, for messages.

    Raises:
        ConfigError: there is none.
    """
    query = f"tags.`{PARENT_RUN}` = '{parent.info.run_id}' AND tags.`{TRIAL}` = '{check_name('trial', trial)}'"
    found = client.search_runs([parent.info.experiment_id], query, max_results=1)
    if not found:
        raise ConfigError(f"MLflow at {redact(uri)} has no run of {parent.data.tags[SWEEP]}/{trial}")
    return found[0]


class Registry:
    """Registration of an export in the trial's own run in MLflow.

    Raises: ConfigError where MLflow has none, or another sweep of that name.
    """

    def __init__(self, found: ResolvedRun, uri: str) -> None:
        if not found.trial:
            raise ConfigError(f"--register: {found.run} is no trial of a sweep, so MLflow has no run of it")
        self._found = found
        self._client = open_client(uri)
        parent = run_of_sweep(self._client, found.sweep, found.origin.get("id", ""), uri)
        self._run = run_of_trial(self._client, parent, found.trial, uri)

    def publish(self, folder: Path, name: str) -> str:
        """Log an exported MLflow model to the run and make it a version of the model `name`.

        Returns: the version. Raises: ConfigError where the registry refuses.
        """
        from mlflow.exceptions import MlflowException

        about = json.loads((folder / PROVENANCE).read_text())
        place = f"{ENCODER}-{about['weights']['sha256'][:8]}"
        scores = {key: f"{value:.6f}" for key, value in about["scores"].items()}
        tags = {SWEEP: self._found.sweep, TRIAL: self._found.trial, "raydistill.encoder": about["encoder"], **scores}
        run = self._run.info
        try:
            self._client.log_artifacts(run.run_id, str(folder), place)
            _make(self._client, name)
            made = self._client.create_model_version(name, f"{run.artifact_uri}/{place}", run.run_id, tags=tags)
        except MlflowException as error:
            raise ConfigError(f"--register {name}: {one_line(error)}") from None
        return str(made.version)


def _make(client: Any, name: str) -> None:
    """The registered model, unless it is there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
