"""CC, cluster classification (CompRess's baseline): ClusterFit with other clusters, iterations and views."""

from __future__ import annotations

from raydistill.methods.baselines.clusterfit import ClusterFit


class CC(ClusterFit):
    """A backbone and a linear classifier of pseudo labels."""
