"""Reports as files, and as an artifact of the sweep's run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import quote

from raydistill.report import figures
from raydistill.report.importance import why_none
from raydistill.report.load import SweepData
from raydistill.report.render.latex import latex
from raydistill.report.render.markdown import markdown
from raydistill.report.render.page import captions, page
from raydistill.report.summary import SweepSummary

ATTACHED = "report.html"
DPI = 150


def write(summary: SweepSummary, form: str, path: Path, *, pictures: bool = False) -> None:
    """Write a report; the folder is made.

    Args:
        summary: what it says.
        form: html, md or latex.
        path: the file.
        pictures: of md, every figure as a PNG file beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "md":
        text = markdown(summary, _pictures(summary.sweep, path) if pictures else {})
    else:
        text = {"html": page, "latex": latex}[form](summary)
    path.write_text(text, encoding="utf-8")


def attach(sweep: SweepData, path: Path) -> None:
    """Keep the page at `path` as `report.html` of the sweep's run in MLflow; an earlier one is replaced."""
    with tempfile.TemporaryDirectory() as passing:
        copy = Path(passing) / ATTACHED
        copy.write_bytes(path.read_bytes())
        sweep.client.log_artifact(sweep.run_id, str(copy))


def _pictures(sweep: SweepData, path: Path) -> dict[str, str]:
    """Figures as files beside `path`: their names by their captions."""
    found = {}
    for name, caption in captions(sweep).items():
        if name == "importance" and why_none(sweep):
            continue
        file = path.with_name(f"{path.stem}-{name.replace('_', '-')}.png")
        getattr(figures, name)(sweep).savefig(file, dpi=DPI)
        found[caption] = quote(file.name)
    return found
