"""A sweep as one HTML file that needs nothing else: figures inline, no script or style from elsewhere."""

from __future__ import annotations

from pathlib import Path

from raydistill.report import figures
from raydistill.report.facts import Facts
from raydistill.report.svg import to_svg
from raydistill.report.wording import heading, label, short_names

CAPTIONS = {
    "comparison": "Winner and baselines. A circle is a seed, a diamond the mean, a bar the 95 % interval of the mean.",
    "importance": "Share of the score's variation that each setting explains by itself (fANOVA), among the trials that "
    "were trained to the end; what early stopping weeded out is not in it.",
    "parallel_coordinates": "A line for each trial, from its settings to its score; the settings that matter most are "
    "nearest to it. The darker the better, the winner in red; broken lines were not trained to the end.",
    "slices": "Score against each searched setting. Filled: trained to the end; hollow: stopped before, at the last "
    "score; the star is the winner.",
    "learning_curves": "Score by epoch.",
    "budget": "Left: dark the epochs trained, light those that early stopping saved. Middle and right: what it costs a "
    "learner, and what the pack gains, when learners train side by side; a point is an epoch, the line the median.",
}


def page(facts: Facts) -> str:
    """The whole document."""
    import jinja2

    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["flow"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    drawn = {name: to_svg(getattr(figures, name)(facts.sweep), name, caption) for name, caption in CAPTIONS.items()}
    return environment.get_template("page.html").render(
        facts=facts, sweep=facts.sweep, figures=drawn, captions=CAPTIONS, heading=heading(facts.sweep.metric),
        metric=label(facts.sweep.metric), columns=list(short_names(facts.sweep.searched).items()),
    )  # fmt: skip
