"""What every method must do (the conformance suite), and what DoGo alone must do."""

import pytest
import torch

from raydistill import config, methods
from raydistill.data.augment import View
from raydistill.losses.similarity import cross_view_logits, mean_distribution, row_kl
from raydistill.methods import Batch, Progress
from raydistill.options import METHODS

SMALL = {"projection_dim": 8, "hidden_dim": 8}
ROWS = {
    "simclr": {"backbone": "resnet10_w4", **SMALL},
    "simsiam": {"backbone": "resnet10_w4", "projection_dim": 8, "predictor_dim": 4},
    "dogo": {"backbones": ["resnet10_w4", "resnet10_w8"], "simsiam_dim": 8, "predictor_dim": 4, **SMALL},
}
PROGRESS = Progress(0, 10)


def make(name, seed=0, **options):
    settings = config.load({"method": {"name": name, **ROWS[name], **options}}).method
    return methods.build(settings, image_size=8, seed=seed)


def batch_for(method, n=6, seed=0):
    """Random views that depend on the view alone, not on who asks for it."""

    def draw(view):
        generator = torch.Generator().manual_seed(seed * 100 + view.draw)
        return torch.randn(n, 3, 8, 8, generator=generator)

    return Batch({view: draw(view) for view in method.views}, torch.arange(n))


def test_every_method_has_a_row():
    assert set(ROWS) == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
class TestConformance:
    def test_losses_are_finite_scalars_and_reach_every_weight(self, name):
        method = make(name)
        terms = method.loss(batch_for(method), PROGRESS)
        assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
        terms["loss"].backward()
        missing = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
        assert missing == []

    def test_same_seed_same_weights_whatever_the_callers_state(self, name):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        first = make(name, seed=3)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(77)
        second, third = make(name, seed=3), make(name, seed=4)
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), third.parameters(), strict=True))

    def test_state_round_trip(self, name):
        method, other = make(name, seed=0), make(name, seed=1)
        method.loss(batch_for(method), PROGRESS)
        other.load_state_dict(method.state_dict())
        batch = batch_for(method, seed=2)
        method.eval(), other.eval()
        assert torch.equal(method.loss(batch, PROGRESS)["loss"], other.loss(batch, PROGRESS)["loss"])

    def test_after_step_moves_no_weight_that_gradients_move(self, name):
        method = make(name)
        before = [p.detach().clone() for p in method.parameters() if p.requires_grad]
        method.after_step(PROGRESS)
        assert all(torch.equal(a, p) for a, p in zip(before, method.parameters(), strict=True))

    def test_the_student_is_an_encoder_of_images(self, name):
        encoders = make(name).encoders()
        assert next(iter(encoders)) == "student"
        for encoder in encoders.values():
            assert encoder.eval()(torch.randn(2, 3, 8, 8)).shape == (2, encoder.dim)

    def test_the_baseline_is_another_method_of_the_same_student(self, name):
        options = config.load({"method": {"name": name, **ROWS[name]}}).method
        baseline = options.baseline()
        student = methods.build(baseline, image_size=8, seed=0).encoders()["student"]
        assert student.dim == make(name).encoders()["student"].dim
        assert baseline.baseline() == baseline


class TestDoGo:
    def test_lambda_zero_is_two_independent_runs(self):
        method = make("dogo", lambda_kd=0.0, lambda_simsiam=0.0, objectives=["simclr", "simsiam"])
        batch = batch_for(method)
        method.loss(batch, PROGRESS)["loss"].backward()
        for peer, views in zip(method.peers, method.peer_views, strict=True):
            twin = make(
                "simsiam" if peer.predicts else "simclr",
                backbone="resnet10_w8" if peer.predicts else "resnet10_w4",
            )
            twin.load_state_dict(peer.state_dict())
            alone = Batch({own: batch.views[view] for own, view in zip(twin.views, views, strict=True)}, batch.indices)
            twin.loss(alone, PROGRESS)["loss"].backward()
            for mine, theirs in zip(twin.parameters(), peer.parameters(), strict=True):
                torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=0)

    def test_no_gradient_crosses_peers(self):
        method = make("dogo")
        method.loss(batch_for(method), PROGRESS)["kd_1"].backward()
        assert all(p.grad is None or not p.grad.any() for p in method.peers[1].parameters())
        assert any(p.grad is not None and p.grad.any() for p in method.peers[0].parameters())

    def test_the_loss_is_the_printed_sum(self):
        method = make("dogo", objectives=["simclr", "simsiam"], lambda_kd=7.0, lambda_simsiam=3.0)
        t = method.loss(batch_for(method), PROGRESS)
        expected = t["ssl_1"] + 7 * t["kd_1"] + t["ssl_2"] + 3 * t["kd_2"]
        torch.testing.assert_close(t["loss"], expected)

    def test_each_peer_draws_its_own_views_unless_shared(self):
        assert make("dogo").views == tuple(View("simclr", draw) for draw in range(4))
        assert make("dogo", share_views=True).views == (View("simclr", 0), View("simclr", 1))
        mixed = make("dogo", objectives=["simclr", "simsiam"]).views
        assert [view.recipe for view in mixed] == ["simclr", "simclr", "simsiam_dogo", "simsiam_dogo"]

    @pytest.mark.parametrize("target", ["projection", "prediction"])
    def test_what_simsiam_peers_show_each_other(self, target):
        """Released code: the target is the projection between two SimSiam peers; the paper says prediction."""
        method = make("dogo", objectives=["simsiam"], simsiam_target=target)
        batch = batch_for(method)
        kd = method.loss(batch, PROGRESS)["kd_1"]
        embedded = [peer.embed_views(batch, views) for peer, views in zip(method.peers, method.peer_views, strict=True)]
        shown = [getattr(e, "z" if target == "projection" else "p") for e in embedded[1]]
        logits = cross_view_logits(embedded[0][0].p, embedded[0][1].p, 0.1)
        expected = row_kl(mean_distribution([cross_view_logits(*shown, 0.1)]), logits)
        torch.testing.assert_close(kd, expected)

    def test_three_peers_pairwise_and_ensemble(self):
        options = {"backbones": ["resnet10_w4"] * 3}
        method, ensemble = make("dogo", **options), make("dogo", kd_target="ensemble", **options)
        batch = batch_for(method)
        pairs = [p.embed_views(batch, v) for p, v in zip(method.peers, method.peer_views, strict=True)]
        logits = [cross_view_logits(a.p, b.p, 0.1) for a, b in pairs]
        targets = [logits[1].softmax(1), logits[2].softmax(1)]
        own = logits[0].log_softmax(1)

        def divergence(p):
            return (p * (p.log() - own)).mean()

        pairwise = (divergence(targets[0]) + divergence(targets[1])) / 2
        torch.testing.assert_close(method.loss(batch, PROGRESS)["kd_1"], pairwise)
        torch.testing.assert_close(ensemble.loss(batch, PROGRESS)["kd_1"], divergence((targets[0] + targets[1]) / 2))

    def test_symmetric_distillation_adds_the_columns(self):
        method, rows = make("dogo", kd_symmetric=True), make("dogo")
        batch = batch_for(method)
        (a, b), (c, d) = (p.embed_views(batch, v) for p, v in zip(method.peers, method.peer_views, strict=True))
        own, shown = cross_view_logits(a.p, b.p, 0.1), cross_view_logits(c.p, d.p, 0.1)
        columns = row_kl(shown.T.log_softmax(1), own.T)
        expected = (rows.loss(batch, PROGRESS)["kd_1"] + columns) / 2
        torch.testing.assert_close(method.loss(batch, PROGRESS)["kd_1"], expected)

    def test_identical_peers_and_views_have_nothing_to_teach(self):
        method = make("dogo", backbones=["resnet10_w4"] * 2, share_views=True)
        method.peers[1].load_state_dict(method.peers[0].state_dict())
        terms = method.loss(batch_for(method), PROGRESS)
        assert terms["kd_1"].item() == pytest.approx(0, abs=1e-9)
        assert terms["kd_2"].item() == pytest.approx(0, abs=1e-9)

    def test_wrong_options_are_explained(self):
        for options, said in [
            ({"objectives": ["simclr"] * 3}, "one for all peers or one per peer"),
            ({"objectives": ["simclr", "simsiam"], "share_views": True}, "share_views"),
            ({"backbones": ["resnet10_w4"]}, "at least 2"),
            ({"tau_kd": 0}, "greater than 0"),
        ]:
            with pytest.raises(config.ConfigError, match=said):
                make("dogo", **options)


class TestBackbones:
    @pytest.mark.parametrize(
        ("name", "size", "dim"),
        [("resnet18", 32, 512), ("torchvision:resnet18", 32, 512), ("resnet10_w16", 16, 128), ("resnet10t", 32, 512),
         ("mobilenetv3_small_050", 32, 1024), ("torchvision:mobilenet_v2", 32, 1280)],
    )  # fmt: skip
    def test_timm_torchvision_and_narrow(self, name, size, dim):
        from raydistill.models.backbones import Backbone

        encoder = Backbone(name, image_size=size).eval()
        assert encoder(torch.randn(2, 3, size, size)).shape == (2, dim)
        assert encoder.dim == dim

    def test_small_stem_keeps_the_resolution(self):
        from raydistill.models.backbones import Backbone

        net = Backbone("resnet18", stem="small", image_size=32).net
        assert net.conv1.kernel_size == (3, 3)
        assert net.maxpool(net.conv1(torch.randn(1, 3, 32, 32))).shape[-2:] == (32, 32)
        assert Backbone("resnet18", stem="imagenet", image_size=32).net.conv1.kernel_size == (7, 7)

    def test_unknown_names_and_stems_are_explained(self):
        from raydistill.models.backbones import Backbone

        with pytest.raises(ValueError, match="resnet18"):
            Backbone("resnet81", image_size=32)
        with pytest.raises(ValueError, match=r"stem=imagenet"):
            Backbone("mobilenetv3_small_050", stem="small", image_size=32)
