"""What each method lets you choose: fields, bounds and the values the paper or the released code uses.

Declarations only, free of torch, so that a mistyped option is reported before anything heavy is imported.
The networks and losses are in `raydistill.methods`, one file per method.
"""

from __future__ import annotations

from importlib import import_module

from raydistill.options.base import LabelSource, Options, Output, Recipe

__all__ = ["METHODS", "LabelSource", "Options", "Output", "Recipe", "find"]

METHODS: dict[str, str] = {
    "sdssl": "raydistill.options.sdssl:SDSSLOptions",
    "sssd": "raydistill.options.clusters:SSSDOptions",
    "simreg": "raydistill.options.regression:SimRegOptions",
    "seed": "raydistill.options.queues:SEEDOptions",
    "dogo": "raydistill.options.peers:DoGoOptions",
    "simclr": "raydistill.options.peers:SimCLROptions",
    "simsiam": "raydistill.options.peers:SimSiamOptions",
    "byol": "raydistill.options.momentum:BYOLOptions",
    "mocov2": "raydistill.options.momentum:MoCoV2Options",
    "mocov3": "raydistill.options.momentum:MoCoV3Options",
    "compress_1q": "raydistill.options.queues:CompRess1qOptions",
    "compress_2q": "raydistill.options.queues:CompRess2qOptions",
    "crd": "raydistill.options.queues:CRDOptions",
    "regress": "raydistill.options.regression:RegressOptions",
    "regress_bn": "raydistill.options.regression:RegressBNOptions",
    "cc": "raydistill.options.clusters:CCOptions",
    "clusterfit": "raydistill.options.clusters:ClusterFitOptions",
    "supervised_kd": "raydistill.options.regression:SupervisedKDOptions",
}
"""Every method by name, and where its options are; imported when asked for."""


def find(name: str) -> type[Options]:
    """The options of the method called `name`. Raises KeyError for an unknown one."""
    module, _, options = METHODS[name].partition(":")
    found: type[Options] = getattr(import_module(module), options)
    return found
