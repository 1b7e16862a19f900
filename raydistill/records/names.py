"""Names that become folders, tags and actor names: one rule for all of them."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_name(kind: str, name: str) -> str:
    """`name` itself if it is safe as a folder and in a query; `kind` (sweep, trial, ...) says whose it is.

    Raises: ValueError that names the kind, the name and what would be accepted.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{kind} name {name!r} is refused: use 1 to 128 letters, digits, '.', '_' or '-', "
            "starting with a letter or a digit"
        )
    return name
