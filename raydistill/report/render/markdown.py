"""A sweep in Markdown, for a paper's appendix or a code host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from raydistill.report.formatting import heading, short_names
from raydistill.report.summary import SweepSummary
from raydistill.table import Table, escape_html, escape_markdown


def markdown(summary: SweepSummary, pictures: Mapping[str, str] | None = None) -> str:
    """The whole document. `pictures`: the addresses of figures, by their captions."""
    return "\n\n".join(block for block in _blocks(summary, pictures or {}) if block) + "\n"


def _blocks(summary: SweepSummary, pictures: Mapping[str, str]) -> Iterator[str]:
    yield f"# {escape_html(summary.title)}"
    yield escape_html(summary.conclusion)
    yield "\n".join(f"- {escape_html(caveat)}" for caveat in summary.caveats)
    yield _table(summary.published)
    yield "\n".join(f"- {escape_html(claim)}" for claim in summary.claims)
    yield escape_html(summary.published_note)
    yield f"## {'Final' if summary.sweep.rows else 'Best so far'}"
    yield _table(summary.final) or "No trial has been trained to the end yet."
    yield escape_html(summary.note)
    yield _table(summary.few_labels)
    yield escape_html(summary.few_labels_note) if summary.few_labels.body else ""
    yield _table(summary.comparisons)
    yield escape_html(summary.compared) if summary.comparisons.body else ""
    experiment = bool(summary.sweep.experiment)
    if not experiment:
        yield "## Settings"
        yield _table(summary.space)
        yield _table(Table(["setting", "explains by itself"], [list(pair) for pair in summary.shares.items()]))
        yield escape_html(summary.worth or summary.no_shares)
    yield "## Training"
    yield escape_html(summary.savings)
    yield from (f"![{escape_html(caption)}]({address})" for caption, address in pictures.items())
    yield "## Runs" if experiment else "## Trials"
    yield _table(_trials(summary))
    yield "## Settings of the best arm on validation" if experiment else "## The winner's settings"
    yield _pairs("setting", summary.settings) or "There is no winner."
    yield "## The sweep"
    yield _pairs("sweep", summary.about)
    yield _pairs("data", summary.data)
    yield _pairs("environment", summary.environment)
    yield "\n\n".join(f"{escape_html(what)}:\n\n```bash\n{command}\n```" for what, command in summary.commands.items())
    yield "\n".join(f"- [{escape_html(name)}]({address})" for name, address in summary.links.items())


def _trials(summary: SweepSummary) -> Table:
    names = short_names(summary.sweep.searched).values()
    header = ["trial", "part", "outcome", *map(heading, summary.sweep.metrics), "epochs", *names, "message"]
    body = [
        [t.key, t.role, t.outcome, *(score.shown for score in t.scores), str(t.epochs), *t.settings, t.message]
        for t in summary.trials
    ]
    return Table(header, body)


def _pairs(name: str, values: Mapping[str, str]) -> str:
    return _table(Table([name, ""], [list(pair) for pair in values.items()]))


def _table(found: Table) -> str:
    """Empty for one without rows."""
    return found.markdown(escape_markdown) if found.body else ""
