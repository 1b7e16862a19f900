"""Vision transformers as MoCo v3 and SDSSL build them, on timm's, and the class token after every block."""

from __future__ import annotations

import copy
import math
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

NAME = re.compile(r"vit_(?:(tiny|small|base)|w(\d+))(?:_p(\d+))?(?:_d(\d+))?")
SIZES = {"tiny": (192, 6), "small": (384, 12), "base": (768, 12)}
BLOCKS = 12
TEMPERATURE = 10_000.0
Maps = tuple[Tensor, Tensor]


def build_vit(name: str, image_size: int) -> VisionTransformer:
    """`vit_{tiny,small,base,wWIDTH}[_pPATCH][_dBLOCKS]`: class token, fixed 2-D sin-cos positions, frozen patches.

    Args:
        name: width in dimensions (one head for 32), patch in pixels (a quarter of the image), 12 blocks.
        image_size: pixels.

    Raises: ValueError for a patch that does not divide the image, a width that its heads do not divide, or a zero.
    Source: facebookresearch/moco-v3, vits.py; hagiss/SDSSL, whose tiny has 6 heads.
    """
    from timm.models.vision_transformer import VisionTransformer  # docs/architecture.md#late-imports

    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"backbone {name!r}: write vit_tiny, vit_small, vit_base or vit_w64, then _p8 and _d6")
    dim, heads = SIZES[match[1]] if match[1] else (int(match[2]), max(1, int(match[2]) // 32))
    patch = int(match[3]) if match[3] else max(1, image_size // 4)
    depth = int(match[4] or BLOCKS)
    if min(dim, patch, depth) < 1:
        raise ValueError(f"backbone {name!r}: width, patch and blocks must be at least 1")
    if image_size % patch:
        raise ValueError(f"backbone {name!r}: patches of {patch} px do not divide images of {image_size} px")
    if dim % heads or dim % 4:
        raise ValueError(f"backbone {name!r}: width {dim} must be a multiple of 4 and of its {heads} heads")
    net = VisionTransformer(
        img_size=image_size,
        patch_size=patch,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        num_classes=0,
        global_pool="token",
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    _initialize(net, patch)
    net.pos_embed = nn.Parameter(sincos_positions(image_size // patch, dim), requires_grad=False)
    return net


def sincos_positions(side: int, dim: int) -> Tensor:
    """(1, 1 + side², dim): zeros for the class token, then sines and cosines of column and row."""
    grid = torch.arange(side, dtype=torch.float32)
    rows, columns = torch.meshgrid(grid, grid, indexing="ij")
    omega = TEMPERATURE ** -(torch.arange(dim // 4, dtype=torch.float32) / (dim // 4))
    parts = [f(axis.flatten()[:, None] * omega) for axis in (columns, rows) for f in (torch.sin, torch.cos)]
    return torch.cat([torch.zeros(1, dim), torch.cat(parts, dim=1)])[None]


def _initialize(net: VisionTransformer, patch: int) -> None:
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear):
            if name.endswith("qkv"):  # three matrices in one
                bound = math.sqrt(6 / (module.out_features // 3 + module.in_features))
                nn.init.uniform_(module.weight, -bound, bound)
            else:
                nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    projection = net.patch_embed.proj
    bound = math.sqrt(6 / (3 * patch**2 + net.embed_dim))
    nn.init.uniform_(projection.weight, -bound, bound)
    nn.init.zeros_(projection.bias)
    projection.requires_grad_(False)
    nn.init.normal_(net.cls_token, std=1e-6)


def block_count(net: nn.Module) -> int:
    """Blocks of a ViT. Raises: ValueError for a network without a class token after each block."""
    if not has_class_tokens(net):
        raise ValueError(f"{type(net).__name__} is no ViT with a class token")
    return len(net.blocks)  # type: ignore[arg-type]


def has_class_tokens(net: nn.Module) -> bool:
    """Return whether the network is a ViT with a class token after each block."""
    return hasattr(net, "forward_intermediates") and getattr(net, "cls_token", None) is not None


def class_tokens(net: nn.Module, images: Tensor, blocks: list[int] | None = None) -> list[Tensor]:
    """Class tokens (N, dim) after each block, through the one final norm; the last is the network's own output.

    Args:
        net: a ViT.
        images: (N, 3, H, W).
        blocks: which blocks, counted from 0; None: all.

    Source: SDSSL section 3.2 and its released code: the norm is shared by all blocks.
    """
    found = net.forward_intermediates(  # type: ignore[operator]
        images,
        indices=blocks,
        return_prefix_tokens=True,
        norm=True,
        stop_early=True,
        output_fmt="NLC",
        intermediates_only=True,
    )
    return [prefix[:, 0] for _, prefix in found]


def token_maps(net: nn.Module, images: Tensor, block: int) -> Maps:
    """Class token (N, D) and patch tokens (N, H', W', D) after a block, through the one final norm.

    Args:
        net: a ViT.
        images: (N, 3, H, W), of any size that its patches divide; positions are interpolated for others than its own.
        block: counted from 0.
    """
    sized = at_size(net, images.shape[-2], images.shape[-1])
    ((patches, prefix),) = sized.forward_intermediates(  # type: ignore[operator]
        images,
        indices=[block],
        return_prefix_tokens=True,
        norm=True,
        stop_early=True,
        output_fmt="NLC",
        intermediates_only=True,
    )
    return prefix[:, 0], patches.unflatten(1, sized.patch_embed.grid_size)  # type: ignore[union-attr]


def at_size(net: nn.Module, height: int, width: int) -> nn.Module:
    """A ViT with the weights of `net` for images of another size; `net` itself where it has this size.

    Args:
        net: the network.
        height, width: pixels.

    Raises: ValueError where its patches do not divide the image.
    """
    embed: Any = net.patch_embed
    patch = embed.patch_size
    if tuple(embed.img_size) == (height, width):
        return net
    if height % patch[0] or width % patch[1]:
        raise ValueError(f"patches of {patch[0]} px do not divide images of {height} by {width} px")
    made: Any = sharing(net, patch_embed=sharing(embed))
    made.set_input_size(img_size=(height, width))
    return made


def sharing(net: nn.Module, **modules: nn.Module | None) -> nn.Module:
    """A network with the modules and the weights of `net`, but for `modules`; None takes one out."""
    made = copy.copy(net)
    kept = {**net._modules, **modules}
    made._modules = {name: module for name, module in kept.items() if module is not None}
    made.__dict__["_parameters"] = dict(net.named_parameters(recurse=False))
    return made


class BlockEncoder(nn.Module):
    """A ViT cut after one of its blocks; shares its modules up to there, and has no others."""

    def __init__(self, net: nn.Module, block: int, dim: int) -> None:
        super().__init__()
        self.net = sharing(net, blocks=net.blocks[: block + 1])  # type: ignore[index, arg-type]
        self.block, self.dim = block, dim

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> the class token (N, dim) after the block, through the final norm."""
        return class_tokens(self.net, images, [self.block])[0]

    def maps(self, images: Tensor) -> Maps:
        """Images (N, 3, H, W) -> the class token (N, dim) and the patch tokens (N, H', W', dim) after the block."""
        return token_maps(self.net, images, self.block)
