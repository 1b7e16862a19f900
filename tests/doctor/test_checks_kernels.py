"""What is said of the compiled pixel operations."""

import numba
import pytest
from helpers.diagnosis import setup_in

from raydistill.data.views import kernels
from raydistill.doctor.checks_kernels import check_kernels


def test_compiled_code_and_where_it_is_kept(tmp_path):
    (found,) = check_kernels(setup_in(tmp_path))
    assert found.status == "ok"
    assert found.message.endswith(f"kept in {kernels.kept_in()}")


def test_no_place_for_the_code(tmp_path, monkeypatch):
    kept = numba.njit(lambda value: value)
    monkeypatch.setattr(kernels, "resample", kept)
    monkeypatch.setattr(kernels, "prepare", lambda: None)
    (found,) = check_kernels(setup_in(tmp_path))
    assert (found.status, found.fix.split("=")[0]) == ("warning", "`export NUMBA_CACHE_DIR")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ImportError("Numba needs NumPy 2.4 or less. Got NumPy 2.9."), "warning", "without numba: Numba needs NumPy"),
        (RuntimeError("LLVM ERROR: no such target"), "fault", "numba does not compile: LLVM ERROR"),
    ],
)
def test_a_numba_that_does_not_compile(tmp_path, monkeypatch, error, status, said):
    """Without it views are the same and take longer; one that fails half-way is no help."""

    def broken() -> None:
        raise error

    monkeypatch.setattr(kernels, "prepare", broken)
    (found,) = check_kernels(setup_in(tmp_path))
    assert found.status == status
    assert said in found.message
