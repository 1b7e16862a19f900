"""`raydistill data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raydistill import config as configuration
from raydistill.cli.arguments import Kind, Set, shown, target
from raydistill.config import data_errors
from raydistill.presets import load_preset
from raydistill.records.locations import source_of

PROGRAM = "raydistill data"


def command(
    images: Annotated[str, typer.Argument(help="what `--data` of a sweep takes: a folder, Parquet, a name")],
    method: Annotated[str, typer.Option(help="whose augmentation the picture shows")] = "dogo",
    preset: Annotated[str, typer.Option(help="of the method")] = "default",
    labelled: Annotated[str | None, typer.Option(help="images with labels, as for a sweep")] = None,
    kind: Kind = None,
    settings: Set = None,
    out: Annotated[str, typer.Option(help="the picture of images and their augmented views, a PNG")] = "images.png",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a picture that is there")] = False,
) -> None:
    """Say how images are understood, and draw them with their augmented views. Trains nothing."""
    named = {
        "data.source": source_of("IMAGES", images),
        "data.labelled": labelled and source_of("--labelled", labelled),
        "data.kind": kind,
    }
    chosen = {name: value for name, value in named.items() if value is not None}
    chosen |= {"data.on_bad_image": "skip"} | dict(map(configuration.parse_setting, settings or []))
    config = configuration.load(configuration.assign(load_preset(method, preset), chosen))
    picture = target(out, overwrite=overwrite or _is_ours(Path(out)))
    from PIL.PngImagePlugin import PngInfo

    from raydistill.data.overview import overview
    from raydistill.data.sheet import contact_sheet, student_views
    from raydistill.data.sources import load_dataset

    with data_errors():
        dataset = load_dataset(config.data)
        for line in overview(dataset):
            typer.echo(line)
        sheet = contact_sheet(dataset, student_views(config))
    picture.parent.mkdir(parents=True, exist_ok=True)
    marked = PngInfo()
    marked.add_text("Software", PROGRAM)
    sheet.save(picture, format="PNG", pnginfo=marked)
    typer.echo(f"augmented views: {shown(picture)}")


def _is_ours(path: Path) -> bool:
    """Return whether a file is a picture of an earlier run of this command."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return bool(picture.info.get("Software") == PROGRAM)
    except OSError:
        return False
