"""Sizes of presets that small folders do not fill: batches, queues and clusters."""

from __future__ import annotations

from collections.abc import Callable, Collection

from raydistill import config as configuration
from raydistill.config import Config

# What is refused where it exceeds the number of training images, and the share of the images that it gets instead.
SHARES = {"data.batch_size": 2, "teacher.batch_size": 2, "method.queue_size": 1, "method.clusters": 5}


# docs/architecture.md#sizes-of-presets
def fit_sizes(
    config: Config,
    images: int,
    *,
    given: Collection[str] = (),
    multiple: int = 1,
    notify: Callable[[str], None] = lambda line: None,
) -> Config:
    """Halve the sizes of a preset that exceed the number of training images until they fit.

    A batch becomes half of the images at most, a queue all of them, clusters a fifth. What is given stays as it is, to
    be refused where it does not fit, and so does what fits.

    Args:
        config: with the preset's settings.
        images: training images.
        given: paths of settings that somebody chose.
        multiple: what the batch must divide by, the number of workers.
        notify: gets a line for each size that changes.
    """
    fitted: dict[str, int] = {}
    labels = config.method.label_source()
    for path, share in SHARES.items():
        if path == "method.clusters" and (labels is None or labels.kind == "true"):
            continue  # not used
        section, name = path.split(".")
        preset = size = getattr(getattr(config, section), name, None)
        if path in given or not isinstance(size, int) or size <= images:
            continue
        while size > images // share:
            size //= 2
        if path.endswith("batch_size"):
            size = max(size - size % multiple, multiple)
        if 0 < size <= images:
            fitted[path] = size
            notify(f"{path} = {size} instead of the preset's {preset}, since there are {images} training images")
    return configuration.load(configuration.assign(configuration.dump(config), fitted)) if fitted else config
