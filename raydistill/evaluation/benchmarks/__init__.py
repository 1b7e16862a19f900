"""Published benchmarks of features: their folders, networks and measures, which the tasks use."""
