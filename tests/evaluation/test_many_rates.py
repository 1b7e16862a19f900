"""A probe with several learning rates is what one probe for each rate is, of which validation chooses."""

import pytest
import torch

from raydistill import config
from raydistill.evaluation import probe
from raydistill.evaluation.probe import PROBE_PRESETS, linear_probe

RATES = (0.003, 0.3, 30.0)


def splits(seed=0, count=400, dim=12, classes=5):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dim, generator=generator)
    labels = torch.randint(classes, (count,), generator=generator)
    rows = centres[labels] + 1.2 * torch.randn(count, dim, generator=generator)
    (a, b, c), (x, y, z) = rows.split([200, 100, 100]), labels.split([200, 100, 100])
    return (a, x, b, y), {"test": c, "test_labels": z, "classes": classes}


@pytest.mark.parametrize("preset", PROBE_PRESETS)
def test_each_rate_moves_as_alone(preset):
    """Weights after some epochs, up to rounding, by torch's own optimizer for each rate."""
    given, options = splits()
    settings = PROBE_PRESETS[preset]
    alone = [probe.replace(settings, lr=rate) for rate in RATES]
    train, val = given[:2], given[2:]
    expected = [probe._fit(train, val, options["classes"], each, 4, 0) for each in alone]
    for rate, (score, _, weights) in zip(RATES, expected, strict=True):
        # Beside itself, so that it is this rate's weights that are kept.
        value, _, chosen, kept = probe._fit_many(train, val, options["classes"], settings, 4, 0, (rate, rate))
        assert (value, chosen) == (pytest.approx(score), rate)
        for ours, theirs in zip(kept, weights, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max())


@pytest.mark.parametrize("preset", PROBE_PRESETS)
def test_validation_chooses_the_rate(preset):
    given, options = splits(1)
    options |= {"preset": preset, "epochs": 6}
    alone = {rate: linear_probe(*given, **options, lr=rate) for rate in RATES}
    together = linear_probe(*given, **options, lr=RATES)
    best = max(alone.values(), key=lambda result: result.val)
    assert together.val == pytest.approx(best.val, abs=0.021)
    chosen = alone[min(RATES, key=lambda rate: abs(rate - together.lr))]
    assert chosen.val == pytest.approx(best.val, abs=0.021)
    assert together.test == pytest.approx(chosen.test, abs=0.03)


def test_one_rate_in_a_list_is_that_rate():
    given, options = splits(2)
    assert linear_probe(*given, **options, lr=[0.3], epochs=3) == linear_probe(*given, **options, lr=0.3, epochs=3)


def test_the_preset_has_its_own_rate_and_says_it():
    given, options = splits(3)
    assert linear_probe(*given, **options, preset="seed", epochs=1).lr == 30.0


@pytest.mark.parametrize("lr", [[], [0.1, -1.0], 0.0])
def test_rates_that_are_none(lr):
    given, options = splits(4)
    with pytest.raises(ValueError, match="expected numbers above 0"):
        linear_probe(*given, **options, lr=lr)


def test_the_setting_takes_one_or_several():
    for typed, value in (("0.1", 0.1), ("[0.1, 1, 10]", (0.1, 1.0, 10.0)), ("none", None)):
        path, given = config.parse_setting(f"eval.probe_lr={typed}")
        assert config.load(config.assign({"method": "simclr"}, {path: given})).eval.probe_lr == value
    with pytest.raises(config.ConfigError, match="probe_lr"):
        config.load({"method": "simclr", "eval": {"probe_lr": [0.1, -1]}})
