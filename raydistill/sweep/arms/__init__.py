"""Sweeps that compare given arms, as experiments have them, instead of searching for a winner."""
