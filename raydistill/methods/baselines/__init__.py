"""Baselines, a file each."""
