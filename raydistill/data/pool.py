"""Threads that decode and augment images. Pillow and torch let go of Python's lock while they work on pixels."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import torch

from raydistill.machine import usable_cores

_MOST_THREADS = 16
_share = 0  # of the machine's cores; 0: all of them


def limit_threads(cores: int) -> None:
    """Have at most so many threads in this process, which shares its machine; before the first image is read."""
    global _share
    _share = cores


# docs/architecture.md#threads-for-images
@functools.cache
def pool() -> ThreadPoolExecutor:
    """The threads of this process. Work that itself waits for this pool may wait for ever."""
    torch.get_num_threads()  # from here on, what the threads of the pool set is not this thread's number
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=pool.cache_clear)  # a child has none of its parent's threads
    # One thread of torch in each: teams of all cores would fight each other.
    return ThreadPoolExecutor(
        min(_MOST_THREADS, _share or max(1, int(usable_cores()))),
        thread_name_prefix="images",
        initializer=torch.set_num_threads,
        initargs=(1,),
    )
