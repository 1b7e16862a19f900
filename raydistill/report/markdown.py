"""A sweep in Markdown, for a paper's appendix or a code host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from raydistill.report.facts import Facts, Table
from raydistill.report.wording import heading, short_names
from raydistill.sweep.table import markdown as table


def markdown(facts: Facts, pictures: Mapping[str, str] | None = None) -> str:
    """The whole document. `pictures`: the addresses of figures, by their captions."""
    return "\n\n".join(block for block in _blocks(facts, pictures or {}) if block) + "\n"


def _blocks(facts: Facts, pictures: Mapping[str, str]) -> Iterator[str]:
    yield f"# {_text(facts.title)}"
    yield _text(facts.verdict)
    yield "\n".join(f"- {_text(caution)}" for caution in facts.cautions)
    yield f"## {'Final' if facts.sweep.rows else 'Best so far'}"
    yield _table(facts.final) or "No trial has been trained to the end yet."
    yield _text(facts.note)
    yield _table(facts.comparisons)
    yield _text(facts.compared) if facts.comparisons.body else ""
    yield "## Settings"
    yield _table(facts.space)
    yield _table(Table(["setting", "explains by itself"], [list(pair) for pair in facts.shares.items()]))
    yield _text(facts.worth or facts.no_shares)
    yield "## Training"
    yield _text(facts.savings)
    yield from (f"![{_text(caption)}]({address})" for caption, address in pictures.items())
    yield "## Trials"
    yield _table(_trials(facts))
    yield "## The winner's settings"
    yield _pairs("setting", facts.settings) or "There is no winner."
    yield "## The sweep"
    yield _pairs("sweep", facts.about)
    yield _pairs("data", facts.data)
    yield _pairs("environment", facts.environment)
    yield "\n\n".join(f"{_text(what)}:\n\n```bash\n{command}\n```" for what, command in facts.commands.items())
    yield "\n".join(f"- [{_text(name)}]({address})" for name, address in facts.links.items())


def _trials(facts: Facts) -> Table:
    names = short_names(facts.sweep.searched).values()
    header = ["trial", "part", "outcome", *map(heading, facts.sweep.metrics), "epochs", *names, "message"]
    body = [
        [t.key, t.role, t.outcome, *(score.shown for score in t.scores), str(t.epochs), *t.settings, t.message]
        for t in facts.trials
    ]
    return Table(header, body)


def _pairs(name: str, values: Mapping[str, str]) -> str:
    return _table(Table([name, ""], [list(pair) for pair in values.items()]))


def _table(found: Table) -> str:
    """Empty for one without rows."""
    if not found.body:
        return ""
    return table([_cell(text) for text in found.header], [[_cell(text) for text in row] for row in found.body])


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|")


def _text(text: str) -> str:
    """One line in which nothing is taken for HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
