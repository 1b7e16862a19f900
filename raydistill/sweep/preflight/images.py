"""The record of how a sweep's images were understood, kept in its folder."""

from __future__ import annotations

import io

from raydistill.data.sheet import contact_sheet, student_views
from raydistill.data.sources import load_dataset
from raydistill.records.layout import IMAGES_FILE, SHEET_FILE
from raydistill.storage import StoragePath
from raydistill.sweep.settings import SweepSettings
from raydistill.training.checkpoint_files import write_atomically


def write_images(settings: SweepSettings) -> list[StoragePath]:
    """Write the overview as text, and a picture of images with their augmented views; return the files."""
    text, picture = settings.directory / IMAGES_FILE, settings.directory / SHEET_FILE
    write_atomically(text, "\n".join(settings.overview).encode())
    drawn = io.BytesIO()
    contact_sheet(load_dataset(settings.base.data), student_views(settings.base)).save(drawn, format="PNG")
    write_atomically(picture, drawn.getvalue())
    return [text, picture]
