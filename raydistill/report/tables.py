"""A sweep's tables as data frames, ready to be looked at."""

from __future__ import annotations

import pandas as pd

from raydistill.records.leaderboard import cell, epochs, scored
from raydistill.report.formatting import factor, missing, setting, short_names
from raydistill.report.load import SweepData


def final(sweep: SweepData) -> pd.DataFrame:
    """The table at the end of a sweep: winner, baselines, runners-up; mean ± standard deviation over seeds.

    Accuracies in percent, parameters in millions; a dash where a configuration was not scored.
    """
    shown = scored(sweep.rows, sweep.metrics)
    return pd.DataFrame(
        [
            {"seeds": len(row.scores), "epochs": row.epochs or epochs(row)} | {c: cell(row, c) for c in shown}
            for row in sweep.rows
        ],
        index=pd.Index([row.name for row in sweep.rows], name="configuration", dtype=object),
    )


def leaders(sweep: SweepData) -> pd.DataFrame:
    """The search's trials: those trained to the end first, the best of them on top; then by epochs and score.

    outcome, epochs, the last score (accuracies in percent), seconds of wall time, and every searched setting.
    """
    keys = sweep.role("search")
    names = short_names(sweep.searched)
    scores = sweep.scores.reindex(columns=[sweep.metric]).loc[keys, sweep.metric] * factor(sweep.metric)
    frame = pd.DataFrame(
        {
            "outcome": sweep.trials.outcome[keys],
            "epochs": sweep.epochs()[keys],
            sweep.metric: scores.round(2),
            "seconds": sweep.trials.seconds[keys].round(1),
        }
    )
    for path in sweep.searched:
        frame[names[path]] = ["" if missing(value) else setting(value) for value in sweep.settings.loc[keys, path]]
    ended = (frame.outcome == "finished").rename("ended")
    order = pd.concat([ended, frame.epochs, scores if sweep.maximize else -scores], axis=1)
    return frame.loc[order.sort_values(list(order.columns), ascending=False, kind="stable").index]
