"""Many trivial trials: what a sweep adds to them, and what it leaves behind."""

import json
import threading
import time
from collections import Counter

import psutil
import pytest

from raydistill import config
from raydistill.records.journal import read_records
from raydistill.sweep.search.space_parser import load_space
from raydistill.sweep.settings import SweepSettings
from raydistill.sweep.workers.local_launcher import LocalLauncher

RAYS_OWN = {"_AutoscalingCoordinatorActor"}
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]


class Watch:
    """The driver's resident memory, sampled while something runs."""

    def __init__(self):
        self.process, self.samples, self.running = psutil.Process(), [], True
        self.thread = threading.Thread(target=self.look, daemon=True)

    def look(self):
        while self.running:
            self.samples.append((time.time(), self.process.memory_info().rss))
            time.sleep(0.5)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.running = False
        self.thread.join()

    def at(self, moment):
        """Median of the ten seconds before a moment."""
        near = sorted(rss for when, rss in self.samples if moment - 10 <= when <= moment)
        return near[len(near) // 2]


def actors():
    """The actors that live, by id, with their classes."""
    import ray

    everyone = ray._private.state.actors()
    return {key: a["ActorClassName"] for key, a in everyone.items() if a["State"] != "DEAD"}


def left_of(before):
    """Classes of the actors that came since, once those that were told to end have had time to."""
    deadline = time.time() + 60
    while True:
        found = Counter(name for key, name in actors().items() if key not in before and name not in RAYS_OWN)
        if time.time() > deadline or not found:
            return found
        time.sleep(0.5)


def files():
    return psutil.Process().num_fds()


@pytest.mark.fault(24)
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("trials", [24, *(pytest.param(count, marks=pytest.mark.soak) for count in (200, 1000))])
def test_many_trials_cost_little_more_than_their_training_and_leave_nothing_behind(tmp_path, trials):
    from raydistill.sweep.run import run_sweep

    def settings(name, count):
        space = tmp_path / "space.yaml"
        space.write_text("method: random\nparameters: {train.lr: {min: 0.001, max: 0.01}}\n")
        base = {
            "method": {"name": "simclr", "backbone": "resnet10_w4"},
            "data": {"limit": 800, "batch_size": 32, "image_size": 8},
            "train": {"epochs": 2},
            "eval": {"probe_epochs": 1},
        }
        return SweepSettings(
            name=name,
            storage=tmp_path / "runs",
            tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
            base=config.load(base),
            space=load_space(space, "simclr", {}),
            trials=count,
            seeds=1,
            threads=1,
            learners=8,
        )

    run_sweep(settings("warm", 2), launcher=LocalLauncher)
    opened, before = files(), actors()
    plan = settings("many", trials)
    with Watch() as watch:
        run_sweep(plan, launcher=LocalLauncher)
    assert not left_of(before)
    assert files() <= opened
    records = read_records(plan.directory / "journal.jsonl")
    assert len(records) == trials
    assert {record.outcome for record in records.values()} == {"finished"}
    events = [json.loads(line) for line in (plan.directory / "journal.jsonl").read_text().splitlines()]
    ends = [event["time"] for event in events if event["event"] == "end"]
    early, late = ends[len(ends) // 10], ends[-1]
    # Between a tenth of the trials and the last: the start of Ray's workers is no part of it.
    counted = [e for e in events if e["event"] == "result" and early < e["time"] <= late]
    ideal = sum(event["metrics"]["epoch_seconds"] for event in counted)
    took = late - early
    print(
        f"{trials} trials: {took:.0f} s for {ideal:.0f} s of training, {took / ideal - 1:.0%} on top; "
        f"memory {watch.at(early) / 2**20:.0f} to {watch.at(late) / 2**20:.0f} MiB"
    )
    assert took <= 1.3 * ideal
    assert watch.at(late) <= 1.1 * watch.at(early)
