"""Tune's view of the proposer: a Searcher that hands out the trials of a phase."""

from __future__ import annotations

from typing import Any

import ray
from ray.tune.search import Searcher

from raydistill.machine import usable_memory
from raydistill.records.budget import BY_HAND
from raydistill.records.journal import TrialRecord
from raydistill.sweep.context import Phase, SweepContext, outcome_of, reported

TRIAL_BYTES = 150 * 2**20  # of a trial's process; 122 MiB were measured


class Unstored:
    """Keep Tune from storing this object: an empty shell is pickled in its place.

    Tune stores its searcher, callbacks and stopper to restore from. Those of a sweep hold files and threads, and a
    sweep resumes from its journal.
    """

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return Unstored, ()


class TuneSearch(Unstored, Searcher):
    """Hand out the trials of a phase, interrupted ones first, and report their results to the proposer.

    A proposal is made when the packs have room for it, not before, so that it knows what the others found.

    Args:
        context: the sweep's shared parts.
        phase: whose trials these are.
        pending: trials that an interruption left open.
        keys: of the trials that are still to be proposed.
    """

    def __init__(self, context: SweepContext, phase: Phase, pending: list[TrialRecord], keys: list[str]) -> None:
        super().__init__(metric=phase.metric, mode="max" if phase.goal == "maximize" else "min")
        self._context, self._phase = context, phase
        self._pending, self._keys = list(pending), list(keys)
        self._key_of: dict[str, str] = {}
        self.running: set[str] = set()
        # A scheduler has a process for each trial, and all of them are on this node.
        self._most = max(1, int(usable_memory() / 2 / TRIAL_BYTES)) if phase.scheduler else len(pending) + len(keys)
        self.note_room(ray.get(context.broker.status.remote())["room"])

    def note_room(self, learners: int) -> None:
        """Take note of how many learners the packs have room for; half of this node's free memory bounds trials."""
        self.room = max(min(learners // self._phase.seeds, self._most), 1)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next trial's Tune config, None while there is no room for it, or FINISHED."""
        if (not self._pending and not self._keys) or self._phase.stop() == BY_HAND:
            return Searcher.FINISHED
        if len(self.running) >= self.room and not self._phase.together:
            return None
        if self._pending:
            record = self._pending.pop(0)
        else:
            found = self._propose(self._keys[0])
            if found is None:
                return Searcher.FINISHED
            self._keys.pop(0)
            record = found
        self._key_of[trial_id] = record.key
        self.running.add(record.key)
        return {
            "key": record.key,
            "spec": self._context.plan.complete(record.spec),
            "settings": record.settings if self._phase.population else {},
            "directory": str(self._context.trial_directory(record.key)),
            "last_delivered_epoch": record.epochs,
            "seeds": self._phase.seeds,
            "broker": self._context.broker_name,
            "carry": self._phase.population,
        }

    def _propose(self, key: str) -> TrialRecord | None:
        """Begin a trial with settings that a user added, else with those of the proposer; None: nothing is left."""
        control, journal = self._context.control, self._context.journal
        added = control.next_added() if control is not None and self._phase.role == "search" else None
        if control is not None and added is not None:
            settings = self._phase.proposer.propose_with(key, added.settings)
            if settings is not None:
                journal.propose(key, settings, self._phase.resolve(settings), added=True)
            control.tried(added)
            if settings is not None:
                return journal.trials[key]
        settings = self._phase.proposer.propose(key)
        if settings is None:
            return None
        journal.propose(key, settings, self._phase.resolve(settings))
        return journal.trials[key]

    def on_pause(self, trial_id: str) -> None:
        """Do nothing: the callback handles pauses."""

    def on_unpause(self, trial_id: str) -> None:
        """Do nothing, as in `on_pause`."""

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if self._phase.metric in result:
            self._phase.proposer.observe(self._key_of[trial_id], result["epoch"], reported(result))

    @property
    def unproposed(self) -> list[str]:
        """The keys of the trials that have not begun."""
        return list(self._keys)

    def key_of(self, trial_id: str) -> str:
        """Return the key of a trial by its name in Tune."""
        return self._key_of.get(trial_id, "")

    @property
    def given(self) -> list[str]:
        """The keys of the trials handed out so far."""
        return list(self._key_of.values())

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        if not error:
            self.ended(self._key_of[trial_id], failed="failure" in (result or {}))

    def ended(self, key: str, *, failed: bool) -> None:
        """Report a trial's end to the proposer."""
        record = self._context.journal.trials[key]
        self.running.discard(key)
        if record.results:
            # Tune does not pass on the result that stopped a trial.
            self._phase.proposer.observe(key, record.epochs, record.results[record.epochs])
        self._phase.proposer.finish(key, outcome_of(record, failed), record.latest())

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal and the study's own file are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing, as in `save`."""
