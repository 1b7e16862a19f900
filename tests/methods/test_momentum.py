"""Momentum that follows the length of the run: what is left of the initial weights, and who is warned."""

import math

import pytest
import torch
from helpers.rows import batch_for, make, options
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill import config
from raydistill.config import ConfigError
from raydistill.methods import StepInfo
from raydistill.models.ema import follow
from raydistill.options.momentum import MAX_INITIAL_SHARE, SAFE_WINDOW, Momentum
from raydistill.presets import load_preset
from raydistill.sweep.preflight.validation import say_what_stays_random

METHODS = {
    "byol": {},
    "mocov3": {},
    "mocov2": {},
    "compress_2q": {},
    "seed": {"loss": "seed_moco"},
    "sdssl": {"framework": "byol"},
}
WINDOWED = [(name, preset) for name in METHODS for preset in ("default", "small")]
RISING = ("byol", "mocov3", "sdssl")
FOLLOWERS = {
    "byol": ("target_backbone", "backbone"),
    "mocov3": ("key_backbone", "backbone"),
    "mocov2": ("key_backbone", "backbone"),
    "compress_2q": ("momentum_backbone", "backbone"),
    "seed": ("key_backbone", "backbone"),
    "sdssl": ("teacher", "backbone"),
}


@pytest.mark.fault(19)
class TestWindow:
    @settings(max_examples=200, deadline=None)
    @given(st.floats(0, 1), st.integers(1, 20_000), st.booleans())
    def test_at_most_a_hundredth_of_the_initial_weights_is_left(self, largest, steps, rises):
        momentum = Momentum("momentum", largest, SAFE_WINDOW, rises)
        left = 1.0
        for step in range(steps):
            left *= momentum.at(step, steps)
        assert left <= MAX_INITIAL_SHARE == 0.01
        assert momentum.initial_share(steps) == pytest.approx(left, abs=1e-300)

    @settings(max_examples=200, deadline=None)
    @given(st.floats(0, 1), st.floats(0.001, 1), st.integers(1, 10**6))
    def test_the_base_is_the_bound_and_long_runs_keep_it(self, largest, window, steps):
        first = Momentum("momentum", largest, window).first(steps)
        assert 0 <= first <= largest
        if steps * window * (1 - largest) >= 1 + 1e-9:
            assert first == largest
        elif steps * window >= 1 and first < largest:
            assert 1 / (1 - first) == pytest.approx(window * steps, rel=1e-6)

    @settings(max_examples=200, deadline=None)
    @given(st.floats(0, 1), st.one_of(st.none(), st.floats(0.01, 1)), st.integers(1, 1000), st.floats(0, 1))
    def test_it_rises_from_its_start_to_one(self, largest, window, total, share):
        momentum, step = Momentum("momentum", largest, window, rises=True), int(share * total)
        first = momentum.first(total)
        assert momentum.at(0, total) == pytest.approx(first)
        assert momentum.at(total, total) == pytest.approx(1)
        assert first - 1e-12 <= momentum.at(step, total) <= 1
        assert momentum.at(step, total) <= momentum.at(min(total, step + 1), total) + 1e-12

    def test_without_a_window_it_is_the_published_schedule(self):
        rising = Momentum("momentum", 0.996, None, rises=True)
        assert [rising.at(step, 50) for step in range(50)] == [
            1 - (1 - 0.996) * 0.5 * (1 + math.cos(math.pi * step / 50)) for step in range(50)
        ]
        assert {Momentum("momentum", 0.999).at(step, 50) for step in range(50)} == {0.999}

    @pytest.mark.parametrize("window", [0, -0.1, 1.5, True])
    def test_a_share_of_the_run_is_expected(self, window):
        with pytest.raises(ConfigError, match=r"method\.momentum_window"):
            config.load({"method": {"name": "byol", "momentum_window": window}})


@pytest.mark.parametrize("name", METHODS)
class TestMethods:
    @pytest.mark.parametrize("window", [None, 0.2])
    def test_the_momentum_network_moves_by_it(self, name, window):
        changes = {**METHODS[name], "momentum_window": window}
        method, (target, source) = make(name, **changes), FOLLOWERS[name]
        with torch.no_grad():
            for parameter in getattr(method, source).parameters():
                parameter.add_(1)
        momentum = options(name, **changes).ema()
        expected = make(name, **changes)
        expected.load_state_dict(method.state_dict())
        follow(getattr(expected, target), getattr(expected, source), momentum.at(3, 40))
        method.after_step(StepInfo(3, 40))
        pairs = zip(getattr(method, target).parameters(), getattr(expected, target).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        assert momentum.first(40) == (0.875 if window else momentum.largest)
        assert momentum.rises == (name in RISING)

    def test_a_longer_run_differs_from_its_start_on(self, name):
        assert options(name, **METHODS[name], momentum_window=0.1).follows_length()
        assert options(name, **METHODS[name]).follows_length() == (name in RISING)


@pytest.mark.parametrize(("name", "preset"), WINDOWED)
@pytest.mark.parametrize("steps", [10, 80, 468, 20_000])
def test_the_presets_leave_no_more_than_a_hundredth_and_warn_of_nothing(name, preset, steps):
    loaded = config.load(config.assign(load_preset(name, preset), _path(METHODS[name])))
    assert loaded.method.momentum_window == SAFE_WINDOW
    assert loaded.method.ema().initial_share(steps) <= MAX_INITIAL_SHARE
    lines = []
    say_what_stays_random(loaded, steps, lines.append)
    assert lines == []


@pytest.mark.parametrize("name", METHODS)
def test_a_short_run_without_a_window_is_warned_about_in_one_line(name):
    loaded = config.load(config.assign({"method": {"name": name}}, _path(METHODS[name])))
    ema, lines = loaded.method.ema(), []
    say_what_stays_random(loaded, 80, lines.append)
    (line,) = lines
    assert "\n" not in line
    assert line.startswith(f"method.{ema.setting} = {ema.largest:g}: after 80 steps ")
    assert f"{ema.initial_share(80):.2g} of its initial random weights" in line
    assert line.endswith("--set method.momentum_window=0.1 fits it to the run")


@pytest.mark.parametrize(("name", "changes"), [("simclr", {}), ("seed", {}), ("sdssl", {"framework": "simclr"})])
def test_a_method_without_a_momentum_network_is_never_warned_about(name, changes):
    loaded = config.load({"method": {"name": name, **changes}})
    say_what_stays_random(loaded, 1, lambda line: pytest.fail(line))


@pytest.mark.parametrize("framework", ["byol", "mocov3"])
def test_the_baseline_of_sdssl_has_its_window(framework):
    assert options("sdssl", framework=framework, momentum_window=0.07).baseline().momentum_window == 0.07


def test_a_run_does_not_depend_on_what_was_trained_before():
    """The momentum is a function of the step and the total alone, so a resumed learner goes on with the same."""
    method, other = (make("byol", momentum_window=0.1) for _ in range(2))
    for step in range(3):
        method.loss(batch_for(method), StepInfo(step, 30))
        method.after_step(StepInfo(step, 30))
    other.load_state_dict(method.state_dict())
    for one in (method, other):
        one.after_step(StepInfo(3, 30))
    assert all(torch.equal(a, b) for a, b in zip(method.parameters(), other.parameters(), strict=True))


def _path(changes):
    return {f"method.{name}": value for name, value in changes.items()}
