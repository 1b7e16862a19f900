"""t-SNE picture of test images of five classes (SDSSL, figure 9), and what other pictures of this kind need.

SDSSL shows five classes of ImageNet's validation set, drawn at random, and gives no settings. Those here are
scikit-learn's, after a projection to 50 principal components as van der Maaten and Hinton do ("Visualizing data using
t-SNE", 2008). Features are scaled to unit length first, since k-NN compares them by their cosine.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from raydistill.data.drawing import limited
from raydistill.data.images import Images
from raydistill.evaluation.online import embed_split
from raydistill.evaluation.tasks.alignment import on_sphere
from raydistill.evaluation.tasks.base import Findings, Subject, TaskError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASSES = 5
IMAGES_PER_CLASS = 200  # some three seconds of one core for five classes
COMPONENTS = 50
PERPLEXITY = 30.0
FEWEST = 3  # points of a picture
INK, GREY = "#1a1a1a", "#b0b0b0"
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")  # Okabe and Ito
MARKERS = "os^Dv"  # so that colour is not all that tells classes apart
SIZE, DPI = (6.4, 4.8), 150  # inches, and pixels in one
LETTERS = 32  # of a name
DRAW = 5  # tells these draws from others of the same seed


def score(subject: Subject) -> Findings:
    """Picture `tsne` of the features of test images of five classes; it has no scores.

    `data.split_seed` draws the classes and their images, so that all networks of a sweep show the same ones.

    Raises:
        TaskError: test images without labels, too few of them, or features that are not finite or all equal.
    """
    dataset, seed = subject.images(), subject.config.data.split_seed
    if dataset.test.labels is None:
        raise TaskError(f"test images of {dataset.name} have no labels; the picture needs the classes of its points")
    chosen = dataset.test.subset(chosen_rows(dataset.test.labels, seed))
    if len(chosen) < FEWEST:
        raise TaskError(f"{len(chosen)} test images of {dataset.name} have a label; a picture needs {FEWEST} or more")
    features, labels = embed_split(subject.encoder, dataset, chosen, subject.device)
    points = embedded(on_sphere(features), seed, "features of test images")
    return Findings({}, {"tsne": scatter(points, labels, _names(dataset.test, dataset.classes))})


def chosen_rows(labels: Tensor, seed: int) -> list[int]:
    """Rows of the images of five classes, or of all if there are fewer; at most 200 of each class, drawn by the seed.

    Args:
        labels: (N,) of all images, -1 where there is none.
        seed: of the draw.
    """
    classes = np.unique(labels[labels >= 0].numpy())
    if len(classes) > CLASSES:
        classes = np.sort(np.random.default_rng([seed, DRAW]).choice(classes, CLASSES, replace=False))
    rows: list[int] = []
    for each in classes.tolist():
        own = (labels == each).nonzero().flatten().numpy()
        rows += own[limited(None, len(own), (seed, DRAW, each), IMAGES_PER_CLASS)].tolist()
    return rows


def perplexity(points: int) -> float:
    """Perplexity for so many points: 30, or a third of the other points where they are few, but at least 1.

    t-SNE looks at three times as many neighbours as its perplexity.
    """
    return max(1.0, min(PERPLEXITY, (points - 1) / 3))


def embedded(rows: Tensor, seed: int, name: str) -> np.ndarray:
    """Places (N, 2) of rows (N, D) by principal components and t-SNE; the same for the same rows and seed.

    Args:
        rows: at least three, all finite.
        seed: of t-SNE.
        name: of the rows, for messages.

    Raises:
        TaskError: rows that are too few or all equal.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(rows) < FEWEST:
        raise TaskError(f"{name}: {len(rows)} points; a picture needs {FEWEST} or more")
    centred = (rows - rows.mean(0)).double()
    if centred.norm() <= 1e-6 * rows.double().norm():
        raise TaskError(f"{name}: all {len(rows)} are equal, so that there is nothing to draw")
    values = F.pad(centred, (0, max(0, 2 - centred.shape[1]))).cpu().numpy()
    # Several threads may add up in any order, and t-SNE makes much of the smallest difference.
    with threadpool_limits(1, user_api="openmp"):
        parts = PCA(min(COMPONENTS, *values.shape), random_state=seed).fit_transform(values)
        method = TSNE(perplexity=perplexity(len(parts)), init="pca", random_state=seed)
        places: np.ndarray = method.fit_transform(parts / parts[:, 0].std())
    return places


def scatter(points: np.ndarray, labels: Tensor, names: Sequence[str]) -> bytes:
    """PNG of points in the colours of their classes.

    Args:
        points: (N, 2).
        labels: (N,) at least 0.
        names: of all classes.
    """
    figure, axes = panel(f"t-SNE of {len(points)} test images, perplexity {perplexity(len(points)):.3g}")
    classes = labels.unique().tolist()
    own = labels.cpu().numpy()
    handles = [
        axes.scatter(
            points[own == each, 0],
            points[own == each, 1],
            s=14,
            color=COLORS[index % len(COLORS)],
            marker=MARKERS[index % len(MARKERS)],
            linewidths=0,
            alpha=0.8,
        )
        for index, each in enumerate(classes)
    ]
    legend(axes, handles, [names[each] for each in classes])
    return png(figure)


def panel(title: str) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, without ticks: places of t-SNE have no unit."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.set_title(plain(title), loc="left", fontsize=10, color=INK, fontweight="bold")
    axes.set(xticks=[], yticks=[])
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)
    return figure, axes


def legend(axes: Axes, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Legend beside the axes, without a box.

    Args:
        axes: of the points.
        handles: one for each name.
        names: the first 32 letters are shown.
    """
    axes.legend(
        handles,
        [plain(name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…") for name in names],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )


def png(figure: Figure) -> bytes:
    """A figure as PNG, without a date or the name of a program, so that equal figures are equal bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def plain(text: str) -> str:
    """Text in which a dollar is a dollar, not a formula."""
    return text.replace("$", r"\$")


def _names(split: Images, classes: Sequence[str]) -> list[str]:
    """Names of the classes of a split; numbers where they have none."""
    assert split.labels is not None
    count = int(split.labels.max()) + 1
    return [classes[each] if each < len(classes) else str(each) for each in range(count)]
