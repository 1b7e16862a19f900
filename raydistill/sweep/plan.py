"""Plan of a sweep: its teachers, and how its baselines are searched and trained.

They depend on files of presets and search spaces, which may change between start and resume. So each decision is
written beside the sweep once, and only looked up from then on.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from raydistill import config as configuration
from raydistill.config import Config, ConfigError, TrainConfig
from raydistill.data.sources import OpenedDatasets
from raydistill.planning.resolve import TeacherRun, resolve, teacher_runs
from raydistill.presets import load_preset, preset_names, settings_of_before
from raydistill.presets.sizes import fit_sizes
from raydistill.records.layout import JOURNAL_FILE, PLAN_FILE
from raydistill.sweep.search.baselines import RECIPES, Baseline, baseline_space, baselines_of, beside
from raydistill.sweep.search.space import Space
from raydistill.sweep.search.space_parser import parse_space
from raydistill.sweep.settings import SweepSettings, with_own_teacher
from raydistill.training.checkpoint_files import write_atomically
from raydistill.trial_spec import TrialSpec, filled_teacher_inputs, teacher_inputs


class SweepPlan:
    """The decisions of one sweep: those in its folder, and new ones where it has none.

    Args:
        write: whether new decisions are written into the sweep's folder.

    Raises: ConfigError where the folder's file is damaged.
    """

    def __init__(self, settings: SweepSettings, *, write: bool = False) -> None:
        self.settings, self.write = settings, write
        self.path = settings.directory / PLAN_FILE
        self.images = OpenedDatasets()
        values = self._read()
        of_before = not self.path.exists() and (settings.directory / JOURNAL_FILE).exists()
        self._starts_before = of_before
        self._of_before = of_before or "baseline" in values
        self._teachers: list[dict[str, Any]] = values.get("teachers", [])
        self._baselines: dict[str, dict[str, Any]] = values.get("baselines", {})
        if "baseline" in values:  # of version 0.1: how the sweep's only one is optimised
            own = settings.base.method.baseline().name
            self._baselines.setdefault(own, {"method": {"name": own}, "train": values["baseline"]})
        if write and not settings.arms:
            for baseline in baselines_of(settings.baselines, settings.base):
                self._decided(baseline)
        self._write()

    def teacher_runs(self, config: Config) -> list[TeacherRun]:
        """The runs that make the teachers of `config`; none if it needs none, or names where they are."""
        wanted = teacher_inputs(config)
        if wanted is None or config.teacher.sources:
            return []
        for known in self._teachers:
            if filled_teacher_inputs(known["wanted"]) == wanted:
                return [TeacherRun(configuration.load(run["config"]), run["provenance"]) for run in known["runs"]]
        teacher = config.teacher
        fixed = settings_of_before(teacher.method, teacher.preset) if self._starts_before else {}
        runs = teacher_runs(config, self.images(config.data), fixed)
        described = [{"config": configuration.dump(run.config), "provenance": run.provenance} for run in runs]
        self._teachers.append({"wanted": wanted, "runs": described})
        self._write()
        return runs

    def complete(self, spec: TrialSpec) -> TrialSpec:
        """Decide the keys that `spec` leaves open, as the sweep decided them. Raises: ConfigError."""
        if spec.resolved:
            return spec
        teachers = spec.teachers
        if teachers is None and not spec.config.teacher.sources:
            teachers = tuple(run.key for run in self.teacher_runs(spec.config))
        return resolve(TrialSpec(spec.config, teachers, spec.labels), self.images(spec.config.data))

    def spec(self, settings: dict[str, Any]) -> TrialSpec:
        """Return the spec of a trial with these searched settings. Raises ConfigError."""
        return self.complete(TrialSpec(self.settings.resolve(settings)))

    def baseline_config(self, baseline: Baseline, winner: Config) -> Config:
        """Return a baseline with the student, augmentation, batches, steps and optimiser of `winner`."""
        preset = self._decided(baseline)["method"]
        config = baseline.method_of(winner, preset)
        if winner.method.teacher_output() is not None:
            return config
        # Its teacher is one for all winners, trained before the search.
        searched = [parameter.path for parameter in self.settings.space.parameters]
        teacher = with_own_teacher(baseline.method_of(self.settings.base, preset), searched).teacher
        return config.model_copy(update={"teacher": teacher})

    def baseline_train(self, baseline: Baseline) -> TrainConfig:
        """Return the optimiser settings of the baseline's own preset, for as long as the sweep's trials."""
        base = self.settings.base.train
        kept = {name: getattr(base, name) for name in ("epochs", "seed", "precision", "sync_batchnorm")}
        return TrainConfig.model_validate(self._decided(baseline)["train"]).model_copy(update=kept)

    def baseline_space(self, baseline: Baseline, same: Config) -> Space:
        """Return what the search of a baseline tries that has the other settings of `same`."""
        stored = beside(self._decided(baseline)["space"], same)
        if not stored["parameters"]:
            return replace(self.settings.space, parameters=(), also=(), population=None)
        return parse_space(stored, str(self.path), baseline.method, {})

    def baseline_preset(self, baseline: Baseline) -> str:
        """Return the preset of a baseline's own settings: the sweep's, or `default` where its method has none so."""
        return self.settings.preset if self.settings.preset in preset_names(baseline.method) else "default"

    # docs/architecture.md#own-augmentation-of-a-baseline
    def with_own_augmentation(self, baseline: Baseline, config: Config) -> Config | None:
        """Return a baseline with the augmentation recipes of its own preset; None where it has none but its own.

        The winner's recipe may suit the winner's loss alone: SimCLR on SSSD's crops and mirrored images, or on SimReg's
        weak views, is weak by construction. An arm of the sweep's own method has no such handicap.

        Args:
            baseline: what is compared.
            config: the baseline as it is trained beside the winner.

        Raises: ConfigError where the recipes do not fit the rest.
        """
        decided = self._decided(baseline)
        if baseline.method == self.settings.base.method.name or not decided.get("own_augmentation", False):
            return None
        chosen = [path for path, _ in baseline.settings]
        own = {f"method.{name}": value for name, value in decided["method"].items() if name in RECIPES}
        settings = {path: value for path, value in own.items() if path not in chosen}
        found = configuration.load(configuration.assign(configuration.dump(config), settings))
        return None if found.method.student_recipes() == config.method.student_recipes() else found

    def baseline_recipe(self, baseline: Baseline) -> str | None:
        """Return the augmentation recipe of the baseline's own preset; None where it has none, or two."""
        recipe: str | None = self._decided(baseline)["method"].get("recipe")
        return recipe

    def _decided(self, baseline: Baseline) -> dict[str, Any]:
        """Return the preset of a baseline's method, and the space of its search, as the sweep decided them."""
        known = self._baselines.setdefault(baseline.name, {})
        if "method" not in known:
            values = configuration.load(load_preset(baseline.method, self.baseline_preset(baseline)))
            if images := self.settings.images.get("train"):
                values = fit_sizes(values, images)
            train = configuration.dump(values)["train"]
            if baseline.method == self.settings.base.method.name:
                train = configuration.dump(self.settings.base)["train"]
            method = configuration.dump(values)["method"]
            known |= {"method": method, "train": train, "own_augmentation": not self._of_before}
            self._write()
        if self.settings.baseline_trials and "space" not in known:
            images = self.settings.images.get("train")
            space = baseline_space(baseline, self.settings.space, self.settings.base.method.name, images)
            known["space"] = space.to_dict()
            self._write()
        return known

    def _read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        try:
            return dict(json.loads(self.path.read_text()))
        except (ValueError, TypeError):
            raise ConfigError(f"{self.path} is damaged; it should hold the sweep's decisions") from None

    def _write(self) -> None:
        if self.write:
            text = json.dumps({"baselines": self._baselines, "teachers": self._teachers}, indent=1)
            write_atomically(self.path, text.encode())
