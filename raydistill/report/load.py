"""A sweep as MLflow keeps it, in data frames."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from raydistill.config import ConfigError, nearest
from raydistill.sweep.mlflow_runs import MESSAGE, OUTCOME, ROLE, SWEEP, TRIAL, connect
from raydistill.sweep.names import check_name
from raydistill.sweep.table import Row

EXPERIMENT = "raydistill"
THREADS = 8
PAGE = 1000
NOT_SCORES = ("system/", "setting/")


@dataclass(frozen=True)
class Sweep:
    """One sweep. Frames have one row a trial, named by its key (`t0003`, `final-dogo-seed1`, `teacher-…`).

    `trials`: role (search, final, teacher), outcome (finished, stopped_early, failed, interrupted, running), message,
    copies, started, seconds of wall time, run_id. `settings`: the searched settings, a column for each path; missing
    where a condition (`when`) leaves a setting out. `scores`: the last value of every metric. `params`: all settings.
    `rows`: the table at the end of the sweep, empty before. `identity`: `sweep.yaml`, what the sweep was asked to do.
    """

    name: str
    method: str
    uri: str
    experiment_id: str
    run_id: str
    metric: str
    goal: str
    tags: dict[str, str]
    identity: dict[str, Any]
    rows: list[Row]
    trials: pd.DataFrame
    settings: pd.DataFrame
    scores: pd.DataFrame
    params: pd.DataFrame
    client: Any = field(repr=False, compare=False)

    @property
    def searched(self) -> list[str]:
        """Paths of the settings that the search could vary."""
        return list(self.settings.columns)

    @property
    def maximize(self) -> bool:
        return self.goal == "maximize"

    def role(self, role: str, *outcomes: str) -> list[str]:
        """Keys of the trials of a role, with one of these outcomes if any are named."""
        chosen = self.trials[self.trials.role == role]
        return list(chosen[chosen.outcome.isin(outcomes)].index if outcomes else chosen.index)

    def ranked(self) -> list[str]:
        """Keys of the search's trials that had all their epochs and a score, best first."""
        finished = self.role("search", "finished")
        if self.metric not in self.scores:
            return []
        return list(self.scores.loc[finished, self.metric].dropna().sort_values(ascending=not self.maximize).index)

    def epochs(self) -> pd.Series:
        """How many epochs each trial was trained."""
        return self.curves("loss").count()

    def curves(self, metric: str, keys: Iterable[str] | None = None) -> pd.DataFrame:
        """A metric by epoch (rows) and trial (columns), of all trials or of `keys`; missing where not scored."""
        wanted = list(self.trials.index if keys is None else keys)

        def history(key: str) -> pd.Series:
            points = self.client.get_metric_history(self.trials.run_id[key], metric)
            return pd.Series({point.step: point.value for point in points}, name=key, dtype=float)

        if not wanted:
            return pd.DataFrame(index=pd.Index([], name="epoch"))
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(history, wanted))
        return pd.concat(found, axis=1).sort_index().rename_axis("epoch")


def sweeps(uri: str) -> pd.DataFrame:
    """The sweeps at a tracking address, newest first: method, outcome, started, and their winner's scores."""
    client = connect(uri, EXPERIMENT)
    found = _runs(client, f"tags.`{ROLE}` = 'sweep'")
    rows = [
        {"sweep": run.data.tags[SWEEP], "method": run.data.tags.get("raydistill.method", ""),
         "outcome": run.data.tags.get(OUTCOME, ""), "started": pd.to_datetime(run.info.start_time, unit="ms"),
         **{name: value for name, value in run.data.metrics.items() if name.startswith(("winner_", "baseline_"))}}
        for run in found
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=None if rows else ["sweep", "method", "outcome", "started"]).set_index("sweep")
    return frame.sort_values("started", ascending=False)


def load(uri: str, name: str) -> Sweep:
    """A sweep by its name, from an MLflow address.

    Raises: ValueError for what is no name; ConfigError where there is no sweep of that name, which lists near ones;
    TrackingError where the address cannot be used.
    """
    check_name("sweep", name)
    client = connect(uri, EXPERIMENT)
    parents = _runs(client, f"tags.`{ROLE}` = 'sweep' AND tags.`{SWEEP}` = '{name}'")
    if not parents:
        known = [run.data.tags[SWEEP] for run in _runs(client, f"tags.`{ROLE}` = 'sweep'")]
        raise ConfigError(f"there is no sweep {name!r} in {uri}{nearest(name, known) if known else ''}")
    parent = parents[0]
    children = _runs(client, f"tags.`{SWEEP}` = '{name}' AND tags.`{TRIAL}` LIKE '%'")
    children.sort(key=lambda run: run.data.tags[TRIAL])
    keys = pd.Index([run.data.tags[TRIAL] for run in children], name="trial")
    identity = yaml.safe_load(_artifact(client, parent.info.run_id, "sweep.yaml") or "{}")
    params = pd.DataFrame([{k: _value(v) for k, v in run.data.params.items()} for run in children], keys, dtype=object)
    scores = [{k: v for k, v in run.data.metrics.items() if not k.startswith(NOT_SCORES)} for run in children]
    space = identity.get("space", {})
    (metric, *_) = space.get("metrics") or [space.get("metric") or {"name": "val_knn", "goal": "maximize"}]
    return Sweep(
        name=name, method=parent.data.tags.get("raydistill.method", ""), uri=uri,
        experiment_id=parent.info.experiment_id, run_id=parent.info.run_id, metric=metric["name"], goal=metric["goal"],
        tags=dict(parent.data.tags), identity=identity,
        rows=[Row(**row) for row in json.loads(_artifact(client, parent.info.run_id, "results.json") or "[]")],
        trials=_trials(children, keys), settings=_settings(params, space.get("parameters", {})),
        scores=pd.DataFrame(scores, index=keys), params=params, client=client,
    )  # fmt: skip


def _runs(client: Any, query: str) -> list[Any]:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    found: list[Any] = []
    page = client.search_runs([experiment.experiment_id], query, max_results=PAGE)
    found += page
    while page.token:
        page = client.search_runs([experiment.experiment_id], query, max_results=PAGE, page_token=page.token)
        found += page
    return found


def _trials(children: list[Any], keys: pd.Index) -> pd.DataFrame:
    rows = [
        {"role": run.data.tags.get(ROLE, ""), "outcome": run.data.tags.get(OUTCOME, ""),
         "message": run.data.tags.get(MESSAGE, ""), "copies": run.data.tags.get("raydistill.copies", ""),
         "started": pd.to_datetime(run.info.start_time, unit="ms"),
         "seconds": (run.info.end_time - run.info.start_time) / 1000 if run.info.end_time else float("nan"),
         "run_id": run.info.run_id}
        for run in children
    ]  # fmt: skip
    columns = ["role", "outcome", "message", "copies", "started", "seconds", "run_id"]
    return pd.DataFrame(rows, index=keys, columns=columns)


def _settings(params: pd.DataFrame, space: dict[str, Any]) -> pd.DataFrame:
    """The searched columns of `params`; of a file that is not there yet, those that differ between trials."""
    if not space:
        differ = [name for name in params if params[name].astype(str).nunique() > 1]
        return params[[name for name in differ if name != "train.offsets"]]
    several = [path for path, spec in space.items() if len(spec.get("values", [0, 0])) > 1 and "value" not in spec]
    found = params.reindex(columns=several).astype(object)
    for path in several:
        for parent, values in space[path].get("when", {}).items():
            inactive = ~params[parent].map(lambda value, values=values: value in values)
            found.loc[inactive, path] = None
    return found.infer_objects()


def _artifact(client: Any, run_id: str, name: str) -> str | None:
    """A text that the sweep's run keeps; None where there is none yet."""
    if not any(file.path == name for file in client.list_artifacts(run_id)):
        return None
    with tempfile.TemporaryDirectory() as passing:
        return Path(client.download_artifacts(run_id, name, passing)).read_text()


def _value(text: str) -> Any:
    """A setting as it was before MLflow wrote it down as text."""
    if text in ("none", "True", "False"):
        return {"none": None, "True": True, "False": False}[text]
    try:
        return json.loads(text)
    except ValueError:
        return text
