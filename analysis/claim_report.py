"""The report of claims.py: every arm with its references, and a verdict on every claim, from the seeds' scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from claim_arms import ARMS, CLAIMS, GROUPS, Claim, Scale, arms_of
from scipy.special import stdtrit

from raydistill.records.intervals import CONFIDENCE, Difference, difference, estimate

POWER = 0.8
COLUMNS = {"test_knn": "test k-NN", "test_probe": "test probe", "val_mse": "error"}
CLEAR = ("yes", "no")
REFERENCES = ("pixels", "untrained", "teacher")
Scores = dict[str, dict[int, dict[str, float]]]
"""Scores of an arm, or of GROUP/REFERENCE, by seed."""


@dataclass(frozen=True)
class Verdict:
    """What the seeds say of a claim by one score.

    `found` is the paired difference, None before there is a pair. `visible` is the smallest difference that as many
    seeds with this spread show in 80 % of all cases; None of one seed.
    """

    found: Difference | None
    visible: float | None
    lower_is_better: bool = False

    @property
    def word(self) -> str:
        """`yes` and `no` where the interval leaves out zero, else `undecided`; `pending` without two seeds."""
        if self.found is None or self.found.low is None:
            return "pending"
        if not self.found.clear:
            return "undecided"
        return "yes" if (self.found.mean > 0) != self.lower_is_better else "no"


def judge(claim: Claim, metrics: tuple[str, str], scores: Scores) -> Verdict:
    """Compare the arms of a claim, seed by seed.

    Args:
        claim: which one.
        metrics: the score of its first arm and that of its second.
        scores: of all arms.
    """
    ours, theirs = (
        {seed: found[metric] for seed, found in scores.get(arm, {}).items() if metric in found}
        for arm, metric in zip(claim.arms, metrics, strict=True)
    )
    lower = metrics[0].endswith("_mse")
    pairs = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    if not pairs:
        return Verdict(None, None, lower)
    std = estimate(pairs).std
    return Verdict(difference(ours, theirs), None if std is None else visible(std, len(pairs)), lower)


def visible(std: float, count: int) -> float:
    """The true difference that `count` pairs show, by Student's interval, with a probability of about 80 %.

    (t(0.975) + t(0.8)) std / sqrt(count), t with count - 1 degrees of freedom.
    """
    t = sum(float(stdtrit(count - 1, share)) for share in ((1 + CONFIDENCE) / 2, POWER))
    return t * std / math.sqrt(count)


def undecided_groups(scores: Scores) -> list[str]:
    """Groups with a claim that the seeds so far leave undecided by the paper's own score."""
    found = {
        ARMS[arm].group
        for claim in CLAIMS
        for metrics in claim.metrics
        if metrics[0] == claim.headline and judge(claim, metrics, scores).word == "undecided"
        for arm in claim.arms
    }
    return [name for name in GROUPS if name in found]


def as_json(scores: Scores, scale: Scale, seconds: float) -> dict[str, Any]:
    """Everything that the report says, for programs.

    Args:
        scores: of all arms.
        scale: sizes.
        seconds: that the sweeps took.
    """
    verdicts = [
        {
            "claim": claim.text,
            "source": claim.source,
            "better": claim.better,
            "worse": claim.worse,
            "metric": metrics[0],
            "headline": metrics[0] == claim.headline,
            "verdict": verdict.word,
            "difference": None if verdict.found is None else asdict(verdict.found),
            "visible": verdict.visible,
        }
        for claim in CLAIMS
        for metrics in claim.metrics
        for verdict in [judge(claim, metrics, scores)]
    ]
    return {"scale": asdict(scale), "seconds": round(seconds), "scores": scores, "claims": verdicts}


def report(scores: Scores, scale: Scale, seconds: float, command: str) -> str:
    """The tables, as Markdown.

    Args:
        scores: of all arms.
        scale: sizes.
        seconds: that the sweeps took.
        command: what repeats them.
    """
    pairs = [(claim, metrics, judge(claim, metrics, scores)) for claim in CLAIMS for metrics in claim.metrics]
    lines = [
        "# Do the papers' claims hold here?",
        "",
        f"`{command}`: {seconds / 3600:.1f} hours of the sweeps that are done.",
        f"Students are {scale.student} ({scale.vit} of SDSSL), teachers and larger peers {scale.teacher}.",
        f"A student has {scale.epochs} epochs of {scale.images} images in batches of {scale.batch_size}, the teacher "
        f"{scale.teacher_epochs} epochs by MoCo v2.",
        "Each group of arms is one sweep for each seed, with the preset `cpu`. The arms of a claim have the same",
        "student, images, batches, steps, optimiser and, unless the claim is about it, augmentation. All seeds share",
        "the teachers, so the spread leaves theirs out.",
        "",
        "## Claims",
        "",
        *table(
            ["claim", "of", "score", "seeds", "difference", "95 % interval", "verdict", "visible"],
            [_claim_row(*pair) for pair in pairs],
        ),
        "",
        "Differences are paired by seed, in points of accuracy on the test split. Those of the error of the predicted",
        "teacher are in units of 0.01, on the validation split, and less is better. **Bold** is the score that the",
        "paper goes by. *yes* and *no*: Student's 95 % interval leaves out zero; *undecided*: it does not; *pending*:",
        "there are not two seeds of both arms. *visible*: the smallest true difference that so many seeds with such a",
        "spread would have shown in four of five cases. An undecided claim says nothing about smaller differences.",
        "",
        counted(pairs),
        "",
        "## Arms",
        "",
        "Mean over seeds ± standard deviation. An arm has to beat pixels and the untrained student; the teacher shows",
        "what there is to learn. Arms without scores are pending.",
        "",
    ]
    for group in GROUPS:
        rows = [[name, changes(name), *_cells(scores.get(name, {}))] for name in arms_of(group)]
        known = sorted(name for name in scores if name.startswith(f"{group}/"))
        rows += [[name.partition("/")[2], "–", *_cells(scores[name])] for name in known]
        lines += [f"### {group}", "", *table(["arm", "differs in", "seeds", *COLUMNS.values()], rows), ""]
        lines += [*below_pixels(group, scores)]
    return "\n".join(lines)


def counted(pairs: Iterable[tuple[Claim, tuple[str, str], Verdict]]) -> str:
    """Say how many claims have a verdict: by the score that the paper goes by, and by any of their scores."""
    clear = [(claim.text, metrics[0] == claim.headline) for claim, metrics, found in pairs if found.word in CLEAR]
    own, any_score = {text for text, headline in clear if headline}, {text for text, _ in clear}
    return (
        f"Of {len(CLAIMS)} claims, {len(own)} have a verdict (*yes* or *no*) by the score that the paper goes by, and "
        f"{len(any_score)} by one of their scores."
    )


def below_pixels(group: str, scores: Scores) -> Iterator[str]:
    """Say which arms of a group are, in the mean, no better than the images themselves."""
    pixels = scores.get(f"{group}/pixels", {})
    for metric, label in COLUMNS.items():
        ground = [found[metric] for found in pixels.values() if metric in found]
        means = {
            arm: [found[metric] for found in scores.get(arm, {}).values() if metric in found] for arm in arms_of(group)
        }
        below = [arm for arm, found in means.items() if ground and found and fmean(found) <= fmean(ground)]
        if below:
            yield f"**No better than raw pixels** in {label}: {', '.join(below)}."
            yield ""


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def changes(name: str) -> str:
    """In words, how an arm differs from its group's own."""
    arm = ARMS[name]
    found = [f"{path.partition('.')[2]} {value}" for path, value in arm.settings.items()]
    return f"method {arm.method}" if arm.method else ", ".join(found) or "–"


def _claim_row(claim: Claim, metrics: tuple[str, str], verdict: Verdict) -> list[str]:
    score = COLUMNS.get(metrics[0]) or next(label for name, label in COLUMNS.items() if metrics[0].startswith(name))
    if metrics[0] == claim.headline:
        score = f"**{score}**"
    found = verdict.found
    if found is None:
        return [claim.text, claim.source, score, "0", "–", "–", verdict.word, "–"]
    interval = "–" if found.low is None or found.high is None else f"{_points(found.low)} to {_points(found.high)}"
    seen = "–" if verdict.visible is None else f"{100 * verdict.visible:.2f}"
    return [claim.text, claim.source, score, str(found.seeds), _points(found.mean), interval, verdict.word, seen]


def _points(value: float) -> str:
    return f"{100 * value:+.2f}".replace("-", "−")


def _cells(scores: Mapping[int, Mapping[str, float]]) -> list[str]:
    """Number of seeds, then each column."""
    return [str(len(scores)), *(_cell([s[m] for s in scores.values() if m in s]) for m in COLUMNS)]


def _cell(values: list[float]) -> str:
    if not values:
        return "–"
    found = estimate(values)
    return f"{100 * found.mean:.2f}" + ("" if found.std is None else f" ± {100 * found.std:.2f}")
