"""The table of an experiment: numbers side by side, and verdicts that were worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.experiments.table import claim_sentences, judge, protocol_note, published_table, render_experiment
from raydistill.records.leaderboard import LeaderboardEntry

DESCRIBED = {
    "name": "simreg/head-depth",
    "title": "depth of the head",
    "source": "SimReg, table 1",
    "scale": "cpu",
    "arms": ["deep", "linear"],
    "metrics": ["test_probe", "test_mse", "test_unknown"],
    "published": {"deep": {"test_probe": 68.5, "test_mse": 0.09}, "teacher": {"test_probe": 70.8}},
    "claims": [{"better": "deep", "worse": "linear", "metric": "test_probe", "than": ""}],
    "seeds": 3,
    "equal": "images, epochs and scores",
    "protocol": {"k-NN": "simreg", "probe": "simreg", "tasks": [], "tune": "dogo"},
    "notes": "Narrow networks stand in.",
}


def row(name, values, metric="test_probe", seeds=None):
    seeds = range(len(values)) if seeds is None else seeds
    runs = [f"final-{name}-seed{seed}" for seed in seeds]
    return LeaderboardEntry(name, {}, 8, [{metric: value} for value in values], runs)


def claims(*found):
    return {**DESCRIBED, "claims": [{"than": "", **claim} for claim in found]}


def judged(deep, linear, metric="test_probe", **options):
    described = claims({"better": "deep", "worse": "linear", "metric": metric})
    (result,) = judge(described, [row("deep", deep, metric, **options), row("linear", linear, metric)])
    return result


def test_a_claim_holds_where_the_interval_is_above_zero():
    # Differences 0.02, 0.03, 0.04: mean 0.03, deviation 0.01, 4.303 * 0.01 / sqrt(3) = 0.02484.
    result = judged([0.42, 0.53, 0.64], [0.40, 0.50, 0.60])
    assert result.verdict == "holds"
    assert (result.mean, result.seeds) == (pytest.approx(0.03), 3)
    assert (result.low, result.high) == (pytest.approx(0.03 - 0.02484, abs=1e-5), pytest.approx(0.05484, abs=1e-5))


def test_a_claim_that_is_wrong_does_not_hold_and_a_wide_interval_decides_nothing():
    assert judged([0.40, 0.50, 0.60], [0.42, 0.53, 0.64]).verdict == "does not hold"
    # Differences 0.01, 0.03, 0.08: mean 0.04, deviation 0.0361, half a width 0.0896.
    assert judged([0.41, 0.53, 0.68], [0.40, 0.50, 0.60]).verdict == "undecided"


def test_an_undecided_claim_says_what_difference_would_have_shown():
    # (4.3027 + 1.0607) * 0.036056 / sqrt(3) = 0.11165.
    rows = [row("deep", [0.41, 0.53, 0.68]), row("linear", [0.40, 0.50, 0.60])]
    described = claims({"better": "deep", "worse": "linear", "metric": "test_probe"})
    assert claim_sentences(described, rows)[0].endswith("−4.96 to +12.96, 3 seeds; 11.16 would have shown)")
    rows = [row("deep", [0.42, 0.53, 0.64]), row("linear", [0.40, 0.50, 0.60])]
    assert "would have shown" not in claim_sentences(described, rows)[0]


def test_of_an_error_less_is_better():
    result = judged([0.10, 0.11, 0.12], [0.20, 0.22, 0.24], "test_mse")
    assert result.verdict == "holds"
    assert result.mean == pytest.approx(0.11)
    assert result.low == pytest.approx(0.11 - 4.303 * 0.01 / 3**0.5, abs=1e-5)


def test_one_seed_decides_nothing_and_a_missing_arm_is_not_measured():
    assert judged([0.9], [0.1]).verdict == "undecided"
    (result,) = judge(DESCRIBED, [row("deep", [0.5, 0.6])])
    assert (result.verdict, result.mean) == ("not measured", None)


def test_a_seed_that_failed_is_paired_with_nothing():
    # Of the first arm seeds 0 and 2 came to their end: 0.42 - 0.40 and 0.64 - 0.60.
    result = judged([0.42, 0.64], [0.40, 0.90, 0.60], seeds=[0, 2])
    assert (result.seeds, result.mean) == (2, pytest.approx(0.03))


def test_a_run_that_a_search_found_is_the_first_seed():
    found = LeaderboardEntry(
        "deep", {}, 8, [{"test_probe": 0.5}, {"test_probe": 0.7}], ["baseline-deep-t0003", "final-deep-seed1"]
    )
    (result,) = judge(DESCRIBED, [found, row("linear", [0.4, 0.4])])
    assert (result.seeds, result.mean) == (2, pytest.approx(0.2))


def test_a_reference_with_one_value_stands_beside_every_seed():
    described = claims({"better": "deep", "worse": "pixels", "metric": "test_probe"})
    pixels = LeaderboardEntry("pixels", {}, 0, [{"test_probe": 0.3}])
    (result,) = judge(described, [row("deep", [0.40, 0.41, 0.42]), pixels])
    assert (result.verdict, result.seeds) == ("holds", 3)


def test_an_arm_of_which_one_seed_is_left_is_no_reference():
    result = judged([0.42, 0.53, 0.64], [0.30])
    assert (result.verdict, result.seeds) == ("undecided", 1)


def test_another_metric_of_the_same_arm():
    described = claims({"better": "deep", "worse": "deep", "metric": "test_probe_ensemble", "than": "test_probe"})
    scores = [{"test_probe_ensemble": 0.5 + x, "test_probe": 0.4 + 2 * x} for x in (0.0, 0.01, 0.02)]
    (result,) = judge(described, [LeaderboardEntry("deep", {}, 8, scores)])
    assert result.mean == pytest.approx(0.09)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6))
def test_the_opposite_claim_has_the_opposite_verdict(pairs):
    first, second = zip(*pairs, strict=True)
    there, back = judged(list(first), list(second)), judged(list(second), list(first))
    opposite = {"holds": "does not hold", "does not hold": "holds", "undecided": "undecided"}
    assert back.verdict == opposite[there.verdict]
    assert back.mean == pytest.approx(-there.mean)


def test_the_table_has_published_and_own_numbers():
    rows = [
        LeaderboardEntry(
            "deep", {}, 8, [{"test_probe": 0.451, "test_mse": 0.25}, {"test_probe": 0.471, "test_mse": 0.27}]
        ),
        LeaderboardEntry("pixels", {}, 0, [{"test_probe": 0.39}]),
    ]
    text = render_experiment(DESCRIBED, rows)
    lines = {
        cells[0]: cells[1:] for line in text.splitlines() if (cells := [c.strip() for c in line.strip("| ").split("|")])
    }
    assert lines["arm"] == [
        "seeds",
        "test_probe: published",
        "here",
        "test_mse: published",
        "here",
    ]  # nobody has the third
    assert lines["deep"] == ["2", "68.5", "46.10 ± 1.41", "0.0900", "0.2600 ± 0.0141"]
    assert lines["linear"] == ["0", "–", "–", "–", "–"]
    assert lines["pixels"] == ["1", "–", "39.00", "–", "–"]
    assert "- deep beats linear by test_probe: not measured" in text
    assert text.rstrip().endswith("Narrow networks stand in.")


def test_a_metric_that_no_paper_has_is_one_column():
    row = LeaderboardEntry("deep", {}, 8, [{"test_probe": 0.45, "test_mse": 0.2, "test_knn": 0.4}])
    described = DESCRIBED | {"published": {"deep": {"test_probe": 68.5}}, "metrics": ["test_knn", "test_probe"]}
    table = published_table(described, [row])
    assert table.header == ["arm", "seeds", "test_knn", "test_probe: published", "here"]
    assert table.body[0] == ["deep", "1", "40.00", "68.5", "45.00"]
    assert "Published" not in protocol_note(DESCRIBED | {"published": {}})


def test_a_published_reference_has_a_row_although_it_was_not_scored():
    assert "| teacher | 0" in render_experiment(DESCRIBED, [row("deep", [0.4])]).replace("  ", " ").replace("  ", " ")
