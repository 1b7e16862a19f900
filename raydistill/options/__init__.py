"""Options of each method: fields, bounds and the values that the paper or the released code uses.

Declarations only, free of torch, so that a mistyped option is reported before anything heavy is imported.
The networks and losses are in `raydistill.methods`, one file per method.
"""

from __future__ import annotations

from importlib import import_module

from raydistill.options.base import LabelSource, MethodConfig, Output, RecipeName

__all__ = ["METHODS", "LabelSource", "MethodConfig", "Output", "RecipeName", "find"]

# docs/architecture.md#method-shelves
METHODS: dict[str, str] = {
    "sdssl": "raydistill.options.sdssl:SDSSLConfig",
    "sssd": "raydistill.options.sssd:SSSDConfig",
    "simreg": "raydistill.options.simreg:SimRegConfig",
    "seed": "raydistill.options.seed:SEEDConfig",
    "dogo": "raydistill.options.dogo:DoGoConfig",
    "seed_blocks": "raydistill.options.hybrids.seed_blocks:SEEDBlocksConfig",
    "simreg_exits": "raydistill.options.hybrids.simreg_exits:SimRegExitsConfig",
    "simclr": "raydistill.options.baselines.simclr:SimCLRConfig",
    "simsiam": "raydistill.options.baselines.simsiam:SimSiamConfig",
    "byol": "raydistill.options.baselines.byol:BYOLConfig",
    "mocov2": "raydistill.options.baselines.mocov2:MoCoV2Config",
    "mocov3": "raydistill.options.baselines.mocov3:MoCoV3Config",
    "compress_1q": "raydistill.options.baselines.compress_1q:CompRess1qConfig",
    "compress_2q": "raydistill.options.baselines.compress_2q:CompRess2qConfig",
    "crd": "raydistill.options.baselines.crd:CRDConfig",
    "regress": "raydistill.options.baselines.regress:RegressConfig",
    "regress_bn": "raydistill.options.baselines.regress_bn:RegressBNConfig",
    "cc": "raydistill.options.baselines.cc:CCConfig",
    "clusterfit": "raydistill.options.baselines.clusterfit:ClusterFitConfig",
    "supervised_kd": "raydistill.options.baselines.supervised_kd:SupervisedKDConfig",
}
"""Every method by name, and where its options are; imported when asked for."""


def find(name: str) -> type[MethodConfig]:
    """The options of the method called `name`. Raises KeyError for an unknown one."""
    # docs/architecture.md#options-apart-from-methods
    module, _, options = METHODS[name].partition(":")
    found: type[MethodConfig] = getattr(import_module(module), options)
    return found
