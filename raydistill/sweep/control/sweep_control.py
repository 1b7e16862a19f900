"""Decisions of a running sweep on what it is asked to do meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from raydistill.config import ConfigError
from raydistill.records.budget import BY_HAND, SEARCH, TRIAL_BY_HAND, Budget
from raydistill.records.journal import Journal, role_of
from raydistill.sweep.control.requests import ControlAnswer, ControlRequest, Inbox
from raydistill.sweep.search.given import check_given
from raydistill.sweep.search.space import Space

if TYPE_CHECKING:
    from raydistill.sweep.context import Phase

PHASES = {"teacher": "teachers train", "final": "final runs train", "baseline": "a baseline is searched"}


class SweepControl:
    """Obeys requests, or says why not.

    Args:
        inbox: has the requests.
        journal: of the sweep.
        budget: ends a search that is stopped, as when it is spent.
        space: of the sweep's own search.
        note: says a line.
    """

    def __init__(
        self, inbox: Inbox, journal: Journal, budget: Budget, space: Space, note: Callable[[str], None]
    ) -> None:
        self._inbox, self._journal, self._budget, self._space, self._note = inbox, journal, budget, space, note

    def look(self, phase: Phase, unproposed: Sequence[str]) -> bool:
        """Obey what is asked now and then; return whether anything was.

        Args:
            phase: that runs.
            unproposed: keys of its trials that have not begun.

        Raises: KeyboardInterrupt if the sweep is to end at once.
        """
        obeyed = False
        for request in self._inbox.new():
            try:
                text = self._obey(request, phase, len(unproposed))
            except ConfigError as error:
                self._inbox.answer(request, ControlAnswer(False, str(error)))
                continue
            obeyed = True
            self._note(f"asked by hand: {text}")
            self._inbox.answer(request, ControlAnswer(True, text))
            if request.now:
                raise KeyboardInterrupt
        return obeyed

    def stops(self, key: str) -> bool:
        """Return whether a trial is to end with its running epoch."""
        return any(key in request.trials for request in self._inbox.accepted.values())

    def ended(self, key: str) -> None:
        """Note that a trial has ended; a request to stop it is done."""
        for request in list(self._inbox.accepted.values()):
            if key in request.trials and all(self._has_ended(each) for each in request.trials):
                self._inbox.done(request)

    def next_added(self) -> ControlRequest | None:
        """The oldest settings that were added and not tried yet."""
        return next((each for _, each in sorted(self._inbox.accepted.items()) if each.action == "add"), None)

    def tried(self, request: ControlRequest) -> None:
        """Note that a trial has begun with settings that were added."""
        self._inbox.done(request)

    def notes(self, trials: int) -> list[str]:
        """Say what was stopped by hand, for the end of the sweep.

        Args:
            trials: that the search was to try.
        """
        records = self._journal.trials
        keys = [key for key, record in records.items() if record.message == TRIAL_BY_HAND]
        lines = [f"{TRIAL_BY_HAND}: {', '.join(keys)}"] if keys else []
        for phase in self._budget.stopped_by_hand():
            begun = sum(role_of(key) == "search" for key in records)
            of = f"after {begun} of {trials} trials" if phase == SEARCH else f"for the baseline {phase}"
            lines.append(f"{BY_HAND} {of}")
        return lines

    def _obey(self, request: ControlRequest, phase: Phase, unproposed: int) -> str:
        """Do what is asked; return what will happen. Raises: ConfigError that says why not."""
        if request.now:
            return "the sweep ends in order, and resumes where it was"
        if request.action == "add":
            return self._add(request, phase, unproposed)
        return self._stop_trials(request, phase) if request.trials else self._stop_search(phase)

    def _stop_trials(self, request: ControlRequest, phase: Phase) -> str:
        for key in request.trials:
            record = self._journal.trials.get(key)
            if record is None:
                raise ConfigError(f"{key}: there is no such trial")
            if record.outcome is not None:
                raise ConfigError(f"{key} has ended already: {record.outcome.replace('_', ' ')}")
            if phase.scheduler is None or key not in {phase.key(index) for index in range(phase.trials)}:
                raise ConfigError(f"{key} is no trial of a search that runs; --now ends the whole sweep in order")
        self._inbox.accept(request)
        return f"{', '.join(request.trials)} {'ends' if len(request.trials) == 1 else 'end'} with the running epoch"

    def _stop_search(self, phase: Phase) -> str:
        if phase.scheduler is None:
            meanwhile = PHASES.get(phase.role, "it runs an experiment")
            raise ConfigError(f"there is no search to stop now ({meanwhile}); --now ends the whole sweep in order")
        if reason := self._budget.exhausted():
            raise ConfigError(f"this search ends already: {reason}")
        keys = [phase.key(index) for index in range(phase.trials)]
        ended = [key for key in keys if key in self._journal.trials and self._journal.trials[key].outcome == "finished"]
        if not ended:
            raise ConfigError(
                "no trial of this search has been trained to its end, so nothing would be left for the final; wait for "
                "one, or end the whole sweep in order with --now"
            )
        self._budget.end(BY_HAND)
        begun = sum(key in self._journal.trials for key in keys)
        follows = "; each baseline is searched with as many trials at most" if phase.role == "search" else ""
        return f"the search ends with the running epochs, after {begun} of {phase.trials} trials{follows}"

    def _add(self, request: ControlRequest, phase: Phase, unproposed: int) -> str:
        if phase.role != "search":
            raise ConfigError(f"its own search does not run now ({PHASES.get(phase.role, phase.role)})")
        if self._budget.exhausted():
            raise ConfigError(f"its search is about to end: {self._budget.exhausted()}")
        waiting = sum(each.action == "add" for each in self._inbox.accepted.values())
        if unproposed <= waiting:
            raise ConfigError(
                f"all {phase.trials} trials have begun or are taken; when it has finished, go on with more of them "
                "(--resume with a larger --trials)"
            )
        check_given(self._space, request.settings)
        if not phase.proposer.has(request.settings):
            raise ConfigError(f"{dict(request.settings)}: every point of the grid with these values was tried")
        self._inbox.accept(request)
        shown = ", ".join(f"{path} = {value}" for path, value in request.settings.items())
        return f"{shown}: tried next, as one of the {phase.trials} trials"

    def _has_ended(self, key: str) -> bool:
        record = self._journal.trials.get(key)
        return record is None or record.outcome is not None
