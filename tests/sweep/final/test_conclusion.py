"""What is written at the end of a sweep."""

import json

from raydistill import config
from raydistill.records.journal import TrialRecord
from raydistill.records.layout import RESULTS_FILE, TABLE_FILE
from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.sweep.final.conclusion import write_conclusion
from raydistill.sweep.search.space import Space
from raydistill.sweep.settings import SweepSettings


def concluded(folder, scores, *left_out, overview=()):
    base = config.load({"method": "simclr"})
    space = Space("random", "val_knn", "maximize", None, None, ())
    settings = SweepSettings(
        name="s", storage=folder, tracking_uri="", base=base, space=space, trials=1, overview=overview
    )
    (folder / "s").mkdir()
    rows = [LeaderboardEntry("simclr", {}, 2, [scores]), LeaderboardEntry("pixels", {}, 0, [scores])]
    best = TrialRecord("t0000", {}, config.dump(base))
    table, _ = write_conclusion(settings, rows, [best], {}, "simclr", *left_out)
    assert (folder / "s" / TABLE_FILE).read_text() == f"{table}\n"
    assert json.loads((folder / "s" / RESULTS_FILE).read_text())[1]["scores"] == [scores]
    return table


def test_scores_with_few_labels_follow_in_a_table_of_their_own(tmp_path):
    few = {f"test_probe_5_labels{end}": value for end, value in (("", 0.5), ("_low", 0.4), ("_high", 0.6))}
    first, second = concluded(tmp_path, {"val_knn": 0.5, **few}).split("\n\n")
    assert "labels" not in first
    assert [line.split("|")[1].strip() for line in second.splitlines()[2:]] == ["simclr", "pixels"]
    assert second.count("50.00 (40.00 to 60.00)") == 2


def test_there_is_one_table_without_them(tmp_path):
    assert "\n\n" not in concluded(tmp_path, {"val_knn": 0.5})


def test_runners_up_without_a_row_are_counted(tmp_path):
    table = concluded(tmp_path, {"val_knn": 0.5}, 3)
    assert table.endswith("\n\n3 more trials were trained to the end; the report shows every trial.")


def test_missing_labels_are_said_below_the_table(tmp_path):
    missing = "labels: photos: the test split has no labels"
    table = concluded(tmp_path, {"val_knn": 0.5}, overview=("train  10 images", missing, "note: passed over .txt"))
    assert table.endswith(f"\n\n{missing}")
    assert "passed over" not in table
