"""Finds what makes a host wait for its GPU, on a CPU: numbers read off tensors, and shapes that depend on values."""

from contextlib import contextmanager

from torch.utils._python_dispatch import TorchDispatchMode

READS = {"_local_scalar_dense", "is_nonzero", "item", "equal", "allclose"}
SHAPES = {"nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave"}


class _Watch(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        # A mask as index is `nonzero` on a GPU.
        masked = name in ("index", "index_put", "index_put_") and any(
            each is not None and each.dtype.is_floating_point is False and str(each.dtype) == "torch.bool"
            for each in args[1]
        )
        if name in READS | SHAPES or masked:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def host_waits():
    """The names of the operations in this block for which a host would wait."""
    with _Watch() as watch:
        yield watch.found
