"""Memory that runs out is told from GPUs that failed, and rows go through in halves."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raydistill.training.memory import in_parts, lost_device, out_of_memory

MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("CUDA error: out of memory"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"),
]
LOST = [
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
]
OTHER = [RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x8 and 16x2)"), ValueError("CUDA error: no")]


@pytest.mark.parametrize(
    ("error", "memory", "lost"),
    [
        *((e, True, False) for e in MEMORY),
        *((e, False, True) for e in LOST),
        *((e, False, False) for e in OTHER),
    ],
    ids=str,
)
def test_errors_are_told_apart(error, memory, lost):
    assert (out_of_memory(error), lost_device(error)) == (memory, lost)


@given(st.integers(1, 40), st.integers(1, 40))
def test_rows_go_through_in_as_few_halves_as_fit(rows, room):
    sizes = []

    def double(batch):
        sizes.append(len(batch))
        if len(batch) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 2 * batch

    batch = torch.arange(rows * 3).view(rows, 3)
    assert torch.equal(in_parts(double, batch), 2 * batch)
    fitting = [size for size in sizes if size <= room]
    assert sum(fitting) == rows
    assert all(2 * size + 1 > room for size in fitting) or len(sizes) == 1


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("another")])
def test_a_single_row_or_another_error_is_raised(error):
    def fail(batch):
        raise error

    with pytest.raises(RuntimeError, match=str(error)):
        in_parts(fail, torch.zeros(1 if out_of_memory(error) else 4, 2))
