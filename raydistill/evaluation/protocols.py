"""The papers' k-NN protocols, by the names that `eval.knn` takes. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from raydistill.config import EvalConfig

Ties = Literal["nearest", "random"]


@dataclass(frozen=True)
class KnnProtocol:
    """Protocol of k-NN: how neighbours vote, on which features, and what is reported.

    Args:
        ks: numbers of neighbours; the mean of their accuracies is the score, `val_knn` and `test_knn`.
        also: further ones, each reported beside it by its number, as `test_knn_1`.
        temperature: of votes weighted by exp(cos / temperature); None: a majority vote, in which each counts 1.
        ties: of a majority vote: among tied classes the one whose member is nearest wins, or one at random.
        on_head: whether the student's SSL head gives the features, where there is one; else its encoder does.
    """

    ks: tuple[int, ...]
    also: tuple[int, ...] = ()
    temperature: float | None = None
    ties: Ties = "nearest"
    on_head: bool = False

    def describe(self) -> str:
        """The protocol in words, for the legend of a table."""
        numbers = ", ".join(map(str, self.ks))
        text = f"averaged over k = {numbers}" if len(self.ks) > 1 else f"with k = {numbers}"
        if self.temperature is not None:
            text += f", votes weighted by exp(cos / {self.temperature:g})"
        if self.ties == "random":
            text += ", ties broken at random"
        if self.on_head:
            text += ", on the SSL head's output where there is a head"
        return text


KNN_PROTOCOLS = {
    "dogo": KnnProtocol((1, 2, 4, 8)),
    "dino": KnnProtocol((20,), also=(10, 100, 200), temperature=0.07),
    "simreg": KnnProtocol((20,), also=(1,), ties="random"),
    "seed": KnnProtocol((10,), on_head=True),
}


# Nothing of a run's own scores is left in a protocol.
_OWN = {f"eval.{name}": getattr(EvalConfig(), name) for name in ("ks", "probe_epochs", "probe_lr")}
# k-NN and linear probe of each paper's tables; the preset `default` has those of `raydistill`.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "raydistill": {"eval.knn": "dogo", "eval.probe": "logistic", **_OWN},
    "dogo": {"eval.knn": "dogo", "eval.probe": "dogo", **_OWN},
    "sdssl": {"eval.knn": "dino", "eval.probe": "mocov3", **_OWN},
    "simreg": {"eval.knn": "simreg", "eval.probe": "simreg", **_OWN},
    "seed": {"eval.knn": "seed", "eval.probe": "seed", **_OWN},
}


def knn_protocol(settings: EvalConfig) -> KnnProtocol:
    """The protocol that a run is scored by; that of DoGo takes its k from `eval.ks`."""
    protocol = KNN_PROTOCOLS[settings.knn]
    return replace(protocol, ks=settings.ks) if settings.knn == "dogo" else protocol
