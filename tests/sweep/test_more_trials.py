"""Another number of trials on a resume: what is allowed, what is refused, and what is said about the test split."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from raydistill import config
from raydistill.config import ConfigError
from raydistill.records.journal import FinalRecord, Journal, read_finals, read_records, scored_again
from raydistill.records.layout import SWEEP_FILE
from raydistill.sweep.arms.finished import finished_result
from raydistill.sweep.arms.prepare import prepare_experiment
from raydistill.sweep.more_trials import stored_trials
from raydistill.sweep.options import prepare_settings
from raydistill.sweep.settings import SweepSettings
from raydistill.trial_spec import TrialSpec

TINY = {"data.limit": 60, "data.batch_size": 16, "data.image_size": 8, "method.backbone": "resnet10_w4"}
SPEC = TrialSpec(config.load({"method": "simclr"}))
SPACE = {"method": "random", "parameters": {"train.lr": {"min": 0.001, "max": 0.1}}}


def prepared(folder, space=SPACE, **options):
    (folder / "space.yaml").write_text(yaml.safe_dump(space))
    own = {"set": TINY, "storage": folder, "artifacts": folder / "artifacts", "name": "s"}
    given = {"search_space": folder / "space.yaml", "notify": lambda _: None, "baseline": ["simsiam"]}
    return prepare_settings("simclr", **(own | given | options))


def begin(settings, *keys):
    """Write trials into the journal that have begun."""
    journal = Journal(settings.directory / "journal.jsonl")
    for key in keys:
        journal.propose(key, {"train.lr": 0.01}, SPEC)
    journal.close()


def test_more_trials_are_no_change_and_the_baseline_gets_as_many(tmp_path):
    first = prepared(tmp_path, trials=3)
    first.store()
    begin(first, "t0000", "t0001", "t0002")
    more = prepared(tmp_path, trials=5, resume=True)
    assert (more.trials, more.baseline_trials) == (5, 5)
    more.store()
    assert stored_trials(more.directory) == 5
    assert prepared(tmp_path, resume=True).trials == 5, "its own number, where none is given"


def test_fewer_trials_than_have_begun_are_refused_in_a_line(tmp_path):
    first = prepared(tmp_path, trials=4)
    first.store()
    begin(first, "t0000", "t0001", "t0002", "baseline-simsiam-t0000", "final-simclr-seed1")
    assert prepared(tmp_path, trials=3, resume=True).trials == 3
    message = (
        "--trials 2: sweep 's' has begun 3 trials of this search; give at least 3, or another --name with "
        "--warm-start s for a sweep that starts from its results"
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        prepared(tmp_path, trials=2, resume=True)
    begin(first, *(f"baseline-simsiam-2-t{number:04d}" for number in range(4)))
    with pytest.raises(ConfigError, match="--baseline-trials 3: sweep 's' has begun 4 trials"):
        prepared(tmp_path, trials=3, resume=True)
    assert prepared(tmp_path, trials=3, baseline_trials=4, resume=True).baseline_trials == 4


def test_everything_else_stays_as_it_was(tmp_path):
    prepared(tmp_path, trials=3, baseline_trials=2).store()
    with pytest.raises(ConfigError, match="baseline_trials: 2 -> 3"):
        prepared(tmp_path, trials=3, resume=True)
    with pytest.raises(ConfigError, match=r"baseline_trials: 2 -> 0; .*with --warm-start s to begin with"):
        prepared(tmp_path, trials=5, baseline_search=False, resume=True)
    with pytest.raises(
        ConfigError, match=r"seeds: 3 -> 2; give what it was started with, or another --name .* with --warm-start s"
    ):
        prepared(tmp_path, trials=5, seeds=2, resume=True)


def test_a_population_keeps_its_size(tmp_path):
    space = SPACE | {"population": {"type": "pbt", "interval": 1}}
    prepared(tmp_path, space, trials=4).store()
    with pytest.raises(ConfigError, match="--trials 6: a population trains all its trials side by side"):
        prepared(tmp_path, space, trials=6, resume=True)


def test_an_experiment_takes_more_trials_only_where_it_searches(tmp_path):
    places = {"storage": tmp_path / "runs", "artifacts": tmp_path / "artifacts", "tracking_uri": "sqlite:///x.db"}
    options = {"notify": lambda _: None, **places}
    with pytest.raises(ConfigError, match="--trials: simreg/head-depth searches nothing"):
        prepare_experiment("simreg/head-depth", "smoke", trials=3, **options)
    first = prepare_experiment("ours/head-to-head", "smoke", trials=2, **options)
    first.store()
    arm = first.arms[0].name
    begin(first, f"baseline-{arm}-t0000", f"baseline-{arm}-t0001")
    resumed = {"name": first.name, "resume": True, **options}
    assert prepare_experiment("ours/head-to-head", "smoke", trials=3, **resumed).arm_trials == 3
    assert prepare_experiment("ours/head-to-head", "smoke", **resumed).arm_trials == 2
    with pytest.raises(ConfigError, match="--trials 1: sweep 'ours-head-to-head-smoke-1' has begun 2 trials"):
        prepare_experiment("ours/head-to-head", "smoke", trials=1, **resumed)
    assert finished_result(first) is None


def test_a_file_that_is_damaged_or_missing_has_no_number(tmp_path):
    assert stored_trials(tmp_path) is None
    for text in ("{", "[]", "trials: many", "experiment: {}"):
        (tmp_path / SWEEP_FILE).write_text(text)
        assert stored_trials(tmp_path) is None
    (tmp_path / SWEEP_FILE).write_text("{trials: 3, experiment: {trials: 2}}")
    assert stored_trials(tmp_path) == 2


def test_the_journal_keeps_every_final_once(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.propose("t0000", {}, SPEC)
    first, second = FinalRecord(1, "t0000", {"simclr": ["t0000"]}), FinalRecord(2, "t0001", {"simclr": ["t0001"]})
    for final in (first, first):
        journal.final(final)
    journal.close()
    again = Journal(path)
    again.final(first)
    again.final(second)
    again.close()
    assert read_finals(path) == again.finals == [first, second]
    assert list(read_records(path)) == ["t0000"], "a final is no trial"


@given(st.lists(st.integers(0, 50), max_size=6).map(sorted))
def test_a_line_says_when_test_scores_were_seen_before_the_last_trials(counts):
    text = scored_again([FinalRecord(count, "t0000", {}) for count in counts])
    assert bool(text) == (len(set(counts)) > 1)
    if text:
        assert f"after {counts[-1] - counts[0]} more trial" in text
        assert f"after {counts[0]} trials of the searches" in text


def test_a_sweep_of_several_numbers_is_one_sweep(tmp_path):
    """What is compared on a resume is free of the number, whoever made the settings."""
    first = prepared(tmp_path, trials=3)
    first.store()
    assert isinstance(first, SweepSettings)
    prepared(tmp_path, trials=30, resume=True).check_start(resume=True)
