"""SSSD: exits, the loss and its options, the invariants."""

import numpy as np
import pytest
import torch
from helpers.references import assert_a_single_class_is_refused, softmax
from helpers.rows import CLASSES, batch_for, make
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.losses.exits import exit_kl, feature_distance
from raydistill.methods import StepInfo
from raydistill.models.backbones import Backbone
from raydistill.models.exits import ExitedResNet

PROGRESS = StepInfo(0, 10)


def rows(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]


class TestNetwork:
    @pytest.mark.parametrize("style", ["conference", "journal"])
    @pytest.mark.parametrize(
        ("name", "size"),
        [("resnet10_w4", 8), ("resnet10_w4", 12), ("resnet18", 32), ("torchvision:resnet18", 32), ("resnet26", 64)],
    )
    def test_all_exits_are_as_wide_as_the_deepest(self, style, name, size):
        network = ExitedResNet(Backbone(name, image_size=size), style).eval()
        images = torch.randn(2, 3, size, size)
        features = network(images)
        assert [f.shape for f in features] == [(2, network.dim)] * 4
        torch.testing.assert_close(features[3], network.backbone(images))

    def test_the_conference_bottleneck_is_the_published_one_at_32_pixels(self):
        network = ExitedResNet(Backbone("resnet18", image_size=32), "conference")
        kernels = [(exit_[3].kernel_size, exit_[3].stride) for exit_ in network.exits]
        assert kernels == [((8, 8), (8, 8)), ((4, 4), (4, 4)), ((2, 2), (2, 2))]
        assert [exit_[0].out_channels for exit_ in network.exits] == [128] * 3

    def test_the_journal_exits_halve_three_two_and_one_times(self):
        network = ExitedResNet(Backbone("resnet18", image_size=32), "journal")
        assert [len(exit_) - 1 for exit_ in network.exits] == [3, 2, 1]

    def test_encoders_share_the_network(self):
        method = make("sssd").eval()
        encoders = method.encoders()
        images = torch.randn(2, 3, 8, 8)
        assert list(encoders) == ["student", "exit_1", "exit_2", "exit_3"]
        for encoder, feature in zip(
            [*list(encoders.values())[1:], encoders["student"]], method.network(images), strict=True
        ):
            torch.testing.assert_close(encoder(images), feature)

    def test_a_network_without_stages_is_explained(self):
        with pytest.raises(ValueError, match="four stages of a ResNet"):
            make("sssd", backbone="vit_w32_p4_d2")


@pytest.mark.fault(18)
class TestReferences:
    @pytest.mark.parametrize("squared", [False, True])
    def test_kl(self, squared):
        shallow, deepest = rows(0, (5, 4), (5, 4))
        p, q = softmax(deepest.numpy() / 3), softmax(shallow.numpy() / 3)
        expected = (p * np.log(p / q)).sum(1).mean() * (9 if squared else 1)
        assert exit_kl(shallow, deepest, 3.0, squared, True).item() == pytest.approx(expected, rel=1e-10)

    def test_feature_distances(self):
        a, b = rows(1, (5, 4), (5, 4))
        gap = (a - b).numpy()
        positive = (a.numpy() > 0) | (b.numpy() > 0)
        expected = {
            "squared": (gap**2).sum(1).mean(),
            "norm": np.sqrt((gap**2).sum()),
            "sum_where_positive": (gap**2)[positive].sum(),
        }
        for form, value in expected.items():
            assert feature_distance(a, b, form, True).item() == pytest.approx(value, rel=1e-10)

    @pytest.mark.parametrize("deepest_ce", ["one", "one_minus_alpha"])
    def test_the_whole_loss_is_the_printed_sum(self, deepest_ce):
        method = make("sssd", alpha=0.3, lambda_features=0.01, tau=2.0, deepest_ce=deepest_ce)
        terms = {k: v.item() for k, v in method.loss(batch_for(method), PROGRESS).items()}
        shallow = sum(0.7 * terms[f"ce_{i}"] + 0.3 * terms[f"kl_{i}"] + 0.01 * terms[f"feature_{i}"] for i in (1, 2, 3))
        deepest = (1.0 if deepest_ce == "one" else 0.7) * terms["ce_4"]
        assert terms["loss"] == pytest.approx(deepest + shallow, rel=1e-5)

    def test_gradients(self):
        shallow, deepest = rows(2, (4, 3), (4, 3))
        shallow.requires_grad_()
        assert torch.autograd.gradcheck(lambda x: exit_kl(x, deepest, 2.0, True, True), (shallow,))
        for form in ("squared", "norm", "sum_where_positive"):
            assert torch.autograd.gradcheck(lambda x, f=form: feature_distance(x, deepest, f, True), (shallow,))


class TestInvariants:
    def test_without_alpha_and_lambda_it_is_four_cross_entropies(self):
        method = make("sssd", alpha=0.0, lambda_features=0.0)
        terms = method.loss(batch_for(method), PROGRESS)
        torch.testing.assert_close(terms["loss"], sum(terms[f"ce_{i}"] for i in (1, 2, 3, 4)))

    def test_the_deepest_exit_learns_nothing_from_kl_and_features(self):
        method = make("sssd")
        terms = method.loss(batch_for(method), PROGRESS)
        sum(terms[f"{kind}_{i}"] for kind in ("kl", "feature") for i in (1, 2, 3)).backward()
        deepest = [*method.classifiers[3].parameters(), *method.network.backbone.net.layer4.parameters()]
        assert all(p.grad is None or not p.grad.any() for p in deepest)
        assert any(p.grad is not None and p.grad.any() for p in method.network.backbone.net.layer1.parameters())

    def test_not_detached_it_does(self):
        method = make("sssd", detach_deepest=False)
        method.loss(batch_for(method), PROGRESS)["kl_1"].backward()
        assert method.classifiers[3].weight.grad.any()

    def test_identical_exits_have_nothing_to_teach(self):
        method = make("sssd").double()
        for classifier in method.classifiers[:3]:
            classifier.load_state_dict(method.classifiers[3].state_dict())
        (feature,) = rows(3, (6, method.network.dim))
        terms = method.combine([feature] * 4, method.classify([feature] * 4), torch.arange(6) % CLASSES)
        assert all(
            terms[f"{kind}_{i}"].item() == pytest.approx(0, abs=1e-12) for kind in ("kl", "feature") for i in (1, 2, 3)
        )

    @pytest.mark.fault(17)
    def test_identical_exits_have_finite_gradients(self):
        feature = torch.randn(4, 3, requires_grad=True)
        for form in ("squared", "norm", "sum_where_positive"):
            (grad,) = torch.autograd.grad(feature_distance(feature, feature.detach().clone(), form, True), feature)
            assert torch.isfinite(grad).all()

    def test_renamed_labels_leave_the_loss_of_renamed_classifiers(self):
        method = make("sssd").double()
        features = rows(4, *[(6, method.network.dim)] * 4)
        labels = torch.arange(6) % CLASSES
        before = method.combine(features, method.classify(features), labels)["loss"]
        order = torch.tensor([2, 0, 3, 1])
        for classifier in method.classifiers:
            classifier.weight.data, classifier.bias.data = classifier.weight.data[order], classifier.bias.data[order]
        after = method.combine(features, method.classify(features), order.argsort()[labels])["loss"]
        torch.testing.assert_close(after, before)

    @pytest.mark.fault(19)
    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 10**6), st.floats(0.5, 5))
    def test_terms_are_never_negative(self, seed, tau):
        a, b = rows(seed, (4, 5), (4, 5))
        assert exit_kl(a, b, tau, False, True).item() >= -1e-12
        assert all(feature_distance(a, b, f, True).item() >= 0 for f in ("squared", "norm", "sum_where_positive"))


def test_a_single_class_is_refused():
    assert_a_single_class_is_refused("sssd")
