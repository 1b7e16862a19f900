"""TensorBoard: a folder beside the sweep with a run for each trial."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from raydistill.table import Table
from raydistill.tracking.loggers.base import (
    SWEEP,
    FinalTable,
    LoggerEvent,
    TrialEnd,
    TrialMetrics,
    TrialScores,
    TrialStart,
)

FOLDER = "tensorboard"
HPARAMS_START, HPARAMS_END = "_hparams_/session_start_info", "_hparams_/session_end_info"
OUTCOME, TABLE = "outcome", "leaderboard"
TEXT = "/text_summary"  # how tensorboardX ends the name of a text
FAILED = "failed"


class Known(NamedTuple):
    """Content of a run's files: the (name, step) of its numbers, and its texts by name, in their order."""

    points: set[tuple[str, int]]
    texts: dict[str, list[str]]


class TensorBoardLogger:
    """Event files in `FOLDER` of the sweep: the sweep's own, and a folder for each trial.

    A resume reads what the files have and appends the rest in files of its own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._known: dict[str, Known] = {}
        self._writers: dict[str, Any] = {}

    def receive(self, event: LoggerEvent) -> None:
        match event:
            case TrialStart():
                self._start(event)
            case TrialMetrics():
                self._log(event)
            case TrialScores():
                self._log(event)
                self._close(event.key)
            case FinalTable():
                self._text(SWEEP, TABLE, Table(event.header, event.rows).markdown(), None)
            case TrialEnd():
                self._end(event)

    def _start(self, event: TrialStart) -> None:
        if event.key == SWEEP or (HPARAMS_START, 0) in self._of(event.key).points:
            return
        from tensorboardX.summary import hparams

        plain = {name: _plain(value) for name, value in {**event.params, **event.tags}.items()}
        # Without the summary `experiment`, TensorBoard gathers the settings and the scores of all runs itself.
        _, start, _ = hparams(plain, {})
        self._write(event.key, start, 0, event.when)

    def _log(self, event: TrialMetrics | TrialScores) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        known = self._of(event.key).points
        new = {name: value for name, value in event.metrics.items() if (name, event.step) not in known}
        if new:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in new.items()]
            self._write(event.key, Summary(value=values), event.step, event.when)

    def _end(self, event: TrialEnd) -> None:
        key, outcome = event.key, event.outcome
        if key != SWEEP and outcome != "interrupted":
            self._text(key, OUTCOME, f"{outcome}: {event.message}" if event.message else outcome, event.when)
            if (HPARAMS_END, 0) not in self._of(key).points:
                self._write(key, _session_end(outcome), 0, event.when)
        for each in list(self._writers) if key == SWEEP else [key]:
            self._close(each)

    def abandon(self) -> None:
        """Do nothing, since files hold nothing up."""

    def _of(self, key: str) -> Known:
        if key not in self._known:
            self._known[key] = read_run(self._folder / key)
        return self._known[key]

    def _text(self, key: str, name: str, text: str, when: int | None) -> None:
        """Write a text, unless it is the last one of its name.

        Args:
            key: the trial.
            name: of the text.
            text: in Markdown.
            when: milliseconds since 1970; None: now.
        """
        from tensorboardX import summary

        texts = self._of(key).texts.setdefault(name + TEXT, [])
        if texts[-1:] != [text]:
            self._write(key, summary.text(name, text), len(texts), when)
            texts.append(text)

    def _write(self, key: str, summary: Any, step: int, when: int | None) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event

        if key not in self._writers:
            folder = self._folder / key
            folder.mkdir(parents=True, exist_ok=True)
            # Files of the same second would have the same name, and TensorBoard reads them in the order of their names.
            self._writers[key] = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        event = Event(summary=summary, step=step)
        if when is not None:
            event.wall_time = when / 1000
        self._writers[key].write_event(event)
        self._writers[key].flush()
        self._of(key).points.update((value.tag, step) for value in summary.value)

    def _close(self, key: str) -> None:
        if (writer := self._writers.pop(key, None)) is not None:
            writer.close()
        self._known.pop(key, None)  # read again if more comes, since thousands of trials would fill the memory


def read_run(folder: Path) -> Known:
    """Read the event files of one run; a file that a kill has cut short is read as far as it goes."""
    from tensorboardX.proto.event_pb2 import Event

    known = Known(set(), {})
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for record in _records(file):
            event = Event.FromString(record)
            for value in event.summary.value:
                known.points.add((value.tag, event.step))
                if value.tag.endswith(TEXT):
                    known.texts.setdefault(value.tag, []).append(value.tensor.string_val[0].decode())
    return known


def _records(file: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: eight bytes of length, four of its checksum, the record, four of its checksum."""
    with file.open("rb") as stream:
        while len(head := stream.read(12)) == 12:
            (length,) = struct.unpack("<Q", head[:8])
            record = stream.read(length)
            if len(record) < length or len(stream.read(4)) < 4:
                return
            yield record


def _session_end(outcome: str) -> Any:
    """The end of a trial in the words of TensorBoard's HParams page."""
    from tensorboardX.proto.api_pb2 import Status
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo
    from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata

    status = "STATUS_FAILURE" if outcome == FAILED else "STATUS_SUCCESS"
    content = HParamsPluginData(session_end_info=SessionEndInfo(status=Status.Value(status)), version=0)
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content.SerializeToString())
    return Summary(value=[Summary.Value(tag=HPARAMS_END, metadata=SummaryMetadata(plugin_data=plugin))])


def _plain(value: Any) -> Any:
    """A setting as TensorBoard takes it: numbers and truth values as they are, all else as text."""
    return value if isinstance(value, bool | int | float) else "none" if value is None else str(value)
