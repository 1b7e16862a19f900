"""Costs of several sweeps, and the savings by packs and early stopping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from raydistill.report.figures import style
from raydistill.report.load import SweepData
from raydistill.report.savings import savings

HEIGHT, WIDTH = 3.4, 7.4  # inches


def costs(sweeps: Sequence[SweepData]) -> pd.DataFrame:
    """A row for each sweep.

    trials of the search, stopped early, failed; epochs of all trials, teachers and final included, with each seed
    counted; hours of wall time and worker hours; saved, the share of the search's epochs that early stopping left out.

    Of the search's epochs: learners, on average in a pack; images per second that all learners of a pack together are
    trained on, the median; and sharing, how many times longer they would have taken one after the other, each at the
    time of its own steps and of what its pack has in common.
    """
    return pd.DataFrame([_cost(sweep) for sweep in sweeps], index=pd.Index([s.name for s in sweeps], name="sweep"))


def packs(sweeps: Sequence[SweepData]) -> Figure:
    """Images per second that all learners of a pack of the search together are trained on, by their number."""
    figure, (axes,) = style.grid_of(1, 1, HEIGHT, width=WIDTH)
    handles = []
    for number, sweep in enumerate(sweeps):
        frame = _epochs(sweep)
        if frame.empty:
            continue
        color = style.COLORS[number % len(style.COLORS)]
        axes.plot(frame.learners, frame.together, "o", markersize=3, color=color, alpha=0.25, markeredgewidth=0)
        middle = frame.groupby("learners").together.median()
        axes.plot(middle.index, middle, marker="o", markersize=5, color=color, linewidth=1.6)
        handles.append(style.mark(style.plain(sweep.name), marker="o", linestyle="-", color=color))
    axes.set_xlabel("learners in the pack")
    axes.set_ylabel("images per second, all learners")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    style.legend(axes, handles, loc="best")
    return figure


def _cost(sweep: SweepData) -> dict[str, Any]:
    spent, found, frame = sweep.spent, savings(sweep), _epochs(sweep)
    searched = [*sweep.role("search"), *sweep.role("baseline")]
    return {
        "trials": len(sweep.role("search")),
        "stopped": found.stopped,
        "failed": len(sweep.role("search", "failed")),
        "epochs": int(sweep.epochs().sum() + (sweep.seeds_per_trial - 1) * sweep.epochs()[searched].sum()),
        "hours": spent.hours if spent else sweep.seconds / 3600,
        "worker hours": spent.accelerator_hours if spent else None,
        "saved": found.share,
        "learners": frame.learners.mean(),
        "images per second": frame.together.median(),
        "sharing": frame.alone.sum() / frame.own_share.sum() if len(frame) else float("nan"),
    }


def _epochs(sweep: SweepData) -> pd.DataFrame:
    """A row for each epoch of each trial of the search; teachers and baselines are other work.

    learners of its pack; together, their images per second; alone, the seconds that a step would have taken without
    the others (what is shared once, and the learner's own part); own_share, the wall seconds of a step by learner.
    """
    keys = sweep.role("search")
    names = ("images_per_second", "step_seconds", "shared_seconds", "pack_learners")
    wide = [sweep.curves(name, keys).rename_axis(columns="trial") for name in names]
    long = [curves.melt(ignore_index=False).set_index("trial", append=True) for curves in wide]
    frame = pd.concat(long, axis=1, keys=names).droplevel(1, axis=1).dropna()
    batches = pd.to_numeric(sweep.params.reindex(columns=["data.batch_size"])["data.batch_size"])
    batch = batches.reindex(frame.index.get_level_values("trial")).to_numpy()
    return pd.DataFrame(
        {
            "learners": frame.pack_learners,
            "together": frame.images_per_second * frame.pack_learners,
            "alone": frame.shared_seconds + frame.step_seconds,
            "own_share": batch / frame.images_per_second / frame.pack_learners,
        }
    )
