"""Setup that a check examines, and its results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "fault"]


@dataclass(frozen=True)
class Setup:
    """Folders are paths, or addresses such as `s3://bucket/path`. `gpu`: wanted, not wanted, or as there is."""

    storage: str
    artifacts: str
    tracking_uri: str
    address: str | None = None
    gpu: bool | None = None


@dataclass(frozen=True)
class CheckResult:
    """One line of the report; `fix` is what to do about a warning or a fault."""

    name: str
    status: Status
    message: str
    fix: str = ""


CheckFunction = Callable[[Setup], Iterable[CheckResult]]
