"""Classes for images that have none: k-means of features, random prototypes, or chance."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cluster(features: Tensor, clusters: int, *, iterations: int, seed: int) -> Tensor:
    """Assign each row (N,) int64 to the nearest of `clusters` k-means centroids.

    Args:
        features: (N, D), normalised here.
        clusters: number of centroids.
        iterations: of k-means.
        seed: of the first centroids.

    Raises:
        ValueError: fewer than 2 clusters, more clusters than rows, or features that are not finite.
    """
    import faiss

    _check(features, clusters)
    rows = F.normalize(features.float(), dim=1).numpy()
    kmeans = faiss.Kmeans(
        rows.shape[1], clusters, niter=iterations, seed=seed, min_points_per_centroid=1, max_points_per_centroid=10**9
    )
    kmeans.train(rows)
    _, nearest = kmeans.index.search(rows, 1)
    return torch.from_numpy(nearest[:, 0].copy())


def prototypes(features: Tensor, clusters: int, *, seed: int) -> Tensor:
    """Assign each row (N,) int64 to the nearest, by cosine, of `clusters` rows drawn at random.

    Args:
        features: (N, D).
        clusters: number of prototypes.
        seed: of the draw.

    Raises:
        ValueError: as for `cluster`.
    """
    _check(features, clusters)
    rows = F.normalize(features.float(), dim=1)
    drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:clusters]
    return torch.cat([(part @ rows[drawn].T).argmax(dim=1) for part in rows.split(4096)])


def random_labels(images: int, clusters: int, *, seed: int) -> Tensor:
    """Draw a uniform class (N,) int64 for each image.

    Args:
        images: N.
        clusters: number of classes.
        seed: of the draw.

    Raises:
        ValueError: fewer than 2 or too many classes.
    """
    _check_count(images, clusters)
    return torch.randint(clusters, (images,), generator=torch.Generator().manual_seed(seed))


def _check(features: Tensor, clusters: int) -> None:
    _check_count(len(features), clusters)
    if not torch.isfinite(features).all():
        raise ValueError(f"{int((~torch.isfinite(features)).any(dim=1).sum())} rows of features are not finite")


def _check_count(images: int, clusters: int) -> None:
    if clusters < 2:
        raise ValueError(f"method.clusters = {clusters}; expected at least 2")
    if clusters > images:
        raise ValueError(f"method.clusters = {clusters} with {images} training images; use at most {images}")
