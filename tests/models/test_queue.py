"""Queues of embeddings, and the log of a teacher's embeddings that they share."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.models.queue import ALIGNMENT, EmbeddingLog, Queue, TeacherBatch, aligned_copy

ACTS = ("share", "share", "share", "own", "wait", "load", "copy")


def random_rows(seed, n, dim):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator, dtype=torch.float64).float()


@pytest.mark.fault(19)
@settings(max_examples=200, deadline=None)
@given(st.integers(1, 9), st.lists(st.integers(1, 14), min_size=1, max_size=6))
def test_the_queue_holds_the_newest_rows(size, batches):
    queue, seen = Queue(size, 1), []
    for count in batches:
        new = torch.arange(len(seen), len(seen) + count, dtype=torch.float32)[:, None] + 100
        seen += new[:, 0].tolist()
        queue.push(new)
    newest = seen[-size:]
    assert queue.rows[size - len(newest) :, 0].tolist() == newest


class TestSharedLog:
    """Queues that take a teacher's entries hold what queues of their own would."""

    @staticmethod
    def entries(log, *, n=4, seed=0, dim=3):
        return TeacherBatch(random_rows(seed, n, dim), log)

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(st.integers(1, 12), min_size=1, max_size=4),
        st.lists(st.tuples(st.integers(1, 9), st.lists(st.sampled_from(ACTS), min_size=4, max_size=4)), max_size=16),
    )
    def test_is_the_newest_rows_of_each_queue(self, sizes, steps):
        """Each queue shares the batch, takes rows of its own, waits, or is copied or loaded before it shares."""
        log = EmbeddingLog()
        queues = [Queue(size, 3) for size in sizes]
        models = [list(queue.rows.clone()) for queue in queues]
        for number, (n, acts) in enumerate(steps):
            batch = self.entries(log, n=n, seed=number)
            for k, (size, act) in enumerate(zip(sizes, acts, strict=False)):
                assert torch.equal(queues[k].similarities(batch), batch.rows @ aligned_copy(torch.stack(models[k])).T)
                if act == "load":
                    other = Queue(size, 3)
                    other.load_state_dict(queues[k].state_dict())
                    queues[k].load_state_dict(copy.deepcopy(queues[k].state_dict()))
                    queues[k] = other
                elif act == "copy":
                    queues[k] = copy.deepcopy(queues[k])
                if act == "wait":
                    continue
                queues[k].push(batch.rows + 1 if act == "own" else batch)
                models[k] = [*models[k], *(batch.rows + 1 if act == "own" else batch.rows)][-size:]
            for queue, model in zip(queues, models, strict=True):
                assert torch.equal(queue.rows, torch.stack(model))
                assert queue.rows.data_ptr() % ALIGNMENT == queue.rows.stride(0) * 4 % ALIGNMENT == 0

    def test_queues_of_any_length_lie_in_one_block_of_little_more_than_the_longest(self):
        log, queues = EmbeddingLog(), [Queue(size, 16) for size in (64, 512, 512)]
        for number in range(200):
            batch = self.entries(log, seed=number, dim=16)
            for queue in queues:
                queue.push(batch)
        blocks = [queue.rows.untyped_storage() for queue in queues]
        assert len({block.data_ptr() for block in blocks}) == 1
        assert blocks[0].nbytes() < 1.25 * 512 * 16 * 4

    def test_the_block_shrinks_when_the_longest_queue_has_gone(self):
        log, long, short = EmbeddingLog(), Queue(512, 16), Queue(8, 16)
        for number in range(400):
            batch = self.entries(log, seed=number, dim=16)
            for queue in (long, short)[number > 200 :]:
                queue.push(batch)
        assert short.rows.untyped_storage().nbytes() < 64 * 16 * 4
        assert torch.equal(short.rows[-4:], batch.rows)

    def test_a_state_is_loaded_beside_the_log_not_into_it(self):
        log, one, other = EmbeddingLog(), Queue(8, 3), Queue(8, 3)
        for number in range(3):
            batch = self.entries(log, seed=number)
            one.push(batch), other.push(batch)
        kept = other.rows.clone()
        one.load_state_dict(Queue(8, 3).state_dict())
        assert torch.equal(other.rows, kept)
        assert list(one.state_dict()) == ["rows"]
