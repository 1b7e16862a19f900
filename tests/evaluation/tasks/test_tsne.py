"""The t-SNE picture: which images it shows, where they lie, that it is the same each time, and what it refuses."""

import io
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from helpers.builders.datafiles import folder
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from raydistill import config
from raydistill.data.sources import load_dataset
from raydistill.evaluation.tasks import tsne
from raydistill.evaluation.tasks.base import Subject, TaskError, run_tasks
from raydistill.evaluation.tasks.tsne import chosen_rows, embedded, perplexity, scatter

CPU = torch.device("cpu")


def subject(source="digits", encoder=None, **data):
    options = {"method": "simclr", "data": {"source": str(source), "image_size": 8, **data}}
    settings = config.load({**options, "eval": {"tasks": ["tsne"]}})
    return Subject(encoder or nn.Flatten(1), load_dataset(settings.data), settings, CPU)


def blobs(classes, each, dim=8):
    """Rows of well separated groups, and their labels."""
    generator = torch.Generator().manual_seed(0)
    centres = 20 * torch.eye(classes, dim)
    labels = torch.arange(classes).repeat_interleave(each)
    return centres[labels] + torch.randn(len(labels), dim, generator=generator), labels


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn, which become files no more."""
    drawn = []
    monkeypatch.setattr(tsne, "png", lambda figure: drawn.append(figure) or b"")
    return drawn


def test_a_sweeps_picture_is_a_png_without_a_date_and_the_same_each_time():
    found = run_tasks(subject(limit=60))
    assert found.scores == {}
    assert set(found.pictures) == {"tsne"}
    picture = Image.open(io.BytesIO(found.pictures["tsne"]))
    assert picture.format == "PNG"
    assert picture.size == (960, 720)
    assert set(picture.info) <= {"dpi"}
    colours = picture.convert("RGB").getcolors(2**20)
    assert max(colours)[1] == (255, 255, 255)
    assert len(colours) > 5
    assert run_tasks(subject(limit=60)).pictures == found.pictures


def test_pictures_drawn_at_the_same_time_do_not_mix():
    rows, labels = blobs(3, 8)
    names = ["a", "b", "c"]

    def draw(seed):
        return scatter(embedded(rows, seed, "rows"), labels, names[seed:] + names[:seed])

    alone = [draw(0), draw(1)]
    assert alone[0] != alone[1]
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(draw, (0, 1))) == alone


def test_points_have_the_colour_the_mark_and_the_name_of_their_class(figures):
    points = np.arange(12.0).reshape(6, 2)
    names = ["unseen", "_hidden", "cost in $ and $", "x" * 40]
    scatter(points, torch.tensor([1, 3, 1, 2, 3, 3]), names)
    (figure,) = figures
    (axes,) = figure.axes
    assert [each.get_offsets().tolist() for each in axes.collections] == [
        points[[0, 2]].tolist(),
        points[[3]].tolist(),
        points[[1, 4, 5]].tolist(),
    ]
    assert len({tuple(each.get_facecolor()[0]) for each in axes.collections}) == 3
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["_hidden", r"cost in \$ and \$", "x" * 31 + "…"]
    assert [tuple(handle.get_facecolor()[0]) for handle in legend.legend_handles] == [
        tuple(each.get_facecolor()[0]) for each in axes.collections
    ]
    assert axes.get_title(loc="left") == "t-SNE of 6 test images, perplexity 1.67"
    assert [side for side, spine in axes.spines.items() if spine.get_visible()] == ["left", "bottom"]
    assert len(axes.get_xticks()) == len(axes.get_yticks()) == 0


def test_images_of_a_folder_are_named_as_their_folders(tmp_path, figures):
    tsne.score(subject(folder(tmp_path, classes=("cat", "dog"), per_class=4)))
    (axes,) = figures[0].axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["cat", "dog"]
    assert [len(each.get_offsets()) for each in axes.collections] == [4, 4]


def test_groups_that_are_apart_stay_apart():
    """The nearest other point of each in the picture is of its own group, as it is among the rows."""
    rows, labels = blobs(5, 20)
    places = embedded(rows, 0, "rows")
    assert places.shape == (100, 2)
    gaps = np.linalg.norm(places[:, None] - places[None], axis=2) + np.diag([np.inf] * 100)
    assert (labels.numpy()[gaps.argmin(1)] == labels.numpy()).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-1, 8), min_size=1, max_size=60), st.integers(0, 2**32 - 1))
def test_images_of_five_classes_or_of_all_are_chosen_and_the_seed_alone_decides(labels, seed):
    labels = torch.tensor(labels)
    rows = chosen_rows(labels, seed)
    shown = set(labels[rows].tolist())
    there = set(labels.tolist()) - {-1}
    assert shown <= there
    assert len(shown) == min(5, len(there))
    assert len(set(rows)) == len(rows) == sum(int((labels == each).sum()) for each in shown)
    assert chosen_rows(labels.clone(), seed) == rows


def test_the_seed_draws_classes_and_at_most_200_images_of_each():
    labels = torch.arange(8).repeat(300)
    shown = [frozenset(labels[chosen_rows(labels, seed)].tolist()) for seed in range(20)]
    assert len(set(shown)) > 5
    assert frozenset.union(*shown) == set(range(8))
    few = torch.tensor([0] * 300 + [1] * 7)
    assert torch.bincount(few[chosen_rows(few, 0)]).tolist() == [200, 7]
    assert chosen_rows(few, 0) != chosen_rows(few, 1)


def test_two_splits_seeds_show_other_classes():
    """Of ten digits; that both draw the same five happens once in 252 times, and does not for these."""
    drawn = [set(chosen_rows(subject(split_seed=seed).dataset.test.labels, seed)) for seed in (0, 1)]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(("points", "wanted"), [(3, 1), (4, 1), (7, 2), (61, 20), (91, 30), (1000, 30)])
def test_perplexity_is_a_third_of_the_others_up_to_30(points, wanted):
    assert perplexity(points) == wanted


@pytest.mark.parametrize("shape", [(3, 1), (3, 2), (3, 700), (4, 60)])
def test_three_images_are_enough(shape):
    places = embedded(torch.randn(shape, generator=torch.Generator().manual_seed(0)), 0, "rows")
    assert places.shape == (shape[0], 2)
    assert np.isfinite(places).all()
    data = scatter(places, torch.arange(shape[0]), list("abcd"))
    assert Image.open(io.BytesIO(data)).size == (960, 720)


def test_three_test_images_make_a_picture(tmp_path):
    root = folder(tmp_path, splits=("train",))
    folder(tmp_path, splits=("test",), per_class=2)
    (root / "test" / "dog" / "1.png").unlink()
    given = subject(root)
    assert len(given.dataset.test) == 3
    assert tsne.score(given).pictures["tsne"].startswith(b"\x89PNG")


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, images):
        return torch.full((len(images), 4), self.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.3, "features of test images: all 40 are equal, so that there is nothing to draw"),
        (0.0, "all 40 are equal"),
        (math.nan, "features of 40 of 40 images are not finite"),
    ],
)
def test_features_that_show_nothing_are_refused(value, said):
    given = subject(encoder=Constant(value))
    given.dataset.test.labels[:] = -1
    given.dataset.test.labels[:40] = torch.arange(40) % 3
    with pytest.raises(TaskError, match=said):
        tsne.score(given)


def test_images_without_labels_are_refused_in_a_line(caplog):
    given = subject(limit=60)
    given.dataset.test.labels[2:] = -1
    with pytest.raises(TaskError, match="2 test images of digits have a label; a picture needs 3 or more"):
        tsne.score(given)
    given.dataset.test.labels = None
    assert run_tasks(given).pictures == {}
    assert "task tsne is left out: test images of digits have no labels" in caplog.text
