"""What is said of the compiled pixel operations."""

import numba
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


def test_a_numba_that_does_not_compile(tmp_path, monkeypatch):
    def broken() -> None:
        raise ImportError("Numba needs NumPy 2.4 or less. Got NumPy 2.9.")

    monkeypatch.setattr(kernels, "prepare", broken)
    (found,) = check_kernels(setup_in(tmp_path))
    assert found.status == "fault"
    assert "NumPy 2.9" in found.message
