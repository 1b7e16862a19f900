"""Tables of text, as Markdown and as LaTeX; the report's page has a template for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "…": r"\dots{}",
}


@dataclass(frozen=True)
class Table:
    """Cells as they are shown, a list for each row."""

    header: list[str]
    body: list[list[str]]

    def markdown(self, escape: Callable[[str], str] = str) -> str:
        """Return the table with its columns aligned, also for a terminal; `escape` is applied to every cell."""
        rows = [list(map(escape, row)) for row in [self.header, *self.body]]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

        def line(cells: list[str]) -> str:
            return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip() + " |"

        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        return "\n".join([line(rows[0]), rule, *map(line, rows[1:])])

    def latex(self, columns: str, label: str, caption: str) -> str:
        """Return a `table` environment with the rules of booktabs; empty for a table without rows.

        Args:
            columns: their alignments, as `tabular` takes them.
            label: what `\\ref{tab:...}` calls the table.
            caption: a text, which is escaped as the cells are.
        """
        if not self.body:
            return ""
        head, *body = [" & ".join(map(escape_latex, row)) + r" \\" for row in [self.header, *self.body]]
        return "\n".join(
            [
                r"\begin{table}[t]",
                r"\centering",
                f"\\caption{{{escape_latex(caption)}}}",
                f"\\label{{tab:{label}}}",
                f"\\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                head,
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )


def escape_latex(text: str) -> str:
    """Return the text as LaTeX shows it, in one line."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def escape_markdown(text: str) -> str:
    """Return the text in one line, in which nothing is taken for HTML or for the end of a cell."""
    return escape_html(text).replace("|", "\\|")


def escape_html(text: str) -> str:
    """Return the text in one line, in which nothing is taken for HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
