"""The table at the end of a sweep."""

from raydistill.records.leaderboard import LeaderboardEntry, render


def rows(*sizes):
    return [
        LeaderboardEntry(f"r{i}", {}, 2, [{"val_knn": 0.5, "student_parameters": size}] * (1 + i % 2))
        for i, size in enumerate(sizes)
    ]


def test_sizes_are_a_column_only_where_they_differ():
    assert "student_parameters" not in render(rows(2e6, 2e6), ["val_knn"])
    table = render(rows(2e6, 3e6), ["val_knn"])
    assert "student_parameters" in table
    assert "| 2.000" in table
    assert "| 3.000 " in table


def test_whatever_the_search_went_by_is_a_column_and_comes_first():
    scored = [LeaderboardEntry("r", {}, 2, [{"val_knn": 0.5, "loss": 1.25, "student_parameters": 2e6}])]
    assert render(scored, ["loss", "student_parameters"]).splitlines()[0].split("|")[4:7] == [
        " loss   ",
        " student_parameters ",
        " val_knn ",
    ]
