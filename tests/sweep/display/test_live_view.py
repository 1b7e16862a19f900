"""The live view: drawn from where a sweep stands, and seen in a terminal as a person would see it."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pyte
import pytest
from rich.console import Console

from raydistill.sweep.display.live_view import PLAIN, LiveView, render, sparkline, wanted
from raydistill.sweep.display.progress import ProgressReporter, RunningTrial, SweepStatus

ROOT = Path(__file__).parents[3]
COLUMNS, LINES = 110, 22
SWEEP = ROOT / "tests" / "helpers" / "live_sweep.py"


def screen(*words):
    """What a terminal of 110 by 22 shows after the sweep's words; lines without trailing blanks."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    ends = {"stdin": inside, "stdout": inside, "stderr": inside}
    process = subprocess.Popen([sys.executable, SWEEP, *words], env=environment, **ends)
    os.close(inside)
    shown = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(shown)
    with suppress(OSError):  # how a terminal says that nobody is left
        while data := os.read(terminal, 65536):
            stream.feed(data)
    os.close(terminal)
    assert process.wait(timeout=30) == 0, "\n".join(shown.display)
    return [line.rstrip() for line in shown.display]


def test_a_terminal_shows_trials_bars_curves_the_best_and_the_time_left():
    lines = [line for line in screen() if line]
    assert lines[0] == "[00:00] sweep dogo-1: 8 trials of 10 epochs"
    assert lines[1] == "[00:24] t0003 stopped early after 2 of 10 epochs, val_knn 0.8960", "the log stays above"
    assert re.fullmatch(r"search  00:41 · 1 of 8 trials · 17 trial-epochs · about 3 min left · CPU 97 %", lines[2])
    assert lines[3] == "best val_knn 0.9840 (t0001)"
    rows = [line.split() for line in lines[4:]]
    assert [row[0] for row in rows] == ["t0000", "t0001", "t0002", "t0004"]
    assert " ".join(rows[0][2:]) == "5.6 of 10 ▁▅▇██ 0.9640 lambda_kd=30.3 tau_kd=0.1 lr=0.0022"
    assert " ".join(rows[3][2:]) == "0.6 of 10 lambda_kd=55 tau_kd=0.2 lr=0.0017", "no score so far"
    assert rows[0][1].count("█") == rows[1][1].count("█") > rows[3][1].count("█")


def test_readme_shows_this_screen():
    (shown,) = re.findall(r"<!-- live -->\n```text\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert shown.rstrip().splitlines() == "\n".join(screen()).rstrip().splitlines()


def test_at_the_end_the_log_remains_and_the_view_is_gone():
    lines = [line for line in screen("closed") if line]
    assert len(lines) == 3
    assert lines[-1] == "[00:41] done"


def status(**values):
    given = {
        "phase": "search",
        "seconds": 61.0,
        "ended": 1,
        "trials": 8,
        "trial_epochs": 9,
        "left": "about 3 min left",
        "spent": "",
        "metric": "val_knn",
        "best": None,
        "running": (),
    }
    return SweepStatus(**given | values)


def drawn(view):
    console = Console(width=100, file=io.StringIO())
    console.print(view)
    return console.file.getvalue()


def test_many_trials_are_counted_and_not_all_drawn():
    running = [RunningTrial(f"t{index:04d}", {}, 1.0, 10) for index in range(30)]
    text = drawn(render(status(running=running, spent="3.20")))
    assert "t0011" in text
    assert "t0012" not in text
    assert "and 18 more" in text
    assert "spent 3.20" in text


def test_settings_that_do_not_fit_are_cut_and_cost_no_second_line():
    trial = RunningTrial("t0000", {f"method.setting_{index}": index for index in range(20)}, 1.0, 10, (0.5, 0.25))
    lines = [line for line in drawn(render(status(running=[trial]))).splitlines() if line.strip()]
    assert len(lines) == 2
    assert lines[1].startswith("t0000 ")
    assert " 1.0 of 10  █▁ 0.2500  setting_0=0 " in lines[1], "what is short stays whole"
    assert lines[1].rstrip().endswith("…")


@pytest.mark.parametrize(
    ("scores", "bars"), [([], ""), ([0.5], ""), ([0.5, 0.5], "▁▁"), ([0, 0.5, 1], "▁▅█"), ([0, *[1] * 12], "▁" * 12)]
)
def test_a_curve_goes_from_the_least_to_the_most_of_the_last_scores(scores, bars):
    assert sparkline(scores) == bars


def test_words_in_brackets_are_written_as_they_are(capsys):
    view = LiveView(Console(width=80))
    view.write("[00:01] t0001 failed: [Errno 2] no such file: [bold]x[/bold]")
    view.close()
    assert "[00:01] t0001 failed: [Errno 2] no such file: [bold]x[/bold]" in capsys.readouterr().out


def test_without_a_terminal_lines_are_plain(monkeypatch):
    assert not wanted(), "pytest reads the output"
    terminal = SimpleNamespace(isatty=lambda: True, encoding="utf-8")
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert wanted()
    terminal.encoding = "iso-8859-1"
    assert not wanted(), "it has no bars"
    terminal.encoding = "utf-8"
    monkeypatch.setenv(PLAIN, "1")
    assert not wanted()


def test_a_phase_is_named_at_once():
    shown = []
    view = type("View", (), {"show": shown.append, "write": print, "close": lambda self: None})()
    view.show = shown.append
    progress = ProgressReporter(trials=2, epochs=3, metric="val_knn", goal="maximize")
    progress.watch(view)
    progress.at("final runs")
    assert [each.phase for each in shown] == ["final runs"]
