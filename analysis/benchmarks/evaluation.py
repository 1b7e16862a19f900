"""k-NN beside lightly's, and a probe with many learning rates beside one probe for each rate.

    python analysis/benchmarks/evaluation.py [--quick] [--rows 20000] [--width 512]

Features are Gaussian clusters, one for each class, so that neighbours and probes have something to find. Arms take
turns; the first turn is dropped. Before the clock starts, predictions of both k-NNs and accuracies of both kinds of
probe are compared. Last line: their ratios, above 1 where this project is faster.
"""

from __future__ import annotations

import argparse
import json

import torch
from lightly.utils.benchmarking import knn_predict
from measure import MIN_REPEATS, as_json, in_turn, ratio, spread
from torch import Tensor, nn

from raydistill.evaluation.knn import knn_predictions
from raydistill.evaluation.probe import linear_probe

CLASSES, K, TEMPERATURE, LIGHTLYS_BATCH = 10, 20, 0.1, 256
# DINOv2's thirteen, for a batch of 256 (facebookresearch/dinov2, eval/linear.py).
RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)


def features(rows: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows (N, D) of unit length, and their classes (N,)."""
    drawn = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, width, generator=drawn)
    labels = torch.randint(CLASSES, (rows,), generator=drawn)
    noise = torch.randn(rows, width, generator=drawn)
    return nn.functional.normalize(centres[labels] + 6 * noise, dim=1), labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="of the bank; a fifth as many queries")
    parser.add_argument("--width", type=int, default=512, help="of the features")
    parser.add_argument("--epochs", type=int, default=3, help="of the probes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="few rows: a check that it runs, no measurement")
    given = parser.parse_args()
    rows, width, repeats = (500, 16, MIN_REPEATS) if given.quick else (given.rows, given.width, given.repeats)
    all_rows, all_labels = features(rows + rows // 5, width)
    (bank, asked), (labels, theirs) = (part.split([rows, rows // 5]) for part in (all_rows, all_labels))
    turned = bank.T.contiguous()

    def ours() -> Tensor:
        return knn_predictions(bank, labels, asked, ks=[K], temperature=TEMPERATURE)[K]

    def lightlys() -> Tensor:
        parts = asked.split(LIGHTLYS_BATCH)
        return torch.cat([knn_predict(part, turned, labels, CLASSES, K, TEMPERATURE)[:, 0] for part in parts])

    agree = (ours() == lightlys()).double().mean().item()
    if agree < 0.999:
        raise SystemExit(f"the two k-NNs agree in {agree:.2%} of the queries only")
    near = in_turn({"here": ours, "lightly": lightlys}, repeats)

    def probe(rates: float | tuple[float, ...]) -> float:
        options = {"classes": CLASSES, "preset": "simreg", "epochs": given.epochs}
        return linear_probe(bank, labels, asked, theirs, lr=rates, **options).val

    def one_by_one() -> float:
        return max(probe(rate) for rate in RATES)

    if abs(probe(RATES) - one_by_one()) > 0.005:
        raise SystemExit("probes with all rates at once do not find what single ones find")
    probes = in_turn({"at once": lambda: probe(RATES), "one by one": one_by_one}, repeats)
    print(f"{rows} rows of {width} numbers, {torch.get_num_threads()} threads; predictions agree in {agree:.2%}")
    for name, values in {**near, **probes}.items():
        print(f"{name:11} {spread(values)} s")
    result = {
        "knn_vs_lightly": ratio(near["lightly"], near["here"]),
        "probe_multi_vs_single": ratio(probes["one by one"], probes["at once"]),
    }
    print(json.dumps(as_json(result, 2)))


if __name__ == "__main__":
    main()
