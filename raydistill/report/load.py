"""A sweep as MLflow keeps it, in data frames."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from raydistill.config import ConfigError, nearest
from raydistill.records.budget import Spent
from raydistill.records.layout import EXPERIMENT_FILE, IMAGES_FILE, RESULTS_FILE, SHEET_FILE, SWEEP_FILE
from raydistill.records.leaderboard import REFERENCES, LeaderboardEntry
from raydistill.records.names import check_name
from raydistill.redaction import redact
from raydistill.report import frames
from raydistill.tracking.client import (
    DIGEST,
    EXPERIMENT,
    OUTCOME,
    ROLE,
    SWEEP,
    TRIAL,
    TrackingError,
    connect,
    database_of,
)
from raydistill.tracking.delivery_queue import one_line
from raydistill.training.messages import seed_metric

THREADS = 8
PAGE = 1000
FILES = (SWEEP_FILE, RESULTS_FILE, IMAGES_FILE, SHEET_FILE, EXPERIMENT_FILE)
PARENT_SCORES = ("winner_", "baseline_", *(f"{name}_" for name in REFERENCES), "teacher-")


@dataclass(frozen=True, eq=False)
class SweepData:
    """One sweep. Frames have one row a trial, named by its key (`t0003`, `final-dogo-seed1`, `teacher-…`).

    `trials`: role (search, final, teacher), outcome (finished, stopped_early, failed, interrupted, running), message,
    copies, started, seconds of wall time, run_id. `settings`: the searched settings, a column for each path; missing
    (nan) where a condition (`when`) leaves a setting out, and None where `none` was chosen. `params`: all settings.
    Both as a population left them. `scores`: the last value of every metric. `rows`: the table at the end of the
    sweep, empty before. `identity`: `sweep.yaml`, what the sweep was asked to do. `overview`: how the images were
    understood. `sheet`: a PNG of some of them, with their augmented views. Both are empty where the sweep wrote none.
    `experiment`: what a published experiment compares, with its verdicts; empty for other sweeps.
    Times are UTC.
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
    rows: list[LeaderboardEntry]
    trials: pd.DataFrame
    settings: pd.DataFrame
    scores: pd.DataFrame
    params: pd.DataFrame
    client: Any = field(repr=False)
    started: pd.Timestamp = field(default_factory=lambda: pd.Timestamp(0))
    seconds: float = float("nan")
    overview: str = ""
    sheet: bytes = b""
    experiment: dict[str, Any] = field(default_factory=dict)
    _histories: dict[tuple[str, str], pd.Series] = field(default_factory=dict, repr=False)

    @property
    def searched(self) -> list[str]:
        """Paths of the settings that the search could vary."""
        return list(self.settings.columns)

    @property
    def objectives(self) -> list[tuple[str, str]]:
        """Every metric that the search went by, with its goal; the first is `metric`."""
        space = self.identity.get("space", {})
        told = space.get("metrics") or [space.get("metric") or {"name": self.metric, "goal": self.goal}]
        return [(each["name"], each["goal"]) for each in told]

    @property
    def metrics(self) -> list[str]:
        """The names of `objectives`."""
        return [name for name, _ in self.objectives]

    @property
    def maximize(self) -> bool:
        return self.goal == "maximize"

    @property
    def outcome(self) -> str:
        """Outcome of the sweep: finished, failed or interrupted; running before its end."""
        return self.tags.get(OUTCOME, "running")

    @property
    def winner(self) -> str | None:
        """The key of the run that won: the sweep's own choice, or before its end the best trial so far."""
        chosen = self.tags.get("raydistill.winner")
        return chosen if chosen in self.trials.index else next(iter(self.ranked()), None)

    @property
    def best(self) -> str | None:
        """The key of the search's trial that won, or leads so far."""
        chosen = self.winner
        own = chosen is not None and self.trials.role[chosen] == "search"
        if chosen and (match := re.fullmatch(r"final-.*-(t\d+)-seed\d+(?:-\d+)?", chosen)):  # of near-equal trials
            chosen, own = match[1], match[1] in self.trials.index
        return chosen if own else next(iter(self.ranked()), None)

    @property
    def source(self) -> str:
        """The name of its data; of a folder or a file without those above it."""
        return redact(str(self.base("data.source", "unknown data"))).rstrip("/").rpartition("/")[2]

    @property
    def command(self) -> str:
        """Command that started the sweep; empty where an earlier version did not record it."""
        return redact(self.tags.get("raydistill.command", ""))

    @property
    def environment(self) -> dict[str, str]:
        """Versions and machine that the sweep ran with."""
        found: dict[str, str] = frames.parsed(self.tags.get("raydistill.environment")) or {}
        return found

    @property
    def images(self) -> dict[str, int]:
        """Number of images of each split; empty where an earlier version did not record it."""
        found: dict[str, int] = frames.parsed(self.tags.get("raydistill.images")) or {}
        return found

    @property
    def digest(self) -> str:
        """Digest of the images and their splits, by which other images are told; empty where nobody recorded it."""
        return str(self.identity.get("images", {}).get("digest") or self.tags.get(DIGEST, ""))

    @property
    def spent(self) -> Spent | None:
        """Budget that the sweep used; None before its end."""
        found = frames.parsed(self.tags.get("raydistill.spent"))
        return Spent(**found) if found else None

    def base(self, path: str, default: Any = None) -> Any:
        """A setting of `section.field` as it was before the search."""
        section, _, name = path.partition(".")
        return self.identity.get("base", {}).get(section, {}).get(name, default)

    def spec(self, path: str) -> dict[str, Any]:
        """Entry of the search space for a setting; empty where there is none."""
        found: dict[str, Any] = self.identity.get("space", {}).get("parameters", {}).get(path, {})
        return found

    def score(self, key: str, metric: str = "") -> float:
        """A trial's last value of a metric, of the sweep's own if none is named; nan where it has none."""
        values: Any = self.scores.get(metric or self.metric)
        return float("nan") if values is None else float(values[key])

    def setting(self, key: str, path: str) -> Any:
        """A trial's value of a searched setting, as Python has it."""
        values: Any = self.settings[path]
        return values[key].item() if isinstance(values[key], np.generic) else values[key]

    def role(self, role: str, *outcomes: str) -> list[str]:
        """Keys of the trials of a role, with one of these outcomes if any are named."""
        chosen = self.trials[self.trials.role == role]
        return list(chosen[chosen.outcome.isin(outcomes)].index if outcomes else chosen.index)

    def ranked(self) -> list[str]:
        """Keys of the search's trials that had all their epochs and a score, best first; of equals the first."""
        finished = self.role("search", "finished")
        if self.metric not in self.scores:
            return []
        scores = self.scores.loc[finished, self.metric].dropna()
        return list(scores.sort_values(ascending=not self.maximize, kind="stable").index)

    @property
    def seeds_per_trial(self) -> int:
        """Number of seeds that each trial of a search trained; its scores are their means."""
        return int(self.identity.get("seeds_per_trial", 1))

    def by_seed(self, keys: list[str]) -> list[list[float]]:
        """The last scores of trials by seed; none for each where every trial had one seed.

        Args:
            keys: trials of a search that were trained to the end.
        """
        numbers = range(self.seeds_per_trial if self.seeds_per_trial > 1 else 0)
        curves = [self.curves(seed_metric(self.metric, number), keys) for number in numbers]
        return [[float(known.iloc[-1]) for curve in curves if len(known := curve[key].dropna())] for key in keys]

    def epochs(self) -> pd.Series:
        """Number of epochs of each trial."""
        return self.curves("loss").reindex(columns=self.trials.index).count()

    def curves(self, metric: str, keys: Iterable[str] | None = None) -> pd.DataFrame:
        """A metric by epoch (rows) and trial (columns), of all trials or of `keys`; missing where not scored."""
        wanted = list(self.trials.index if keys is None else keys)

        def ask(key: str) -> None:
            points = self.client.get_metric_history(self.trials.run_id[key], metric)
            found = {point.step: point.value for point in points}
            self._histories[key, metric] = pd.Series(found, name=key, dtype=float)

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(ask, [key for key in wanted if (key, metric) not in self._histories]))
        if not wanted:
            return pd.DataFrame(index=pd.Index([], name="epoch"))
        frame = pd.concat([self._histories[key, metric] for key in wanted], axis=1)
        return frame.sort_index().rename_axis("epoch")


def sweeps(uri: str, experiment: str = EXPERIMENT) -> pd.DataFrame:
    """The sweeps at a tracking address, newest first: method, outcome, started, and their winner's scores.

    Raises: ConfigError where there is no store, or no such experiment; TrackingError where the address cannot be used.
    """
    found = _runs(_reader(uri), f"tags.`{ROLE}` = 'sweep'", experiment)
    rows = [
        {
            "sweep": run.data.tags[SWEEP],
            "method": run.data.tags.get("raydistill.method", ""),
            "outcome": run.data.tags.get(OUTCOME, ""),
            "started": pd.to_datetime(run.info.start_time, unit="ms"),
            **{name: value for name, value in run.data.metrics.items() if name.startswith(PARENT_SCORES)},
        }
        for run in found
    ]
    frame = pd.DataFrame(rows, columns=None if rows else ["sweep", "method", "outcome", "started"]).set_index("sweep")
    return frame.sort_values("started", ascending=False)


def load(uri: str, name: str, experiment: str = EXPERIMENT, files: Iterable[str] = FILES) -> SweepData:
    """A sweep by its name, from an MLflow address.

    Args:
        uri: of the store.
        name: of the sweep.
        experiment: of MLflow.
        files: of the sweep's run that are read, of `FILES`.

    Raises: ConfigError for what is no name, where there is no store, and where there is no sweep of that name, with a
    near one; TrackingError where the address cannot be used.
    """
    try:
        check_name("sweep", name)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    client = _reader(uri)
    parents = _runs(client, f"tags.`{ROLE}` = 'sweep' AND tags.`{SWEEP}` = '{name}'", experiment)
    if not parents:
        known = [run.data.tags[SWEEP] for run in _runs(client, f"tags.`{ROLE}` = 'sweep'", experiment)]
        near = nearest(name, known) if known else ""
        raise ConfigError(f"there is no sweep {name!r} in {redact(uri)}{near}")
    parent = min(parents, key=lambda run: run.info.start_time)
    children = _runs(client, f"tags.`{SWEEP}` = '{name}' AND tags.`{TRIAL}` LIKE '%'", experiment)
    children.sort(key=lambda run: run.data.tags[TRIAL])
    keys = pd.Index([run.data.tags[TRIAL] for run in children], name="trial", dtype=object)
    kept = _artifacts(client, parent.info.run_id, files)
    identity = yaml.safe_load(kept.get(SWEEP_FILE, b"{}"))
    params, metrics = frames.params(children, keys), frames.metrics(children, keys)
    space = identity.get("space", {})
    (metric, *_) = space.get("metrics") or [space.get("metric") or {"name": "val_knn", "goal": "maximize"}]
    return SweepData(
        name=name,
        method=parent.data.tags.get("raydistill.method", ""),
        uri=uri,
        experiment_id=parent.info.experiment_id,
        run_id=parent.info.run_id,
        metric=metric["name"],
        goal=metric["goal"],
        tags=dict(parent.data.tags),
        identity=identity,
        rows=[LeaderboardEntry(**row) for row in json.loads(kept.get(RESULTS_FILE, b"[]"))],
        trials=frames.trials(children, keys),
        scores=frames.scores(metrics),
        params=params,
        settings=frames.searched(params, space.get("parameters", {})),
        client=client,
        started=pd.to_datetime(parent.info.start_time, unit="ms"),
        seconds=frames.seconds(parent),
        overview=kept.get(IMAGES_FILE, b"").decode(),
        sheet=kept.get(SHEET_FILE, b""),
        experiment=json.loads(kept.get(EXPERIMENT_FILE, b"{}")),
    )


def _reader(uri: str) -> Any:
    """A client; reading makes no store where there is none."""
    database = database_of(uri)
    if database is not None and not database.exists():
        raise ConfigError(f"there is no MLflow store {database}; give another with --tracking-uri")
    try:
        return connect(uri, EXPERIMENT)
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(f"MLflow at {redact(uri)} cannot be used: {one_line(error)}") from error


def _runs(client: Any, query: str, name: str) -> list[Any]:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        if name == EXPERIMENT:
            return []
        known = [each.name for each in client.search_experiments()]
        raise ConfigError(f"MLflow has no experiment {name!r}{nearest(name, known)}")
    found: list[Any] = []
    page = client.search_runs([experiment.experiment_id], query, max_results=PAGE)
    found += page
    while page.token:
        page = client.search_runs([experiment.experiment_id], query, max_results=PAGE, page_token=page.token)
        found += page
    return found


def _artifacts(client: Any, run_id: str, names: Iterable[str]) -> dict[str, bytes]:
    """Files that the sweep's run keeps, by name; those that are not there yet are left out.

    Args:
        client: of MLflow.
        run_id: of the sweep.
        names: of the files.
    """
    found = {}
    name = "the files"
    try:
        there = {file.path for file in client.list_artifacts(run_id)}
        with tempfile.TemporaryDirectory() as passing:
            for name in names:
                if name in there:
                    found[name] = Path(client.download_artifacts(run_id, name, passing)).read_bytes()
    except Exception as error:
        raise TrackingError(f"{name} of the sweep's run in MLflow cannot be read: {one_line(error)}") from error
    return found
