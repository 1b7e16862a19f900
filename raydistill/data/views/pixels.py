"""Batched image operations in which every image has parameters of its own.

B images, S output pixels a side, K taps. `planes` are (3, B, height, width) float32 in [0, 1]: with the
channels outermost each of them is one contiguous run, which suits colour arithmetic.

Results do not depend on the batch, to the last bit. So there are only element-wise products, sums and
selections in a fixed order here: matrix products, convolutions, built-in means and fused multiply-adds all
round differently with the batch size or an image's place in it.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from raydistill.data.pool import pool
from raydistill.data.views.colours import CONTRAST, GREY, HUE, SATURATION

log = logging.getLogger(__name__)
Images = Tensor | Sequence[Tensor]
Floats = NDArray[np.float64]
Places = NDArray[np.int64]
"""Places of some images among the B."""


# docs/architecture.md#two-ways-to-a-pixel
@functools.cache
def _compiled() -> ModuleType | None:
    """The same operations for the CPU; None without numba, where torch makes the same pixels in more time."""
    try:
        from raydistill.data.views import kernels  # docs/architecture.md#late-imports
    except ImportError as error:
        log.warning("augmentation takes three times as long on the CPU without numba: %s", error)
        return None
    return kernels


def _kernels_for(planes: Tensor) -> ModuleType | None:
    return _compiled() if planes.device.type == "cpu" else None


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
        images: (B, 3, H, W), or (3, h, w) each of its own size.
        rows, columns: the windows of the two axes.
        size: side of the result in pixels.
        flip: (B,) whether to mirror left and right.
        device: where the planes are made. Images of several sizes are resampled by the host's threads.
    """
    alike = isinstance(images, Tensor) or len({image.shape for image in images}) == 1
    if device.type != "cpu" and alike:
        whole = images if isinstance(images, Tensor) else torch.stack(list(images))
        return _resample(whole.to(device, non_blocking=True), rows, columns, size, flip)
    planes = torch.empty(3, len(images), size, size)
    if isinstance(images, Tensor):
        _resample_here(images, rows, columns, flip, planes)
    else:
        over = map if device.type == "cpu" else pool().map

        def alone(place: int) -> None:
            own = slice(place, place + 1)
            _resample_here(images[place][None], rows.of(place), columns.of(place), flip[own], planes, place)

        list(over(alone, range(len(images))))
    return planes.to(device, non_blocking=True)


def _resample_here(
    images: Tensor, rows: Window, columns: Window, flip: NDArray[np.bool_], planes: Tensor, first: int = 0
) -> None:
    """Resample images of one size on the CPU, into the planes from place `first` on."""
    size, kernels = planes.shape[-1], _compiled()
    if kernels is None:
        planes[:, first : first + len(images)] = _resample(images, rows, columns, size, flip)
        return
    index, weight = _taps(columns, size, images.shape[-1])
    lines, line_weight = _taps(rows, size, images.shape[-2])
    weights = (weight / 255).astype(np.float32), line_weight.astype(np.float32)
    kernels.resample(images.contiguous().numpy(), index, weights[0], lines, weights[1], flip, planes.numpy(), first)


def _resample(images: Tensor, rows: Window, columns: Window, size: int, flip: NDArray[np.bool_]) -> Tensor:
    """Resample images of one size on any device, as the CPU's kernel does."""
    height, width = images.shape[-2:]
    index, weight = _taps(columns, size, width)
    lines, line_weight = _taps(rows, size, height)
    index, weight = (np.where(flip[:, None, None], values[:, ::-1], values) for values in (index, weight))
    planes = images.permute(1, 0, 3, 2).to(torch.float32, memory_format=torch.contiguous_format)
    planes = _combine_rows(planes, index, weight / 255)
    planes = planes.transpose(2, 3).contiguous()
    return _combine_rows(planes, lines, line_weight)


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


def jitter(planes: Tensor, factors: Floats, order: NDArray[np.int64], who: Places | None = None) -> Tensor:
    """Change brightness, contrast, saturation and hue in each image's own order, in place, as ColorJitter does.

    Args:
        planes: (3, B, S, S) in [0, 1].
        factors: (N, 4) in the order of the constants. 1 leaves brightness, contrast and saturation as they are;
            hue is added, in turns.
        order: (N, 4), which of the four comes first, second, and so on.
        who: (N,) places of the images; None: all.
    """
    kernels = _kernels_for(planes)
    if kernels is None:
        return _changed(planes, who, lambda part: _jitter(part, factors, order))
    own, to_grey, to_mean = _shares(np.arange(4), factors)
    turns = (factors[:, HUE] * 6).astype(np.float32)
    kernels.jitter(planes.numpy(), _places(planes, who), own, to_grey, to_mean, turns, order)
    return planes


def _jitter(planes: Tensor, factors: Floats, order: NDArray[np.int64]) -> Tensor:
    """Jitter all images on any device, as the CPU's kernel does; in place."""
    images = np.arange(len(order))
    for operation in order.T:
        _blend(planes, operation, factors[images, operation])
        turned = np.flatnonzero(operation == HUE)
        _changed(planes, turned, functools.partial(rotate_hue, turns=factors[turned, HUE]))
    return planes


def _shares(operation: NDArray[np.int64], factor: Floats) -> tuple[NDArray[np.float32], ...]:
    """Shares of an image, of its grey and of its mean grey in the result of an operation."""
    own = np.where(operation == HUE, 1.0, factor)
    to_grey, to_mean = (np.where(operation == kind, 1 - own, 0.0) for kind in (SATURATION, CONTRAST))
    return own.astype(np.float32), to_grey.astype(np.float32), to_mean.astype(np.float32)


def _blend(planes: Tensor, operation: NDArray[np.int64], factor: Floats) -> None:
    """One pass for the three operations that mix each image with black, its mean grey or its grey; in place.

    Images whose turn is hue pass unchanged (times 1, plus 0), which is cheaper than taking the others out.
    """
    own, to_grey, to_mean = (_tensor(each, planes.device)[:, None, None] for each in _shares(operation, factor))
    grey = to_greyscale(planes)
    mean = _mean(grey) * to_mean
    planes.mul_(own).add_(grey.mul_(to_grey).add_(mean)).clamp_(0, 1)


def to_greyscale(planes: Tensor) -> Tensor:
    """(3, B, h, w) -> (B, h, w) with ITU-R 601 weights as torchvision rounds them."""
    red: Tensor
    red, green, blue = (plane * weight for plane, weight in zip(planes, GREY, strict=True))
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


def greyscale(planes: Tensor, who: Places | None = None) -> Tensor:
    """Make the three channels of the images at the places `who` (N,), or of all, their grey; in place."""
    kernels = _kernels_for(planes)
    if kernels is None:
        return _changed(planes, who, lambda part: to_greyscale(part).expand_as(part))
    kernels.greyscale(planes.numpy(), _places(planes, who))
    return planes


def solarize(planes: Tensor, who: Places | None = None) -> Tensor:
    """Invert values from 0.5 up (128 and up, of 255) in the images at the places `who` (N,), or in all; in place."""
    return _changed(planes, who, lambda part: torch.where(part >= 0.5, 1 - part, part))


def blur_size(size: int) -> int:
    """Taps of the Gaussian: a tenth of the image, made odd, at least 3 (SimCLR: 23 at 224 px)."""
    return max(3, size // 10 | 1)


def blur(planes: Tensor, sigma: Floats, reach: int | None = None, who: Places | None = None) -> Tensor:
    """Gaussian blur with reflected borders, as torchvision's; in place.

    Args:
        planes: (3, B, S, S).
        sigma: (N,) in pixels.
        reach: pixels on each side of the middle that the kernel has, below S; None: as `blur_size` says.
        who: (N,) places of the images; None: all.
    """
    half = blur_size(planes.shape[-1]) // 2 if reach is None else reach
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma[:, None]) ** 2)
    kernel /= kernel.sum(-1, keepdims=True)
    weights = np.ascontiguousarray(kernel[:, half:].astype(np.float32))
    kernels = _kernels_for(planes)
    if kernels is None:
        return _changed(planes, who, lambda part: _blur(part, weights))
    kernels.blur(planes.numpy(), _places(planes, who), weights)
    return planes


def _blur(planes: Tensor, weights: NDArray[np.float32]) -> Tensor:
    """Blur all images on any device, as the CPU's kernel does."""
    half = weights.shape[1] - 1
    shares = [_tensor(column, planes.device)[:, None, None] for column in weights.T]
    padded = F.pad(planes, (half, half, half, half), mode="reflect")
    return _smooth(_smooth(padded, shares, 2), shares, 3)


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


def _changed(planes: Tensor, who: Places | None, operation: Callable[[Tensor], Tensor]) -> Tensor:
    """Replace the images at the places `who` (N,), or all, by what an operation makes of their planes; in place."""
    if who is None or len(who) == planes.shape[1]:
        return planes.copy_(operation(planes))
    if len(who):
        index = _tensor(who, planes.device)
        planes.index_copy_(1, index, operation(planes.index_select(1, index)).contiguous())
    return planes


def _places(planes: Tensor, who: Places | None) -> Places:
    return np.arange(planes.shape[1]) if who is None else who


def normalized(planes: Tensor, mean: tuple[float, ...], std: tuple[float, ...], out: Tensor) -> None:
    """Write (planes - mean) / std into `out`.

    Args:
        planes: (3, B, S, S).
        mean, std: one number for each channel.
        out: (B, 3, S, S).
    """
    kernels = _kernels_for(planes)
    if kernels is not None:
        statistics = np.array(mean, np.float32), np.array(std, np.float32)
        kernels.normalized(planes.numpy(), *statistics, out.permute(0, 2, 3, 1).numpy())
        return
    for channel in range(3):
        torch.div(planes[channel].sub_(mean[channel]), std[channel], out=out[:, channel])


def _scalars(values: Floats, device: torch.device) -> Tensor:
    """Float32 on the device, with axes appended up to (B, h, w), to multiply planes by."""
    return _tensor(values.astype(np.float32), device).view(*values.shape, *(1,) * (3 - values.ndim))


def _tensor(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device, non_blocking=True)
