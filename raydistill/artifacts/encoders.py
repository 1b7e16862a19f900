"""An encoder in a file of weights that says how its network is built: what `--format safetensors` exports."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from raydistill import config as configuration
from raydistill import methods
from raydistill.artifacts.sources import PROVENANCE
from raydistill.artifacts.teachers import given_from
from raydistill.config import Config, ConfigError

WEIGHTS = "encoder.safetensors"
FORMAT = "raydistill-encoder-1"


def save(encoder: nn.Module, name: str, config: Config, given: dict[str, Any], folder: Path) -> None:
    """Write an encoder that `load` can build again.

    Args:
        encoder: the network.
        name: of the encoder within its method.
        config: of the run.
        given: what its method was built for, as a checkpoint holds it.
        folder: receives the files.
    """
    architecture = {"method": configuration.dump(config)["method"], "given": given, "encoder": name}
    state = {key: value.contiguous().clone() for key, value in encoder.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": FORMAT, "architecture": json.dumps(architecture)})


def load(folder: Path) -> nn.Module:
    """The encoder in an export: preprocessed images (N, 3, S, S) -> embeddings (N, `dim`); in eval mode.

    Raises: ConfigError for a folder that holds none in this format, or a damaged one.
    """
    path = folder / WEIGHTS
    if not path.exists():
        raise ConfigError(f"{folder} holds no {WEIGHTS}; of exports, raydistill reads those of --format safetensors")
    try:
        _check_sum(path)
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']!r}")
        plain = json.loads(about["architecture"])
        options = configuration.load({"method": plain["method"]}).method
        encoder = methods.build(options, given_from(plain), seed=0).encoders()[plain["encoder"]]
        encoder.load_state_dict(state)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ConfigError(f"{path}: damaged, or not of this software ({' '.join(str(error).split())})") from None
    return encoder.eval()


def _check_sum(path: Path) -> None:
    """Compare the file with the provenance beside it, if that is written yet. Raises ValueError for another file."""
    beside = path.with_name(PROVENANCE)
    if beside.exists():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if json.loads(beside.read_text())["weights"]["sha256"] != found:
            raise ValueError("checksum mismatch")
