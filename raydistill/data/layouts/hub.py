"""Data sets of the Hugging Face Hub by name: `hf:OWNER/NAME`, `hf:OWNER/NAME@REVISION/CONFIG`."""

from __future__ import annotations

import re
from pathlib import Path

from raydistill.data.images import DataError

PREFIX = "hf:"
_NAME = re.compile(r"(?P<owner>[\w.-]+/)?(?P<name>[\w.-]+)(?:@(?P<revision>[^/]+))?(?:/(?P<folder>.+))?")


def repository(source: str) -> str | None:
    """Name the data set of the Hub that a source is, without revision and folder; None for any other source."""
    match = _NAME.fullmatch(source.removeprefix(PREFIX)) if source.startswith(PREFIX) else None
    return f"{match['owner'] or ''}{match['name']}" if match else None


def fetch(source: str) -> Path:
    """Download a data set of the Hub, or find it in the Hub's cache on this machine; return its folder.

    `hf:OWNER/NAME`, then `@REVISION` and `/FOLDER` where a data set has several configurations. The environment decides
    as for other programs: HF_TOKEN, HF_HOME, HF_HUB_OFFLINE.

    Raises:
        DataError: there is no such data set, or the Hub cannot be reached.
    """
    match = _NAME.fullmatch(source.removeprefix(PREFIX))
    if match is None:
        raise DataError(f"{source!r}: give hf:OWNER/NAME, as on huggingface.co/datasets")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name = f"{match['owner'] or ''}{match['name']}"
    try:
        folder = Path(snapshot_download(name, repo_type="dataset", revision=match["revision"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(
            f"{source}: cannot be had from the Hugging Face Hub ({first}); without a network, download it elsewhere "
            "and give its folder"
        ) from None
    wanted = folder / match["folder"] if match["folder"] else folder
    if not wanted.exists():
        there = sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
        raise DataError(f"{source}: has no folder {match['folder']}; there are {', '.join(there[:9]) or 'none'}")
    return wanted
