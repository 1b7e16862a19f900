"""Pixel operations of the CPU, compiled by numba: `pixels` calls them, and has the same ones in torch for GPUs.

On a CPU both give the same bits: the same products and sums, in the same order, each rounded to float32. So no kernel
may be compiled with `fastmath`. On a GPU torch divides by a number as it multiplies by its inverse, which rounds
otherwise. Python's lock is free while one runs, and an image stays in the processor's cache from the
first pass to the last.

`planes` are (3, B, H, W) float32, C-contiguous, changed in place; `who` (N,) are places among the B images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from raydistill.data.views.colours import GREY, HUE

F = TypeVar("F", bound=Callable[..., Any])
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_RED, _GREEN, _BLUE = (np.float32(weight) for weight in GREY)
_0, _1, _2, _3, _4, _5, _6 = (np.float32(number) for number in range(7))
_SIXTH, _TINY = np.float32(1 / 6), np.float32(1e-12)


# docs/architecture.md#two-ways-to-a-pixel
def _compiled(function: F) -> F:
    """Compile a function at its first call, and keep the code on disk for later processes where there is a place."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return cast(F, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # neither this folder nor the user's cache can be written to
        return cast(F, numba.njit(**options)(function))


@_compiled
def resample(
    images: Bytes,
    columns: Integers,
    column_weights: Floats,
    lines: Integers,
    line_weights: Floats,
    flip: NDArray[np.bool_],
    planes: Floats,
    first: int,
) -> None:
    """Resample N images, 0 to 255, into the planes from place `first` on: columns first, then lines.

    Args:
        images: (N, 3, h, w) uint8, C-contiguous; another layout would be compiled anew.
        columns, column_weights: (N, S, K) source columns of each output column, and their weights.
        lines, line_weights: (N, S, K), of lines.
        flip: (N,) whether to mirror left and right.
        planes: (3, B, S, S).
        first: place of the first image.
    """
    for image in range(len(images)):
        turned = columns[image][::-1] if flip[image] else columns[image]
        weights = column_weights[image][::-1] if flip[image] else column_weights[image]
        _resample_one(images[image], turned, weights, lines[image], line_weights[image], planes, first + image)


@_compiled
def _resample_one(
    image: Bytes,
    columns: Integers,
    column_weights: Floats,
    lines: Integers,
    line_weights: Floats,
    planes: Floats,
    place: int,
) -> None:
    left, right, taps = _reach(columns, column_weights)
    top, bottom, line_taps = _reach(lines, line_weights)
    size = len(columns)
    # Taps first, so that the loops over columns are vectors; unsigned, or each number is checked for being below 0.
    source = np.empty((taps, size), np.uint32)
    weight = np.empty((taps, size), np.float32)
    for tap in range(taps):
        for k in range(size):
            source[tap, k] = min(max(columns[k, tap], left), right - 1) - left
            weight[tap, k] = column_weights[k, tap]
    line = np.empty(right - left, np.float32)
    narrow = np.empty((bottom - top, size), np.float32)
    for channel in range(3):
        for y in range(top, bottom):
            pixels = image[channel, y, left:right]
            for x in range(right - left):
                line[x] = np.float32(pixels[x])
            out = narrow[y - top]
            for k in range(size):
                out[k] = line[source[0, k]] * weight[0, k]
            for tap in range(1, taps - 1, 2):  # two at a time: half the passes over `out`
                for k in range(size):
                    part = out[k] + line[source[tap, k]] * weight[tap, k]
                    out[k] = part + line[source[tap + 1, k]] * weight[tap + 1, k]
            if taps % 2 == 0:
                for k in range(size):
                    out[k] += line[source[taps - 1, k]] * weight[taps - 1, k]
        for y in range(size):
            out = planes[channel, place, y]
            out[:] = 0
            for tap in range(line_taps):
                share = line_weights[y, tap]
                if share != 0:
                    row = narrow[lines[y, tap] - top]
                    for x in range(size):
                        out[x] += row[x] * share


@_compiled
def _reach(index: Integers, weights: Floats) -> tuple[int, int, int]:
    """Return the first of the source pixels that count, the first behind them, and the number of taps that count."""
    low, high, taps = index.max(), 0, 1
    for k in range(len(index)):
        for tap in range(index.shape[1]):
            if weights[k, tap] != 0:
                low, high, taps = min(low, index[k, tap]), max(high, index[k, tap]), max(taps, tap + 1)
    return min(low, high), high + 1, taps


@_compiled
def jitter(
    planes: Floats, who: Integers, own: Floats, grey: Floats, mean: Floats, turns: Floats, order: Integers
) -> None:
    """Change brightness, contrast, saturation and hue, in each image's own order.

    Args:
        planes, who: the images.
        own, grey, mean: (N, 4) shares of the image, of its grey and of its mean grey in the result of each operation.
        turns: (N,) of hue, in sixths of the circle.
        order: (N, 4) which of the four comes first, second, and so on.
    """
    count = planes.shape[2] * planes.shape[3]
    flat = planes.reshape(3, planes.shape[1], count)
    greys, halves = np.empty(count, np.float32), np.empty(count, np.float32)
    for place in range(len(who)):
        red, green, blue = flat[0, who[place]], flat[1, who[place]], flat[2, who[place]]
        for step in range(4):
            operation = order[place, step]
            if operation == HUE:
                _rotate_hue(red, green, blue, turns[place])
            else:
                shift = _0
                if mean[place, operation] != 0:
                    for i in range(count):
                        greys[i] = red[i] * _RED + green[i] * _GREEN + blue[i] * _BLUE
                    shift = _mean(greys, halves) * mean[place, operation]
                _blend(red, green, blue, own[place, operation], grey[place, operation], shift)


@_compiled
def _blend(red: Floats, green: Floats, blue: Floats, own: np.float32, grey: np.float32, shift: np.float32) -> None:
    for i in range(len(red)):
        r, g, b = red[i], green[i], blue[i]
        other = (r * _RED + g * _GREEN + b * _BLUE) * grey + shift
        red[i] = min(max(r * own + other, _0), _1)
        green[i] = min(max(g * own + other, _0), _1)
        blue[i] = min(max(b * own + other, _0), _1)


@_compiled
def _mean(values: Floats, halves: Floats) -> np.float32:
    """Take the mean by halving, as `pixels` does."""
    count, source = len(values), values
    while count > 1:
        half = count // 2
        odd = source[2 * half] if count % 2 else _0
        for i in range(half):
            halves[i] = source[i] + source[half + i]
        if count % 2:
            halves[0] += odd
        count, source = half, halves
    total: np.float32 = source[0] / np.float32(len(values))
    return total


@_compiled
def _rotate_hue(red: Floats, green: Floats, blue: Floats, turn: np.float32) -> None:
    for i in range(len(red)):
        r, g, b = min(max(red[i], _0), _1), min(max(green[i], _0), _1), min(max(blue[i], _0), _1)
        value = max(max(r, g), b)
        chroma = value - min(min(r, g), b)
        is_red, is_green = value == r, value == g
        difference = (g - b) if is_red else ((b - r) if is_green else (r - g))
        sector = difference / max(chroma, _TINY) + (_0 if is_red else (_2 if is_green else _4)) + turn
        red[i] = value - _ramp(sector + _5) * chroma
        green[i] = value - _ramp(sector + _3) * chroma
        blue[i] = value - _ramp(sector + _1) * chroma


@_compiled
def _ramp(place: np.float32) -> np.float32:
    wrapped = place - np.floor(place * _SIXTH) * _6
    return min(max(_2 - abs(wrapped - _2), _0), _1)


@_compiled
def greyscale(planes: Floats, who: Integers) -> None:
    """Make the three channels of an image its grey."""
    for image in who:
        for y in range(planes.shape[2]):
            red, green, blue = planes[0, image, y], planes[1, image, y], planes[2, image, y]
            for x in range(planes.shape[3]):
                red[x] = red[x] * _RED + green[x] * _GREEN + blue[x] * _BLUE
                green[x] = red[x]
                blue[x] = red[x]


@_compiled
def blur(planes: Floats, who: Integers, weights: Floats) -> None:
    """Blur with a symmetric kernel, borders reflected: lines first, then columns.

    Args:
        planes, who: the images.
        weights: (N, R + 1) of each image's kernel, from its middle outwards; R below the side.
    """
    height, width = planes.shape[2:]
    reach = weights.shape[1] - 1
    wide = np.empty((height, width + 2 * reach), np.float32)
    for place in range(len(who)):
        weight = weights[place]
        for channel in range(3):
            plane = planes[channel, who[place]]
            for y in range(height):
                line, out = plane[y], wide[y, reach : reach + width]
                for x in range(width):
                    out[x] = line[x] * weight[0]
                for tap in range(1, reach + 1):
                    above, below, share = plane[abs(y - tap)], plane[_mirrored(y + tap, height)], weight[tap]
                    for x in range(width):
                        out[x] += (above[x] + below[x]) * share
                for x in range(reach):
                    wide[y, reach - 1 - x] = out[x + 1]
                    wide[y, reach + width + x] = out[width - 2 - x]
            for y in range(height):
                line, out = wide[y], plane[y]
                middle = line[reach : reach + width]
                for x in range(width):
                    out[x] = middle[x] * weight[0]
                for tap in range(1, reach + 1):
                    before, share = line[reach - tap : reach - tap + width], weight[tap]
                    behind = line[reach + tap : reach + tap + width]
                    for x in range(width):
                        out[x] += (before[x] + behind[x]) * share


@_compiled
def _mirrored(y: int, height: int) -> int:
    return 2 * (height - 1) - y if y >= height else y


@_compiled
def normalized(planes: Floats, mean: Floats, std: Floats, out: Floats) -> None:
    """Write (planes - mean) / std into `out`.

    Args:
        planes: the images.
        mean, std: (3,), of the channels.
        out: (B, H, W, 3).
    """
    for image in range(len(out)):
        for y in range(out.shape[1]):
            red, green, blue, line = planes[0, image, y], planes[1, image, y], planes[2, image, y], out[image, y]
            for x in range(len(line)):
                line[x, 0] = (red[x] - mean[0]) / std[0]
                line[x, 1] = (green[x] - mean[1]) / std[1]
                line[x, 2] = (blue[x] - mean[2]) / std[2]


def prepare() -> None:
    """Compile all kernels, or read what an earlier process kept, before the first image needs them."""
    planes, who = np.zeros((3, 1, 2, 2), np.float32), np.zeros(1, np.int64)
    taps, ones = np.zeros((1, 2, 1), np.int64), np.ones((1, 2, 1), np.float32)
    resample(np.zeros((1, 3, 2, 2), np.uint8), taps, ones, taps, ones, np.zeros(1, np.bool_), planes, 0)
    shares = np.zeros((1, 4), np.float32)
    jitter(planes, who, shares, shares, shares, np.zeros(1, np.float32), np.arange(4)[None])
    greyscale(planes, who)
    blur(planes, who, np.ones((1, 2), np.float32))
    normalized(planes, np.zeros(3, np.float32), np.ones(3, np.float32), np.zeros((1, 2, 2, 3), np.float32))


def kept_in() -> str | None:
    """The folder that keeps compiled code; None where there is no place for it."""
    folder: str | None = resample.stats.cache_path  # type: ignore[attr-defined] # of numba
    return folder
