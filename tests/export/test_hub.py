"""The upload of an export: what the Hub gets, what its card says, and that timm loads the same encoder from there."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers.builders.datafiles import png
from helpers.builders.runs import TINY, trial
from helpers.servers.hubs import TOKEN, hub_server
from huggingface_hub import ModelCard

from raydistill.cli import main
from raydistill.config import ConfigError
from raydistill.data.layouts.hub import repository
from raydistill.export import hub as uploads
from raydistill.export.encoders import choose, embed_plain
from raydistill.export.formats import open_format
from raydistill.export.hub import HubModel, hub_card
from raydistill.export.resolve import resolve_run
from raydistill.export.write import export
from raydistill.methods import MethodContext

# timm alone builds the first one; the other one has a stem that timm has no word for.
NETWORKS = {"imagenet": {**TINY, "stem": "imagenet"}, "stride2": {**TINY, "stem": "stride2"}}
IMAGE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("runs")
    for name, method in NETWORKS.items():
        trial(home / name, method, given=MethodContext(8, 40, ()), image_size=8)
    return home


@pytest.fixture(scope="module")
def exports(home, tmp_path_factory):
    """The run and the export of each network."""
    out = tmp_path_factory.mktemp("exports")
    runs = {name: resolve_run(name, home, "") for name in NETWORKS}
    for name, run in runs.items():
        export(run, open_format("timm"), out / name)
    return {name: (run, out / name) for name, run in runs.items()}


def code_of(card):
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]


def test_the_front_matter_is_what_the_hub_reads(exports):
    run, folder = exports["imagenet"]
    text = hub_card(folder, run, HubModel("me/encoder"))
    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("timm", "image-feature-extraction", None)
    assert {"timm", "raydistill", "simclr", "knowledge-distillation"} <= set(data.tags)
    assert data.datasets is None
    assert data.eval_results is None, "scores of the run's own splits are no results of a benchmark"
    assert "\nlicense:" not in text
    body = ModelCard(text).text
    assert body.lstrip().startswith(f"# {run.run}")
    own = (folder / "README.md").read_text()
    assert "---" not in own.splitlines()[0]
    for section in own.split("\n## ")[2:]:
        assert section.strip() in body
    assert 'timm.create_model("hf-hub:me/encoder", pretrained=True)' in code_of(body)


def test_where_timm_would_build_another_network_its_line_is_not_offered(exports):
    run, folder = exports["stride2"]
    card = ModelCard(hub_card(folder, run, HubModel("me/encoder")))
    assert card.data.library_name is None
    assert "timm" not in card.data.tags
    assert "create_model" not in card.text
    assert 'snapshot_download("me/encoder")' in code_of(card.text)


def test_the_licence_is_what_is_given_else_what_the_hub_has(exports):
    run, folder = exports["imagenet"]
    there = {"license": "apache-2.0", "language": "en", "tags": ["digits"], "library_name": "other"}
    kept = ModelCard(hub_card(folder, run, HubModel("me/encoder"), there))
    assert (kept.data.license, kept.data.language, kept.data.library_name) == ("apache-2.0", "en", "timm")
    assert kept.data.tags[-1] == "digits"
    assert "## Licence\n\n`apache-2.0`. The images" in kept.text
    given = ModelCard(hub_card(folder, run, HubModel("me/encoder", licence="mit"), there))
    assert given.data.license == "mit"
    assert "choose one" not in given.text


def test_a_data_set_of_the_hub_is_named(exports):
    run, folder = exports["imagenet"]
    data = run.config.data.model_copy(update={"source": "hf:owner/photos@v1/data"})
    run = type(run)(**{**vars(run), "config": run.config.model_copy(update={"data": data})})
    assert ModelCard(hub_card(folder, run, HubModel("me/encoder"))).data.datasets == ["owner/photos"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("hf:owner/photos", "owner/photos"),
        ("hf:mnist@main", "mnist"),
        ("digits", None),
        ("/a/hf:b", None),
        ("hf:a b", None),
    ],
)
def test_the_name_of_a_source_on_the_hub(source, name):
    assert repository(source) == name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "onnx", "--push", "me/x"], "--push me/x: needs --format timm"),
        (["--format", "timm", "--push", "encoder"], "give OWNER/NAME, such as your-name/encoder"),
        (["--format", "timm", "--push", "me/a b"], "--push me/a b: Repo id must use"),
        (["--format", "timm", "--private"], "--private: belongs to --push OWNER/NAME"),
        (["--format", "timm", "--license", "mit"], "--license: belongs to --push OWNER/NAME"),
        (["--format", "timm", "--push", "me/x"], "there is no token of the Hugging Face Hub; run `hf auth login`"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_anything_is_built(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr(sys, "argv", ["raydistill", "export", "no-such-run", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_offline_hub_is_said_to_be(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        HubModel("me/encoder").check("timm")


def test_no_error_shows_a_token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with (
        pytest.raises(uploads.HubError, match=r"refuses or does not answer: token \*\*\* is bad$"),
        uploads._told("a/b"),
    ):
        raise OSError(f"token {TOKEN}\n is bad")


@pytest.fixture(scope="module")
def hub():
    with hub_server() as (models, address):
        yield models, address


def environment(address, folder, token=TOKEN):
    """The library reads these when it is imported, so what talks to the server is a process of its own."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return {**known, "HF_ENDPOINT": address, "HF_HOME": str(folder / "hf"), "HF_TOKEN": token}


def run(folder, address, *words, token=TOKEN):
    done = subprocess.run(
        [sys.executable, "-m", "raydistill", "export", *words],
        cwd=folder,
        env=environment(address, folder, token),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert TOKEN not in done.stdout + done.stderr
    return done


def embedding(code, folder, address):
    (folder / "image.png").write_bytes(png(IMAGE))
    program = f"import sys\nsys.modules['raydistill'] = None\n{code}\nimport numpy\n"
    program += "numpy.save('read.npy', embeddings.detach().numpy())"
    words = [sys.executable, "-c", program]
    done = subprocess.run(
        words, cwd=folder, env=environment(address, folder), capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return np.load(folder / "read.npy")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_card_on_the_hub_loads_the_same_encoder(home, exports, hub, tmp_path, name):
    models, address = hub
    done = run(tmp_path, address, name, "--storage", str(home), "--format", "timm", "--push", f"me/{name}", "--private")
    assert done.returncode == 0, done.stderr
    assert f"pushed to {address}/me/{name}" in done.stdout
    model = models.models[f"me/{name}"]
    assert model.private
    folder = tmp_path / "exports" / f"{name}-timm"
    assert set(model.files) == {path.name for path in folder.iterdir()}
    same = {file for file, content in model.files.items() if content == (folder / file).read_bytes()}
    assert set(model.files) - same == {"README.md"}
    found = embedding(code_of(model.files["README.md"].decode()), tmp_path, address)
    encoder, _ = exports[name]
    expected = embed_plain(choose(encoder, "student"), [IMAGE], 8).numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.slow
def test_a_second_push_keeps_the_licence_and_what_is_public_stays_so_knowingly(home, hub, tmp_path):
    models, address = hub
    there = models.model("me/again", notes=b"mine", **{"README.md": b"---\nlicense: cc-by-4.0\n---\n# Mine\n"})
    words = ["imagenet", "--storage", str(home), "--format", "timm", "--push", "me/again"]
    refused = run(tmp_path, address, *words, "--private")
    assert refused.returncode == 2
    assert "--private: me/again exists and is public" in refused.stderr
    assert not (tmp_path / "exports").exists()
    done = run(tmp_path, address, *words)
    assert done.returncode == 0, done.stderr
    assert ModelCard(there.files["README.md"].decode()).data.license == "cc-by-4.0"
    assert there.files["notes"] == b"mine"


@pytest.mark.slow
def test_a_hub_that_refuses_is_quoted_in_one_line(home, hub, tmp_path):
    models, address = hub
    models.refused.add("theirs")
    words = ["imagenet", "--storage", str(home), "--format", "timm", "--push"]
    refused = run(tmp_path, address, *words, "theirs/encoder")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "no right to create models of theirs" in refused.stderr
    assert "the same command with --overwrite tries again" in refused.stderr
    assert (tmp_path / "exports/imagenet-timm/model.safetensors").exists()
    unknown = run(tmp_path / "exports", address, *words, "me/encoder", token="hf_unknown_token")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("error: --push me/encoder: the Hugging Face Hub refuses or does not answer")
    assert "hf_unknown_token" not in unknown.stderr
    assert not (tmp_path / "exports/exports").exists()
    away = run(tmp_path / "exports", "http://127.0.0.1:9", *words, "me/encoder")
    assert (away.returncode, away.stderr.count("\n")) == (1, 1)
    assert "refuses or does not answer" in away.stderr
