"""Near-equal trials: which of them are trained with every seed, and which one wins."""

from dataclasses import replace
from statistics import fmean
from typing import ClassVar

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from raydistill import config
from raydistill.config import ConfigError
from raydistill.records.journal import TrialRecord
from raydistill.records.layout import SWEEP_FILE
from raydistill.sweep.final.choice import candidates, choose
from raydistill.sweep.final.finalists import competing, make_final_configs
from raydistill.sweep.options import DEFAULT_FINALISTS, prepare_settings
from raydistill.sweep.plan import SweepPlan
from raydistill.sweep.search.baselines import baselines_of
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings

SPACE = "method: random\nparameters: {train.lr: {min: 0.001, max: 0.1}}"
PBT = "method: random\npopulation: {type: pbt, interval: 2}\nparameters: {train.lr: {min: 0.001, max: 0.1}}"
SEVERAL = (
    "method: random\nmetrics: [{name: val_knn}, {name: student_parameters, goal: minimize}]\n"
    "parameters: {train.lr: {min: 0.001, max: 0.1}}"
)
LOSS = "method: random\nmetric: {name: loss, goal: minimize}\nparameters: {train.lr: {min: 0.001, max: 0.1}}"
BASE = config.dump(config.load({"method": "dogo"}))


def plan(folder, text):
    file = folder / "space.yaml"
    file.write_text(text)
    space, base = load_space(file, "dogo", {}), config.load({"method": "dogo"})
    return SweepSettings(
        name="s",
        storage=folder,
        tracking_uri="",
        base=base,
        space=space,
        trials=8,
        baseline_trials=8,
        seeds=3,
        finalists=3,
        images={"val": 288},
    )


def trial(key, score, outcome="finished", rate=0.01):
    record = TrialRecord(key, {"train.lr": rate}, BASE | {"train": BASE["train"] | {"lr": rate}})
    record.results[2] = {"val_knn": score}
    record.outcome = outcome
    return record


def ranking(*scores, prefix=""):
    return [trial(f"{prefix}t{i:04d}", score, rate=0.01 + i / 1000) for i, score in enumerate(scores)]


@pytest.fixture
def settings(tmp_path):
    return plan(tmp_path, SPACE)


@pytest.mark.parametrize(
    ("changes", "number"),
    [({}, 3), ({"finalists": 9}, 4), ({"finalists": 1}, 1), ({"images": {}}, 1), ({"seeds": 1}, 1), ({"trials": 2}, 2)],
)
def test_candidates_are_within_one_standard_error_of_the_best(settings, changes, number):
    ranked = ranking(0.9236, 0.92, 0.915, 0.91, 0.89)  # the standard error is 0.0157
    changed = replace(settings, **changes)
    assert candidates(changed, ranked, changed.trials) == ranked[:number]
    assert candidates(changed, [], changed.trials) == []


@pytest.mark.parametrize("text", [PBT, SEVERAL, LOSS])
def test_populations_several_metrics_and_losses_have_one(tmp_path, text):
    changed = plan(tmp_path, text)
    assert changed.candidates(8) == 1
    assert changed.final_runs == replace(changed, finalists=1).final_runs


SCORES = st.lists(st.lists(st.none() | st.floats(0, 1), min_size=3, max_size=3), min_size=2, max_size=5)


@given(SCORES, st.sampled_from(["maximize", "minimize"]))
def test_the_winner_has_the_best_mean_of_those_with_most_seeds(table, goal):
    trials = ranking(*range(len(table)))
    competitors = competing("dogo", trials)
    runs = {
        (competitor.name, seed): trial(
            f"{competitor.name}-{seed}", score or 0.0, "failed" if score is None else "finished"
        )
        for competitor, scores in zip(competitors, table, strict=True)
        for seed, score in enumerate(scores)
    }
    choice = choose(competitors, runs, "val_knn", goal)
    (winner,) = choice.chosen
    assert (winner.name, winner.place) == ("dogo", "")
    assert {each.found.key for each in [winner, *choice.passed_over]} == {each.key for each in trials}
    assert len(choice.runs) == len(runs)
    ended = {each.key: [s for s in scores if s is not None] for each, scores in zip(trials, table, strict=True)}
    own, most = ended[winner.found.key], max(map(len, ended.values()))
    assert len(own) == most
    assert sorted(r.last("val_knn") for (name, _), r in choice.finished().items() if name == "dogo") == sorted(own)
    if most:
        pick = max if goal == "maximize" else min
        assert fmean(own) == pytest.approx(pick(fmean(scores) for scores in ended.values() if len(scores) == most))


def test_of_equals_the_best_of_the_search_stays():
    competitors = competing("dogo", ranking(0.9, 0.9))
    runs = {(each.name, seed): trial("x", 0.5) for each in competitors for seed in range(3)}
    assert choose(competitors, runs, "val_knn", "maximize").chosen[0].found.key == "t0000"


@pytest.mark.parametrize("finalists", [1, 2, 3])
def test_both_arms_are_chosen_alike_and_within_the_runs_that_are_kept_back(settings, finalists):
    settings = replace(settings, finalists=finalists)
    scores = (0.9236, 0.92, 0.915, 0.91)
    near = candidates(settings, ranking(*scores), settings.trials)
    (baseline,) = baselines_of((), settings.base)
    alone = config.dump(SweepPlan(settings).baseline_config(baseline, settings.base))
    alone["method"]["tau_c"] = 0.7  # unlike the winner's settings, which are a row of their own
    ranked = [
        replace(record, config=alone | {"train": record.config["train"]})
        for record in ranking(*scores, prefix="baseline-simclr-")
    ]
    theirs = candidates(settings, ranked, settings.baseline_trials)
    assert len(near) == len(theirs) == finalists
    others = make_final_configs(near[:1], SweepPlan(settings), {baseline: theirs})[1:]
    final_configs = [*competing("dogo", near), *others]
    runs = len(final_configs) * settings.seeds - sum(each.found is not None for each in final_configs)
    assert runs == settings.final_runs
    ended = {(each.name, seed): trial("x", 0.9) for each in final_configs for seed in range(3)}
    choice = choose(final_configs, ended, "val_knn", "maximize")
    assert [each.name for each in choice.chosen] == ["dogo", "simclr-searched", "simclr-same-settings"]
    assert [each.baseline for each in choice.passed_over] == [False] * (finalists - 1) + [True] * (finalists - 1)


class TestOption:
    """What the command makes of `--finalists`."""

    WORDS: ClassVar = {"set": {"data.limit": 60, "data.batch_size": 16, "data.image_size": 8}, "name": "s"}

    def test_it_is_part_of_what_a_sweep_was_asked(self, tmp_path):
        prepare_settings("dogo", **self.WORDS, storage=tmp_path).store()
        assert prepare_settings("dogo", **self.WORDS, storage=tmp_path, resume=True).finalists == DEFAULT_FINALISTS
        with pytest.raises(ConfigError, match=f"finalists: {DEFAULT_FINALISTS} -> 5"):
            prepare_settings("dogo", **self.WORDS, storage=tmp_path, finalists=5, resume=True)
        with pytest.raises(ConfigError, match="finalists = 0: expected at least 1"):
            prepare_settings("dogo", **self.WORDS, storage=tmp_path, finalists=0)

    def test_a_sweep_of_before_goes_on_with_its_single_winner(self, tmp_path):
        before = prepare_settings("dogo", **self.WORDS, storage=tmp_path)
        before.store()
        path = before.directory / SWEEP_FILE
        values = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({key: value for key, value in values.items() if key != "finalists"}))
        assert prepare_settings("dogo", **self.WORDS, storage=tmp_path, resume=True).finalists == 1
