"""What claims.py compares: the papers' claims, the arms that they are about, and the sweeps that train those."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import raydistill

SPACES = Path(__file__).parent / "spaces" / "claims"
KNN_AND_PROBE = (("test_knn", "test_knn"), ("test_probe", "test_probe"))
SECTIONS = ("data", "augment", "train", "eval")  # of a configuration; arms of one sweep agree in all of them


@dataclass(frozen=True)
class Scale:
    """How large everything is; the same for all arms."""

    data: str
    images: int = 20_000
    epochs: int = 20
    teacher_epochs: int = 40
    student: str = "resnet10_w8"
    teacher: str = "resnet18_w16"
    vit: str = "vit_w64_p4_d4"
    batch_size: int = 256


@dataclass(frozen=True)
class Group:
    """Arms that one sweep for each seed trains: the points of its grid, and its baselines.

    `settings` are those of every arm; `taught` says whether a frozen teacher takes part.
    """

    method: str
    baselines: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    taught: bool = False

    @property
    def space(self) -> Path:
        """The grid."""
        return SPACES / f"{self.method}.yaml"


@dataclass(frozen=True)
class Arm:
    """One configuration of a group's sweep: how it differs from the group's own, or another method's settings."""

    group: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    method: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim of a paper: one arm is better than another.

    `metrics` pairs a score of the first arm with one of the second. `headline` is the first arm's score that the paper
    goes by. `about` names the settings in which the arms may differ, besides those of other methods' losses.
    """

    text: str
    source: str
    better: str
    worse: str
    about: tuple[str, ...] = ()
    metrics: tuple[tuple[str, str], ...] = KNN_AND_PROBE
    headline: str = "test_probe"

    @property
    def arms(self) -> tuple[str, str]:
        """The names of both."""
        return self.better, self.worse


# A baseline of the sweep's own method fixes what the grid varies: so it is one run, whatever the winner is.
GROUPS = {
    "seed": Group("seed", ("simclr:tau_c=0.2", "mocov2"), taught=True),
    "simreg": Group("simreg", ("simreg:head_depth=1,views=same,student_recipe=weak",), taught=True),
    # A lambda that rises: a constant one of 100 flattens both peers until they have learned something.
    "dogo": Group(
        "dogo",
        ("dogo:lambda_kd=0,lambda_simsiam=0,tau_kd=0.1",),
        {"method.tau_c": 0.5, "method.lambda_schedule": "cosine"},
    ),
    "sssd": Group("sssd", ("sssd:labels=random", "clusterfit"), {"eval.encoders": "all"}, taught=True),
    "sdssl": Group("sdssl", ("sdssl:alpha=0,beta=0,alpha_schedule=cosine",)),
}
STRONG = {"method.views": "different", "method.student_recipe": "small", "method.teacher_recipe": "small"}
ARMS = {
    "seed": Arm("seed"),
    "seed-tau-0.3": Arm("seed", {"method.tau_t": 0.3}),
    "seed-queue-128": Arm("seed", {"method.queue_size": 128}),
    "simclr": Arm("seed", {"method.recipe": "small", "method.tau_c": 0.2}, "simclr"),
    "mocov2": Arm("seed", {"method.recipe": "small"}, "mocov2"),
    "simreg": Arm("simreg"),
    "simreg-linear": Arm("simreg", {"method.head_depth": 1}),
    "simreg-strong": Arm("simreg", STRONG),
    "simreg-2-teachers": Arm("simreg", {"teacher.count": 2}),
    "dogo": Arm("dogo"),
    "dogo-lambda-1": Arm("dogo", {"method.lambda_kd": 1.0}),
    "dogo-lambda-0": Arm("dogo", {"method.lambda_kd": 0.0, "method.lambda_simsiam": 0.0}),
    "dogo-one-tau": Arm("dogo", {"method.tau_kd": 0.5}),
    "sssd": Arm("sssd"),
    "sssd-random": Arm("sssd", {"method.labels": "random"}),
    "clusterfit": Arm("sssd", {"method.recipe": "cifar_sup"}, "clusterfit"),
    "sdssl": Arm("sdssl"),
    "sdssl-constant": Arm("sdssl", {"method.alpha_schedule": "constant"}),
    "sdssl-framework": Arm("sdssl", {"method.alpha": 0.0, "method.beta": 0.0}),
}
AUGMENTATION = ("method.views", "method.student_recipe", "method.teacher_recipe")
CLAIMS = [
    Claim("SEED beats its student alone (SimCLR)", "SEED, table 1", "seed", "simclr"),
    Claim("SEED beats its student alone (MoCo v2)", "SEED, table 1", "seed", "mocov2"),
    Claim("tau_t 0.01 beats 0.3", "SEED, table 5", "seed", "seed-tau-0.3", ("method.tau_t",)),
    Claim("a queue of 4096 beats one of 128", "SEED, figure 7", "seed", "seed-queue-128", ("method.queue_size",)),
    Claim(
        "a head of four layers beats a linear one", "SimReg, table 1", "simreg", "simreg-linear", ("method.head_depth",)
    ),
    Claim(
        "a head of four layers predicts the teacher better than a linear one",
        "SimReg, table 1",
        "simreg",
        "simreg-linear",
        ("method.head_depth",),
        (("val_mse", "val_mse"),),
        "val_mse",
    ),
    Claim(
        "the same weak view for both beats different strong ones",
        "SimReg, table 7",
        "simreg",
        "simreg-strong",
        AUGMENTATION,
    ),
    Claim("two teachers beat one", "SimReg, table 8", "simreg-2-teachers", "simreg", ("teacher.count",)),
    Claim(
        "DoGo with a larger peer beats lambda 0",
        "DoGo, table 1",
        "dogo",
        "dogo-lambda-0",
        ("method.lambda_kd", "method.lambda_simsiam"),
    ),
    Claim("lambda 100 beats 1", "DoGo, figure 4", "dogo", "dogo-lambda-1", ("method.lambda_kd",)),
    Claim("temperatures 0.5 and 0.1 beat 0.5 for both", "DoGo, figure 6", "dogo", "dogo-one-tau", ("method.tau_kd",)),
    Claim("SSSD on clusters beats random labels", "SSSD", "sssd", "sssd-random", ("method.labels",)),
    Claim("SSSD beats ClusterFit on the same clusters", "SSSD, table 1", "sssd", "clusterfit"),
    Claim(
        "the ensemble of the exits beats exit 4",
        "SSSD, table 1",
        "sssd",
        "sssd",
        metrics=(("test_probe_ensemble", "test_probe"),),
        headline="test_probe_ensemble",
    ),
    *(
        Claim(
            f"SDSSL beats its framework (MoCo v3) after {place}",
            "SDSSL, figure 4",
            "sdssl",
            "sdssl-framework",
            ("method.alpha", "method.beta"),
            tuple((f"{metric}{end}", f"{metric}{end}") for metric in ("test_knn", "test_probe")),
            headline=f"test_probe{end}",
        )
        for place, end in (*((f"block {k}", f"_block_{k}") for k in (1, 2, 3)), ("the last block", ""))
    ),
    Claim(
        "annealed alpha beats constant alpha",
        "SDSSL, table 6",
        "sdssl",
        "sdssl-constant",
        ("method.alpha_schedule",),
        headline="test_knn",
    ),
]


def arms_of(group: str) -> list[str]:
    """Names of the arms that a group's sweep trains."""
    return [name for name, arm in ARMS.items() if arm.group == group]


def settings_of(group: Group, scale: Scale, seed: int) -> dict[str, Any]:
    """The settings of a group's sweep, all that is the same for its arms.

    Args:
        group: which one.
        scale: sizes.
        seed: of weights, order and augmentations. The teachers are the same for all seeds.
    """
    chosen: dict[str, Any] = {
        "train.seed": seed,
        "data.stream_seed": seed,
        "data.limit": scale.images,
        "data.batch_size": scale.batch_size,
        "eval.every": scale.epochs,
    }
    if group.method == "dogo":
        chosen["method.backbones"] = [scale.student, scale.teacher]
    else:
        chosen["method.backbone"] = scale.vit if group.method == "sdssl" else scale.student
    if group.taught:
        chosen |= {
            "teacher.method": "mocov2",
            "teacher.preset": "cpu",
            "teacher.backbone": scale.teacher,
            "teacher.epochs": scale.teacher_epochs,
            "teacher.batch_size": scale.batch_size,
        }
    return chosen | dict(group.settings)


def sweep_options(name: str, scale: Scale, seed: int) -> dict[str, Any]:
    """What `raydistill.run_sweep` is told of one group and one seed, but where to keep things.

    Args:
        name: of the group.
        scale: sizes.
        seed: of the arms.
    """
    group = GROUPS[name]
    return {
        "data": scale.data,
        "preset": "cpu",
        "epochs": scale.epochs,
        "set": settings_of(group, scale, seed),
        "search_space": group.space,
        "seeds": 1,
        "baseline": list(group.baselines),
        "baseline_search": False,
        "name": f"claims-{name}-seed{seed}",
    }


def is_arm(config: Mapping[str, Any], arm: Arm, base: Mapping[str, Any]) -> bool:
    """Return whether a trial's configuration is that of an arm.

    Args:
        config: of the trial, plain nested values.
        arm: which one.
        base: the configuration of the arm's sweep before anything is searched.
    """
    if any(_without_offsets(config[section]) != _without_offsets(base[section]) for section in SECTIONS):
        return False
    if arm.method:
        has = config["method"]
        return has["name"] == arm.method and all(
            has.get(path.partition(".")[2]) == value for path, value in arm.settings.items()
        )
    wanted = {"method": dict(base["method"]), "teacher": dict(base["teacher"])}
    for path, value in arm.settings.items():
        section, _, key = path.partition(".")
        wanted[section][key] = value
    return all(config[section] == values for section, values in wanted.items())


def unfair(claim: Claim, better: Mapping[str, Any], worse: Mapping[str, Any]) -> list[str]:
    """What the two arms of a claim differ in and should not: student, augmentation, images, batches, steps, optimiser.

    Args:
        claim: which one.
        better: configuration of its first arm, plain nested values.
        worse: of its second.

    Returns: dotted paths; none if the comparison is fair.
    """
    shared = (*SECTIONS, "teacher")
    if better["method"]["name"] == worse["method"]["name"]:
        shared = (*shared, "method")
    found = [path for path in _differences(better, worse, shared) if path not in ("train.offsets", *claim.about)]
    if "method" not in shared:
        ours, theirs = map(_student, (better, worse))
        found += [f"method.{key}" for key in ours if ours[key] != theirs[key]]
    return found


def _student(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the student is and what it sees."""
    method = raydistill.load_config(config).method
    return {
        "backbone": method.student_backbone(),
        "stem": method.stem,
        "zero_init_residual": method.zero_init_residual,
        "recipe": method.student_recipes(),
    }


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], sections: tuple[str, ...]) -> Iterator[str]:
    for section in sections:
        for key in one[section]:
            if one[section][key] != other[section].get(key):
                yield f"{section}.{key}"


def _without_offsets(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "offsets"}
