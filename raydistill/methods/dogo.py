"""DoGo (arXiv 2104.09866): peers of any size teach each other through their similarity matrices.

L_i = L_ssl,i + lambda_i L_kd,i, and L_kd,i = KL(sg P_j ‖ P_i), where P is the row softmax of the cosines
between the two views of a batch over tau_kd. Two peers as published; more take the mean over the others,
or one KL to the mean of the others' distributions.

The released code steps two optimisers after two backward passes. No gradient crosses peers and the
optimisers act on each parameter alone, so one backward pass of the sum is the same computation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raydistill.data.views.augment import View
from raydistill.losses.similarity import cross_view_logits, mean_distribution, row_kl
from raydistill.losses.weights import weight_at
from raydistill.methods._peer import Embedding, Peer
from raydistill.methods.base import Batch, Method, MethodContext, StepInfo
from raydistill.methods.baselines.simclr import SimCLR
from raydistill.methods.baselines.simsiam import SimSiam
from raydistill.options.baselines.simclr import SimCLRConfig
from raydistill.options.dogo import DoGoConfig

Pair = tuple[Embedding, Embedding]


class DoGo(Method):
    """Two or more SimCLR or SimSiam peers, each drawing its own two views of the same images."""

    def __init__(self, options: DoGoConfig, context: MethodContext) -> None:
        super().__init__()
        self.options = options
        self.peers = nn.ModuleList()
        for peer in options.peers():
            build = SimCLR if isinstance(peer, SimCLRConfig) else SimSiam
            self.peers.append(build(peer, context))  # type: ignore[arg-type]
        self.peer_views = [self._views_of(index) for index in range(len(self.peers))]
        self.views = tuple(dict.fromkeys(view for views in self.peer_views for view in views))

    def _views_of(self, index: int) -> tuple[View, ...]:
        first = 0 if self.options.share_views else 2 * index
        return tuple(View(view.recipe, first + view.draw) for view in self._peer(index).views)

    def _peer(self, index: int) -> Peer:
        peer = self.peers[index]
        assert isinstance(peer, Peer)
        return peer

    def loss(self, batch: Batch, progress: StepInfo) -> dict[str, Tensor]:
        pairs = [self._peer(i).embed_views(batch, views) for i, views in enumerate(self.peer_views)]
        terms: dict[str, Tensor] = {}
        for i, pair in enumerate(pairs):
            peer = self._peer(i)
            terms[f"ssl_{i + 1}"] = peer.objective(*pair)
            terms[f"kd_{i + 1}"] = self._distillation(i, pairs)
        options = self.options
        largest = [options.lambda_simsiam if self._peer(i).predicts else options.lambda_kd for i in range(len(pairs))]
        weights = [weight_at(progress.step, progress.total, weight, options.lambda_schedule) for weight in largest]
        total = sum(terms[f"ssl_{i + 1}"] + weight * terms[f"kd_{i + 1}"] for i, weight in enumerate(weights))
        return {"loss": torch.as_tensor(total), **terms}

    def _distillation(self, learner: int, pairs: list[Pair]) -> Tensor:
        tau, reduction = self.options.tau_kd, self.options.kd_reduction
        a, b = pairs[learner]
        logits = cross_view_logits(a.p, b.p, tau)
        targets = [self._shown(other, learner, pairs[other]) for other in range(len(pairs)) if other != learner]
        directions = [(logits, targets)]
        if self.options.kd_symmetric:
            directions.append((logits.T, [target.T for target in targets]))
        losses = []
        for own, shown in directions:
            if self.options.kd_target == "ensemble":
                losses.append(row_kl(mean_distribution(shown), own, reduction))
            else:
                losses += [row_kl(mean_distribution([target]), own, reduction) for target in shown]
        return torch.stack(losses).mean()

    def _shown(self, teacher: int, learner: int, pair: Pair) -> Tensor:
        """The teacher's similarities: projections only from a SimSiam peer to another, in the released code."""
        a, b = (Embedding(e.z.detach(), e.p.detach()) for e in pair)
        both_predict = self._peer(teacher).predicts and self._peer(learner).predicts
        if both_predict and self.options.simsiam_target == "projection":
            return cross_view_logits(a.z, b.z, self.options.tau_kd)
        return cross_view_logits(a.p, b.p, self.options.tau_kd)

    def encoders(self) -> dict[str, nn.Module]:
        names = ["student", *(f"peer_{i}" for i in range(2, len(self.peers) + 1))]
        return {name: self._peer(i).backbone for i, name in enumerate(names)}
