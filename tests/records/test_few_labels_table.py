"""The table of scores with few labels."""

from raydistill.evaluation.few_labels import DRAWS
from raydistill.records.few_labels import NOTE, few_label_table
from raydistill.records.leaderboard import LeaderboardEntry


def scores(**means):
    return {
        f"{name}{end}": value + shift
        for name, value in means.items()
        for end, shift in (("", 0.0), ("_low", -0.1), ("_high", 0.05))
    }


def test_a_line_for_each_configuration_and_classifier_means_over_seeds():
    both = {"test_knn_1_labels": 0.3, "test_knn_20_labels": 0.5, "test_knn_all_labels": 0.7, "test_probe_5_labels": 0.6}
    rows = [
        LeaderboardEntry("dogo", {}, 3, [scores(**both), scores(**{name: v + 0.1 for name, v in both.items()})]),
        LeaderboardEntry("t0001", {}, 3, [{"val_knn": 0.5}]),
        LeaderboardEntry("pixels", {}, 0, [scores(test_knn_1_labels=0.25)]),
    ]
    table = few_label_table(rows)
    assert table.header == ["configuration", "classifier", "1 label", "5 labels", "20 labels", "all labels"]
    assert table.body == [
        ["dogo", "k-NN", "35.00 (25.00 to 40.00)", "–", "55.00 (45.00 to 60.00)", "75.00 (65.00 to 80.00)"],
        ["dogo", "linear probe", "–", "65.00 (55.00 to 70.00)", "–", "–"],
        ["pixels", "k-NN", "25.00 (15.00 to 30.00)", "–", "–", "–"],
    ]


def test_it_is_empty_where_nothing_was_scored_so():
    assert few_label_table([LeaderboardEntry("dogo", {}, 3, [{"test_knn": 0.5}])]).body == []


def test_its_note_knows_the_number_of_draws():
    assert f"over {DRAWS} draws" in NOTE
