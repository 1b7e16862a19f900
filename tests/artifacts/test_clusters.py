"""Pseudo labels: k-means clusters, prototypes and random labels."""

import pytest
import torch

from raydistill.artifacts.clusters import cluster, prototypes, random_labels


class TestClusters:
    def test_separate_blobs_become_clusters(self):
        centres = torch.eye(4).repeat_interleave(25, 0)
        features = centres + 0.05 * torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
        found = cluster(features, 4, iterations=20, seed=0).view(4, 25)
        assert all(len(group.unique()) == 1 for group in found)
        assert len(found[:, 0].unique()) == 4
        assert torch.equal(found.flatten(), cluster(features * 7, 4, iterations=20, seed=0))

    def test_prototypes_are_images_and_keep_their_own(self):
        features = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
        found = prototypes(features, 10, seed=3)
        drawn = torch.randperm(50, generator=torch.Generator().manual_seed(3))[:10]
        assert torch.equal(found[drawn], torch.arange(10))

    def test_random_labels_are_uniform_and_repeatable(self):
        found = random_labels(10_000, 10, seed=1)
        assert torch.equal(found, random_labels(10_000, 10, seed=1))
        counts = torch.bincount(found, minlength=10)
        assert ((counts - 1000).abs() < 150).all()

    @pytest.mark.fault(17)
    @pytest.mark.parametrize(("clusters", "said"), [(51, "use at most 50"), (1, "at least 2")])
    def test_numbers_that_cannot_be(self, clusters, said):
        features = torch.randn(50, 3)
        for make_labels in (
            lambda: cluster(features, clusters, iterations=2, seed=0),
            lambda: prototypes(features, clusters, seed=0),
            lambda: random_labels(50, clusters, seed=0),
        ):
            with pytest.raises(ValueError, match=said):
                make_labels()

    @pytest.mark.fault(17)
    def test_features_that_are_not_numbers(self):
        features = torch.randn(50, 3)
        features[3, 1] = torch.nan
        with pytest.raises(ValueError, match="1 rows of features are not finite"):
            cluster(features, 4, iterations=2, seed=0)
