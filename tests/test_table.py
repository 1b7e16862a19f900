"""The table at the end of a sweep."""

from raydistill.sweep.table import Row, render


def rows(*sizes):
    return [
        Row(f"r{i}", {}, 2, [{"val_knn": 0.5, "student_parameters": size}] * (1 + i % 2))
        for i, size in enumerate(sizes)
    ]


def test_sizes_are_a_column_only_where_they_differ():
    assert "student_parameters" not in render(rows(2e6, 2e6), "val_knn")
    table = render(rows(2e6, 3e6), "val_knn")
    assert "student_parameters" in table
    assert "| 2.000" in table
    assert "| 3.000 " in table
