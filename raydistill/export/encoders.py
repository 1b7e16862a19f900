"""The encoder of a run, rebuilt from its checkpoint or from an export; and images to try it on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from raydistill import methods
from raydistill.artifacts.encoders import load
from raydistill.artifacts.teachers import given_from
from raydistill.config import Config, ConfigError, nearest
from raydistill.data.images import BadImageError, DataError
from raydistill.data.sources import load_dataset
from raydistill.data.views.augment import evaluate_view, normalization
from raydistill.export.run import ResolvedRun
from raydistill.storage import is_remote

SAMPLE = 8


def choose(found: ResolvedRun, name: str) -> nn.Module:
    """The run's encoder called `name`, in eval mode; it has `dim`, its output width.

    Raises: ConfigError with the nearest name; for a checkpoint of other settings, or an export that is damaged or
    that only others read.
    """
    encoders = {found.encoder: load(found.export)} if found.export else _trained(found)
    if name not in encoders:
        raise ConfigError(f"--encoder {name!r}: {found.run} has no encoder of that name{nearest(name, encoders)}")
    return encoders[name]


def head_of(found: ResolvedRun) -> nn.Module | None:
    """The SSL head that belongs to the run's encoder, in eval mode; an export has none.

    Raises: ConfigError for a checkpoint of other settings.
    """
    return None if found.export or found.encoder != "student" else _method(found).head()


def _trained(found: ResolvedRun) -> dict[str, nn.Module]:
    return _method(found).encoders()


def _method(found: ResolvedRun) -> methods.Method:
    try:
        method = methods.build(found.config.method, given_from(found.state), seed=0)
        method.load_state_dict(found.state["method"])
    except (ValueError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:200]
        raise ConfigError(f"{found.run}: its checkpoint does not fit its config.yaml ({cause})") from None
    return method.eval()


def embed_plain(encoder: nn.Module, images: list[np.ndarray], size: int) -> Tensor:
    """Embed images as they were scored: (N, dim).

    Args:
        encoder: the network.
        images: (H, W, 3) of uint8.
        size: of the views in pixels.
    """
    planes = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
    with torch.inference_mode():
        return encoder(evaluate_view(planes, size=size, normalize=normalization("", size)))


def sample(config: Config) -> tuple[list[np.ndarray], str]:
    """Some images (H, W, 3) of uint8, and what they are: of the run's own, else noise."""
    source = config.data.labelled or config.data.source
    try:
        if is_remote(source) or is_remote(config.data.source):
            raise DataError("a copy of all images would be made for it")
        split = load_dataset(config.data.model_copy(update={"cache_gib": 0.0, "download": False})).val
        images = [split.peek(index).permute(1, 2, 0).numpy() for index in range(min(SAMPLE, len(split)))]
        return images, f"{len(images)} validation images of {source}"
    except (DataError, BadImageError, OSError):
        noise = np.random.default_rng(0).integers(0, 256, (SAMPLE, 40, 50, 3), dtype=np.uint8)
        return list(noise), f"{SAMPLE} images of noise, since {source} cannot be read here"
