"""Weights & Biases: a run for each trial and one for the sweep, in a group with the sweep's name."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raydistill.records.journal import role_of
from raydistill.tracking.loggers.base import (
    SWEEP,
    FinalTable,
    LoggerEvent,
    TrialEnd,
    TrialMetrics,
    TrialScores,
    TrialStart,
)

PROJECT = "raydistill"  # unless WANDB_PROJECT names another
FOLDER = "wandb"  # that W&B makes in the folder it is given
SENT_FILE = "sent.jsonl"  # what W&B has been given, since it cannot be asked in offline mode
SERVICE = "wandb-core"  # the process that W&B starts
FINISH_TIMEOUT_S = 30.0  # for a run's uploads; what is left lies in its folder, for `wandb sync`
SECOND_S = 1.1
SETTING = "setting/"  # how the metrics begin that are a population's settings


@dataclass
class Sent:
    """Record of what W&B has been given of a run: `scores` by their names, of the sweep the digest of its table."""

    step: int = -1
    ended: bool = False
    scores: set[str] = field(default_factory=set)


class WandbLogger:
    """Runs of W&B, whose ids follow from the sweep and the trial, so that a resume goes on with them.

    Args:
        folder: of the sweep; W&B's own files lie in its folder `wandb`.
        sweep: the sweep's name.
        identity: tells the sweep from others of its name.
    """

    def __init__(self, folder: Path, sweep: str, identity: str) -> None:
        self._folder, self._sweep, self._identity = folder, sweep, identity
        self._runs: dict[str, Any] = {}
        self._opened: dict[str, float] = {}
        self._waiting: dict[str, dict[str, float]] = {}
        self._sent: dict[str, Sent] | None = None
        self._services_before = _services()

    def run_id(self, key: str) -> str:
        """The id of a trial's run, or of the sweep's."""
        return hashlib.sha256(f"{self._identity}/{key}".encode()).hexdigest()[:16]

    def receive(self, event: LoggerEvent) -> None:
        match event:
            case TrialStart():
                if event.key == SWEEP or not self._of(event.key).ended:
                    self._open(event.key, {**event.params, **event.tags})
            case TrialMetrics():
                self._log(event)
            case TrialScores():
                self._score(event)
            case FinalTable():
                self._table(event)
            case TrialEnd():
                self._end(event)

    def _log(self, event: TrialMetrics) -> None:
        key, sent = event.key, self._of(event.key)
        if key == SWEEP:
            self._open(SWEEP).summary.update(dict(event.metrics))
        elif not sent.ended and event.step <= sent.step:
            # W&B takes no more for a step that it has, so settings that a population copied wait for the next one.
            news = {name: value for name, value in event.metrics.items() if name.startswith(SETTING)}
            self._waiting.setdefault(key, {}).update(news)
        elif not sent.ended:
            metrics = {**self._waiting.pop(key, {}), **event.metrics}
            self._open(key).log(metrics, step=event.step, commit=True)
            self._note(key, step=event.step)

    def _score(self, event: TrialScores) -> None:
        known = self._of(event.key).scores
        if new := {name: value for name, value in event.metrics.items() if name not in known}:
            self._open(event.key).summary.update(new)
            self._note(event.key, scores=sorted(new))
            self._finish(event.key, 0)

    def _table(self, event: FinalTable) -> None:
        digest = hashlib.sha256(json.dumps([event.header, event.rows]).encode()).hexdigest()
        if digest not in self._of(SWEEP).scores:
            import wandb

            self._open(SWEEP).log({"leaderboard": wandb.Table(columns=event.header, data=event.rows)})
            self._note(SWEEP, scores=[digest])

    def _end(self, event: TrialEnd) -> None:
        key, outcome = event.key, event.outcome
        failed = outcome not in ("finished", "stopped_early")
        if key == SWEEP:
            for each in [each for each in self._runs if each != SWEEP]:
                self._finish(each, int(failed))
        elif self._of(key).ended:
            return
        self._open(key).summary.update({"outcome": outcome, **({"message": event.message} if event.message else {})})
        self._finish(key, int(failed))
        if key == SWEEP:
            self._leave()
        elif outcome != "interrupted":
            self._note(key, ended=True)

    def abandon(self) -> None:
        """End the process that W&B started for this sweep, which would hold up the end of this one."""
        for service in _services() - self._services_before:
            with suppress(Exception):
                service.kill()

    def _leave(self) -> None:
        """Wait here for the end of W&B's process, which would else be waited for at the end of this one, unlimited."""
        import wandb

        if not self._services_before and wandb.run is None:
            wandb.teardown()

    def _open(self, key: str, config: dict[str, Any] | None = None) -> Any:
        """The run of a trial, begun or gone on with."""
        if key in self._runs:
            return self._runs[key]
        import wandb

        self._folder.mkdir(parents=True, exist_ok=True)
        # W&B names a run's folder by the second and the id, so a second one would replace the first one's files.
        time.sleep(max(0.0, self._opened.get(key, 0.0) + SECOND_S - time.time()))
        self._opened[key] = time.time()
        settings = wandb.Settings(
            console="off",
            silent=True,
            finish_timeout=FINISH_TIMEOUT_S,
            # What was typed, the packages and the code may hold secrets, and MLflow has what is needed of them.
            x_disable_meta=True,
            x_save_requirements=False,
            save_code=False,
            disable_git=True,
            disable_job_creation=True,
            x_disable_stats=key != SWEEP,
        )
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            group=self._sweep,
            job_type="sweep" if key == SWEEP else role_of(key),
            name=key or self._sweep,
            id=self.run_id(key),
            config=config,
            dir=str(self._folder),
            resume="allow",
            reinit="create_new",
            settings=settings,
        )
        self._runs[key] = run
        if not run.offline:
            self._of(key).step = run.starting_step - 1  # the server knows what has arrived
        return run

    def _finish(self, key: str, exit_code: int) -> None:
        if (run := self._runs.pop(key, None)) is not None:
            run.finish(exit_code=exit_code)

    @property
    def _record(self) -> Path:
        return self._folder / FOLDER / SENT_FILE

    def _of(self, key: str) -> Sent:
        if self._sent is None:
            self._sent = {}
            lines = self._record.read_text().splitlines() if self._record.exists() else []
            for line in lines:
                with suppress(ValueError):  # cut short by a kill
                    event = json.loads(line)
                    self._apply(event.pop("trial"), **event)
        return self._sent.setdefault(key, Sent())

    def _apply(self, key: str, step: int | None = None, scores: list[str] | None = None, ended: bool = False) -> None:
        sent = self._of(key)
        sent.step = max(sent.step, -1 if step is None else step)
        sent.scores |= {*(scores or ())}
        sent.ended = sent.ended or ended

    def _note(self, key: str, **event: Any) -> None:
        """Write down what W&B has been given."""
        self._apply(key, **event)
        self._record.parent.mkdir(parents=True, exist_ok=True)
        with self._record.open("a") as file:
            file.write(json.dumps({"trial": key, **event}) + "\n")


def _services() -> set[Any]:
    """The processes of W&B that this process has started."""
    import psutil

    found = set()
    with suppress(psutil.Error):
        for process in psutil.Process().children():
            with suppress(psutil.Error):
                if process.name() == SERVICE:
                    found.add(process)
    return found
