"""What DoGo alone must do."""

import math

import pytest
import torch
from helpers.rows import batch_for, make, options

from raydistill import config
from raydistill.data.views.augment import View
from raydistill.losses.similarity import cross_view_logits, mean_distribution, row_kl
from raydistill.methods import Batch, StepInfo

PROGRESS = StepInfo(0, 10)


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

    @pytest.mark.parametrize("step", [0, 3, 10, 39])
    @pytest.mark.parametrize(
        ("schedule", "share"),
        [
            ("constant", lambda done: 1),
            ("linear", lambda done: done),
            ("cosine", lambda done: math.sin(math.pi * done / 2) ** 2),
        ],
    )
    def test_both_lambdas_follow_the_schedule(self, schedule, share, step):
        chosen = {"lambda_schedule": schedule, "lambda_kd": 7.0, "lambda_simsiam": 3.0}
        method = make("dogo", objectives=["simclr", "simsiam"], **chosen)
        t = method.loss(batch_for(method), StepInfo(step, 40))
        weight = share(step / 40)
        expected = t["ssl_1"] + 7 * weight * t["kd_1"] + t["ssl_2"] + 3 * weight * t["kd_2"]
        torch.testing.assert_close(t["loss"], expected)

    def test_a_rising_lambda_makes_a_longer_run_another_one(self):
        assert not options("dogo").follows_length()
        assert all(options("dogo", lambda_schedule=rising).follows_length() for rising in ("linear", "cosine"))

    def test_each_peer_draws_its_own_views_unless_shared(self):
        assert make("dogo").views == tuple(View("simclr", draw) for draw in range(4))
        assert make("dogo", share_views=True).views == (View("simclr", 0), View("simclr", 1))
        mixed = make("dogo", objectives=["simclr", "simsiam"]).views
        assert [view.recipe for view in mixed] == ["simclr", "simclr", "simsiam_dogo", "simsiam_dogo"]

    def test_one_recipe_for_all_peers_lets_peers_of_two_kinds_share_their_views(self):
        mixed = make("dogo", objectives=["simclr", "simsiam"], recipe="weak")
        assert mixed.views == tuple(View("weak", draw) for draw in range(4))
        shared = make("dogo", objectives=["simclr", "simsiam"], recipe="weak", share_views=True)
        assert shared.views == (View("weak", 0), View("weak", 1))
        assert torch.isfinite(shared.loss(batch_for(shared), PROGRESS)["loss"])

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
        for wrong, said in [
            ({"objectives": ["simclr"] * 3}, "one for all peers or one per peer"),
            ({"objectives": ["simclr", "simsiam"], "share_views": True}, "share_views"),
            ({"backbones": ["resnet10_w4"]}, "at least 2"),
            ({"tau_kd": 0}, "greater than 0"),
        ]:
            with pytest.raises(config.ConfigError, match=said):
                make("dogo", **wrong)
