"""Refusals that several methods share, with what would be accepted."""

import pytest
from helpers.rows import SIZE, options
from helpers.rows import given as given_for

from raydistill import methods
from raydistill.methods import FeatureDims


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("name", "option"),
    [("seed", "queue_size"), ("mocov2", "queue_size"), ("compress_1q", "queue_size"), ("crd", "negatives")],
)
def test_a_queue_longer_than_the_data_is_refused(name, option):
    with pytest.raises(
        ValueError, match=rf"method.{option} = 65 is longer than the 64 training images; use at most 64"
    ):
        methods.build(options(name, **{option: 65}), given_for(), seed=0)


@pytest.mark.parametrize("name", ["simreg", "regress", "regress_bn", "supervised_kd"])
def test_a_teacher_without_a_head(name):
    only_features = methods.MethodContext(SIZE, 16, (8, 8), (FeatureDims(12, None),))
    with pytest.raises(ValueError, match="no head"):
        methods.build(options(name, teacher="head"), only_features, seed=0)


@pytest.mark.parametrize("name", ["sssd", "clusterfit", "cc"])
def test_a_single_class_is_refused(name):
    with pytest.raises(ValueError, match="1 classes; expected at least 2"):
        methods.build(options(name), given_for(class_counts=(64,)), seed=0)
