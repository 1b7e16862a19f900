"""Addresses of MLflow's pages about a sweep."""

from __future__ import annotations

import json
from urllib.parse import quote

from raydistill.redaction import redact
from raydistill.report.load import SweepData

LOCAL = "http://127.0.0.1:5000"  # where `mlflow ui` listens
MAX_COMPARED_RUNS = 100  # runs that MLflow's page compares


def links(sweep: SweepData) -> dict[str, str]:
    """Addresses of MLflow's pages of the sweep, by what they show; without a server, those of `mlflow ui`."""
    server = redact(sweep.uri).rstrip("/") if sweep.uri.startswith("http") else LOCAL
    experiment = f"{server}/#/experiments/{sweep.experiment_id}"
    found = {
        "the sweep's own run: table, configurations, report": f"{experiment}/runs/{sweep.run_id}",
        "all its runs": f"{experiment}/runs?searchFilter={quote(_of(sweep.name))}",
    }
    # MLflow's page does not tell those that were stopped early from the others.
    keys = sweep.ranked()[:MAX_COMPARED_RUNS]
    if len(keys) > 1:
        runs = json.dumps([sweep.trials.run_id[key] for key in keys], separators=(",", ":"))
        where = quote(json.dumps([sweep.experiment_id]))
        address = f"{server}/#/compare-runs?runs={quote(runs)}&experiments={where}"
        found = {"the trials trained to the end, compared: parallel coordinates, scatter plots": address} | found
    return found


def _of(sweep: str) -> str:
    return f"tags.`raydistill.sweep` = '{sweep}'"
