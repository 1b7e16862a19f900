"""A sweep as one HTML file that needs nothing else: figures inline, no script or style from elsewhere."""

from __future__ import annotations

import base64
from pathlib import Path

from raydistill.report import figures
from raydistill.report.formatting import heading, short_names
from raydistill.report.importance import why_none
from raydistill.report.load import SweepData
from raydistill.report.render.svg import to_svg
from raydistill.report.summary import SweepSummary

CAPTIONS = {
    "comparison": "Winner, baselines and, in grey, references. A circle is a seed, a diamond the mean, a bar the 95 % "
    "interval of the mean.",
    "importance": "Share of the score's variation that each setting explains by itself (fANOVA), among the trials that "
    "were trained to the end; what early stopping weeded out is not in it. The rest is of settings together, or noise.",
    "parallel_coordinates": "A line for each trial, from its settings to its score{nearest}. Of the trials trained to "
    "the end the darker the better, the winner in orange; grey and broken, below them: those stopped before, at the "
    "last score that they had.",
    "slices": "Score against each searched setting. Filled: trained to the end; hollow: stopped before, at the last "
    "score; the star is the winner.",
    "learning_curves": "Score by epoch.",
    "budget": "Left: dark the epochs trained, light those that early stopping saved. Middle and right: what it costs a "
    "learner, and what the pack gains, when learners train side by side; a point is an epoch, the line the median. A "
    "machine that does other work as well makes these times long and uneven.",
}
NEAREST = "; the settings that matter most are nearest to it"


OF_EXPERIMENTS = {
    "comparison": "Arms and, in grey, references. A circle is a seed, a diamond the mean, a bar the 95 % interval of "
    "the mean.",
    "learning_curves": "Score by epoch, a line for each run; runs of an arm share a colour.",
    "budget": "Left: the epochs of each run. Middle and right: what it costs a learner, and what the pack gains, when "
    "learners train side by side; a point is an epoch, the line the median. A machine that does other work as well "
    "makes these times long and uneven.",
}


def captions(sweep: SweepData) -> dict[str, str]:
    """Captions of the figures, by the figures' names; an experiment has none of a search."""
    if sweep.experiment:
        return OF_EXPERIMENTS
    nearest = "" if why_none(sweep) else NEAREST
    return {name: text.replace("{nearest}", nearest) for name, text in CAPTIONS.items()}


def page(summary: SweepSummary) -> str:
    """The whole document."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["flow"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    said = captions(summary.sweep)
    drawn = {name: to_svg(getattr(figures, name)(summary.sweep), name, caption) for name, caption in said.items()}
    return environment.get_template("page.html").render(
        summary=summary,
        sweep=summary.sweep,
        figures=drawn,
        captions=said,
        headings=list(map(heading, summary.sweep.metrics)),
        sheet=base64.b64encode(summary.sweep.sheet).decode(),
        columns=list(short_names(summary.sweep.searched).items()),
    )
