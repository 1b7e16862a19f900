"""Methods of several sweeps: only what has equal data, student, budget and protocol shares a table."""

import csv
import io
import json
from dataclasses import replace

import pytest
from helpers.builders.finals import IMAGES, write_sweep
from helpers.servers.mlflow_runs import held
from hypothesis import given
from hypothesis import strategies as st

from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.report.load import load
from raydistill.report.standings.compare import FACTORS, Conditions, Contender, Unknown, measure, pool, standings
from raydistill.report.standings.conditions import views
from raydistill.report.standings.read import contenders_of, read
from raydistill.report.standings.render import Leaderboard, as_json, table_csv, text
from raydistill.tracking.backfill import backfill

ALIKE = ("first", "second", "further")


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """A store with sweeps that differ from the first one in one thing each."""
    home = tmp_path_factory.mktemp("standings")
    address = f"sqlite:///{home}/mlflow.db"

    def told(name, *arguments, **more):
        backfill(write_sweep(home / name, *arguments, **more), address)

    told("first", "dogo", [0.90, 0.92, 0.94], baseline=[0.80, 0.84])
    told("second", "seed", [0.70, 0.72])
    told("further", "seed", [0.74], train__seed=10, data__stream_seed=10)
    told("longer", "sssd", [0.95], train__epochs=3)
    told("wider", "simreg", [0.96], method__backbone="resnet10_w8")
    told("dino", "seed", [0.97], eval__knn="dino")
    told("searched-more", "simreg", [0.98], trials=2)
    told("other-images", "simreg", [0.99], images=IMAGES | {"digest": "f" * 16})
    told("nameless", "seed", [0.5], images={name: IMAGES[name] for name in ("train", "val", "test")})
    told("nameless-too", "simreg", [0.5], images={name: IMAGES[name] for name in ("train", "val", "test")})
    told("going", "dogo", [0.9], done=False)
    told("untested", "dogo", [0.9], tested=False)
    return address


@pytest.fixture(scope="module")
def contents(uri):
    return read(uri)


@pytest.fixture(scope="module")
def ranked(contents):
    return standings(contents.contenders, "test_probe")


def alone(ranked, sweep):
    (found,) = (each for each in ranked if sweep in each.sweeps)
    assert not found.comparable
    return found.conditions.differences(measure(found, ranked).conditions)


@pytest.mark.slow
def test_methods_of_two_sweeps_with_equal_conditions_share_a_table_best_first(ranked):
    first, *others = ranked
    assert first.methods == ["dogo", "simclr", "seed"]
    assert first.sweeps == sorted(ALIKE)
    assert not any(each.comparable for each in others)
    assert [row.name for row in first.rows] == ["dogo", "simclr-searched", "seed"]
    assert [row.name for row in first.references] == ["pixels", "untrained"]
    told = {factor: dict(getattr(first.conditions, factor)) for factor in FACTORS}
    assert told == {
        "data": {"train": "160", "val": "40", "test": "50", "digest": "0123456789abcdef"},
        "student": {"backbone": "resnet10_w4", "stem": "auto", "image size": "12"},
        # 160 images in batches of 40 are 4 steps, and 2 epochs 8.
        "budget": {"epochs": "2", "training images": "160", "batch size": "40", "steps": "8", "search trials": "1"},
        "protocol": {"k-NN": "dogo", "probe": "dogo", "ks": "[1, 2, 4, 8]", "probe epochs": "100"},
    }


@pytest.mark.slow
def test_means_and_intervals_are_those_of_students_t(ranked):
    """Of 0.90, 0.92 and 0.94 the deviation is 0.02; t of two degrees of freedom is 4.3027, and of one 12.7062."""
    dogo, simclr, _ = ranked[0].rows
    found = dogo.estimate("test_probe")
    assert (found.mean, found.count) == (pytest.approx(0.92), 3)
    assert found.high - found.mean == pytest.approx(4.302653 * 0.02 / 3**0.5, abs=1e-7)
    assert found.mean - found.low == pytest.approx(0.0496827, abs=1e-6)
    assert dogo.estimate("test_knn").mean == pytest.approx(0.82)
    # 0.80 and 0.84: half of their distance is 0.02, which is also the standard error.
    assert simclr.estimate("test_probe").high == pytest.approx(0.82 + 12.706205 * 0.02)


@pytest.mark.slow
def test_equal_configurations_of_two_sweeps_pool_their_seeds_where_these_differ(ranked):
    seed = ranked[0].rows[2]
    assert (seed.sweeps, seed.seeds) == (("second", "further"), 3)
    assert sorted(seed.scores["test_probe"].values()) == [0.70, 0.72, 0.74]
    assert set(seed.scores["test_probe"]) == {(0, 0), (1, 1), (10, 10)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sweep", "difference"),
    [
        ("longer", ["budget: epochs 3 instead of 2, steps 12 instead of 8"]),
        ("wider", ["student: backbone resnet10_w8 instead of resnet10_w4"]),
        ("dino", ["protocol: k-NN dino instead of dogo, ks none instead of [1, 2, 4, 8]"]),
        ("searched-more", ["budget: search trials 2 instead of 1"]),
        ("other-images", ["data: digest ffffffffffffffff instead of 0123456789abcdef"]),
        ("nameless", ["data: digest unknown instead of 0123456789abcdef"]),
    ],
)
def test_one_difference_keeps_a_method_alone_and_is_said_with_both_values(ranked, sweep, difference):
    assert alone(ranked, sweep) == difference


@pytest.mark.slow
def test_what_no_sweep_recorded_is_never_equal(ranked):
    """Two sweeps without a digest may well have had other images."""
    mine, other = (next(each for each in ranked if each.sweeps == [name]) for name in ("nameless", "nameless-too"))
    assert mine.conditions.differences(other.conditions) == ["data: digest unknown in both"]


@pytest.mark.slow
def test_what_is_left_out_is_said(contents):
    assert contents.sweeps == 12
    assert contents.left_out == [
        "first: simclr-same-settings was not searched itself",
        "going: not finished (interrupted)",
        "untested: its winner has no test_probe or test_knn",
    ]


@pytest.mark.slow
def test_new_sweeps_log_the_digest_of_their_images(uri):
    assert held(uri, "first")["first"]["tags"]["raydistill.digest"] == "0123456789abcdef"
    assert "raydistill.digest" not in held(uri, "nameless")["nameless"]["tags"]
    sweep = load(uri, "first")
    assert replace(sweep, identity=sweep.identity | {"images": {}}).digest == "0123456789abcdef"


@pytest.mark.slow
def test_rows_stand_where_their_own_settings_put_them(uri):
    """A search may vary the batch, so that the winner takes fewer steps than the baseline of the same sweep."""
    sweep = load(uri, "first")
    sweep.params.loc[[key for key in sweep.trials.index if "simclr" not in key], "data.batch_size"] = 80
    sweep.params.loc["t0000", "data.limit"] = 100
    found, _ = contenders_of(sweep)
    ranked = standings(found, "test_probe")
    simclr, dogo = ranked
    assert (simclr.methods, dogo.methods) == (["simclr"], ["dogo"])
    assert dogo.conditions.differences(simclr.conditions) == [
        "data: data.limit 100 instead of none",
        "budget: batch size 80 instead of 40, steps 4 instead of 8",
    ]


@pytest.mark.slow
def test_tables_of_version_0_1_do_not_name_runs_which_are_found_by_their_keys(uri):
    sweep = load(uri, "first")
    known, _ = contenders_of(sweep)
    old = replace(sweep, rows=[LeaderboardEntry(**vars(row) | {"runs": []}) for row in sweep.rows])
    found, reasons = contenders_of(old)
    assert found[0] == known[0]
    assert "simclr-searched does not say which run has which score" in reasons


@pytest.mark.slow
def test_more_budget_and_redrawn_teachers_are_told_apart(uri):
    sweep = load(uri, "second")
    more = {"finalists": 3, "seeds_per_trial": 2, "warm_start": ["runs/first"], "redraw_teachers": True}
    sweep.params["teacher.seed"] = [1 if "seed1" in key else 0 for key in sweep.trials.index]
    (plain,) = contenders_of(sweep)[0]
    (found,) = contenders_of(replace(sweep, identity=sweep.identity | more))[0]
    assert found.conditions.differences(plain.conditions) == [
        "budget: seeds a trial 2 instead of none, finalists 3 instead of none, warm start runs/first instead of none"
    ]
    assert found.configuration != plain.configuration
    assert set(found.scores["test_probe"]) == {(0, 0, 0, 0), (1, 1, 1, 0)}


@pytest.mark.slow
def test_a_sweep_that_cannot_be_read_does_not_keep_the_others_from_it(uri, contents, monkeypatch):
    whole = load

    def torn(address, name, *more):
        if name == "longer":
            raise ValueError("no  JSON\nhere")
        return whole(address, name, *more)

    monkeypatch.setattr("raydistill.report.standings.read.load", torn)
    found = read(uri)
    assert [line for line in found.left_out if line.startswith("longer")] == [
        "longer: cannot be read: ValueError: no JSON here"
    ]
    assert len(found.contenders) == len(contents.contenders) - 1


@pytest.mark.slow
def test_the_text_has_a_table_and_a_line_for_all_that_is_alone_or_left_out(contents, ranked):
    said = text(Leaderboard(ranked, contents.left_out, "test_probe"))
    lines = said.splitlines()
    assert lines[0] == "### 1. digits: dogo, seed, simclr"
    assert "budget: epochs 2, training images 160, batch size 40, steps 8, search trials 1" in lines
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    assert cells[0][:4] == ["method", "configuration", "sweeps", "seeds"]
    assert cells[0][4:7] == ["test probe (%), dogo", "test k-NN (%), dogo", "views"]
    assert cells[1][:5] == ["dogo", "dogo", "first", "3", "92.00 (87.03 to 96.97)"]
    assert [row[6] for row in cells[1:]] == ["simclr", "simclr", "moco2", "–", "–"]
    assert cells[4][:5] == ["reference", "pixels", "first", "1", "40.00"]
    assert (
        "alone: sssd (sweep longer, test_probe 95.00 (one seed), test_knn 85.00 (one seed)): budget: epochs 3 instead "
        "of 2, steps 12 instead of 8 (held against dogo, seed, simclr of sweeps first, further, second)" in lines
    )
    assert sum(line.startswith("alone: ") for line in lines) == len(ranked) - 1
    assert "left out: going: not finished (interrupted)" in lines


@pytest.mark.slow
def test_files_hold_the_same_numbers(contents, ranked):
    board = Leaderboard(ranked, contents.left_out, "test_knn")
    lines = list(csv.DictReader(io.StringIO(table_csv(board))))
    told = json.loads(as_json(board))
    assert len(lines) == sum(len(each["rows"]) + len(each["references"]) for each in told["standings"])
    assert lines[0]["method"] == told["standings"][0]["rows"][0]["method"] == "dogo"
    assert float(lines[0]["test_knn_low"]) == told["standings"][0]["rows"][0]["test_knn"]["low"]
    assert (lines[0]["comparable"], lines[-1]["comparable"]) == ("yes", "no")
    assert told["left_out"] == contents.left_out
    assert any(each["conditions"]["data"]["digest"] is None for each in told["standings"])


def test_views_name_recipes_and_what_changes_them():
    assert views({"method.name": "simclr"}) == "simclr"
    assert views({"method.name": "byol"}) == "byol1 + byol2"
    changed = {"augment.min_crop": 0.5, "augment.blur": None, "data.kind": "grey", "data.fixed_views": 10}
    assert views({"method.name": "seed", "method.recipe": "moco1"} | changed) == (
        "moco1, min_crop=0.5, kind=grey, fixed_views=10"
    )
    assert views({"method.name": "of another version"}) == "unknown"


def contender(method="dogo", sweep="a", scores=None, **more):
    """One with plain conditions; `more` replaces its fields, or values of its conditions."""
    told = {factor: ((factor, more.pop(factor, "same")),) for factor in FACTORS}
    probes = {0: 0.5} if scores is None else scores
    return Contender(method, method, Conditions(**told), method, {"test_probe": probes}, (sweep,), **more)


def test_a_seed_that_two_sweeps_share_counts_once_and_splits_the_row_where_its_scores_differ():
    first = contender(sweep="a", scores={0: 0.5, 1: 0.6})
    (same,) = pool([first, contender(sweep="b", scores={1: 0.6, 2: 0.7})])
    assert same.scores == {"test_probe": {0: 0.5, 1: 0.6, 2: 0.7}}
    assert same.sweeps == ("a", "b")
    assert pool([first, other := contender(sweep="b", scores={1: 0.61, 2: 0.7})]) == [first, other]


def test_without_any_table_the_largest_other_is_the_measure_and_nothing_of_a_single_one():
    single = standings([contender()], "test_probe")
    assert measure(single[0], single) is None
    said = text(Leaderboard(single, [], "test_probe"))
    assert said.splitlines() == [
        "no two methods have equal data, student, budget and protocol",
        "alone: dogo (sweep a, test_probe 50.00 (one seed)): the store has nothing else",
    ]
    two = standings([contender(), contender("seed", "b", student="other")], "test_probe")
    assert "student: student other instead of same (held against dogo of sweep a)" in text(
        Leaderboard(two, [], "test_probe")
    )


def test_rows_without_the_metric_come_last():
    row = replace(contender("seed"), scores={"test_knn": {0: 0.9}})
    (found,) = standings([row, contender()], "test_probe")
    assert found.methods == ["dogo", "seed"]


VALUES = st.sampled_from(["x", "y", Unknown("a"), Unknown("b")])
CONTENDERS = st.lists(
    st.builds(
        lambda told, method, sweep, seeds, reference: replace(
            contender(method, sweep, seeds, **told), reference=reference
        ),
        st.fixed_dictionaries(dict.fromkeys(FACTORS, VALUES)),
        st.sampled_from(["dogo", "seed", "simclr"]),
        st.sampled_from("abc"),
        st.dictionaries(st.integers(0, 3), st.sampled_from([0.5, 0.6]), min_size=1),
        st.booleans(),
    ),
    max_size=12,
)


@given(CONTENDERS)
def test_no_standing_mixes_two_values_of_data_student_budget_or_protocol(contenders):
    found = standings(contenders, "test_probe")
    for standing in found:
        members = [*standing.rows, *standing.references]
        for factor in FACTORS:
            values = {
                str(getattr(each.conditions, factor)) + repr(getattr(each.conditions, factor)) for each in members
            }
            assert len(values) == 1
        means = [row.estimate("test_probe").mean for row in standing.rows]
        assert means == sorted(means, reverse=True)
    # Nothing that a method has is lost, and no seed counts twice.
    kept = {(row.method, seed, score) for each in found for row in each.rows for seed, score in items(row)}
    assert kept == {(row.method, seed, score) for row in contenders if not row.reference for seed, score in items(row)}
    assert len({each.conditions for each in found}) == len(found)


def items(row):
    return row.scores["test_probe"].items()
