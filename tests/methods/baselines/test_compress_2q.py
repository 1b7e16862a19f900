"""CompRess with a queue for each network."""

import torch
from helpers.rows import batch_for, make

from raydistill.methods import StepInfo

PROGRESS = StepInfo(1, 10)


class TestTwoQueues:
    def test_the_students_queue_takes_the_momentum_copy(self):
        method = make("compress_2q", head="linear")
        batch = batch_for(method)
        method.loss(batch, PROGRESS)
        kept = method._rows[1]
        method.after_step(PROGRESS)
        assert torch.equal(method.student_queue.rows[-6:], kept)
        assert not any(p.requires_grad for p in method.momentum_backbone.parameters())
