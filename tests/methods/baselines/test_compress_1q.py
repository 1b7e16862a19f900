"""CompRess with one queue."""

import pytest
import torch
from helpers.rows import make


def rows(seed, *shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


class TestOneQueue:
    def test_queues_start_uniform_within_their_bound(self):
        rows = make("compress_1q").teacher_queue.rows
        bound = (3 / rows.shape[1]) ** 0.5
        assert rows.abs().max() <= bound
        assert rows.abs().max() > 0.9 * bound

    def test_one_queue_needs_a_head(self):
        from raydistill.config import ConfigError

        with pytest.raises(ConfigError, match="linear or mlp4"):
            make("compress_1q", head="none")
