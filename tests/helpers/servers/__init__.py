"""Servers and browsers that tests start."""
