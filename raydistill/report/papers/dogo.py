"""DoGo: the weight of the peers' term and the two temperatures (its figures 4 and 6)."""

from __future__ import annotations

import math

from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from raydistill.report.figures import style
from raydistill.report.load import Sweep
from raydistill.report.papers.panels import HEIGHT, against, baseline, expect, varied
from raydistill.report.wording import axis, factor, is_number, setting

LAMBDA, TAU_KD, TAU_C = "method.lambda_kd", "method.tau_kd", "method.tau_c"
PUBLISHED = {LAMBDA: 100.0, TAU_KD: 0.1, TAU_C: 0.5}


def weights_and_temperatures(sweep: Sweep) -> Figure:
    """The score against lambda_kd, by tau_kd; against tau_kd; and against tau_c. Raises: ValueError."""
    expect(sweep, "dogo")
    return against(sweep, LAMBDA, TAU_KD, TAU_C, by=TAU_KD, published=PUBLISHED)


def curves_by_weight(sweep: Sweep) -> Figure:
    """The score by epoch, a line for each trial, coloured by its lambda_kd. Raises: ValueError."""
    expect(sweep, "dogo")
    curves = sweep.curves(sweep.metric, sweep.role("search")).dropna(axis=1, how="all") * factor(sweep.metric)
    values = sweep.params.reindex(columns=[LAMBDA]).loc[list(curves.columns), LAMBDA]
    weights = {str(key): float(value) for key, value in values.items() if is_number(value) and value > 0}
    if not weights:
        return style.empty("No trial of the search has a score yet.")
    figure, (axes,) = style.grid_of(1, 1, HEIGHT)
    low, high = min(weights.values()), max(weights.values())
    norm: Normalize = LogNorm(low, high if high > low else low * 10)
    colors = colormaps["viridis"]
    for key, weight in weights.items():
        curve = curves[key].dropna()
        full = sweep.trials.outcome[key] == "finished"
        axes.plot(curve.index, curve, color=colors(norm(weight)), linewidth=1.5 if full else 1.0, alpha=0.9)
        axes.plot(curve.index[-1], curve.iloc[-1], "o", markersize=5, color=colors(norm(weight)),
                  markerfacecolor=colors(norm(weight)) if full else "none")  # fmt: skip
    found = baseline(sweep)
    if found is not None:
        axes.axhline(found, color=style.GREY, linestyle="--", linewidth=1, zorder=1)
    axes.set_xlabel("epoch")
    axes.set_ylabel(axis(sweep.metric))
    if varied(sweep, LAMBDA):
        bar = figure.colorbar(ScalarMappable(norm, colors), ax=axes, pad=0.01)
        bar.set_label("lambda_kd", fontsize=style.TEXT, color=style.INK)
        bar.ax.tick_params(labelsize=style.SMALL, colors=style.GREY, labelcolor=style.INK)
        bar.ax.minorticks_off()
        ticks = [10.0**k for k in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
        bar.set_ticks(ticks, labels=[setting(tick) for tick in ticks])
    else:
        style.titled(axes, f"lambda_kd was {setting(low)} in every trial")
    ended = {"marker": "o", "color": style.GREY, "linestyle": "-"}
    handles = [style.mark("trained to the end", **ended), style.mark("stopped early", markerfacecolor="none", **ended)]
    if found is not None:
        handles.append(style.mark("without distillation, at the end", linestyle="--", color=style.GREY))
    style.legend(axes, handles, loc="lower right" if sweep.maximize else "upper right")
    return figure
