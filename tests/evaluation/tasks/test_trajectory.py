"""Trajectories in function space: what describes a checkpoint, the lines of the runs, and what is refused."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from raydistill.data.drawing import limited
from raydistill.evaluation.tasks import trajectory
from raydistill.evaluation.tasks.base import TaskError
from raydistill.evaluation.tasks.trajectory import similarities, trajectory_picture
from raydistill.evaluation.trajectory_files import chosen_images, read_features, write_features
from raydistill.training.checkpoint_files import CheckpointError


def drawn(count, dim, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def run(seed, checkpoints=5, images=20, dim=6):
    """Features that begin at random and move away from there."""
    start, end = drawn(images, dim, seed), drawn(images, dim, seed + 100)
    return [start + (end - start) * step / checkpoints for step in range(checkpoints)]


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, which become files no more."""
    found = []
    monkeypatch.setattr(trajectory, "png", lambda figure: found.append(figure) or b"")
    return found


def test_similarities_by_hand():
    """Rows at 0, 90 and 45 degrees: pairs are 90, 45 and 45 degrees apart, cosines 0, 0.7071 and 0.7071."""
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    assert similarities(rows).tolist() == pytest.approx([0, math.sqrt(0.5), math.sqrt(0.5)])


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 10), st.integers(1, 8), st.integers(0, 2**16))
def test_rotations_lengths_and_further_axes_change_no_similarity(count, dim, seed):
    rows = drawn(count, dim, seed).double()
    wanted = similarities(rows)
    assert wanted.shape == (count * (count - 1) // 2,)
    turn = torch.linalg.qr(drawn(dim, dim, seed + 1).double()).Q
    lengths = drawn(count, 1, seed + 2).double().exp()
    wider = torch.cat([rows, torch.zeros(count, 3)], 1)
    for other in (rows @ turn, rows * lengths, wider):
        torch.testing.assert_close(similarities(other), wanted, rtol=0, atol=1e-9)


def test_distances_between_checkpoints_are_those_of_whole_matrices_but_for_a_factor():
    """A symmetric matrix of equal diagonals holds each difference twice: distances are sqrt(2) times as large."""
    one, other = drawn(9, 4), drawn(9, 5, 1)
    matrices = [
        (each / np.linalg.norm(each, axis=1, keepdims=True)) @ (each / np.linalg.norm(each, axis=1, keepdims=True)).T
        for each in (one.double().numpy(), other.double().numpy())
    ]
    whole = np.linalg.norm(matrices[0] - matrices[1])
    assert (similarities(one) - similarities(other)).norm().item() * math.sqrt(2) == pytest.approx(whole)


def test_a_picture_is_a_png_without_a_date_and_the_same_each_time():
    runs = {"seed 0": run(0), "seed 1": run(1, dim=9), "seed 2": run(2)}
    data = trajectory_picture(runs)
    picture = Image.open(io.BytesIO(data))
    assert (picture.format, picture.size) == ("PNG", (960, 720))
    assert set(picture.info) <= {"dpi"}
    assert trajectory_picture(runs) == data
    assert trajectory_picture(runs, seed=1)[:4] == b"\x89PNG"


def test_each_run_has_a_line_through_its_checkpoints_from_a_ring_to_a_square(figures, monkeypatch):
    places = np.arange(14.0).reshape(7, 2)
    monkeypatch.setattr(trajectory, "embedded", lambda rows, seed, name: places)
    trajectory_picture({"first": run(0, 4), "_second": run(1, 3)})
    (axes,) = figures[0].axes
    path, ring, square, *others = axes.lines
    assert path.get_xydata().tolist() == places[:4].tolist()
    assert (ring.get_marker(), ring.get_xydata().tolist()) == ("o", [places[0].tolist()])
    assert ring.get_markerfacecolor() == "none"
    assert (square.get_marker(), square.get_xydata().tolist()) == ("s", [places[3].tolist()])
    assert others[0].get_xydata().tolist() == places[4:].tolist()
    assert path.get_color() == ring.get_markeredgecolor() == square.get_color() != others[0].get_color()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["first", "_second"]
    assert "7 checkpoints by similarities of 20 images" in axes.get_title(loc="left")


def test_runs_beyond_the_colours_have_other_lines(figures):
    trajectory_picture({str(seed): run(seed, 2) for seed in range(8)})
    paths = figures[0].axes[0].lines[::3]
    assert len({(path.get_color(), path.get_linestyle()) for path in paths}) == 8


def test_a_run_that_is_another_one_rotated_lies_upon_it(figures):
    """Among three runs, each checkpoint is nearest to its twin."""
    one = run(0)
    turn = torch.linalg.qr(drawn(6, 6, 9)).Q
    trajectory_picture({"one": one, "turned": [each @ turn for each in one], "other": run(1)})
    lines = figures[0].axes[0].lines
    one, turned, other = (lines[index].get_xydata() for index in (0, 3, 6))
    rest = np.concatenate([turned, other])
    gaps = np.linalg.norm(one[:, None] - rest[None], axis=2)
    assert gaps.argmin(1).tolist() == [0, 1, 2, 3, 4]


def test_of_more_than_200_images_a_sample_counts_the_same_in_all_runs():
    runs = {"a": run(0, 3, images=230), "b": run(1, 3, images=230)}
    data = trajectory_picture(runs, seed=4)
    used = limited(None, 230, (4, 5), 200)
    unused = np.setdiff1d(np.arange(230), used)
    assert len(unused) == 30
    for each in runs["a"] + runs["b"]:
        each[unused] = 7.0
    assert trajectory_picture(runs, seed=4) == data
    runs["a"][0][used[0]] *= -1
    assert trajectory_picture(runs, seed=4) != data


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ({}, "0 images in 0 runs; similarities need 3 images or more"),
        ({"a": run(0), "b": []}, "run b has no checkpoints; a line needs one or more"),
        ({"a": run(0, 2)}, "checkpoints: 2 points; a picture needs 3 or more"),
        ({"a": run(0), "b": run(1, images=19)}, "checkpoints of 19 and 20 images; all need the same images"),
        ({"a": run(0, images=2)}, "2 images in 1 runs; similarities need 3 images or more"),
        ({"a": [*run(0), torch.zeros(20)]}, r"run a, checkpoint 6: shape \(20,\); expected \(N, D\)"),
        ({"a": [*run(0), torch.full((20, 6), math.nan)]}, "run a, checkpoint 6: features are not finite"),
        ({"a": run(0)[:1] * 4}, "checkpoints: all 4 are equal, so that there is nothing to draw"),
    ],
    ids=["no runs", "empty", "two checkpoints", "other images", "two images", "shape", "nan", "equal"],
)
def test_what_makes_no_picture_is_refused(runs, said):
    with pytest.raises(TaskError, match=said):
        trajectory_picture(runs)


def test_features_that_are_kept_are_read_in_the_order_of_the_epochs(tmp_path):
    for epoch in (10, 2, 1):
        write_features(tmp_path / "trajectory" / f"epoch-{epoch:05d}.npz", drawn(9, 4, epoch) * 1e6)
    found = read_features(tmp_path / "trajectory")
    assert len(found) == 3
    for epoch, features in zip((1, 2, 10), found, strict=True):
        torch.testing.assert_close(similarities(features), similarities(drawn(9, 4, epoch)), rtol=0, atol=2e-3)
    assert read_features(tmp_path / "nothing") == []
    with pytest.raises(CheckpointError, match="not finite"):
        write_features(tmp_path / "bad.npz", torch.full((3, 2), math.nan))
    (tmp_path / "trajectory" / "epoch-00003.npz").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=r"epoch-00003\.npz: features cannot be read"):
        read_features(tmp_path / "trajectory")


def test_the_same_images_describe_every_run():
    assert chosen_images(7) == list(range(7))
    assert len(set(chosen_images(5000))) == 200
    assert chosen_images(5000) == chosen_images(5000)


def test_runs_of_a_group_share_a_colour_and_differ_in_their_lines(figures):
    runs = {f"{arm}{seed}": run(seed, 3) for arm in "ab" for seed in range(3)}
    trajectory_picture(runs, groups={name: name[0] for name in runs})
    handles = figures[0].axes[0].get_legend().legend_handles
    looks = [(handle.get_color(), handle.get_linestyle()) for handle in handles]
    assert len({color for color, _ in looks[:3]}) == len({color for color, _ in looks[3:]}) == 1
    assert looks[0][0] != looks[3][0]
    assert len(set(looks)) == 6
