"""Made-up sweeps of the papers' methods, and what is seen of a figure of them."""

from dataclasses import replace

from raydistill.records.leaderboard import LeaderboardEntry
from raydistill.report.papers import panels

from .sweeps import Trial, made_up

LISTED = {"distribution": "categorical"}
SPACES = {
    "dogo": {
        "method.lambda_kd": {"distribution": "log_uniform_values", "min": 1, "max": 500},
        "method.tau_kd": LISTED | {"values": [0.05, 0.1, 1.0]},
        "method.tau_c": LISTED | {"values": [0.1, 0.5, 1.0]},
    },
    "seed": {
        "method.queue_size": LISTED | {"values": [128, 512, 1024]},
        "method.tau_t": LISTED | {"values": [1e-4, 0.01, 0.1]},
        "method.tau_s": LISTED | {"values": [0.1, 0.2]},
    },
    "simreg": {
        "method.head_depth": LISTED | {"values": [1, 4]},
        "method.views": LISTED | {"values": ["same", "different"]},
        "method.student_recipe": LISTED | {"values": ["weak", "moco2"]},
    },
    "sdssl": {
        "method.alpha": LISTED | {"values": [0.2, 0.8]},
        "method.alpha_schedule": LISTED | {"values": ["cosine", "constant"]},
        "method.beta": LISTED | {"values": [0.0, 1.0]},
    },
    "sssd": {
        "method.clusters": LISTED | {"values": [10, 50]},
        "method.alpha": LISTED | {"values": [0.0, 0.3]},
        "method.lambda_features": LISTED | {"values": [0.0, 0.003]},
    },
}


def sweep_of(method, chosen, rows=(), **scores):
    """`chosen`: settings, score, and whether it was stopped early, of each trial; `scores`: of every epoch besides."""
    trials = []
    for i, (values, score, stopped) in enumerate(chosen):
        shares = (0.5,) if stopped else (0.5, 1.0)
        curve = [{"val_knn": score * share, "loss": 1.0, **scores} for share in shares]
        outcome = "stopped_early" if stopped else "finished"
        trials.append(Trial(f"t{i:04d}", dict(values), curve, outcome))
    return replace(made_up(trials, rows=rows, space=SPACES[method], epochs=2), name=f"{method}-1", method=method)


def varied(method, rows=()):
    """A sweep in which every setting takes its first and its last value."""
    space = SPACES[method]
    ends = [{path: spec.get("values", [1.0, 500.0])[end] for path, spec in space.items()} for end in (0, -1)]
    return sweep_of(method, [(ends[0], 0.5, False), (ends[1], 0.6, False), (ends[1], 0.4, True)], rows)


def final(method, kind):
    """Rows of a final of two seeds in which the winner was scored at two encoders before the last."""
    shallow = {f"{metric}_{kind}_{i}": 0.1 * i for metric in ("test_knn", "test_probe") for i in (1, 2)}
    scores = [
        {"val_knn": 0.7, "test_knn": 0.6 + s, "test_probe": 0.5 + s, "test_probe_ensemble": 0.8, **shallow}
        for s in (0.0, 0.1)
    ]
    alone = {"val_knn": 0.65, "test_knn": 0.55, "test_probe": 0.45}
    return [LeaderboardEntry(method, {}, 2, scores), LeaderboardEntry("simclr-same-settings", {}, 2, [alone, alone])]


def counts(axes):
    return [text.get_text() for text in axes.texts]


def means(axes):
    return [line for line in axes.get_lines() if line.get_marker() == "D"]


def marked(axes):
    """Where the paper's choice is."""
    return [line.get_xdata()[0] for line in axes.get_lines() if line.get_label() == panels.PAPER]


def key(figure):
    return {text.get_text() for text in figure.legends[0].get_texts()}


def points(axes, *, hollow):
    """How many trials are drawn filled, or hollow."""
    lines = [line for line in axes.get_lines() if line.get_marker() == "o"]
    return sum(len(line.get_xdata()) for line in lines if (line.get_markerfacecolor() == "none") == hollow)
