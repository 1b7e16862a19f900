"""Failures of learners: the traceback beside the trial, and the error that brings a group of several workers down."""

from __future__ import annotations

import logging
import traceback
from contextlib import suppress

from raydistill.errors import RaydistillError
from raydistill.redaction import redact_environment
from raydistill.storage import StoragePath, reason, to_path
from raydistill.training.checkpoint_files import write_atomically
from raydistill.training.messages import EpochResult

log = logging.getLogger(__name__)
ERROR_FILE = "error.txt"  # the traceback of a trial that failed


class LearnerError(RaydistillError, RuntimeError):
    """One worker of several cannot go on with learners; the group must start again without them."""

    def __init__(self, *reports: EpochResult) -> None:
        super().__init__("; ".join(f"{report.key}: {report.error}" for report in reports))
        self.reports = reports


# docs/architecture.md#traceback-beside-the-trial
def write_traceback(directory: str | StoragePath | None, error: BaseException) -> None:
    """Write the whole traceback of an error, without secrets, into the folder of its trial, if it has one.

    A storage that refuses is named in a warning: the trial fails by its own error, not by this one.
    """
    log.debug("a learner failed", exc_info=error)
    if directory is None:
        return
    folder = to_path(directory)
    text = redact_environment("".join(traceback.format_exception(error)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / ERROR_FILE, text.encode(errors="backslashreplace"))
    except OSError as refused:
        log.warning("%s: cannot be written (%s)", folder / ERROR_FILE, reason(refused))


def remove_traceback(directory: str | StoragePath | None) -> None:
    """Remove what an earlier life of the trial left, which goes on now."""
    if directory is not None:
        with suppress(OSError):
            (to_path(directory) / ERROR_FILE).unlink(missing_ok=True)
