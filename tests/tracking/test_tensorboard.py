"""TensorBoard's folder, read back with TensorBoard's own reader."""

import pytest
from helpers.builders.told_sweeps import write_sweep
from helpers.logger_events import event
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from raydistill.tracking.loggers.feed import LoggerFeed
from raydistill.tracking.loggers.tensorboard import TensorBoardLogger, read_run
from raydistill.tracking.sync import log_conclusion, log_trials


def opened_run(folder):
    run = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    run.Reload()
    return run


def points(folder, name):
    return [(event.step, event.value) for event in opened_run(folder).Scalars(name)]


def hparams(folder):
    content = opened_run(folder).PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    end = content.get(metadata.SESSION_END_INFO_TAG)
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    return values, metadata.parse_session_end_info_plugin_data(end).status if end else None


def texts(folder, name):
    found = opened_run(folder).Tensors(f"{name}/text_summary")
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in found]


def tell(folder, *events):
    logger = TensorBoardLogger(folder)
    for each in events:
        logger.receive(event(*each))


EPOCHS = [("log", "t0", epoch, {"loss": 1 / epoch, "val_knn": 0.1 * epoch}, 1000 * epoch) for epoch in (1, 2, 3)]
START = ("start", "t0", {"train.lr": 0.5, "train.bf16": False, "train.clip_norm": None, "eval.ks": [1]}, {}, 500)
END = ("end", "t0", "finished", "", 4000)


def test_a_trial_has_its_curves_settings_and_outcome(tmp_path):
    tell(tmp_path, START, *EPOCHS, END, ("score", "t0", 3, {"test_knn": 0.25}, 5000))
    trial = tmp_path / "tensorboard" / "t0"
    assert points(trial, "loss") == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert [event.wall_time for event in opened_run(trial).Scalars("loss")] == [1.0, 2.0, 3.0]
    assert points(trial, "test_knn") == [(3, 0.25)]
    values, status = hparams(trial)
    assert values == {"train.lr": 0.5, "train.bf16": False, "train.clip_norm": "none", "eval.ks": "[1]"}
    assert status == 1  # STATUS_SUCCESS
    assert texts(trial, "outcome") == [(0, "finished")]


def test_how_trials_ended_is_told_apart(tmp_path):
    tell(tmp_path, START, ("end", "t0", "failed", "loss = nan", 4000))
    assert hparams(tmp_path / "tensorboard" / "t0")[1] == 2  # STATUS_FAILURE
    assert texts(tmp_path / "tensorboard" / "t0", "outcome") == [(0, "failed: loss = nan")]
    tell(tmp_path / "stopped", START, ("end", "t0", "interrupted", "", 4000))
    assert hparams(tmp_path / "stopped" / "tensorboard" / "t0")[1] is None


@settings(max_examples=15, deadline=None)
@given(cut=st.integers(0, 3), cut_bytes=st.integers(0, 40), again=st.integers(0, 3))
def test_a_resume_doubles_no_point_wherever_a_kill_cut_the_file(tmp_path_factory, cut, cut_bytes, again):
    """A resume sends everything from the beginning, what was written before included."""
    folder = tmp_path_factory.mktemp("sweep")
    tell(folder, START, *EPOCHS[:cut])
    trial = folder / "tensorboard" / "t0"
    (file,) = trial.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[: len(content) - cut_bytes])
    tell(folder, START, *EPOCHS[:again])
    tell(folder, START, *EPOCHS, END)
    tell(folder, START, *EPOCHS, END, END)
    assert points(trial, "loss") == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert hparams(trial)[0]["train.lr"] == 0.5
    assert texts(trial, "outcome") == [(0, "finished")]


def test_a_resume_does_not_replace_the_files_of_the_same_second(tmp_path):
    for _ in range(3):
        tell(tmp_path, START, EPOCHS[0], END)
        tell(tmp_path, *EPOCHS[1:])
    assert [step for step, _ in points(tmp_path / "tensorboard" / "t0", "loss")] == [1, 2, 3]


def test_the_table_is_a_text_of_the_sweep_and_a_new_one_is_added(tmp_path):
    first, second = (("table", ["configuration", "test_knn"], [["simclr", value]]) for value in ("40.00", "41.00"))
    tell(tmp_path, ("start", "", {}, {}, 0), first, ("log", "", 2, {"winner_test_knn": 0.5}, 0), first, second)
    found = texts(tmp_path / "tensorboard", "leaderboard")
    assert [step for step, _ in found] == [0, 1]
    assert found[0][1].splitlines()[2].split() == ["|", "simclr", "|", "40.00", "|"]
    assert points(tmp_path / "tensorboard", "winner_test_knn") == [(2, 0.5)]


def test_a_whole_sweep_from_its_journal(tmp_path, opened):
    """Once while it ran, and again in a resume: the second time adds nothing."""
    folder = write_sweep(tmp_path / "runs" / "sweep-1")
    sizes = []
    for _ in range(2):
        tracker = opened()
        tracker.forward_to([LoggerFeed("tensorboard", TensorBoardLogger(folder))])
        log_trials(tracker, folder / "journal.jsonl")
        log_conclusion(tracker, folder)
        tracker.close("finished")
        files = [path for path in (folder / "tensorboard").rglob("events*") if path.is_file()]
        sizes.append(sum(path.stat().st_size for path in files))
    assert sizes[0] == sizes[1]
    trials = folder / "tensorboard"
    assert {path.name for path in trials.iterdir() if path.is_dir()} == {"t0000", "t0001", "t0002", "t0003"}
    assert points(trials / "t0000", "val_knn") == [(1, pytest.approx(0.4)), (2, 0.5)]
    assert points(trials / "t0001", "setting/train.lr") == [(1, pytest.approx(0.001))]
    assert texts(trials / "t0002", "outcome") == [(0, "failed: loss = nan")]
    assert hparams(trials / "t0003")[1] is None
    assert "test_knn" in texts(trials, "leaderboard")[0][1]
    assert points(trials, "winner_test_knn") == [(0, pytest.approx(0.4))]


def test_an_empty_folder_and_another_file_are_no_fault(tmp_path):
    assert read_run(tmp_path / "nothing") == (set(), {})
    (tmp_path / "events.out.tfevents.1").write_bytes(b"")
    assert read_run(tmp_path) == (set(), {})
