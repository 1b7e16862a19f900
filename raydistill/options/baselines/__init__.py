"""Options of the baselines, a file each."""
