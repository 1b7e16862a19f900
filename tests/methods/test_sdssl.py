"""SDSSL, BYOL, MoCo v3 and their ViT: section by section of the paper, and the invariants."""

import pytest
import torch
import torch.nn.functional as F
from helpers.rows import batch_for, make, options
from helpers.rows import given as given_for
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from raydistill import methods
from raydistill.config import ConfigError
from raydistill.losses.contrastive import info_nce, masked_info_nce
from raydistill.losses.weights import weight_at
from raydistill.methods import Batch, StepInfo
from raydistill.models.backbones import Backbone
from raydistill.models.ema import follow, frozen_copy
from raydistill.models.vit import block_count, class_tokens, sincos_positions

HALFWAY = StepInfo(5, 10)
FRAMEWORKS = ("mocov3", "byol", "simclr")


def paired(recipes, batch, views):
    """The same tensors under the views that another method asks for."""
    return Batch({view: batch.views[old] for view, old in zip(views, recipes, strict=True)}, batch.indices)


class TestViT:
    def test_fixed_positions_frozen_patches_and_no_other_frozen_weight(self):
        net = Backbone("vit_w32_p4_d3", image_size=8).net
        frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
        assert frozen == {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
        assert net.pos_embed.shape == (1, 5, 32)
        assert not net.pos_embed[0, 0].any()
        assert net.cls_token.std() < 1e-4
        assert net.norm.eps == 1e-6

    @pytest.mark.parametrize(
        ("name", "dim", "heads", "blocks"),
        [("vit_tiny_p4", 192, 6, 12), ("vit_small_d2", 384, 12, 2), ("vit_w64_d3", 64, 2, 3)],
    )
    def test_names(self, name, dim, heads, blocks):
        backbone = Backbone(name, image_size=8)
        assert (backbone.dim, backbone.net.blocks[0].attn.num_heads, block_count(backbone.net)) == (dim, heads, blocks)

    def test_the_default_patch_is_a_quarter_of_the_image(self):
        assert Backbone("vit_w32_d2", image_size=12).net.patch_embed.patch_size == (3, 3)
        assert Backbone("vit_w32_d2", image_size=32).net.patch_embed.patch_size == (8, 8)

    def test_positions_tell_rows_from_columns(self):
        positions = sincos_positions(3, 8)[0, 1:].view(3, 3, 8)
        assert torch.equal(positions[0, 1, :4], positions[2, 1, :4])
        assert torch.equal(positions[1, 0, 4:], positions[1, 2, 4:])
        assert len(torch.unique(positions.view(9, 8), dim=0)) == 9

    def test_every_block_goes_through_the_one_final_norm(self):
        backbone = Backbone("vit_w32_p4_d3", image_size=8).eval()
        images = torch.randn(2, 3, 8, 8)
        tokens = class_tokens(backbone.net, images)
        assert len(tokens) == 3
        torch.testing.assert_close(tokens[-1], backbone(images))
        raw = []
        hooks = [b.register_forward_hook(lambda m, i, o: raw.append(o)) for b in backbone.net.blocks]
        backbone(images)
        [hook.remove() for hook in hooks]
        for token, output in zip(tokens, raw, strict=True):
            torch.testing.assert_close(token, backbone.net.norm(output)[:, 0])

    def test_timms_own_vits_have_class_tokens_too(self):
        net = Backbone("timm:vit_tiny_patch16_224", image_size=32).eval()
        tokens = class_tokens(net.net, torch.randn(1, 3, 32, 32), [0, 11])
        assert [t.shape for t in tokens] == [(1, 192)] * 2

    @pytest.mark.parametrize(("name", "said"), [("vit_w32_p3", "do not divide"), ("vit_w33_d2", "multiple of 4")])
    def test_what_cannot_be_is_explained(self, name, said):
        with pytest.raises(ValueError, match=said):
            Backbone(name, image_size=8)


class TestMomentum:
    def test_an_encoder_follows_and_its_statistics_do_not(self):
        source, target = nn.BatchNorm1d(3), frozen_copy(nn.BatchNorm1d(3))
        nn.init.constant_(source.weight, 3.0)
        source.running_mean.fill_(5)
        follow(target, source, 0.9)
        torch.testing.assert_close(target.weight, torch.full((3,), 1.2))
        assert not target.running_mean.any()
        assert not target.weight.requires_grad

    @pytest.mark.parametrize("name", ["byol", "mocov3", "mocov2"])
    def test_the_momentum_network_uses_its_own_batch_statistics(self, name):
        method = make(name).train()
        ema = [
            m for n, m in method.named_modules() if isinstance(m, nn.BatchNorm2d) and n.startswith(("key", "target"))
        ]
        assert ema
        before = [m.running_mean.clone() for m in ema]
        method.loss(batch_for(method), HALFWAY)
        assert all(m.training for m in ema)
        assert not all(torch.equal(a, m.running_mean) for a, m in zip(before, ema, strict=True))


@pytest.mark.fault(19)
class TestAlpha:
    @settings(max_examples=200, deadline=None)
    @given(
        st.floats(0, 2),
        st.integers(2, 500),
        st.integers(0, 499),
        st.sampled_from(["cosine", "linear", "constant", "step"]),
    )
    def test_bounds_and_known_points(self, alpha, total, step, schedule):
        assert 0 <= weight_at(min(step, total), total, alpha, schedule) <= alpha + 1e-12
        assert weight_at(0, total, alpha, "cosine") == weight_at(0, total, alpha, "linear") == 0
        assert weight_at(total, 2 * total, alpha, "cosine") == pytest.approx(alpha / 2)
        assert weight_at(0, total, alpha, "constant") == alpha

    def test_a_step_jumps_at_its_share(self):
        assert [weight_at(step, 10, 0.8, "step", 0.3) for step in (0, 2, 3, 9)] == [0, 0, 0.8, 0.8]


class TestSDSSL:
    @pytest.mark.parametrize("framework", FRAMEWORKS)
    def test_without_alpha_and_beta_it_is_the_framework(self, framework):
        method = make("sdssl", framework=framework, alpha=0.0, beta=0.0)
        twin = methods.build(options("sdssl", framework=framework).baseline(), given_for(), seed=9)
        pairs = {"backbone": method.backbone, "projector": method.projectors[-1]}
        if framework != "simclr":
            prefix = "key" if framework == "mocov3" else "target"
            pairs |= {"predictor": method.predictors[-1], f"{prefix}_backbone": method.teacher}
            pairs |= {f"{prefix}_projector": method.teacher_projector}
        for name, module in pairs.items():
            getattr(twin, name).load_state_dict(module.state_dict())
        batch = batch_for(method)
        mine = method.loss(batch, HALFWAY)["loss"]
        theirs = twin.loss(paired(method.views, batch, twin.views), HALFWAY)["loss"]
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("framework", ["mocov3", "byol"])
    def test_the_prediction_loss_trains_the_predictors_alone(self, framework):
        method = make("sdssl", framework=framework)
        method.loss(batch_for(method), HALFWAY)["pred"].backward()
        with_gradient = {n.split(".")[0] for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}
        assert with_gradient == {"predictors"}

    @pytest.mark.parametrize("framework", FRAMEWORKS)
    def test_the_intermediate_loss_does_not_reach_the_target(self, framework):
        method = make("sdssl", framework=framework)
        method.loss(batch_for(method), HALFWAY)["isd"].backward()
        last = method.projectors[-1]
        assert all(p.grad is None or not p.grad.any() for p in last.parameters())
        assert any(p.grad is not None and p.grad.any() for p in method.projectors[0].parameters())
        frozen = [p for n, p in method.named_parameters() if n.startswith("teacher")]
        assert all(p.grad is None for p in frozen)

    def test_a_head_for_every_block_as_published(self):
        method = make("sdssl", backbone="vit_w32_p4_d12")
        assert len(method.projectors) == len(method.predictors) == 12
        widths = [head[0].out_features for head in method.projectors]
        assert widths == [8] * 12
        assert all(
            layer.bias is None
            for layer in method.modules()
            if isinstance(layer, nn.Linear) and any(layer in head for head in (*method.projectors, *method.predictors))
        )

    @pytest.mark.parametrize(("framework", "batchnorm"), [("mocov3", True), ("simclr", True), ("byol", False)])
    def test_batch_norm_at_the_output_except_for_byol(self, framework, batchnorm):
        last = make("sdssl", framework=framework).projectors[0][-1]
        assert isinstance(last, nn.BatchNorm1d) == batchnorm
        assert not batchnorm or not last.affine

    @pytest.mark.parametrize(
        ("layers", "count", "expected"),
        [("all", 1, [0, 1, 2, 3, 4]), ("last", 2, [3, 4]), ("first", 2, [0, 1]), ("every_second", 1, [0, 2, 4])],
    )
    def test_which_blocks_learn(self, layers, count, expected):
        method = make("sdssl", backbone="vit_w32_p4_d6", layers=layers, layer_count=count)
        assert method.blocks == [*expected, 5]

    @pytest.mark.parametrize("framework", ["mocov3", "byol"])
    def test_the_same_view_is_another_target(self, framework):
        other, same = (make("sdssl", framework=framework, target_view=view) for view in ("other", "same"))
        batch = batch_for(other)
        a, b = other.loss(batch, HALFWAY), same.loss(batch, HALFWAY)
        assert torch.equal(a["ssl"], b["ssl"])
        assert not torch.equal(a["isd"], b["isd"])

    def test_one_block_and_no_vit_are_explained(self):
        with pytest.raises(ValueError, match="at least two"):
            make("sdssl", backbone="vit_w32_p4_d1")
        with pytest.raises(ConfigError, match="no ViT"):
            make("sdssl", backbone="resnet10_w4")

    @pytest.mark.parametrize("framework", ["mocov3", "byol"])
    @pytest.mark.parametrize("encoder", ["student", "ema"])
    def test_the_baseline_is_scored_by_the_same_kind_of_network(self, framework, encoder):
        baseline = options("sdssl", framework=framework, encoder=encoder).baseline()
        twin = methods.build(baseline, given_for(), seed=0)
        scored = twin.encoders()["student"]
        assert any(p.requires_grad for p in scored.parameters()) == (encoder == "student")
        assert any(p.requires_grad for p in twin.head().parameters()) == (encoder == "student")

    def test_encoders_are_the_emas_and_one_for_each_block(self):
        method = make("sdssl")
        encoders = method.encoders()
        assert encoders["student"] is method.teacher
        assert list(encoders) == ["student", "block_1", "block_2"]
        assert make("sdssl", framework="simclr").encoders()["student"].dim == 32
        assert make("sdssl", encoder="student").encoders()["student"] is not method.teacher

    @pytest.mark.parametrize("framework", ["mocov3", "byol", "simclr"])
    def test_the_baseline_is_scored_after_the_same_blocks(self, framework):
        baseline = methods.build(options("sdssl", framework=framework).baseline(), given_for(), seed=0)
        assert list(baseline.encoders()) == list(make("sdssl", framework=framework).encoders())


def test_masked_info_nce_leaves_out_the_own_output_of_the_same_view():
    generator = torch.Generator().manual_seed(0)
    middle, output = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (12, 6))
    for same_view in (False, True):
        total = 0.0
        for row in range(12):
            i = row % 6
            positive, removed = (i, (i + 3) % 6) if same_view else ((i + 3) % 6, i)
            scores = F.cosine_similarity(middle[row], output, dim=1) / 0.2
            kept = [j for j in range(6) if j != removed]
            total -= scores[positive] - torch.logsumexp(scores[kept], 0)
        assert masked_info_nce(middle, output, 0.2, same_view).item() == pytest.approx(total.item() / 12, rel=1e-12)


def test_gradcheck_of_the_contrastive_losses():
    generator = torch.Generator().manual_seed(0)
    middle, output = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (8, 4))
    middle.requires_grad_()
    assert torch.autograd.gradcheck(lambda m: masked_info_nce(m, output, 0.5), (middle,))
    assert torch.autograd.gradcheck(lambda m: info_nce(m, output, 0.5), (middle,))
