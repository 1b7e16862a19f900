"""What a check is asked about, and what it finds."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from raydistill.tracking.delivery_queue import without_password

Status = Literal["ok", "warning", "fault"]
SECRET_NAME = re.compile(r"TOKEN$|PASSWORD|SECRET|API_KEY|CREDENTIAL", re.IGNORECASE)
SECRET_FIELD = re.compile(r"([?&;](?:[^=&;\s]*(?:token|password|secret|key|sig|credential)[^=&;\s]*)=)[^&;\s]+", re.I)


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


def without_secrets(text: str) -> str:
    """`text` without passwords in addresses, and without what this process's environment keeps secret."""
    text = SECRET_FIELD.sub(r"\1***", without_password(text))
    for name, value in os.environ.items():
        if len(value) >= 6 and SECRET_NAME.search(name):
            text = text.replace(value, "***")
    return text
