"""`raydistill data`."""

from __future__ import annotations

from typing import Annotated

import typer

from raydistill import config as configuration
from raydistill.cli.arguments import Kind, Set, shown, target
from raydistill.config import data_errors
from raydistill.presets import load_preset
from raydistill.records.locations import source_of


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
    chosen |= dict(map(configuration.parse_setting, settings or []))
    config = configuration.load(configuration.assign(load_preset(method, preset), chosen))
    picture = target(out, overwrite=overwrite)
    from raydistill.data.overview import overview
    from raydistill.data.sheet import contact_sheet, student_views
    from raydistill.data.sources import load_dataset

    with data_errors():
        dataset = load_dataset(config.data)
        for line in overview(dataset):
            typer.echo(line)
        sheet = contact_sheet(dataset, student_views(config))
    picture.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(picture, format="PNG")
    typer.echo(f"augmented views: {shown(picture)}")
