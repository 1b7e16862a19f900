"""What a trial costs beside its training: seconds per trivial trial of three ways to run it.

    python analysis/benchmarks/overhead.py [--quick]

1. this sweep: thin trials that join one pack, with journal, MLflow (SQLite), checkpoints and evaluation on;
2. one `TorchTrainer` per trial inside a Tune function, two at a time, reporting three times;
3. a bare Tune function that reports three times: the least that Tune itself costs.

A trivial trial trains SimCLR's smallest ResNet on 40 images of 8 px for three epochs. For the sweep the cost of
a trial is the slope between a small and a large sweep, so that what is paid once (starting Ray Train, MLflow's
tables, the final) does not count; the whole time of the large one is printed beside it. All in one run, on one
local Ray of two CPUs, everything several times. A slope that is lost in the noise of its repeats is an error.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "64",
}

import ray
from measure import MIN_REPEATS, as_json, difference, ratio, spread
from ray import train, tune

from raydistill import config
from raydistill.sweep.run import run_sweep
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings
from raydistill.trial_spec import TrialSpec

EPOCHS, LEARNERS = 3, 8
VALUES: dict[str, Any] = {
    "method": {"name": "simclr", "backbone": "resnet10_w4"},
    "data": {"limit": 40, "batch_size": 16, "image_size": 8},
    "train": {"epochs": EPOCHS},
    "eval": {"probe_epochs": 1},
}


def sweep_seconds(folder: Path, trials: int) -> float:
    """Seconds of a whole random sweep of this many trials, one seed."""
    folder.mkdir()
    space = folder / "space.yaml"
    space.write_text("method: random\nparameters: {train.lr: {min: 0.001, max: 0.01}}\n")
    settings = SweepSettings(
        name=f"overhead-{trials}",
        storage=folder,
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        base=config.load(VALUES),
        space=load_space(space, "simclr", {}),
        trials=trials,
        seeds=1,
        learners=LEARNERS,
        threads=1,
    )
    began = time.perf_counter()
    run_sweep(settings)
    return time.perf_counter() - began


def train_alone(loop_config: dict[str, Any]) -> None:
    """The same trial as the worker of a Ray Train run of its own."""
    from raydistill.training.single import train as train_one

    train_one(
        TrialSpec(config.load(VALUES)),
        None,
        evaluate=lambda *_: {},
        on_epoch=lambda report: train.report(report.metrics),
    )


def torchtrainer_trial(trial_config: dict[str, Any]) -> None:
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    TorchTrainer(
        train_alone,
        train_loop_config={},
        scaling_config=train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.5}),
        run_config=train.RunConfig(
            name=f"train-{tune.get_context().get_trial_id()}",
            storage_path=trial_config["storage"],
            callbacks=[TuneReportCallback()],
        ),
    ).fit()


def bare_trial(trial_config: dict[str, Any]) -> None:
    for epoch in range(EPOCHS):
        tune.report({"loss": float(epoch)})


def tune_seconds(function: Any, folder: Path, trials: int, *, concurrent: int, cpus: float) -> float:
    """Seconds per trial of a Tune function, one run of this many trials."""
    began = time.perf_counter()
    tuner = tune.Tuner(
        tune.with_resources(function, {"CPU": cpus}),
        param_space={"x": tune.uniform(0, 1), "storage": str(folder)},
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=concurrent),
        run_config=tune.RunConfig(name=function.__name__, storage_path=str(folder), verbose=0),
    )
    failed = [result.error for result in tuner.fit() if result.error]
    if failed:
        raise RuntimeError(f"{len(failed)} of {trials} trials failed: {failed[0]}")
    return (time.perf_counter() - began) / trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer trials")
    parser.add_argument("--repeats", type=int, default=MIN_REPEATS)
    given = parser.parse_args()
    quick, repeats = given.quick, range(given.repeats)
    small, large, trainers, bare = (4, 12, 2, 8) if quick else (8, 72, 4, 64)
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = [[sweep_seconds(folder / f"{n}-{r}", n) for n in (small, large)] for r in repeats]
        once, whole = zip(*pairs, strict=True)
        slope = difference(whole, once) / (large - small)
        function = [tune_seconds(bare_trial, folder / f"f{r}", bare, concurrent=LEARNERS, cpus=0.001) for r in repeats]
        trainer = [
            tune_seconds(torchtrainer_trial, folder / f"t{r}", trainers, concurrent=2, cpus=0.001) for r in repeats
        ]
    ray.shutdown()
    print(f"this sweep            {slope} s a trial ({large} trials with everything: {spread(whole)} s)")
    print(f"a bare Tune function  {spread(function)} s a trial ({bare} trials)")
    print(f"a TorchTrainer each   {spread(trainer)} s a trial ({trainers} trials)")
    result = {
        "sweep_s": slope,
        "torchtrainer_s": spread(trainer),
        "tune_function_s": spread(function),
        "beyond_tune_s": difference(slope, function),
        "torchtrainer_over_sweep": ratio(trainer, slope),
    }
    print(json.dumps(as_json(result)))


if __name__ == "__main__":
    main()
