"""Writes an export: all of a folder or nothing of it, read back and compared before anybody sees it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from raydistill import config as configuration
from raydistill.artifacts.sources import PROVENANCE
from raydistill.config import ConfigError
from raydistill.errors import RaydistillError
from raydistill.export.card import card, preprocessing, provenance
from raydistill.export.encoders import choose, embed_plain, sample
from raydistill.export.formats import Format, copy_portable
from raydistill.export.run import ResolvedRun
from raydistill.records.layout import CONFIG_FILE
from raydistill.storage import reason

TOLERANCE = 1e-5
CARD = "README.md"


class ExportError(RaydistillError, RuntimeError):
    """An export does not give the embeddings that its run gives; the message says by how much."""


@dataclass(frozen=True)
class Exported:
    """Written export.

    `difference`: the largest between the export's embeddings and the run's on the images `seen`, as a share of the
    largest entry.
    """

    folder: Path
    usage: str
    difference: float
    seen: str


# docs/architecture.md#verified-exports
def export(
    found: ResolvedRun, form: Format, out: Path, *, encoder: str | None = None, overwrite: bool = False
) -> Exported:
    """Write an encoder of the run to a folder, and read it back.

    Args:
        found: the run.
        form: the format.
        out: the folder.
        encoder: its name; None: the student.
        overwrite: replace an export that is there.

    Raises:
        ConfigError: the encoder is not there or cannot be expressed, or the folder is in use.
        ExportError: the embeddings differ by more than 1e-5 of their largest entry.
    """
    _refuse(out, overwrite)
    name = encoder or found.encoder
    network = choose(found, name)
    found = replace(found, encoder=name)
    size = found.context["image_size"]
    images, seen = sample(found.config)
    with _replacing(out) as folder:
        view = preprocessing(size, found.context.get("levels"), found.config.data.resize)
        (folder / "preprocessing.json").write_text(json.dumps(view, indent=1))
        copy_portable("preprocess.py", folder)
        form.write(network, found, folder)
        expected = embed_plain(network, images, size)
        scale = expected.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
        difference = float((form.embed(folder, images) - expected).abs().max() / scale)
        if not difference <= TOLERANCE:
            raise ExportError(f"{found.run}: the export differs from the run by {difference:.2g}, on {seen}")
        about = provenance(found) | {
            "dim": network.dim,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "weights": _weights(folder, form.WEIGHTS),
            "checked": {"images": seen, "largest_difference": difference},
            "files": sorted([*_files(folder), PROVENANCE, CONFIG_FILE, CARD]),
        }
        usage = form.usage(folder)
        (folder / PROVENANCE).write_text(json.dumps(about, indent=1))
        (folder / CONFIG_FILE).write_text(yaml.safe_dump(configuration.dump(found.config), sort_keys=False))
        (folder / CARD).write_text(card(found, about, view, form.NEEDS, usage))
        for file in (path for path in folder.rglob("*") if path.is_file()):
            file.chmod(0o644)  # some writers make files that nobody else may read
    return Exported(out, usage, difference, seen)


def _refuse(out: Path, overwrite: bool) -> None:
    if out.is_dir() and any(out.iterdir()):
        if not overwrite:
            raise ConfigError(f"--out {out}: is not empty; choose another folder, or add --overwrite")
        _refuse_other_files(out)
    elif out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file; give a folder")


def _refuse_other_files(out: Path) -> None:
    """Refuse a folder with files beside those of one export. Raises ConfigError."""
    try:
        about = json.loads((out / PROVENANCE).read_text())
        own, whole = {*about["files"]}, bool(about["run"]) and (out / about["weights"]["file"]).is_file()
    except (OSError, ValueError, KeyError, TypeError):
        own, whole = set(), False
    if not whole:
        raise ConfigError(f"--out {out}: is no export, and --overwrite replaces nothing else")
    if others := sorted({*_files(out)} - own):
        raise ConfigError(f"--out {out}: holds {others[0]}, which is not of the export; --overwrite would delete it")


def _files(folder: Path) -> list[str]:
    """List the files of a folder, without what Python leaves behind where an export's code has run."""
    found = [path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    return sorted(path.as_posix() for path in found if path.parent.name != "__pycache__")


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end, and goes if that does not come."""
    passing, before = (out.with_name(f".{out.name}.{word}-{os.getpid()}") for word in ("new", "old"))
    try:
        passing.mkdir(parents=True)
        yield passing
        if out.exists():
            out.rename(before)
        passing.rename(out)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({reason(error)})") from None
    finally:
        if before.exists() and not out.exists():
            before.rename(out)
        for folder in (passing, before):
            shutil.rmtree(folder, ignore_errors=True)


def _weights(folder: Path, file: str) -> dict[str, Any]:
    with (folder / file).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"file": file, "bytes": (folder / file).stat().st_size, "sha256": digest}
