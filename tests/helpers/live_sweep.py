"""A program that shows a sweep in the middle of its search, as its driver tells it."""

import sys
import time

from rich.console import Console

from raydistill.sweep.display.live_view import LiveView
from raydistill.sweep.display.progress import ProgressReporter

now = [0.0]
view = LiveView(Console(highlight=False, width=110), load=lambda: "CPU 97 %")
progress = ProgressReporter(
    trials=8,
    epochs=10,
    metric="val_knn",
    goal="maximize",
    later=7,
    later_searched=8,
    expected=4.6,
    clock=lambda: now[0],
)
progress.watch(view)
progress.note("sweep dogo-1: 8 trials of 10 epochs")
trials = {
    "t0000": ({"method.lambda_kd": 30.2852, "method.tau_kd": 0.1, "train.lr": 0.0022}, 0.93),
    "t0001": ({"method.lambda_kd": 183.41, "method.tau_kd": 0.5, "train.lr": 0.0007}, 0.95),
    "t0002": ({"method.lambda_kd": 3.1203, "method.tau_kd": 0.1, "train.lr": 0.0031}, 0.94),
    "t0003": ({"method.lambda_kd": 7.7, "method.tau_kd": 1.0, "train.lr": 0.0089}, 0.88),
}
for key, (settings, _) in trials.items():
    progress.started(key, 10, settings)
now[0] = 14
progress.tick()
for epoch in range(1, 6):
    for key, (_, score) in trials.items():
        if key != "t0003" or epoch < 3:
            progress.result(key, epoch, score + 0.01 * epoch - 0.004 * (epoch - 3) ** 2)
    if epoch == 2:
        now[0] = 24
        progress.ended("t0003", "stopped_early")
    now[0] = 14 + 5 * epoch
    progress.tick()
progress.started("t0004", 10, {"method.lambda_kd": 55.0, "method.tau_kd": 0.2, "train.lr": 0.0017})
now[0] = 41.5
progress.tick(dict.fromkeys(("t0000", "t0001", "t0002", "t0004"), 0.62))
time.sleep(0.6)
if sys.argv[1:] == ["closed"]:
    progress.close()
    progress.note("done")
