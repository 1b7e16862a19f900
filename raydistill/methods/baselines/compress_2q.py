"""CompRess with a queue for each network; the student's is filled by a momentum copy of it."""

from __future__ import annotations

from raydistill.methods.baselines.compress_1q import CompRess


class CompRess2q(CompRess):
    """CompRess whose student is compared with a queue of its own embeddings."""
