"""SDSSL's blocks under SEED: the frozen teacher's similarities to the queue teach the intermediate blocks, too.

L = L_last + alpha(t) mean_l L_l. L_last is SEED's loss of the last block, L_l that of intermediate block l.

From SEED (arXiv 2101.04731): the loss, the queue, the two-layer projectors as wide as the teacher's output. From
SDSSL (arXiv 2111.12958): the mean over intermediate blocks, the class token of a block behind the ViT's final norm,
a projector for each block, and the schedule of alpha. Where SDSSL's target is an EMA copy's last block, the target of
every block is the frozen teacher here. So there are no predictors and no L_pred. No paper has this method.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raydistill.losses.weights import weight_at
from raydistill.methods.base import Batch, MethodContext, StepInfo
from raydistill.methods.sdssl import distilled
from raydistill.methods.seed import SEED
from raydistill.models.heads import relu_head
from raydistill.models.vit import block_count, class_tokens
from raydistill.options.hybrids.seed_blocks import SEEDBlocksConfig


class SEEDBlocks(SEED):
    """SEED on a ViT, with a further projector for each distilled block; all blocks share the queue.

    Raises: ValueError as SEED, and for a backbone without a class token or with a single block.
    """

    def __init__(self, options: SEEDBlocksConfig, context: MethodContext) -> None:
        super().__init__(options.without_blocks(), context)
        self.blocks_options = options
        last = block_count(self.backbone.net) - 1
        self.blocks = [*distilled(options, last + 1), last]
        width = context.teacher_width(options.teacher)
        self.block_projectors = nn.ModuleList(
            relu_head(self.backbone.dim, options.hidden_dim, width) for _ in self.blocks[:-1]
        )

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        options = self.blocks_options
        alpha = weight_at(progress.step, progress.total, options.alpha, options.alpha_schedule, options.alpha_step)
        teacher = batch.teachers[0].entries(self.large, options.teacher)
        self._rows["queue"] = teacher
        tokens = class_tokens(self.backbone.net, batch.views[self.student_view], self.blocks)
        *middle, last = [
            self.against_queue(batch.gather(project(token)), teacher)
            for project, token in zip([*self.block_projectors, self.projector], tokens, strict=True)
        ]
        blocks = torch.stack(middle).mean()
        return {"loss": last + alpha * blocks, "seed": last, "blocks": blocks}
