"""A trial as Tune sees it: thin, holds no GPU, hands its configuration to the broker and waits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ray
from ray import tune

from raydistill.storage import StoragePath, to_path
from raydistill.training.checkpoint_files import adopt, finished, newest, of_epoch, write_atomically
from raydistill.training.messages import JoinRequest

POINTER = "trial.json"
COPY = "copy.json"


class SweepTrainable(tune.Trainable):
    """One trial, which hands its configuration to the broker and waits for each epoch.

    Its Tune config holds `key`; `spec`, under the `settings` by dotted path that a population changes;
    `as_of`, the epoch of another trial that it copies; `directory` of its checkpoints; `last_delivered_epoch`;
    `seeds`, how many it trains; `broker`, the actor's name; `carry`, whether Tune's own checkpoints hold the weights,
    so that others can copy them.

    It joins with its first step: Tune may prepare two actors for one trial and step one of them only.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self.key = config["key"]
        self.directory = to_path(config["directory"])
        self.carry = config["carry"]
        self.seeds = config["seeds"]
        self.epoch = config["last_delivered_epoch"]
        self.copied_from = ""
        self.settings = config["settings"]
        self.as_of = config.get("as_of", 0)
        self.spec = config["spec"].assign(config["settings"]) if config["settings"] else config["spec"]
        self.broker = ray.get_actor(config["broker"])
        self.joined = False

    def step(self) -> dict[str, Any]:
        """Train one epoch.

        A failed learner ends its trial in order, with the cause as `failure`: after an exception Tune 2.60 may hand the
        actor to the next trial and never step it.
        """
        # docs/architecture.md#joining-with-the-first-step
        if not self.joined:
            request = JoinRequest(self.key, self.spec, str(self.directory), self.epoch, self.seeds)
            ray.get(self.broker.join.remote(request))
            self.joined = True
        report = ray.get(self.broker.next.remote(self.key))
        # docs/architecture.md#failed-learners-as-results
        if report.error:
            return {"failure": report.error, "done": True}
        self.epoch = report.epoch
        copied, self.copied_from = self.copied_from, ""
        told = {"epoch": report.epoch, "done": report.done, "copied_from": copied, "offsets": report.offsets}
        return {**report.metrics, **told}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write whose checkpoint this is, and for a population what it holds.

        The learner's own checkpoints are in its directory.
        """
        folder = Path(checkpoint_dir)
        (folder / POINTER).write_text(json.dumps({"key": self.key, "epoch": self.epoch}))
        if self.carry and (state := newest(self.directory)) is not None:
            for part in (state, state.with_suffix(".json")):
                (folder / part.name).write_bytes(part.read_bytes())

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from the own newest checkpoint, or, told to copy another trial, from the one carried here.

        Tune 2.60 may put the donor's next checkpoint into the same folder before the copy is made.
        """
        folder = Path(checkpoint)
        pointer = json.loads((folder / POINTER).read_text())
        if pointer["key"] == self.key:
            self.epoch = pointer["epoch"]
        else:
            self.epoch = self.as_of
            note = {
                "epoch": self.as_of,
                "donor": pointer["key"],
                "settings": self.settings,
                "of": _checksum(of_epoch(folder, self.as_of)),
            }
            self.directory.mkdir(parents=True, exist_ok=True)
            write_atomically(self.directory / COPY, json.dumps(note).encode())
            adopt(folder, self.as_of, self.directory)
            self.copied_from = f"{pointer['key']}@{self.as_of}"
        self.joined = False


def last_copy(directory: StoragePath) -> tuple[int, str, dict[str, Any]] | None:
    """Epoch, donor and settings of the copy that a trial's checkpoints go back to, if its weights are there."""
    try:
        note = json.loads((directory / COPY).read_text())
    except FileNotFoundError:
        return None
    there = {_checksum(state) for state in finished(directory)}
    return (note["epoch"], note["donor"], note["settings"]) if note["of"] in there else None


def _checksum(state: StoragePath | None) -> str:
    return "" if state is None else str(json.loads(state.with_suffix(".json").read_text())["sha256"])
