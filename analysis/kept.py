"""The part of a sweep's folder that is kept in the repository."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from raydistill.records.layout import ORIGIN_FILE, RESULTS_FILE

COMMON = ("journal.jsonl", "sweep.yaml", "budget.json", "images.txt", "table.md", "trials/*/scores.json")


def keep(sweep: Path, target: Path, files: Sequence[str], names: Mapping[str, str] | None = None) -> None:
    """Copy what a sweep is told from; the results come last, since they say that it is whole.

    Checkpoints, Ray's files and the name of the system stay behind.

    Args:
        sweep: its folder.
        target: the folder to write, anew.
        files: patterns of the files to keep, beside where it came from and its results.
        names: what replaces paths of this machine.
    """
    shutil.rmtree(target, ignore_errors=True)
    for file in (file for pattern in files for file in sorted(sweep.glob(pattern))):
        _write(target / file.relative_to(sweep), file.read_text(), names or {})
    origin = json.loads((sweep / ORIGIN_FILE).read_text())
    origin["environment"].pop("system", None)
    for place in ("storage", "artifacts"):
        origin.pop(place, None)
    _write(target / ORIGIN_FILE, json.dumps(origin, indent=1) + "\n", names or {})
    _write(target / RESULTS_FILE, (sweep / RESULTS_FILE).read_text(), names or {})


def _write(file: Path, text: str, names: Mapping[str, str]) -> None:
    for path, name in names.items():
        text = text.replace(path, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
