"""A sweep as its folder keeps it, in data frames. Needs no MLflow."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from raydistill import config as configuration
from raydistill.config import Config, ConfigError
from raydistill.records.journal import TrialRecord, read_records, role_of
from raydistill.records.layout import JOURNAL_FILE, RESULTS_FILE, SWEEP_FILE, WINNER_CONFIG_FILE
from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.storage import StoragePath, reason
from raydistill.training.checkpoint_files import winner_of


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep, while it runs, after it was interrupted, or at its end.

    Attributes:
        folder: where it is.
        identity: what it was asked to do, as `sweep.yaml` has it.
    """

    folder: StoragePath
    identity: dict[str, Any]
    _records: dict[str, TrialRecord] = field(repr=False)
    _rows: list[LeaderboardEntry] = field(repr=False)

    @property
    def name(self) -> str:
        """The name of the sweep, which is that of its folder."""
        return self.folder.name

    @property
    def method(self) -> str:
        """The name of the method that was explored."""
        return str(self.identity["base"]["method"]["name"])

    @property
    def metric(self) -> str:
        """The metric that the search went by; of several the first."""
        space = self.identity["space"]
        (metric, *_) = space.get("metrics") or [space["metric"]]
        return str(metric["name"])

    @property
    def winner(self) -> str | None:
        """The key of the trial that won; None before the end of the sweep."""
        found = winner_of(self.folder)
        return None if found is None else found.name

    @property
    def winner_config(self) -> Config | None:
        """The complete configuration of the winner; None before the end of the sweep."""
        path = self.folder / WINNER_CONFIG_FILE
        return configuration.read(path) if path.exists() else None

    def trials(self) -> pd.DataFrame:
        """The trials, one row for each, by key.

        Returns: `role` (search, final or teacher), `outcome` (finished, stopped_early, failed, or unfinished),
            `epochs`, `message`, then a column for each searched setting (`train.lr`) and one for the last
            value of each metric (`val_knn`).
        """
        rows = [
            {
                "role": role_of(key),
                "outcome": record.outcome or "unfinished",
                "epochs": record.epochs,
                "message": record.message,
                **(record.settings if role_of(key) == "search" else {}),
                **record.latest(),
            }
            for key, record in self._records.items()
        ]
        columns = None if rows else ["role", "outcome", "epochs", "message"]
        return pd.DataFrame(rows, pd.Index(list(self._records), name="trial", dtype=object), columns)

    def curves(self, metric: str = "") -> pd.DataFrame:
        """A metric by epoch (rows) and trial (columns); missing where a trial was not scored.

        Args:
            metric: its name; that of the sweep by default.

        Returns: an empty frame for a metric that no trial has.
        """
        name = metric or self.metric
        series = {
            key: {epoch: values[name] for epoch, values in record.results.items() if name in values}
            for key, record in self._records.items()
        }
        return pd.DataFrame({key: pd.Series(found, dtype=float) for key, found in series.items()}).rename_axis("epoch")

    def leaderboard(self) -> pd.DataFrame:
        """The table at the end of the sweep: the winner, its baselines and the next best trials, a row for each seed.

        Returns: `configuration`, `seed`, `epochs`, and a column for each score; empty before the end of the sweep.
        """
        rows = [
            {"configuration": row.name, "seed": seed, "epochs": row.epochs, **scores}
            for row in self._rows
            for seed, scores in enumerate(row.scores)
        ]
        return pd.DataFrame(rows, columns=None if rows else ["configuration", "seed", "epochs"])


def read_sweep(folder: StoragePath) -> Sweep:
    """Read the results in a sweep's folder.

    Raises: ConfigError where they cannot be read.
    """
    try:
        identity = configuration.read_yaml(folder / SWEEP_FILE)
        results = folder / RESULTS_FILE
        rows = json.loads(results.read_text()) if results.exists() else []
        return Sweep(folder, identity, read_records(folder / JOURNAL_FILE), [LeaderboardEntry(**row) for row in rows])
    except OSError as error:
        raise ConfigError(f"sweep {folder} cannot be read ({reason(error)})") from None
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"sweep {folder} is damaged ({error})") from None
