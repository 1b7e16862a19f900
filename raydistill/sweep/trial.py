"""A trial as Tune sees it: thin, holds no GPU, hands its configuration to the broker and waits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ray
from ray import tune


class Trial(tune.Trainable):
    """Config: `key`, `config` (resolved), `directory` (checkpoints), `broker` (the actor's name)."""

    def setup(self, config: dict[str, Any]) -> None:
        self.key = config["key"]
        self.broker = ray.get_actor(config["broker"])
        ray.get(self.broker.join.remote(self.key, config["config"], config["directory"]))

    def step(self) -> dict[str, Any]:
        """One epoch. A failed learner ends its trial in order, with the cause as `failure`: after an
        exception Tune 2.60 may hand the actor to the next trial and never step it."""
        report = ray.get(self.broker.next.remote(self.key))
        if report.error:
            return {"failure": report.error, "done": True}
        return {**report.metrics, "epoch": report.epoch, "done": report.done}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The learner's own checkpoints are in its directory; Tune needs only to know whose they are."""
        (Path(checkpoint_dir) / "trial.json").write_text(json.dumps({"key": self.key}))

    def load_checkpoint(self, checkpoint: str | dict[str, Any] | None) -> None:
        pass
