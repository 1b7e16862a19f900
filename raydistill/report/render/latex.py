"""A sweep's tables in LaTeX, for a paper: the final comparison, and what was searched with what won."""

from __future__ import annotations

from raydistill.report.comparison import finalists, references
from raydistill.report.formatting import MISSING
from raydistill.report.importance import oob_r2
from raydistill.report.summary import SweepSummary
from raydistill.table import Table

SETTINGS = r">{\raggedright\arraybackslash}p{0.45\linewidth}"  # a column that may be long


def latex(summary: SweepSummary) -> str:
    """Two tables; the preamble needs array, booktabs and, for quotation marks, the T1 font encoding."""
    name = summary.sweep.name
    shares = summary.shares if summary.shares and oob_r2(summary.sweep) > 0 else {}  # else they are of noise
    selected = [*finalists(summary.sweep), *references(summary.sweep)]
    told = {row.name for row in selected} or {row[0] for row in summary.final.body}
    final = Table(summary.final.header[:-1], [row[:-1] for row in summary.final.body if row[0] in told])
    header = [*summary.space.header, *(["share"] if shares else [])]
    space = Table(header, [[*row, *([shares.get(row[0], MISSING)] if shares else [])] for row in summary.space.body])
    what = f"{summary.sweep.method} on {summary.sweep.source}"
    rows = "Arms" if summary.sweep.experiment else "Winner, baselines"
    tables = [
        final.latex(
            "l" + "r" * (len(final.header) - 1),
            f"{name}-final",
            f"{rows} and references of the sweep {name} ({what}): mean ± standard deviation over seeds."
            if summary.sweep.rows
            else f"Best trials so far of the sweep {name} ({what}), validation scores of one seed.",
        ),
        space.latex(
            f"l{SETTINGS}{'l' * (len(header) - 2)}",
            f"{name}-settings",
            f"What the sweep {name} ({what}) searched, and its winner"
            + (
                ", with the share of the score's variation that each setting explains by itself (fANOVA)."
                if shares
                else "."
            ),
        ),
    ]
    if summary.sweep.experiment:  # it has searched nothing
        tables = tables[:1]
    return "\n".join([r"% \usepackage{array} \usepackage{booktabs} \usepackage[T1]{fontenc}", *filter(None, tables)])
