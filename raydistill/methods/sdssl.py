"""SDSSL (arXiv 2111.12958): every block of a ViT learns to predict the teacher's final output of the other view.

L = L_ssl + alpha(t) L_isd + beta L_pred. L_ssl is the framework's own loss on the last block; L_isd the mean of
the same loss over the intermediate blocks; L_pred the sum over all blocks of the loss of predictions from
detached projections, which trains the predictors alone. Views a and b, targets sg z of the EMA teacher.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raydistill.data.views.augment import View
from raydistill.losses.contrastive import info_nce, masked_info_nce, nt_xent
from raydistill.losses.regression import normalized_regression
from raydistill.losses.weights import weight_at
from raydistill.methods.base import Batch, Method, MethodContext, StepInfo
from raydistill.models.backbones import Backbone, with_blocks
from raydistill.models.ema import follow, frozen_copy
from raydistill.models.heads import mlp_head
from raydistill.models.vit import block_count, class_tokens
from raydistill.options.hybrids.seed_blocks import SEEDBlocksConfig
from raydistill.options.sdssl import SDSSLConfig


class SDSSL(Method):
    """A ViT with a projector and a predictor for each distilled block and for the last.

    Raises: ValueError for a backbone without a class token, or a choice of blocks that is empty.
    """

    def __init__(self, options: SDSSLConfig, context: MethodContext) -> None:
        super().__init__()
        self.options = options
        self.contrastive = options.framework != "byol"
        self.backbone = Backbone(options.backbone, stem=options.stem, image_size=context.image_size)
        self.blocks = [*distilled(options, block_count(self.backbone.net)), block_count(self.backbone.net) - 1]
        widths = [options.intermediate_dim] * (len(self.blocks) - 1) + [options.hidden_dim]
        self.projectors = nn.ModuleList(self._head(self.backbone.dim, width, 3) for width in widths)
        if options.framework != "simclr":
            out = options.projection_dim
            self.predictors = nn.ModuleList(self._head(out, options.hidden_dim, 2) for _ in self.blocks)
            self.teacher, self.teacher_projector = frozen_copy(self.backbone), frozen_copy(self.projectors[-1])
        self.views = (View(options.recipes[0], 0), View(options.recipes[1], 1))

    def _head(self, dim: int, hidden: int, layers: int) -> nn.Sequential:
        return mlp_head(dim, hidden, self.options.projection_dim, layers, output_batchnorm=self.contrastive)

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        options = self.options
        alpha = weight_at(progress.step, progress.total, options.alpha, options.alpha_schedule, options.alpha_step)
        a, b = (self._projections(batch.views[view]) for view in self.views)
        if options.framework == "simclr":
            return self.combine_simclr([batch.gather(h) for h in a], [batch.gather(h) for h in b], alpha)
        with torch.no_grad():
            z_a, z_b = (batch.gather(self.teacher_projector(self.teacher(batch.views[v]))) for v in self.views)
        targets = (z_b, z_a) if options.target_view == "other" else (z_a, z_b)
        predictions = [[batch.gather(q) for q in self._predictions(view)] for view in (a, b)]
        detached = [[batch.gather(q) for q in self._predictions([h.detach() for h in view])] for view in (a, b)]
        ssl = self.base(predictions[0][-1], z_b) + self.base(predictions[1][-1], z_a)
        isd = self._over_blocks([q[:-1] for q in predictions], targets)
        pred = len(self.blocks) * self._over_blocks(detached, targets)
        return {"loss": ssl + alpha * isd + options.beta * pred, "ssl": ssl, "isd": isd, "pred": pred}

    def combine_simclr(self, a: list[Tensor], b: list[Tensor], alpha: float) -> dict[str, Tensor]:
        """Return the loss of the blocks' projections.

        Args:
            a, b: (N, D) of each block and view; the last block's is the output.
            alpha: weight of the distillation.
        """
        ssl = nt_xent(a[-1], b[-1], self.options.tau)
        middle = torch.cat([torch.cat(pair) for pair in zip(a[:-1], b[:-1], strict=True)])
        same = self.options.target_view == "same"
        isd = masked_info_nce(middle, torch.cat([a[-1], b[-1]]), self.options.tau, same)
        return {"loss": ssl + alpha * isd, "ssl": ssl, "isd": isd}

    def base(self, queries: Tensor, target: Tensor) -> Tensor:
        """The framework's loss of predictions (R, D), blocks of N rows, against targets (N, D)."""
        if self.contrastive:
            return info_nce(queries, target, self.options.tau)
        return normalized_regression(queries, target.repeat(len(queries) // len(target), 1))

    def _over_blocks(self, predictions: list[list[Tensor]], targets: tuple[Tensor, Tensor]) -> Tensor:
        """Mean over blocks, summed over the two views."""
        pairs = zip(predictions, targets, strict=True)
        return torch.stack([self.base(torch.cat(queries), target) for queries, target in pairs]).sum()

    def _projections(self, images: Tensor) -> list[Tensor]:
        tokens = class_tokens(self.backbone.net, images, self.blocks)
        return [project(token) for project, token in zip(self.projectors, tokens, strict=True)]

    def _predictions(self, projections: list[Tensor]) -> list[Tensor]:
        return [predict(h) for predict, h in zip(self.predictors, projections, strict=True)]

    def after_step(self, progress: StepInfo) -> None:
        if (ema := self.options.ema()) is not None:
            momentum = ema.at(progress.step, progress.total)
            follow(self.teacher, self.backbone, momentum)
            follow(self.teacher_projector, self.projectors[-1], momentum)

    def encoders(self) -> dict[str, nn.Module]:
        has_teacher = self.options.framework != "simclr" and self.options.encoder == "ema"
        chosen = self.teacher if has_teacher else self.backbone
        return with_blocks(chosen)


def distilled(options: SDSSLConfig | SEEDBlocksConfig, blocks: int) -> list[int]:
    """The intermediate blocks that learn from the last one, counted from 0. Raises ValueError if there are none."""
    middle = list(range(blocks - 1))
    chosen = {
        "all": middle,
        "last": middle[-options.layer_count :],
        "first": middle[: options.layer_count],
        "every_second": middle[::-1][::2][::-1],
    }[options.layers]
    if not chosen:
        raise ValueError(f"backbone {options.backbone!r} has {blocks} block; {options.name} needs at least two")
    return chosen
