"""DoGo: the weight of the peers' term and the two temperatures (its figures 4 and 6)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from raydistill.report.figures import style
from raydistill.report.formatting import axis, factor, is_number, missing, setting
from raydistill.report.load import SweepData
from raydistill.report.papers.panels import HEIGHT, PAPER, against
from raydistill.report.papers.trials import baseline, expect, used, varied

LAMBDA, TAU_KD, TAU_C = "method.lambda_kd", "method.tau_kd", "method.tau_c"
REDUCTION, BATCH, BACKBONES = "method.kd_reduction", "data.batch_size", "method.backbones"
PUBLISHED = {TAU_KD: 0.1, TAU_C: 0.5}
WEIGHT, AT = 100.0, 256  # the paper's lambda_kd, of a KL that is divided by the square of this batch size
COLORS = colormaps["viridis"]


def weights_and_temperatures(sweep: SweepData) -> Figure:
    """The score against lambda_kd, by tau_kd; against tau_kd; and against tau_c.

    The paper's lambda_kd is marked where it has the same strength at this sweep's batch size and reduction; not where
    the search varied one of the two. Raises: ValueError for a sweep of another method.
    """
    expect(sweep, "dogo")
    weight = published_weight(sweep)
    same = weight is None or math.isclose(weight, WEIGHT) or not varied(sweep, LAMBDA)
    paper = PAPER if same else f"{PAPER} (its lambda_kd of {WEIGHT:g} is {setting(weight)} here)"
    return against(
        sweep,
        LAMBDA,
        TAU_KD,
        TAU_C,
        by=TAU_KD,
        paper=paper,
        published=PUBLISHED if weight is None else {**PUBLISHED, LAMBDA: weight},
    )


def published_weight(sweep: SweepData) -> float | None:
    """The lambda_kd that is as strong here as the paper's; None where batch size or reduction are not one.

    `element_mean` divides the KL by the square of the batch size, `batchmean` by the batch size alone.
    """
    reductions, batches = set(used(sweep, REDUCTION, "element_mean")), set(used(sweep, BATCH))
    if len(reductions) != 1 or len(batches) != 1 or missing(batch := batches.pop()):
        return None
    return WEIGHT / AT * (batch if reductions == {"element_mean"} else 1)


def curves_by_weight(sweep: SweepData) -> Figure:
    """The score by epoch, a line for each trial, coloured by its lambda_kd; grey where that is 0.

    A panel for the student, and one for each peer beside it that was scored (`eval.encoders: all`).
    Raises: ValueError for a sweep of another method.
    """
    expect(sweep, "dogo")
    peers = [name for name in map(str, sweep.scores) if re.fullmatch(rf"{sweep.metric}_peer_\d+", name)]
    curves = [_curves(sweep, name) for name in (sweep.metric, *sorted(peers, key=_number))]
    values = used(sweep, LAMBDA)
    weights = {str(key): float(value) for key, value in values.items() if is_number(value) and not missing(value)}
    drawn = {str(key) for frame in curves for key in frame} & set(weights)
    if not drawn:
        return style.empty("No trial of the search has a score yet.")
    positive = {weights[key] for key in drawn if weights[key] > 0} or {1.0}
    low, high = min(positive), max(positive)
    norm: Normalize = LogNorm(low, high if high > low else low * 10)
    colors = {key: COLORS(norm(weight)) if weight > 0 else style.GREY for key, weight in weights.items()}
    figure, panels = style.grid_of(1, len(curves), HEIGHT)
    for panel, frame, title in zip(panels, curves, _titles(sweep, len(curves)), strict=True):
        for key in colors:
            if key in frame:
                _line(panel, frame[key].dropna(), colors[key], full=sweep.trials.outcome[key] == "finished")
        panel.set_xlabel("epoch")
        panel.set_ylabel(axis(sweep.metric))
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        style.titled(panel, title)
    found = baseline(sweep)
    if found is not None:
        panels[0].axhline(found, color=style.GREY, linestyle="--", linewidth=1, zorder=1)
    if high > low:
        _colorbar(figure, panels, norm, low, high)
    _legend(figure, [weights[key] for key in drawn], plain=found is not None)
    return figure


def _curves(sweep: SweepData, metric: str) -> pd.DataFrame:
    return sweep.curves(metric, sweep.role("search")).dropna(axis=1, how="all") * factor(metric)


def _number(metric: str) -> int:
    return int(metric.rpartition("_")[2])


def _titles(sweep: SweepData, count: int) -> list[str]:
    """Titles of the panels: each peer, with its backbone where all trials had the same; empty for the student alone."""
    if count == 1:
        return [""]
    names = ["student", *(f"peer {number}" for number in range(2, count + 1))]
    backbones = {tuple(value) for value in used(sweep, BACKBONES) if isinstance(value, list | tuple)}
    if len(backbones) != 1:
        return names
    return [f"{name}, {backbone}" for name, backbone in zip(names, *backbones, strict=False)]


def _line(axes: Axes, curve: pd.Series, color: Any, *, full: bool) -> None:
    axes.plot(curve.index, curve, color=color, linewidth=1.5 if full else 1.0, alpha=0.9)
    inside = color if full else "none"
    axes.plot(curve.index[-1], curve.iloc[-1], "o", markersize=5, color=color, markerfacecolor=inside)


def _colorbar(figure: Figure, panels: list[Axes], norm: Normalize, low: float, high: float) -> None:
    bar = figure.colorbar(ScalarMappable(norm, COLORS), ax=panels, pad=0.01)
    bar.set_label("lambda_kd", fontsize=style.TEXT, color=style.INK)
    bar.ax.tick_params(labelsize=style.SMALL, colors=style.GREY, labelcolor=style.INK)
    bar.ax.minorticks_off()
    ticks = [10.0**k for k in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    ticks = ticks if len(ticks) > 1 else [low, high]
    bar.set_ticks(ticks, labels=[setting(tick) for tick in ticks])


def _legend(figure: Figure, weights: Iterable[float], *, plain: bool) -> None:
    """Draw the legend: outcomes, the meaning of grey, the colour if there is but one, the baseline's line."""
    ended = {"marker": "o", "color": style.GREY, "linestyle": "-"}
    handles = [style.mark("trained to the end", **ended), style.mark("ended before", markerfacecolor="none", **ended)]
    different = set(weights)
    positive = different - {0.0}
    if len(positive) == 1:
        every = "" if 0.0 in different else ", in every trial"
        handles.append(style.mark(f"lambda_kd {setting(*positive)}{every}", linestyle="-", color=COLORS(0.0)))
    if 0.0 in different:
        handles.append(style.mark("lambda_kd 0: no distillation", linestyle="-", color=style.GREY))
    if plain:
        handles.append(style.mark("baseline, at the end", linestyle="--", color=style.GREY))
    style.legend(figure, handles, loc="outside lower center", ncols=len(handles))
