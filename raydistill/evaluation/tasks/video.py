"""Video segmentation on DAVIS 2017: the masks of the first frame are carried on by the nearest features.

Source: SDSSL, tables 8 to 10, with the settings of facebookresearch/dino, eval_video_segmentation.py.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from raydistill.data.views.augment import Normalization, normalization
from raydistill.errors import one_line
from raydistill.evaluation.benchmarks.davis import (
    Labels,
    VideoClip,
    boundary_measure,
    objects_of,
    read_davis,
    read_frame,
    read_labels,
    region_similarity,
    statistics,
)
from raydistill.evaluation.benchmarks.davis import draw as draw
from raydistill.evaluation.tasks.base import Findings, Subject, TaskError
from raydistill.evaluation.tasks.names import TOY
from raydistill.training.memory import lost_device, out_of_memory

log = logging.getLogger(__name__)
SHORT_SIDE = 480  # pixels; smaller frames keep their size
LONG_MULTIPLE = 64  # of the long side at 480 px, in pixels
LAST_FRAMES = 7  # beside the first one
RADIUS = 12  # tokens
TEMPERATURE = 0.1
NEIGHBOURS = 5
TILE = 16  # tokens a side that are compared at once: at most 3.3 million similarities, however large the frame
Context = Sequence[tuple[Tensor, Tensor]]


def score(subject: Subject) -> Findings:
    """Score how well patch features carry masks through the videos of a DAVIS folder, or of a drawn one (`toy`).

    The first and the last frame of a sequence are not scored. Every object counts the same. Metrics, all `test_video_`:
    `jf`, the mean of `j` and `f`; and of both `_recall` and `_decay`, see `davis.statistics`.

    Raises: TaskError for a folder of another layout, and for a network without finite maps of features.
    """
    with _folder(subject) as folder, torch.inference_mode():
        clips = read_davis(folder)
        patch = _patch(subject)
        objects = [each for clip in clips for each in _scores(subject, clip, patch)]
    scores: dict[str, float] = {}
    for metric, values in zip("jf", zip(*objects, strict=True), strict=True):
        mean, recall, decay = np.mean([statistics(each) for each in values], axis=0).tolist()
        name = f"test_video_{metric}"
        scores |= {name: mean, f"{name}_recall": recall, f"{name}_decay": decay}
    return Findings({"test_video_jf": (scores["test_video_j"] + scores["test_video_f"]) / 2, **scores})


def input_size(height: int, width: int, patch: int) -> tuple[int, int]:
    """Height and width in which a frame goes through the network.

    The short side becomes 480 px, and the long side is cut to a multiple of 64, as DINO has it. Smaller frames are not
    enlarged. Their sides, and sides for patches that do not divide 480 or 64, are cut to multiples of the patch.

    Args:
        height, width: of the frame.
        patch: pixels a side of what becomes one feature.
    """
    shortest = min(height, width)
    short = min(SHORT_SIDE, shortest)
    long_step = LONG_MULTIPLE if short == SHORT_SIDE and LONG_MULTIPLE % patch == 0 else patch

    def cut(side: int) -> int:
        step = patch if side == shortest else long_step
        return max(step, side * short // shortest // step * step)

    return cut(height), cut(width)


def propagate(maps: Iterable[Tensor], first: Tensor) -> Iterator[Tensor]:
    """Carry the masks of the first frame on; yields those of each further frame, (K, H', W').

    A frame looks at the first one and at the 7 before it, whose masks are those that were found there.

    Args:
        maps: features (H', W', D) of the frames in order, the first included.
        first: its masks (K, H', W').
    """
    recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=LAST_FRAMES)
    start: tuple[Tensor, Tensor] | None = None
    for found in maps:
        features = F.normalize(found, dim=-1)
        if start is None:
            start = (features, first)
            continue
        masks = carry([start, *recent], features)
        recent.append((features, masks))
        yield masks


def carry(context: Context, target: Tensor, *, radius: int = RADIUS, neighbours: int = NEIGHBOURS) -> Tensor:
    """Masks (K, H', W') of a frame: means over its nearest features in other frames, weighted by exp(cos / 0.1).

    Features that are as near as the last neighbour count, too, as in DINO's code: no order among equals is needed.

    Args:
        context: features (H', W', D) of unit length and masks (K, H', W') of other frames.
        target: features (H', W', D) of the frame, of unit length.
        radius: how many rows and columns of features away a neighbour may be.
        neighbours: how many there are, in all frames together.
    """
    height, width, _ = target.shape
    found = target.new_empty(len(context[0][1]), height, width)
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            rows, columns = slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))
            around = _widened(rows, radius, height), _widened(columns, radius, width)
            keys = torch.cat([features[around].flatten(0, 1) for features, _ in context])
            values = torch.cat([masks[:, *around].flatten(1) for _, masks in context], dim=1)
            near_rows, near_columns = _near(rows, around[0], radius), _near(columns, around[1], radius)
            near = (near_rows[:, None, :, None] & near_columns[None, :, None, :]).flatten(2).flatten(0, 1)
            far = ~near.to(target.device)[:, None]
            cosines = target[rows, columns].flatten(0, 1) @ keys.T
            cosines.unflatten(1, (len(context), -1)).masked_fill_(far, -torch.inf)
            least = cosines.topk(min(neighbours, len(keys)), dim=1).values[:, -1:]
            weights = cosines.masked_fill_(cosines < least, -torch.inf).div_(TEMPERATURE).softmax(dim=1)
            found[:, rows, columns] = (values @ weights.T).unflatten(1, (rows.stop - top, columns.stop - left))
    return found


def _widened(part: slice, radius: int, size: int) -> slice:
    """Part of a side with `radius` more at both ends, cut to 0 to `size`."""
    return slice(max(0, part.start - radius), min(size, part.stop + radius))


def _near(part: slice, around: slice, radius: int) -> Tensor:
    """Return which places of a part of a side (N) are at most `radius` from which ones around it (M): (N, M)."""
    places, others = (torch.arange(each.start, each.stop) for each in (part, around))
    return (places[:, None] - others).abs() <= radius


def labels_of(masks: Tensor, size: tuple[int, int], frame_size: tuple[int, int]) -> Labels:
    """Object of each pixel of a frame (H, W): the mask that is strongest there, each stretched to 0 to 1.

    Args:
        masks: (K, H', W'), of the background and of the objects.
        size: height and width in which the frame went through the network; masks are brought to it bilinearly.
        frame_size: height and width of the frame.

    Source: facebookresearch/dino, which stretches masks before it compares them.
    """
    soft = F.interpolate(masks[None], size=size, mode="bilinear", align_corners=False)[0]
    low, high = soft.amin(dim=(1, 2), keepdim=True), soft.amax(dim=(1, 2), keepdim=True)
    soft = torch.where(high > low, (soft - low) / (high - low), soft)
    return _nearest(soft.argmax(dim=0).to(torch.uint8).cpu().numpy(), *frame_size)


def _scores(subject: Subject, clip: VideoClip, patch: int) -> list[tuple[list[float], list[float]]]:
    """J and F in each scored frame, for each object of a sequence.

    Args:
        subject: the network.
        clip: the sequence.
        patch: pixels a side of a feature.
    """
    start = read_labels(clip.annotations[0])
    height, width = start.shape
    objects = objects_of(start)
    size = input_size(height, width, patch)
    normalize = normalization(subject.dataset.name, subject.dataset.image_size)
    maps = (_map_of(subject, _frame(path, size, normalize)) for path in clip.frames[:-1])
    first = next(maps)
    small = torch.from_numpy(_nearest(start, first.shape[0], first.shape[1]))
    masks = torch.stack([small == number for number in [0, *objects]]).to(first)
    found: list[tuple[list[float], list[float]]] = [([], []) for _ in objects]
    for soft, annotation in zip(propagate(chain([first], maps), masks), clip.annotations[1:], strict=True):
        truth, labels = read_labels(annotation), labels_of(soft, size, (height, width))
        for channel, (number, (regions, boundaries)) in enumerate(zip(objects, found, strict=True), start=1):
            regions.append(region_similarity(truth == number, labels == channel))
            boundaries.append(boundary_measure(truth == number, labels == channel))
    log.debug("video %s: J of its objects %s", clip.name, [round(float(np.mean(j)), 3) for j, _ in found])
    return found


@contextmanager
def _folder(subject: Subject) -> Iterator[Path]:
    """Open the folder of the benchmark; a drawn one without a place of its own goes afterwards."""
    if subject.source != TOY:
        yield Path(subject.source).expanduser()
    elif subject.folder is not None:
        yield draw(subject.folder)
    else:
        with TemporaryDirectory() as place:
            yield draw(Path(place))


def _patch(subject: Subject) -> int:
    """Pixels a side of what becomes one feature: the patch of a ViT, the stride of other networks."""
    side = subject.dataset.image_size
    return max(1, round(side / len(_map_of(subject, torch.zeros(1, 3, side, side)))))


def _map_of(subject: Subject, image: Tensor) -> Tensor:
    """Features (H', W', D) of an image (1, 3, H, W), float32, on the network's device."""
    encoder: Any = subject.encoder
    if not hasattr(encoder, "maps"):
        raise TaskError(f"{type(encoder).__name__} has no maps of features; the task video needs a network with them")
    try:
        found: Tensor = encoder.maps(image.to(subject.device))[1][0].float()
    except (ValueError, AssertionError, RuntimeError) as error:
        if lost_device(error) or out_of_memory(error):
            raise
        height, width = image.shape[-2:]
        raise TaskError(f"the network cannot see frames of {width}x{height} px ({one_line(error)})") from error
    if not found.isfinite().all():
        raise TaskError("the network's features are not finite; masks need features that can be compared")
    return found


def _frame(path: Path, size: tuple[int, int], normalize: Normalization) -> Tensor:
    """Read a frame (1, 3, *size), normalised.

    Args:
        path: of the JPEG.
        size: height and width.
        normalize: mean and standard deviation of the channels.
    """
    pixels = torch.from_numpy(read_frame(path)).permute(2, 0, 1)[None].float() / 255
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in normalize)
    return (F.interpolate(pixels, size=size, mode="bilinear", align_corners=False) - mean) / deviation


def _nearest(labels: Labels, height: int, width: int) -> Labels:
    """Bring labels (H, W) to another size by the nearest pixel.

    Args:
        labels: object of each pixel.
        height, width: of the result.
    """
    return np.array(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
