"""Upload of an export to the Hugging Face Hub, with a model card in the Hub's format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydistill.artifacts.sources import PROVENANCE
from raydistill.config import ConfigError
from raydistill.data.layouts.hub import repository
from raydistill.errors import RaydistillError
from raydistill.export.formats import timm
from raydistill.export.run import ResolvedRun
from raydistill.export.write import CARD
from raydistill.redaction import redact_environment

FORMAT = "timm"
TASK = "image-feature-extraction"
TAGS = (TASK, "raydistill", "self-supervised-learning", "knowledge-distillation")
LICENCE = "## Licence\n\nNone is given: choose one. The images"


class HubError(RaydistillError, RuntimeError):
    """The Hub cannot be reached, or refuses; the message is its own, without secrets."""


@dataclass(frozen=True)
class HubModel:
    """Model on the Hub: `repo` is OWNER/NAME. A new one is private if that is wanted."""

    repo: str
    private: bool = False
    licence: str | None = None

    def check(self, form: str) -> None:
        """Refuse what cannot work, before anything is built.

        Raises:
            ConfigError: another format than timm's, a wrong name, no token, or a public model that is to be private.
            HubError: the Hub does not answer, or refuses the token.
        """
        from huggingface_hub import constants, get_token
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
        from huggingface_hub.utils import validate_repo_id

        if form != FORMAT:
            raise ConfigError(f"--push {self.repo}: needs --format timm")
        try:
            validate_repo_id(self.repo)
        except HFValidationError as error:
            raise ConfigError(f"--push {self.repo}: {error}") from None
        if "/" not in self.repo:
            raise ConfigError(f"--push {self.repo}: give OWNER/NAME, such as your-name/{self.repo}")
        if constants.HF_HUB_OFFLINE:
            raise ConfigError(f"--push {self.repo}: HF_HUB_OFFLINE is set; unset it")
        if not get_token():
            raise ConfigError(
                f"--push {self.repo}: there is no token of the Hugging Face Hub; run `hf auth login`, or set HF_TOKEN "
                "to a token with write access"
            )
        with _told(self.repo):
            _api().whoami()
            try:
                known = _api().repo_info(self.repo)
            except RepositoryNotFoundError:
                return
        if self.private and not known.private:
            raise ConfigError(f"--private: {self.repo} exists and is public; change that on its page, or leave it out")

    def push(self, folder: Path, found: ResolvedRun) -> str:
        """Upload an export in one commit. Returns: its address. Raises: HubError."""
        from huggingface_hub import CommitOperationAdd

        files = json.loads((folder / PROVENANCE).read_text())["files"]
        with _told(self.repo, f"; the export is in {folder}, and the same command with --overwrite tries again"):
            address = _api().create_repo(self.repo, private=self.private or None, exist_ok=True)
            card = hub_card(folder, found, self, self._metadata())
            operations = [
                CommitOperationAdd(name, card.encode() if name == CARD else str(folder / name)) for name in files
            ]
            _api().create_commit(self.repo, operations, commit_message=f"Export of {found.run} by raydistill")
        return str(address)

    def _metadata(self) -> dict[str, Any]:
        """Front matter that the model has on the Hub, such as a licence that was chosen there."""
        from huggingface_hub import ModelCard, hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            there = hf_hub_download(self.repo, CARD, endpoint=_api().endpoint, force_download=True)
        except EntryNotFoundError:
            return {}
        known: dict[str, Any] = ModelCard(Path(there).read_text(), ignore_metadata_errors=True).data.to_dict()
        return known


def hub_card(folder: Path, found: ResolvedRun, model: HubModel, known: dict[str, Any] | None = None) -> str:
    """The card of an export as the Hub shows it: front matter, how to load it from there, and the export's own text.

    It has no `model-index`: whoever reads one takes its scores for those of a data set's own test split, and the splits
    and the protocol here are the run's.

    Args:
        folder: the export.
        found: its run.
        model: where it goes.
        known: front matter that is there already and stays, unless it is written anew.
    """
    from huggingface_hub import ModelCardData

    # For a network that timm alone builds otherwise, the Hub must not offer timm's line of code.
    alone = not timm.needs_load(folder)
    known = dict(known or {})
    tags = [*TAGS, found.config.method.name, *(["timm"] if alone else [])]
    source = repository(found.config.data.source)
    own = {
        "library_name": "timm" if alone else None,
        "pipeline_tag": TASK,
        "tags": list(dict.fromkeys([*tags, *(known.pop("tags", None) or [])])),
        "license": model.licence or known.pop("license", None),
        "datasets": [source] if source else known.pop("datasets", None),
    }
    known.pop("library_name", None)
    data = ModelCardData(**{**known, **own})
    text = (folder / CARD).read_text()
    if licence := own["license"]:
        text = text.replace(LICENCE, f"## Licence\n\n`{licence}`. The images", 1)
    title, _, rest = text.partition("\n## Load it\n")
    load = f"## Load it from the Hub\n\n{_usage(model.repo, alone)}\n\n## Load it from its folder\n"
    return f"---\n{data.to_yaml()}\n---\n\n{title}\n{load}{rest}"


def _usage(repo: str, alone: bool) -> str:
    """Python that loads the encoder and its preprocessing from the Hub."""
    made = f'timm.create_model("hf-hub:{repo}", pretrained=True).eval()'
    made = made if alone else 'runpy.run_path(f"{folder}/load.py")["load"]()'
    code = f"""import runpy

{"import timm" if alone else ""}
from huggingface_hub import snapshot_download

folder = snapshot_download("{repo}")
encoder = {made}
preprocess = runpy.run_path(f"{{folder}}/preprocess.py")["preprocess"]
embeddings = encoder(preprocess([open("image.png", "rb").read()]))"""
    return f"```python\n{code}\n```".replace("\n\n\n", "\n\n")


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(library_name="raydistill")


@contextmanager
def _told(repo: str, advice: str = "") -> Iterator[None]:
    """Make one line of what the Hub and the network raise, with an advice at its end."""
    from huggingface_hub.errors import HfHubHTTPError

    # Its base is the error of whatever HTTP library huggingface_hub uses, which also stands for a lost connection.
    (network, *_) = HfHubHTTPError.__bases__
    try:
        yield
    except (network, OSError, ValueError) as error:
        said = " ".join(redact_environment(str(error)).split()) or type(error).__name__
        raise HubError(
            f"--push {repo}: the Hugging Face Hub refuses or does not answer: {said[:400]}{advice}"
        ) from None
