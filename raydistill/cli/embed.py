"""`raydistill embed`."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, Any

import typer

from raydistill import config as configuration
from raydistill.cli.arguments import Device, Set, shown, target
from raydistill.cli.runs import Encoder, Run, Storage, Tracking
from raydistill.config import Config, ConfigError, DataConfig, data_errors, nearest
from raydistill.export.resolve import find_run
from raydistill.records.locations import source_of
from raydistill.training.devices import device_of

SECONDS_BETWEEN_LINES = 10.0
FIXED = {
    "data.source": "IMAGES says which they are",
    "data.labelled": "IMAGES says which they are",
    "data.image_size": "the encoder's own is used",
    "data.on_bad_image": "use --skip-bad",
}


def command(
    run: Run,
    images: Annotated[str, typer.Argument(help="a folder, Parquet, torchvision:NAME, digits, or an image file")],
    out: Annotated[str, typer.Option(help="the Parquet file to write")] = "embeddings.parquet",
    settings: Set = None,
    encoder: Encoder = None,
    split: Annotated[str, typer.Option(help="all, train, val or test")] = "all",
    batch_size: Annotated[int, typer.Option(min=1, help="images at a time")] = 256,
    device: Device = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="pass over images that cannot be read")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the file that is there")] = False,
    storage: Storage = None,
    tracking_uri: Tracking = None,
) -> None:
    """Write what a run's encoder makes of images to a Parquet file."""
    splits = ("all", "train", "val", "test")
    if split not in splits:
        raise ConfigError(f"--split {split!r} is unknown{nearest(split, splits)}")
    file = target(out, overwrite=overwrite)
    source = source_of("IMAGES", images)
    chosen = _data_settings(settings or [])
    found = find_run(run, storage, tracking_uri)
    data = _data(found.config, chosen)
    from raydistill.export.embed import embed_images, parts_of
    from raydistill.export.encoders import choose

    where, name = device_of(device), encoder or found.encoder
    network = choose(found, name)
    began = time.monotonic()
    spoke = began

    def tell(done: int) -> None:
        nonlocal spoke
        if (now := time.monotonic()) - spoke > SECONDS_BETWEEN_LINES:
            spoke = now
            typer.echo(f"{done} of {total} images, {done / (now - began):.0f} a second", err=True)

    with data_errors():
        parts = parts_of(source, split, data, found.context.get("levels"))
        total = sum(len(rows) for _, _, rows in parts)
        done = embed_images(
            network,
            replace(found, encoder=name),
            parts,
            file,
            batch_size=batch_size,
            device=where,
            skip=skip_bad,
            progress=tell,
        )
    left_out = f"; {total - done} images could not be read" if done < total else ""
    typer.echo(f"{done} embeddings of {network.dim} numbers, by {found.run}, in {shown(file)}{left_out}")


def _data_settings(settings: list[str]) -> dict[str, Any]:
    """Parse settings of the images. Raises ConfigError for any other."""
    chosen = dict(map(configuration.parse_setting, settings))
    for path in chosen:
        if not path.startswith("data."):
            raise ConfigError(f"--set {path}: the encoder is as it is; of settings, embed takes those of data.*")
        if path in FIXED:
            raise ConfigError(f"--set {path}: {FIXED[path]}")
    return chosen


def _data(config: Config, chosen: dict[str, Any]) -> DataConfig:
    """Data settings of the run, but with all images, unless chosen otherwise."""
    values = configuration.assign(configuration.dump(config), {"data.limit": None} | chosen)
    return configuration.load(values).data
