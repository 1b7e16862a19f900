"""The report as Markdown and LaTeX: whole tables, and nothing that their languages would take for their own."""

import re

import pytest
from helpers.builders.sweeps import whole

from raydistill.report.render.latex import latex
from raydistill.report.render.markdown import markdown
from raydistill.report.summary import summarize
from raydistill.table import escape_latex

HOSTILE = r"<script> a|b & 100% #1 $x_1$ {y} ~ ^ \end{tabular}"


@pytest.fixture(scope="module")
def summary():
    sweep = whole(40)
    sweep.trials.loc["t0005", "message"] = HOSTILE
    sweep.identity["base"]["data"]["source"] = "my_data & more 100%"
    return summarize(sweep)


def test_markdown_has_whole_tables(summary):
    text = markdown(summary)
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) >= 6
    for lines in blocks:
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(columns) == 1, lines[0]
    for key in summary.sweep.trials.index:
        assert f"| {key} " in text
    assert "<script>" not in text
    assert "a\\|b" in text
    assert "![" not in text
    assert "![Score by epoch.](curves.png)" in markdown(summary, {"Score by epoch.": "curves.png"})


def test_latex_has_whole_tables(summary):
    text = latex(summary)
    for name in re.findall(r"\\begin\{(\w+)\}", text):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}")
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") == 2
    for table in re.findall(r"\\begin\{tabular\}\{([^\n]*)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL):
        columns = len(re.sub(r">\{[^}]*\}p\{[^}]*\}", "p", table[0]))
        rows = [line for line in table[1].splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {columns}
    assert r"my\_data \& more 100\%" in text
    assert "simclr-same-settings & 3 & 9 & " in text
    assert not re.search(r"^t\d{4} &", text, re.MULTILINE), "trials of one seed are no part of the comparison"
    assert re.search(r"train\.lr & 0\.0001 to 0\.1, log & [\d.]+ & \d+ \\%", text)
    outside = re.sub(r"\\[%&_#$]|\$\\pm\$|\$-\$|\\\w+|^%.*$", "", text, flags=re.MULTILINE)
    assert not re.search(r"[%#$_^~]", outside)
    assert outside.count("{") == outside.count("}")


def test_everything_that_latex_reads_is_escaped():
    assert escape_latex(HOSTILE) == (
        r"\textless{}script\textgreater{} a\textbar{}b \& 100\% \#1 \$x\_1\$ \{y\} \textasciitilde{} "
        r"\textasciicircum{} \textbackslash{}end\{tabular\}"
    )
    assert escape_latex("1 ± 2 − 3 – …\nx") == r"1 $\pm$ 2 $-$ 3 -- \dots{} x"
