"""The Ray cluster that a sweep runs on."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from raydistill.sweep.preflight.security import refuse_open_head


@contextmanager
def connected_cluster() -> Iterator[None]:
    """Connect to the cluster of RAY_ADDRESS (a job's own), else start a private one on this machine.

    Raises: ConfigError if others can reach the cluster's head.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "600")
    os.environ.setdefault("TUNE_WARN_THRESHOLD_S", "10")
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "64")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    already = ray.is_initialized()
    address = os.environ.get("RAY_ADDRESS")
    if not already:
        local: dict[str, Any] = {} if address else {"address": "local", "include_dashboard": False}
        context = ray.init(log_to_driver=False, logging_level=logging.ERROR, configure_logging=True, **local)
    try:
        if not already and address:
            refuse_open_head(address, getattr(context, "dashboard_url", ""))
        yield
    finally:
        if not already:
            ray.shutdown()
