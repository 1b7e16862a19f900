"""Data, sweeps and networks that tests make."""
