"""An experiment of two methods in a tiny sweep: every arm with every seed, tasks, the table, a resume, a search."""

import json

import pytest
import yaml
from mlflow import MlflowClient

from raydistill.config import ConfigError
from raydistill.records.journal import Journal, role_of
from raydistill.report import load
from raydistill.report.render.latex import latex
from raydistill.report.render.markdown import markdown
from raydistill.report.render.page import page
from raydistill.report.summary import summarize
from raydistill.sweep.arms.prepare import prepare_experiment
from raydistill.sweep.workers.local_launcher import LocalLauncher

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
EXPERIMENT = {
    "title": "regression against contrast",
    "source": "a test",
    "images": "imagenet",
    "varies": ["train", "method.recipe"],
    "settings": {
        "method.backbone": "resnet18",
        "teacher.backbone": "resnet50",
        "teacher.method": "simclr",
        "data.limit": 120,
        "data.batch_size": 16,
        "data.image_size": 8,
        "teacher.batch_size": 16,
        "eval.probe": "logistic",
        "eval.tasks": ["noise", "tsne"],
    },
    "arms": {"regression": {"method": "simreg"}, "contrast": {"method": "simclr"}},
    "metrics": ["test_knn", "test_probe", "test_probe_noise_40", "test_mse"],
    "published": {"regression": {"test_probe": 65.1}, "untrained": {"test_probe": 12.5}},
    "claims": [
        {"better": "regression", "worse": "contrast", "metric": "test_probe"},
        {"better": "regression", "worse": "pixels", "metric": "test_mse"},
    ],
    "notes": "The images are digits.",
}


def prepared(folder, values=None, **options):
    path = folder / "regression.yaml"
    path.write_text(yaml.safe_dump({**EXPERIMENT, **(values or {})}))
    places = {"storage": folder / "runs", "artifacts": folder / "artifacts", "threads": 1}
    places |= {"tracking_uri": f"sqlite:///{folder}/mlflow.db"}
    return prepare_experiment(str(path), "smoke", notify=lambda line: None, **places, **options)


def run(settings, **options):
    from raydistill.sweep.run import run_sweep

    return run_sweep(settings, launcher=LocalLauncher, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("experiment")


@pytest.fixture(scope="module")
def done(ray_cluster, folder):
    settings = prepared(folder, seeds=2)
    return settings, run(settings)


def test_every_arm_has_every_seed_and_its_references(done):
    settings, result = done
    rows = {row.name: row for row in result.rows}
    assert set(rows) == {"regression", "contrast", "pixels", "untrained", "teacher"}
    assert rows["regression"].runs == ["final-regression-seed0", "final-regression-seed1"]
    for name in ("regression", "contrast"):
        assert all({"test_knn", "test_probe", "test_probe_noise_40"} <= set(score) for score in rows[name].scores)
        assert rows[name].scores[0] != rows[name].scores[1]
    assert "test_mse" in rows["regression"].scores[0]
    roles = [role_of(key) for key in Journal(settings.directory / "journal.jsonl").trials]
    assert sorted(roles) == ["final"] * 4 + ["teacher"]


def test_the_table_has_published_and_own_numbers_and_a_verdict(done):
    settings, result = done
    text = (settings.directory / "table.md").read_text()
    assert text.startswith("regression against contrast (a test), scale smoke (")
    line = next(line for line in text.splitlines() if line.startswith("| regression"))
    assert " 65.1 " in line
    assert "±" in line
    kept = json.loads((settings.directory / "experiment.json").read_text())
    first, second = kept["results"]
    scores = {row.name: [score["test_probe"] for score in row.scores] for row in result.rows}
    mean = sum(a - b for a, b in zip(scores["regression"], scores["contrast"], strict=True)) / 2
    assert first["mean"] == pytest.approx(mean)
    assert first["seeds"] == 2
    assert second["verdict"] == "not measured"
    assert "The images are digits." in text


def test_pictures_of_tasks_are_kept_and_logged(done, folder):
    settings, _ = done
    picture = settings.directory / "trials" / "final-contrast-seed1" / "pictures" / "tsne.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = [each for each in client.search_experiments() if each.name == "raydistill"]
    runs = client.search_runs([experiment.experiment_id])
    (final,) = [r for r in runs if r.data.tags.get("mlflow.runName", "").endswith("final-contrast-seed1")]
    assert [each.path for each in client.list_artifacts(final.info.run_id, "pictures")] == ["pictures/tsne.png"]
    assert final.data.metrics["test_probe_noise_40"] > 0


def test_a_resume_trains_nothing_and_other_arms_are_refused(done, folder):
    settings, result = done
    journal = (settings.directory / "journal.jsonl").read_bytes()
    again = run(prepared(folder, seeds=2, name=settings.name, resume=True), resume=True)
    assert (settings.directory / "journal.jsonl").read_bytes() == journal
    assert [row.scores for row in again.rows] == [row.scores for row in result.rows]
    other = {**EXPERIMENT["settings"], "train.epochs": 2}
    with pytest.raises(ConfigError, match=r"experiment\.arms\.regression\.train\.epochs: 1 -> 2"):
        prepared(folder, {"settings": other}, seeds=2, name=settings.name, resume=True)


def test_a_report_reads_it(done, folder):
    settings, _ = done
    loaded = load(f"sqlite:///{folder}/mlflow.db", settings.name)
    assert {row.name for row in loaded.rows} >= {"regression", "contrast", "pixels"}
    summary = summarize(loaded)
    assert "regression against contrast (a test), at scale smoke: 2 arms, 2 seeds." in summary.conclusion
    assert "1 were not measured" in summary.conclusion
    assert {line[0] for line in summary.published.body} >= {"regression", "contrast", "untrained"}
    assert len(summary.claims) == 2
    text = page(summary)
    assert 'id="settings"' not in text
    assert "Which settings matter" not in text
    assert all(each in text for each in ("Published numbers and ours", "4 runs trained 4 epochs", "All runs"))
    assert "## Settings\n" not in markdown(summary)
    assert latex(summary).count(r"\begin{table}") == 1


def test_each_arm_may_have_a_search_of_its_own(ray_cluster, folder):
    values = {
        "search": {"smoke": 2},
        "arms": {"contrast": {"method": "simclr"}},
        "claims": [],
        "published": {},
        "settings": {k: v for k, v in EXPERIMENT["settings"].items() if not k.startswith("eval.tasks")},
    }
    settings = prepared(folder, values, seeds=2, name="searched")
    assert settings.arm_trials == 2
    result = run(settings)
    trials = Journal(settings.directory / "journal.jsonl").trials
    searched = [key for key in trials if key.startswith("baseline-contrast-t")]
    assert len(searched) == 2
    assert trials[searched[0]].config["method"] == settings.arms[0].config.model_dump(mode="json")["method"]
    (row,) = [row for row in result.rows if row.name == "contrast"]
    best = max(searched, key=lambda key: trials[key].last("val_knn"))
    assert row.runs[0] == best
    assert row.runs[1] == "final-contrast-seed1"
    assert row.settings == trials[best].settings
