"""Batched image operations in which every image has parameters of its own.

B images, S output pixels a side, K taps. `planes` are (3, B, height, width) float32 in [0, 1]: with the
channels outermost each of them is one contiguous run, which suits colour arithmetic.

Results do not depend on the batch, to the last bit. So there are only element-wise products, sums and
selections in a fixed order here: matrix products, convolutions, built-in means and fused multiply-adds all
round differently with the batch size or an image's place in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from raydistill.data.pool import pool

Images = Tensor | Sequence[Tensor]
Floats = NDArray[np.float64]
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_GREY = (0.2989, 0.587, 0.114)
LARGE = 3 * 96 * 96  # numbers in an image; larger ones are cropped first, one by one


class Window(NamedTuple):
    """Positions of the S outputs of one axis on the source axis, in pixels; each entry (B,) float64.

    Output k is centred at origin + (k + 0.5) * step and sees the pixels of [low, high) only. Pixels of the
    window that lie outside the image are black.
    """

    origin: Floats
    step: Floats
    low: Floats
    high: Floats

    def of(self, place: int) -> Window:
        """The window of one image."""
        return Window(*(value[place : place + 1] for value in self))


def box(start: NDArray[np.int64], length: NDArray[np.int64], size: int) -> Window:
    """Return the window that resizes the pixels [start, start + length) to `size`: crop first, then resize.

    Args:
        start: (B,) first pixels.
        length: (B,) numbers of pixels.
        size: number of outputs.
    """
    return Window(start.astype(float), length / size, start.astype(float), (start + length).astype(float))


def centre(shapes: NDArray[np.int64], size: int) -> list[Window]:
    """Rows and columns of the evaluation view: all of the image up to 96 px, else its centre.

    `shapes` (B, 2) are heights and widths. Centre: short side resized to size * 256 / 224, middle cut out.
    """
    if size <= 96:
        return [box(np.zeros_like(extent), extent, size) for extent in shapes.T]
    return [_centred(extent, shapes.min(1), size) for extent in shapes.T]


def _centred(extent: NDArray[np.int64], short: NDArray[np.int64], size: int) -> Window:
    resized = np.floor(size * 256 // 224 * extent / short)
    step = extent / resized
    return Window(np.rint((resized - size) / 2) * step, step, np.zeros(len(extent)), extent.astype(float))


def resample(
    images: Images, rows: Window, columns: Window, size: int, flip: NDArray[np.bool_], device: torch.device
) -> Tensor:
    """Resample images, 0 to 255, to planes (3, B, size, size), antialiased and bilinear.

    The triangle filter widens when it shrinks, as in `torchvision.transforms.v2.functional.resized_crop(...,
    antialias=True)`.

    Args:
        images: (B, 3, H, W), or (3, h, w) each of its own size, which then go one by one.
        rows, columns: the windows of the two axes.
        size: side of the result in pixels.
        flip: (B,) whether to mirror left and right.
        device: where the planes are made.
    """
    if device.type != "cpu":
        if isinstance(images, Tensor) or len({image.shape for image in images}) == 1:
            whole = images if isinstance(images, Tensor) else torch.stack(list(images))
            return _resample(whole.to(device, non_blocking=True), rows, columns, size, flip)
        # Of different sizes, a GPU would take them one by one; the host's threads take several at a time.
        return _apart(images, rows, columns, size, flip, pool().map).to(device, non_blocking=True)
    if isinstance(images, Tensor) and images[0].numel() <= LARGE:
        return _resample(images, rows, columns, size, flip)
    return _apart(images, rows, columns, size, flip, map)


def _apart(
    images: Images, rows: Window, columns: Window, size: int, flip: NDArray[np.bool_], over: Callable[..., Any]
) -> Tensor:
    """Resample images one by one on the CPU.

    Args:
        images, rows, columns, size, flip: as of `resample`.
        over: `map`, of this thread or of several.
    """

    def alone(place: int) -> Tensor:
        flipped = flip[place : place + 1]
        return _resample(images[place][None], rows.of(place), columns.of(place), size, flipped)

    return torch.cat(list(over(alone, range(len(images)))), 1)


def _resample(images: Tensor, rows: Window, columns: Window, size: int, flip: NDArray[np.bool_]) -> Tensor:
    height, width = images.shape[-2:]
    index, weight = _taps(columns, size, width)
    lines, line_weight = _taps(rows, size, height)
    if len(images) == 1:  # what lies outside its window is never touched
        (left, right), (top, bottom) = _reach(index, weight), _reach(lines, line_weight)
        images = images[..., top:bottom, left:right]
        index, lines = index.clip(left, right - 1) - left, lines.clip(top, bottom - 1) - top
    index, weight = (np.where(flip[:, None, None], values[:, ::-1], values) for values in (index, weight))
    planes = images.permute(1, 0, 3, 2).to(torch.float32, memory_format=torch.contiguous_format)
    planes = _combine_rows(planes, index, weight / 255)
    planes = planes.transpose(2, 3).contiguous()
    return _combine_rows(planes, lines, line_weight)


def _reach(index: NDArray[np.int64], weight: Floats) -> tuple[int, int]:
    """The first of the source pixels that count, and the first behind them."""
    used = index[weight > 0]
    return (int(used.min()), int(used.max()) + 1) if used.size else (0, 1)


def _taps(window: Window, size: int, extent: int) -> tuple[NDArray[np.int64], Floats]:
    """Source pixels (B, S, K) and their weights, which sum to 1 over the window."""
    # K comes from the image, not from this batch's widest window, lest the rounding depend on the batch.
    count = math.ceil(2 * max(1.0, extent / size))
    origin, step, low, high = (value[:, None] for value in window)
    reach = np.maximum(step, 1.0)
    centre = origin + (np.arange(size) + 0.5) * step
    first = np.maximum(np.floor(centre - reach + 0.5), low)
    index = first[..., None] + np.arange(count)
    weight = np.maximum(0.0, 1 - np.abs(index + 0.5 - centre[..., None]) / reach[..., None])
    weight *= index < high[..., None]
    weight /= weight.sum(-1, keepdims=True)
    weight *= (index >= 0) & (index < extent)
    return np.clip(index, 0, extent - 1).astype(np.int64), weight


def _combine_rows(planes: Tensor, index: NDArray[np.int64], weight: Floats) -> Tensor:
    """Weighted sums of rows: planes (3, B, N, M), index and weight (B, S, K) -> (3, B, S, M)."""
    batch, rows, width = planes.shape[1:]
    source = planes.view(-1, width)
    index = np.arange(3 * batch).reshape(3, batch, 1, 1) * rows + index
    total = planes.new_zeros(3, batch, index.shape[-2], width)
    term = torch.empty_like(total)
    for tap in range(index.shape[-1]):
        if weight[..., tap].any():
            rows_of_tap = _tensor(index[..., tap].ravel(), planes.device)
            torch.index_select(source, 0, rows_of_tap, out=term.view(-1, width))
            total.add_(term.mul_(_scalars(weight[..., tap], planes.device)))
    return total


def rotate(planes: Tensor, degrees: Floats) -> Tensor:
    """Rotate images about their middle, bilinear, counter-clockwise as torchvision's `rotate` does.

    What comes in from outside is the image mirrored at its border, so that no corner is black.

    Args:
        planes: (3, B, S, S).
        degrees: (B,).
    """
    angle = np.deg2rad(degrees)
    cos, sin = _scalars(np.cos(angle), planes.device), _scalars(np.sin(angle), planes.device)
    size = planes.shape[-1]
    place = (2 * torch.arange(size, device=planes.device) + 1 - size) / size
    column, row = place[None, None, :], place[None, :, None]
    source = torch.stack([cos * column - sin * row, sin * column + cos * row], dim=-1)
    rotated = F.grid_sample(planes.transpose(0, 1), source, padding_mode="reflection", align_corners=False)
    return rotated.transpose(0, 1).contiguous()


def jitter(planes: Tensor, factors: Floats, order: NDArray[np.int64]) -> Tensor:
    """Change brightness, contrast, saturation and hue in each image's own order, in place, as ColorJitter does.

    Args:
        planes: (3, B, S, S) in [0, 1].
        factors: (B, 4) in the order of the constants. 1 leaves brightness, contrast and saturation as they are;
            hue is added, in turns.
        order: (B, 4), which of the four comes first, second, and so on.
    """
    images = np.arange(len(order))
    for operation in order.T:
        _blend(planes, operation, factors[images, operation])
        apply(planes, operation == HUE, lambda part, who: rotate_hue(part, factors[who, HUE]))
    return planes


def _blend(planes: Tensor, operation: NDArray[np.int64], factor: Floats) -> None:
    """One pass for the three operations that mix each image with black, its mean grey or its grey; in place.

    Images whose turn is hue pass unchanged (times 1, plus 0), which is cheaper than taking the others out.
    """
    own = np.where(operation == HUE, 1.0, factor)
    to_grey = _scalars(np.where(operation == SATURATION, 1 - own, 0.0), planes.device)
    to_mean = _scalars(np.where(operation == CONTRAST, 1 - own, 0.0), planes.device)
    grey = to_greyscale(planes)
    mean = _mean(grey) * to_mean
    planes.mul_(_scalars(own, planes.device)).add_(grey.mul_(to_grey).add_(mean)).clamp_(0, 1)


def to_greyscale(planes: Tensor) -> Tensor:
    """(3, B, h, w) -> (B, h, w) with ITU-R 601 weights as torchvision rounds them."""
    red: Tensor
    red, green, blue = (plane * weight for plane, weight in zip(planes, _GREY, strict=True))
    return red.add_(green).add_(blue)


def _mean(grey: Tensor) -> Tensor:
    """(B, h, w) -> (B, 1, 1), by halving: the same rounding for any batch and number of threads."""
    values = grey.flatten(1)
    while (count := values.shape[1]) > 1:
        half = count // 2
        odd = values[:, 2 * half :]
        values = values[:, :half] + values[:, half : 2 * half]
        if count % 2:
            values[:, :1] += odd
    return (values / grey[0].numel())[..., None]


def rotate_hue(planes: Tensor, turns: Floats) -> Tensor:
    """Hue shifted by `turns` (B,) of the colour circle: HSV and back, saturation and value kept."""
    red, green, blue = planes
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    # Sums of masked terms: `torch.where` is several times slower, and the masks make the sums exact.
    is_red = (value == red).float()
    is_green = (value == green).float().mul_(1 - is_red)
    is_blue = 1 - is_red - is_green
    sector = (green - blue) * is_red + (blue - red) * is_green + (red - green) * is_blue
    sector /= chroma.clamp(min=1e-12)  # where it is 0, so are the differences
    sector += is_green.mul_(2) + is_blue.mul_(4)
    sector += _scalars(turns * 6, planes.device)
    offsets = torch.arange(5.0, 0.0, -2.0, device=planes.device).view(3, 1, 1, 1)  # made there, not copied
    place = sector + offsets
    place -= (place * (1 / 6)).floor_().mul_(6)
    rotated: Tensor = value - place.sub_(2).abs_().neg_().add_(2).clamp_(0, 1).mul_(chroma)
    return rotated


def greyscale(planes: Tensor) -> Tensor:
    """The grey image in all three channels."""
    return to_greyscale(planes).expand_as(planes)


def solarize(planes: Tensor) -> Tensor:
    """Values from 0.5 up are inverted (128 and up, of 255)."""
    return torch.where(planes >= 0.5, 1 - planes, planes)


def blur_size(size: int) -> int:
    """Taps of the Gaussian: a tenth of the image, made odd, at least 3 (SimCLR: 23 at 224 px)."""
    return max(3, size // 10 | 1)


def blur(planes: Tensor, sigma: Floats, reach: int | None = None) -> Tensor:
    """Gaussian blur with reflected borders, as torchvision's.

    Args:
        planes: (3, B, S, S).
        sigma: (B,) in pixels.
        reach: pixels on each side of the middle that the kernel has, below S; None: as `blur_size` says.
    """
    half = blur_size(planes.shape[-1]) // 2 if reach is None else reach
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma[:, None]) ** 2)
    kernel /= kernel.sum(-1, keepdims=True)
    weights = [_scalars(kernel[:, half + tap], planes.device) for tap in range(half + 1)]
    padded = F.pad(planes, (half, half, half, half), mode="reflect")
    return _smooth(_smooth(padded, weights, 2), weights, 3)


def _smooth(padded: Tensor, weights: list[Tensor], dim: int) -> Tensor:
    """The symmetric kernel along `dim`; pixels at the same distance share one product."""
    half = len(weights) - 1
    size = padded.shape[dim] - 2 * half
    total = padded.narrow(dim, half, size) * weights[0]
    pair = torch.empty_like(total)  # one buffer for all: mapping it anew costs as much as the sum
    for tap in range(1, half + 1):
        torch.add(padded.narrow(dim, half - tap, size), padded.narrow(dim, half + tap, size), out=pair)
        total.add_(pair.mul_(weights[tap]))
    return total


def apply(planes: Tensor, chosen: NDArray[np.bool_], operation: Callable[[Tensor, NDArray[np.intp]], Tensor]) -> None:
    """Replace the chosen images by `operation(their planes, their positions)`, in place.

    Args:
        planes: (3, B, S, S).
        chosen: (B,) of bool.
        operation: takes the planes and the positions of the chosen images.
    """
    who = np.flatnonzero(chosen)
    if len(who) == len(chosen):
        planes.copy_(operation(planes, who))
    elif len(who):
        index = _tensor(who, planes.device)
        planes.index_copy_(1, index, operation(planes.index_select(1, index), who).contiguous())


def normalized(planes: Tensor, mean: tuple[float, ...], std: tuple[float, ...], out: Tensor) -> None:
    """Write (planes - mean) / std into `out`.

    Args:
        planes: (3, B, S, S).
        mean, std: one number for each channel.
        out: (B, 3, S, S).
    """
    for channel in range(3):
        torch.div(planes[channel].sub_(mean[channel]), std[channel], out=out[:, channel])


def _scalars(values: Floats, device: torch.device) -> Tensor:
    """Float32 on the device, with axes appended up to (B, h, w), to multiply planes by."""
    return _tensor(values.astype(np.float32), device).view(*values.shape, *(1,) * (3 - values.ndim))


def _tensor(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device, non_blocking=True)
