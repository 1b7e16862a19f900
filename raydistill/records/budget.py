"""Budget of a sweep: hours, accelerator hours and epochs, used and left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

SEARCH = "search"
TRIAL_BY_HAND = "stopped by hand"  # what a trial's end says that was stopped by its name
BY_HAND = f"the search was {TRIAL_BY_HAND}"  # a reason that no limit takes back


@dataclass(frozen=True)
class Limits:
    """Limits of a sweep; None: any amount.

    `hours` of wall time; `epochs` of all trials together; `price_per_hour` of one accelerator, which limits
    nothing and turns accelerator hours into money. Raises: ValueError for a negative one.
    """

    hours: float | None = None
    accelerator_hours: float | None = None
    epochs: int | None = None
    price_per_hour: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not value >= 0:
                raise ValueError(f"{name} = {value}; expected at least 0")


@dataclass(frozen=True)
class Spent:
    """`hours` of wall time; `money` in the currency of the price, None without one."""

    hours: float = 0.0
    accelerator_hours: float = 0.0
    epochs: int = 0
    money: float | None = None


class Budget:
    """Counts from when it is made; over a resume with what `to_dict` kept.

    Args:
        clock: seconds that never fall.
    """

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._seen = clock()
        self._seconds = 0.0
        self._accelerator_seconds = 0.0
        self._in_use = 0
        self._epochs = 0
        self._final_epochs = 0
        self._phase = SEARCH
        self._reasons: dict[str, str] = {}

    def using(self, accelerators: int) -> None:
        """Set the number of accelerators in use from now on. Raises ValueError for a negative number."""
        if accelerators < 0:
            raise ValueError(f"{accelerators} accelerators in use")
        self._settle()
        self._in_use = accelerators

    def trained(self, epochs: int = 1) -> None:
        """Add trial-epochs, of any trial. Raises ValueError for a negative number."""
        if epochs < 0:
            raise ValueError(f"{epochs} epochs done")
        self._epochs += epochs

    def spent(self) -> Spent:
        """Sum of everything used until now."""
        self._settle()
        return self._as_spent(self._seconds / 3600, self._accelerator_seconds / 3600, self._epochs)

    def reserve(self, epochs: int, phase: str = SEARCH) -> Spent:
        """Keep back what comes after a phase, so many trial-epochs; `exhausted` counts it as spent.

        It is reckoned again at each question, at the speed of all epochs so far; before the first epoch its
        hours are unknown and count as 0. Each phase is exhausted for itself. Reserve 0 once the last one has begun.

        Args:
            epochs: that later phases need.
            phase: that begins now.

        Returns: what they need by now.
        Raises: ValueError for a negative number.
        """
        if epochs < 0:
            raise ValueError(f"{epochs} epochs to reserve")
        self._final_epochs, self._phase = epochs, phase
        return self.reserved()

    def reserved(self) -> Spent:
        """Need of the final phase, at the speed so far."""
        spent = self.spent()
        share = self._final_epochs / spent.epochs if spent.epochs else 0.0
        return self._as_spent(spent.hours * share, spent.accelerator_hours * share, self._final_epochs)

    def exhausted(self) -> str:
        """Reason why the phase may start no more, in one line; empty while it may. A reason once given stays."""
        if self._phase not in self._reasons:
            spent, needed = asdict(self.spent()), asdict(self.reserved())
            for name in ("hours", "accelerator_hours", "epochs"):
                limit = getattr(self.limits, name)
                if limit is not None and spent[name] + needed[name] >= limit:
                    how = "spent or needed for the final" if needed[name] else "spent"
                    unit = {"epochs": "trial-epochs"}.get(name, name.replace("_", " "))
                    total = _shown(spent[name] + needed[name])
                    self._reasons[self._phase] = f"{total} of {_shown(limit)} {unit} are {how}"
                    break
        return self._reasons.get(self._phase, "")

    def end(self, reason: str) -> None:
        """Have the phase start no more, for this reason."""
        self._reasons.setdefault(self._phase, reason)

    def stopped_by_hand(self) -> list[str]:
        """Return the phases that were stopped by hand: `SEARCH`, or a baseline's name."""
        return [phase for phase, reason in self._reasons.items() if reason == BY_HAND]

    def reopen(self) -> None:
        """Take back that searches were stopped by hand, since they are to try more."""
        self._reasons = {phase: reason for phase, reason in self._reasons.items() if reason != BY_HAND}

    def to_dict(self) -> dict[str, Any]:
        """Return what a resumed sweep needs to go on counting, as plain values; the limits are its own."""
        self._settle()
        return {
            "seconds": self._seconds,
            "accelerator_seconds": self._accelerator_seconds,
            "epochs": self._epochs,
            "final_epochs": self._final_epochs,
            "limits": asdict(self.limits),
            "exhausted": self._reasons.get(SEARCH, ""),
            "exhausted_later": {phase: reason for phase, reason in self._reasons.items() if phase != SEARCH},
        }

    @classmethod
    def from_dict(
        cls, values: dict[str, Any], limits: Limits, *, clock: Callable[[], float] = time.monotonic
    ) -> Budget:
        """Go on from what `to_dict` gave; the time between is not counted, and no accelerator is in use.

        Args:
            values: of `to_dict`. Under the same limits an exhausted budget stays exhausted, and under any limits what
                was stopped by hand.
            limits: of the resumed sweep.
            clock: seconds, as `time.monotonic`.
        """
        budget = cls(limits, clock=clock)
        budget._seconds = float(values["seconds"])
        budget._accelerator_seconds = float(values["accelerator_seconds"])
        budget._epochs = int(values["epochs"])
        budget._final_epochs = int(values["final_epochs"])
        own = {SEARCH: str(values["exhausted"])} if values["exhausted"] else {}
        reasons = own | values.get("exhausted_later", {})
        same = values["limits"] == asdict(limits)
        budget._reasons = {phase: reason for phase, reason in reasons.items() if same or reason == BY_HAND}
        return budget

    def _settle(self) -> None:
        """Count the time since the last call, at the accelerators that were in use."""
        now = self._clock()
        passed = max(0.0, now - self._seen)
        self._seen = now
        self._seconds += passed
        self._accelerator_seconds += passed * self._in_use

    def _as_spent(self, hours: float, accelerator_hours: float, epochs: int) -> Spent:
        price = self.limits.price_per_hour
        return Spent(hours, accelerator_hours, epochs, None if price is None else accelerator_hours * price)


def describe_spent(spent: Spent) -> str:
    """Describe what is spent: "0.50 h, 1.20 worker hours, 3.60 at the price given"."""
    parts = [f"{spent.hours:.2f} h", f"{spent.accelerator_hours:.2f} worker hours"]
    if spent.money is not None:
        parts.append(f"{spent.money:.2f} at the price given")
    return ", ".join(parts)


def _shown(value: float) -> str:
    """Epochs whole; hours with a decimal, or two digits below 1."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.1f}" if value >= 1 or not value else f"{value:.2g}"
