"""The table at the end of a sweep."""

import pytest

from raydistill import config
from raydistill.records.leaderboard import LeaderboardEntry, baselines, references, render, seeds_share


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


def test_errors_and_further_k_are_columns_where_a_row_has_them():
    scores = {"val_knn": 0.5, "val_mse": 0.1234567, "test_knn": 0.5, "test_knn_1": 0.25, "test_mse": 0.2}
    table = [LeaderboardEntry("simreg", {}, 2, [scores]), LeaderboardEntry("simclr-default", {}, 2, [{"val_knn": 0.4}])]
    lines = [[cell.strip() for cell in line.split("|")[4:-2]] for line in render(table, ["val_knn"]).splitlines()]
    assert lines[0] == ["val_knn", "val_mse", "test_knn", "test_knn_1", "test_mse"]
    assert lines[2] == ["50.00", "0.1235", "50.00", "25.00", "0.2000"]
    assert lines[3] == ["40.00", "–", "–", "–", "–"]
    assert "mse" not in render(table[1:], ["val_knn"])


def test_references_say_what_they_are_and_are_no_baselines():
    table = [
        LeaderboardEntry("dogo", {}, 2, [{"val_knn": 0.5}]),
        LeaderboardEntry("simclr-tuned", {}, 2, [{"val_knn": 0.4}]),
        LeaderboardEntry("pixels", {}, 0, [{"val_knn": 0.9}]),
        LeaderboardEntry("untrained", {}, 0, [{"val_knn": 0.3}, {"val_knn": 0.2}]),
        LeaderboardEntry("teacher-1", {"teacher.backbone": "resnet18"}, 20, [{"val_knn": 0.6}]),
        LeaderboardEntry("teacher-2", {}, 0, [{"val_knn": 0.6}]),
    ]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in render(table, ["val_knn"]).splitlines()[2:]]
    assert [(line[0], line[2], line[-1]) for line in lines[2:]] == [
        ("pixels", "–", "no network"),
        ("untrained", "–", "random weights"),
        ("teacher-1", "20", "backbone=resnet18"),
        ("teacher-2", "–", "frozen"),
    ]
    assert [row.name for row in baselines(table)] == ["simclr-tuned"]
    assert references(table) == table[2:]


@pytest.mark.parametrize(
    ("method", "teacher", "shared", "redrawn"),
    [
        ("simclr", {}, "", ""),
        ({"name": "sssd", "labels": "true"}, {}, "", ""),
        ("seed", {}, "seeds share the teacher", "seeds redraw student, order and teacher"),
        ("simreg", {"count": 2}, "seeds share the teachers", "seeds redraw student, order and teachers"),
        (
            "sssd",
            {},
            "seeds share the teacher and the clusters",
            "seeds redraw student, order, teacher and clusters",
        ),
        (
            {"name": "sssd", "labels": "random"},
            {},
            "seeds share the classes",
            "seeds redraw student, order and classes",
        ),
    ],
)
def test_what_the_seeds_share_is_said(method, teacher, shared, redrawn):
    wanted = config.load({"method": method, "teacher": teacher})
    assert [seeds_share(wanted, redrawn=each) for each in (False, True)] == [shared, redrawn]
