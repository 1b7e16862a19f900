"""`raydistill report`: what it writes and where, and that wrong names are explained in a line."""

import pytest
from helpers.builders.sweeps import made_up, search, store, whole

from raydistill.cli import main
from raydistill.report import load
from raydistill.report.load import SweepData


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    address = f"sqlite:///{folder}/mlflow.db"
    store(address, folder, whole(6))
    running = made_up(search(2))
    store(address, folder, SweepData(**{**vars(running), "name": "dogo-2"}), outcome="running")
    return address


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["report", *arguments])
    assert end.value.code == 0


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as error:
        main(["report", *arguments])
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return error.value.code, said


@pytest.mark.slow
def test_a_made_up_sweep_is_read_back_as_it_was(uri):
    sweep, made = load(uri, "dogo-1"), whole(6)
    assert sweep.ranked() == made.ranked()
    assert sweep.epochs().to_dict() == made.epochs().to_dict()
    assert sweep.rows == made.rows
    assert sweep.winner == made.winner


@pytest.mark.slow
def test_the_page_lies_in_the_sweeps_folder_and_in_mlflow_the_newest_only(uri, here, capsys):
    (here / "runs/dogo-1").mkdir(parents=True)
    report("dogo-1", "--tracking-uri", uri)
    assert capsys.readouterr().out == "wrote runs/dogo-1/report.html\n"
    report("dogo-1", "--tracking-uri", uri, "--out", "again/other.html")
    sweep = load(uri, "dogo-1")
    attached = [file.path for file in sweep.client.list_artifacts(sweep.run_id) if file.path.endswith("html")]
    assert attached == ["report.html"]
    kept = sweep.client.download_artifacts(sweep.run_id, "report.html", str(here))
    assert f"raydistill train dogo-1 --tracking-uri {uri}" in (here / "again/other.html").read_text()
    assert (here / kept).read_text() == (here / "again/other.html").read_text()


def test_a_file_of_the_users_is_not_replaced_unasked(uri, here, capsys):
    (here / "mine.html").write_text("mine")
    words = ("dogo-1", "--tracking-uri", uri, "--no-attach", "--out", "mine.html")
    code, said = refused(capsys, *words)
    assert (code, said) == (2, "error: --out mine.html: is there already; choose another file, or add --overwrite\n")
    assert (here / "mine.html").read_text() == "mine"
    report(*words, "--overwrite")
    assert "dogo-1" in (here / "mine.html").read_text()
    assert refused(capsys, "dogo-1", "--out", "s3://bucket/report.html")[0] == 2
    assert not (here / "s3:").exists()


def test_a_sweep_that_still_runs_has_a_report_that_says_so(uri, here):
    report("dogo-2", "--tracking-uri", uri, "--no-attach")
    assert "The sweep is still running" in (here / "dogo-2-report.html").read_text()
    sweep = load(uri, "dogo-2")
    assert not [file.path for file in sweep.client.list_artifacts(sweep.run_id) if file.path.endswith("html")]


@pytest.mark.slow
def test_other_formats(uri, here, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    report("dogo-1", "--format", "md", "--figures")
    text = (here / "dogo-1-report.md").read_text()
    assert "(dogo-1-report-learning-curves.png)" in text
    assert "raydistill train dogo-1\n" in text
    pictures = sorted(here.glob("*.png"))
    assert len(pictures) == 6
    assert all(picture.read_bytes().startswith(b"\x89PNG") and picture.name in text for picture in pictures)
    report("dogo-1", "--format", "md", "--figures", "--out", "my report.md")
    assert "](my%20report-comparison.png)" in (here / "my report.md").read_text()
    for picture in here.glob("my report-*.png"):
        picture.unlink()
    report("dogo-1", "--format", "latex")
    assert r"\toprule" in (here / "dogo-1-report.tex").read_text()


def test_without_a_name_the_sweeps_are_listed_newest_first(uri, capsys):
    report("--tracking-uri", uri)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[2:]] == ["dogo-2", "dogo-1"]
    assert "running" in lines[2]


def test_wrong_names_are_explained(uri, here, capsys):
    assert refused(capsys, "dogo-11", "--tracking-uri", uri) == (
        2,
        f"error: there is no sweep 'dogo-11' in {uri}; did you mean 'dogo-1'?\n",
    )
    code, said = refused(capsys, "../dogo", "--tracking-uri", uri)
    assert code == 2
    assert "sweep name '../dogo' is refused" in said
    assert "--format 'pdf' is unknown; valid: html, latex, md" in refused(capsys, "dogo-1", "--format", "pdf")[1]
    assert refused(capsys, "dogo-1", "--figures")[0] == 2
    assert (
        refused(capsys, "dogo-1", "--out", ".", "--tracking-uri", uri)[1]
        == "error: --out .: is a folder; give a file\n"
    )
    code, said = refused(capsys, "dogo-1")
    assert (code, "there is no MLflow store" in said) == (2, True)
    assert list(here.iterdir()) == []
    code, said = refused(capsys, "dogo-1", "--tracking-uri", "http://127.0.0.1:9")
    assert code == 1
    assert "MLflow at http://127.0.0.1:9 cannot be used" in said
