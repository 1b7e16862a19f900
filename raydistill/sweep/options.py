"""Options of a sweep, of the command or of `run_sweep`, made into settings that can run. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path as Path
from typing import Any, TypedDict, Unpack

from raydistill import config as configuration
from raydistill.config import ConfigError, nearest
from raydistill.presets import NEW_IN_PRESETS, load_preset
from raydistill.records.budget import Limits
from raydistill.records.layout import SWEEP_FILE
from raydistill.records.locations import (
    artifact_store,
    next_name,
    source_of,
    sweep_folder,
    teacher_of,
    tracking,
    working_folder,
)
from raydistill.storage import Remote, StoragePath, to_path
from raydistill.sweep.preflight.validation import (
    check_objectives,
    check_redraw,
    check_teacher,
    preflight,
    say_what_cannot_happen,
)
from raydistill.sweep.search.adapt import without_teacher_settings
from raydistill.sweep.search.baselines import parse_baseline
from raydistill.sweep.search.space import PAPER, Space, default_space, paper_space
from raydistill.sweep.search.space_parser import load_space, parse_space
from raydistill.sweep.settings import SweepSettings, with_own_teacher
from raydistill.tracking.loggers.available import check_loggers

DEFAULT_TRIALS = 8
DEFAULT_SEEDS = 3
DEFAULT_FINALISTS = 1
MINIMA = {
    **dict.fromkeys(("trials", "epochs", "seeds", "finalists", "seeds_per_trial", "baseline_trials"), 1),
    **dict.fromkeys(("packs", "packs_per_gpu", "threads", "max_epochs"), 1),
    **dict.fromkeys(("search_seed", "artifacts_gib", "checkpoints_gib", "max_hours", "max_worker_hours", "price"), 0),
}
Location = str | PathLike[str]


class SweepOptions(TypedDict, total=False):
    """The options of `raydistill sweep`, by their names there; what is left out, or None, has the same default."""

    data: Location | None
    labelled: Location | None
    kind: str | None
    trials: int | None
    epochs: int | None
    preset: str
    teacher: Location | Sequence[Location] | None
    set: Mapping[str, Any]
    search_space: Location | None
    name: str | None
    storage: Location | None
    tracking_uri: str | None
    logger: str | Sequence[str] | None
    seeds: int
    finalists: int | None
    seeds_per_trial: int
    search_seed: int
    redraw_teachers: bool
    baseline: str | Sequence[str] | None
    baseline_trials: int | None
    baseline_search: bool
    packs: int
    packs_per_gpu: int
    learners: int | str
    workers: int | str
    threads: int | None
    gpu: bool | None
    artifacts: Location | None
    artifacts_gib: float | None
    checkpoints_gib: float | None
    max_hours: float | None
    max_worker_hours: float | None
    max_epochs: int | None
    price: float | None
    warm_start: Location | Sequence[Location] | None


def has_begun(storage: str | None, name: str) -> bool:
    """Return whether there is a sweep of this name, finished or not; `storage` as `--storage`."""
    return (to_path(storage or working_folder() / "runs").absolute() / name / SWEEP_FILE).exists()


def prepare_settings(
    method: str,
    *,
    resume: bool = False,
    command: str = "",
    notify: Callable[[str], None] = print,
    **options: Unpack[SweepOptions],
) -> SweepSettings:
    """Check everything that can be known before a sweep starts: options, data, teachers, the method itself.

    Args:
        method: the method to explore.
        resume: whether the sweep is there already, with the same settings, and goes on. Only `trials` may differ;
            without it, the sweep's own number stays.
        command: what was typed.
        notify: gets a line about each setting that has no effect, or that was changed.
        **options: as `raydistill sweep` has them.

    Returns: settings that `run_sweep` takes.
    Raises: ConfigError for what cannot work.
    """
    asked: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    check_options(asked)
    chosen = settings_of(asked)
    home = home_of(asked)
    if "method.name" in chosen:
        raise ConfigError("method.name: choose the method with --method")
    if teachers := several(asked.get("teacher")):
        chosen["teacher.sources"] = [teacher_of(home, given) for given in teachers]
    configuration.options_class(method)
    name = asked["name"] if "name" in asked else next_name(home, method, resume)
    stored = _stored(home / name / SWEEP_FILE, method) if resume else {}
    preset = asked.get("preset", "default")
    values = load_preset(method, preset)
    values = configuration.assign(values, _settings_of_before(stored, method, values))
    base = configuration.load(configuration.assign(values, {"method.name": method} | chosen))
    if "teacher.epochs_factor" in chosen and base.teacher.epochs is not None:
        notify(f"teacher.epochs_factor has no effect, since teacher.epochs = {base.teacher.epochs}")
    given_space = asked.get("search_space")
    if given_space is None and "space" in stored:
        space = parse_space(stored["space"], f"the space in {name}/{SWEEP_FILE}", method, chosen, values)
    else:
        space = load_space(_space_file(given_space, method), method, chosen, values)
        if base.teacher.sources:
            space = without_teacher_settings(space, notify)
    searched = [parameter.path for parameter in space.parameters]
    base = with_own_teacher(base, searched)
    wanted = asked.get("trials") or stored.get("trials")
    trials = trial_count(space, wanted)
    baselines = tuple(several(asked.get("baseline")))
    names = [parse_baseline(text).name for text in baselines]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"--baseline {twice[0]}: is given twice")
    settings = SweepSettings(
        **means_of(asked, home),
        name=name,
        base=base,
        space=space,
        trials=trials,
        seeds=asked.get("seeds", DEFAULT_SEEDS),
        search_seed=asked.get("search_seed", 0),
        redraw_teachers=asked.get("redraw_teachers", False),
        baselines=baselines,
        baseline_trials=_baseline_trials(asked, trials, stored),
        preset=preset,
        warm_start=tuple(sweep_folder(home, given) for given in several(asked.get("warm_start"))),
        command=command,
        finalists=asked.get("finalists") or (stored.get("finalists", 1) if stored else DEFAULT_FINALISTS),
        seeds_per_trial=asked.get("seeds_per_trial", 1),
    )
    if settings.learners is not None and settings.learners < settings.seeds_per_trial:
        raise ConfigError(
            f"--learners {settings.learners}: a trial trains {settings.seeds_per_trial} learners side by side "
            "(--seeds-per-trial); give at least as many, or auto"
        )
    check_teacher(settings, chosen)
    if settings.redraw_teachers:
        check_redraw(settings)
    say_what_cannot_happen(settings, notify)
    check_objectives(settings, notify, resume=resume)
    settings.check_name(resume=resume)
    settings = preflight(settings, notify, own_space=given_space not in (None, PAPER), chosen=chosen)
    trials = trial_count(settings.space, wanted)
    settings = replace(settings, trials=trials, baseline_trials=_baseline_trials(asked, trials, stored))
    if resume:
        settings.check_unchanged()
    return settings


def settings_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by dotted path that options stand for: those of `set`, and of the options that have a path.

    Raises: ConfigError for a path that is not there.
    """
    chosen = {path: list(v) if isinstance(v, tuple) else v for path, v in asked.get("set", {}).items()}
    if "data" in asked:
        chosen["data.source"] = source_of("--data", str(asked["data"]))
    if "labelled" in asked:
        chosen["data.labelled"] = source_of("--labelled", str(asked["labelled"]))
    if "epochs" in asked:
        chosen["train.epochs"] = asked["epochs"]
    if "kind" in asked:
        chosen["data.kind"] = asked["kind"]
    return chosen


def home_of(asked: Mapping[str, Any]) -> StoragePath:
    """The place of all sweeps. Raises: ConfigError where it cannot be used."""
    if asked.get("storage") == "":
        raise ConfigError("--storage '': give a folder, or an address such as s3://bucket/folder")
    home = to_path(asked.get("storage") or working_folder() / "runs").absolute()
    if isinstance(home, Remote):
        home.probe()
    return home


def means_of(asked: Mapping[str, Any], home: StoragePath) -> dict[str, Any]:
    """The fields of `SweepSettings` that say where and with what a sweep runs, which every kind of sweep has.

    Args:
        asked: the options that were given.
        home: the place of all sweeps.

    Raises:
        ConfigError: an option is wrong.
    """
    for name in ("max_hours", "max_worker_hours"):
        if asked.get(name) == 0:
            raise ConfigError(
                f"--{name.replace('_', '-')} 0: nothing can be trained in 0 hours; give more, or leave it out"
            )
    least, most = workers_of(str(asked.get("workers", 1)))
    if asked.get("packs_per_gpu", 1) > 1 and (most or least) > 1:
        raise ConfigError(
            "--packs-per-gpu: workers of one group cannot share a GPU (NCCL refuses it); leave --workers at 1"
        )
    return {
        "storage": home,
        "tracking_uri": tracking(asked.get("tracking_uri")),
        "loggers": check_loggers(several(asked.get("logger"))),
        "packs": asked.get("packs", 1),
        "packs_per_gpu": asked.get("packs_per_gpu", 1),
        "learners": learners_of(str(asked.get("learners", "auto"))),
        "workers": least,
        "most_workers": most,
        "threads": asked.get("threads"),
        "gpu": asked.get("gpu"),
        "artifacts": artifact_store(_text(asked.get("artifacts")), home),
        "artifacts_gib": asked.get("artifacts_gib"),
        "checkpoints_gib": asked.get("checkpoints_gib"),
        "limits": Limits(*(asked.get(name) for name in ("max_hours", "max_worker_hours", "max_epochs", "price"))),
    }


def _space_file(given: Location | None, method: str) -> Path:
    """The file of a search space: the one that is given, or that ships for the method or, by its name, its paper."""
    if given is None:
        return default_space(method)
    return paper_space(method) if given == PAPER else Path(given)


def _stored(path: StoragePath, method: str) -> dict[str, Any]:
    """The settings of a sweep that is resumed; nothing where the file is missing, damaged or of another method."""
    stored = configuration.read_yaml(path) if path.exists() else None
    if not isinstance(stored, dict) or not isinstance(base := stored.get("base"), dict):
        return {}
    own = base.get("method")
    return stored if isinstance(own, dict) and own.get("name") == method else {}


def _settings_of_before(stored: Mapping[str, Any], method: str, preset: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a sweep was started with, of all that a preset decides: presets change from version to version.

    Settings that the sweep was too old to know have the value at which everything is as it was.

    Args:
        stored: the settings of the sweep; empty for one that starts.
        method: of the sweep. Settings that it does not have are left out.
        preset: nested settings.
    """
    base, known = stored.get("base", {}), configuration.fields(method).keys()
    decided = {f"{section}.{name}" for section, values in preset.items() for name in values}
    found = {}
    for path in (decided | NEW_IN_PRESETS.keys()) & known:
        section, _, name = path.partition(".")
        values = base.get(section)
        if isinstance(values, dict) and (name in values or path in NEW_IN_PRESETS):
            found[path] = values.get(name, NEW_IN_PRESETS.get(path))
    return found


def _baseline_trials(asked: Mapping[str, Any], trials: int, stored: Mapping[str, Any]) -> int:
    """Return how many configurations of each baseline are tried: as many as of the method; 0 without a search.

    Args:
        asked: the options that were given.
        trials: of the sweep.
        stored: settings of a sweep that is resumed, else empty; one of version 0.1 had no such search.

    Raises: ConfigError where the options contradict each other.
    """
    number = asked.get("baseline_trials")
    if not asked.get("baseline_search", True):
        if number is not None:
            raise ConfigError(f"--baseline-trials {number} with --no-baseline-search: leave one of them out")
        return 0
    if number is None and stored and "baseline_trials" not in stored:
        return 0
    return number or trials


def check_options(asked: dict[str, Any]) -> None:
    """Refuse an unknown name, with the nearest one, and a number that is too small. Raises ConfigError."""
    for name, value in asked.items():
        if name not in SweepOptions.__annotations__:
            known = SweepOptions.__annotations__
            raise ConfigError(f"{name}: there is no such option of a sweep{nearest(name, known)}")
        if name in MINIMA and not value >= MINIMA[name]:
            raise ConfigError(f"{name} = {value}: expected at least {MINIMA[name]}")


def learners_of(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--learners {text!r}: give a number of at least 1, or auto")
    return int(text)


def workers_of(text: str) -> tuple[int, int | None]:
    """`N` or `MIN:MAX`."""
    least, colon, most = text.partition(":")
    numbers = [int(part) for part in (least, *([most] if colon else [])) if part.isdecimal()]
    if len(numbers) != 1 + bool(colon) or numbers[0] < 1 or numbers[-1] < numbers[0]:
        raise ConfigError(f"--workers {text!r}: give a number of at least 1, or a range such as 1:4")
    return numbers[0], numbers[1] if colon else None


def trial_count(space: Space, trials: int | None) -> int:
    wanted = trials or space.run_cap or (None if space.search == "grid" else DEFAULT_TRIALS)
    if space.search != "grid":
        return wanted or DEFAULT_TRIALS
    size = len(space.grid())
    return min(wanted, size) if wanted else size


def several(given: Location | Sequence[Location] | None) -> list[str]:
    if given is None:
        return []
    return [str(each) for each in ([given] if isinstance(given, str | PathLike) else given)]


def _text(given: Location | None) -> str | None:
    return None if given is None else str(given)
