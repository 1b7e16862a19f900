"""Sweeps over self-supervised distillation: one command from a laptop to a cluster."""

__version__ = "0.1.0"
