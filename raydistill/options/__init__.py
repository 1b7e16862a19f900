"""What each method lets you choose: fields, bounds and the values the paper or the released code uses.

Declarations only, free of torch, so that a mistyped option is reported before anything heavy is imported.
The networks and losses are in `raydistill.methods`, one file per method.
"""

from __future__ import annotations

from importlib import import_module

from raydistill.options.base import LabelSource, MethodConfig, Output, RecipeName

__all__ = ["METHODS", "LabelSource", "MethodConfig", "Output", "RecipeName", "find"]

METHODS: dict[str, str] = {
    "sdssl": "raydistill.options.sdssl:SDSSLConfig",
    "sssd": "raydistill.options.clusters:SSSDConfig",
    "simreg": "raydistill.options.regression:SimRegConfig",
    "seed": "raydistill.options.queues:SEEDConfig",
    "dogo": "raydistill.options.peers:DoGoConfig",
    "simclr": "raydistill.options.peers:SimCLRConfig",
    "simsiam": "raydistill.options.peers:SimSiamConfig",
    "byol": "raydistill.options.momentum:BYOLConfig",
    "mocov2": "raydistill.options.momentum:MoCoV2Config",
    "mocov3": "raydistill.options.momentum:MoCoV3Config",
    "compress_1q": "raydistill.options.queues:CompRess1qConfig",
    "compress_2q": "raydistill.options.queues:CompRess2qConfig",
    "crd": "raydistill.options.queues:CRDConfig",
    "regress": "raydistill.options.regression:RegressConfig",
    "regress_bn": "raydistill.options.regression:RegressBNConfig",
    "cc": "raydistill.options.clusters:CCConfig",
    "clusterfit": "raydistill.options.clusters:ClusterFitConfig",
    "supervised_kd": "raydistill.options.regression:SupervisedKDConfig",
}
"""Every method by name, and where its options are; imported when asked for."""


def find(name: str) -> type[MethodConfig]:
    """The options of the method called `name`. Raises KeyError for an unknown one."""
    module, _, options = METHODS[name].partition(":")
    found: type[MethodConfig] = getattr(import_module(module), options)
    return found
