"""Teachers from folders as timm and Hugging Face transformers write them. No code of a folder is ever executed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from raydistill.models.backbones import Backbone
from raydistill.models.layouts import CLASSIFIERS, IMAGENET, PLAIN_PIXELS
from raydistill.models.released import load_weights, read_tensors
from raydistill.models.teacher import Normalization, TeacherError
from raydistill.models.transformers_names import backbone_of, timm_state

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
INDEX = ".index.json"
WEIGHTS = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
WRAPPED = "timm_model."  # transformers' wrapper of timm's networks
# Arguments of timm's networks that change no feature, or that are checked otherwise.
HARMLESS = {"img_size", "in_chans", "num_classes", "global_pool", "dynamic_img_size", "strict_img_size"}
BYTE = 1 / 255  # transformers' factor for pixels in [0, 1]


class HubFolder(NamedTuple):
    """A folder's network and normalisation, as its files say without the weights."""

    path: Path
    library: str  # timm or transformers
    backbone: str
    normalization: Normalization
    files: tuple[str, ...]  # names of all that the teacher is made from, weights last
    config: dict[str, Any]

    def digest(self) -> str:
        """SHA-256 of the files and their names."""
        whole = hashlib.sha256()
        for name in self.files:
            with (self.path / name).open("rb") as file:
                whole.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return whole.hexdigest()


def is_hub_folder(folder: Path) -> bool:
    return (folder / CONFIG).is_file()


def read_folder(folder: Path) -> HubFolder:
    """Read all but the weights of a folder with a `config.json` of timm or transformers.

    Raises: TeacherError naming the folder, for a network that is not supported, or a file that is missing or damaged.
    """
    weights, preprocessor, read = _weights(folder), folder / PREPROCESSOR, CONFIG
    try:
        config = _json(folder / CONFIG)
        if "architecture" in config:
            backbone, normalization = _timm_backbone(config), _timm_normalization(config)
            return HubFolder(folder, "timm", backbone, normalization, (CONFIG, *weights), config)
        backbone = backbone_of(config)
        if not preprocessor.is_file():
            return HubFolder(folder, "transformers", backbone, IMAGENET, (CONFIG, *weights), config)
        read = PREPROCESSOR
        normalization = _normalization(_json(preprocessor))
    except TeacherError as error:
        raise TeacherError(f"{folder / read}: {error}") from None
    return HubFolder(folder, "transformers", backbone, normalization, (CONFIG, PREPROCESSOR, *weights), config)


def load_folder(found: HubFolder, *, image_size: int) -> Backbone:
    """The network with the weights of its folder, and without its classifier.

    Raises: TeacherError naming the folder for weights that are damaged, hold more than tensors, or are of another
    network; ValueError for images of a size that the network cannot take.
    """
    tensors: dict[str, Tensor] = {}
    for name in found.files:
        if not name.endswith(".json"):
            tensors |= read_tensors(found.path / name)
    network = Backbone(found.backbone, stem="imagenet", image_size=image_size)
    try:
        if found.library == "timm":
            state = _without_classifier(tensors, found.config, network)
            _check_pooling(found.config, network)
        else:
            state = timm_state(found.config["model_type"], tensors)
        load_weights(network, state)
    except TeacherError as error:
        raise TeacherError(f"{found.path}, read as {found.backbone} from {found.library}: {error}") from None
    return network


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TeacherError(f"cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise TeacherError("is no JSON object")
    return content


def _weights(folder: Path) -> tuple[str, ...]:
    """The files of weights; those of an index are in the folder itself."""
    name = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    if name is None:
        raise TeacherError(f"{folder} holds a {CONFIG} and no weights; looked for {', '.join(WEIGHTS)}")
    if not name.endswith(INDEX):
        return (name,)
    try:
        parts = _json(folder / name).get("weight_map")
    except TeacherError as error:
        raise TeacherError(f"{folder / name}: {error}") from None
    if not isinstance(parts, dict) or not parts:
        raise TeacherError(f"{folder / name}: has no weight_map")
    files = sorted({str(file) for file in parts.values()})
    for file in files:
        if Path(file).name != file or not (folder / file).is_file():
            raise TeacherError(f"{folder / name}: names {file!r}, which is no file in the folder")
    return (name, *files)


def _timm_backbone(config: dict[str, Any]) -> str:
    """Name the backbone. Raises: TeacherError for a network unknown to timm, or one that was built otherwise."""
    import timm  # docs/architecture.md#late-imports

    architecture, arguments = config["architecture"], config.get("model_args") or {}
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise TeacherError(f"architecture {architecture!r} is unknown to timm {timm.__version__}")
    other = sorted(name for name in arguments if name not in HARMLESS and not name.endswith(("drop_rate", "path_rate")))
    if other:
        raise TeacherError(
            f"model_args change {architecture} by {', '.join(other)}; only networks as timm registers them can be read"
        )
    return f"timm:{architecture}"


def _timm_normalization(config: dict[str, Any]) -> Normalization:
    published = _published(config)
    return _channels("mean", published.get("mean"), IMAGENET[0]), _channels("std", published.get("std"), IMAGENET[1])


def _published(config: dict[str, Any]) -> dict[str, Any]:
    """`pretrained_cfg`; old versions of timm wrote its fields beside the architecture."""
    published = config.get("pretrained_cfg", config)
    return published if isinstance(published, dict) else {}


def _normalization(config: dict[str, Any]) -> Normalization:
    """The normalisation that an image processor of transformers applies to pixels in [0, 1]."""
    factor = config.get("rescale_factor", BYTE)
    if not config.get("do_rescale", True) or not isinstance(factor, float) or abs(factor - BYTE) > 1e-6:
        raise TeacherError("pixels are rescaled by another factor than 1/255")
    if not config.get("do_normalize", True):
        return PLAIN_PIXELS
    return (
        _channels("image_mean", config.get("image_mean"), IMAGENET[0]),
        _channels("image_std", config.get("image_std"), IMAGENET[1]),
    )


def _channels(name: str, values: Any, default: tuple[float, ...]) -> tuple[float, ...]:
    """Three numbers of a file.

    Args:
        name: of the setting.
        values: as they were read; None where they are left out.
        default: for None.

    Raises: TeacherError for anything else.
    """
    if values is None:
        return default
    numbers = isinstance(values, list) and len(values) == 3 and all(isinstance(value, int | float) for value in values)
    if not numbers or (name.endswith("std") and min(values) <= 0):
        raise TeacherError(
            f"{name} = {values!r}: three numbers are needed, for red, green and blue; a deviation is positive"
        )
    return tuple(map(float, values))


def _without_classifier(tensors: dict[str, Tensor], config: dict[str, Any], network: Backbone) -> dict[str, Tensor]:
    """The tensors of a timm network, without those of its classifier.

    Args:
        tensors: of the file.
        config: names the classifier.
        network: whose own tensors stay.
    """
    named = _published(config).get("classifier") or ()
    classifiers = [f"{name}." for name in ([named] if isinstance(named, str) else named)]
    state = {name.removeprefix(WRAPPED): value for name, value in tensors.items()}
    expected = network.net.state_dict()
    passed_over = (*CLASSIFIERS, *classifiers)
    return {name: value for name, value in state.items() if name in expected or not name.startswith(passed_over)}


def _check_pooling(config: dict[str, Any], network: Backbone) -> None:
    """Compare how a ViT pools. Raises: TeacherError for another way than that of timm's network."""
    asked, own = config.get("global_pool"), getattr(network.net, "global_pool", None)
    if isinstance(asked, str) and isinstance(own, str) and asked != own:
        raise TeacherError(f"{CONFIG} has global_pool {asked!r}, and {network.name} pools by {own!r}")
