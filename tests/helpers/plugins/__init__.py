"""Pytest plugins."""
