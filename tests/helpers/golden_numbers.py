"""The released code's numbers, as float64 tensors that take gradients."""

import json
from pathlib import Path

import torch

GOLDEN = Path(__file__).parents[1] / "golden"


def golden(name):
    """Inputs, expected values and settings of one case."""
    case = json.loads((GOLDEN / f"{name}.json").read_text())
    inputs = {k: torch.tensor(v, dtype=torch.float64, requires_grad=True) for k, v in case["inputs"].items()}
    return inputs, case["expected"], case["settings"]
