"""The compiled pixel operations of the CPU. Run in a process apart, since the first run compiles for some seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator

from raydistill.doctor.check_result import CheckResult, Setup


def check_kernels(setup: Setup) -> Iterator[CheckResult]:
    """Say whether they compile here, and whether later processes find the code again."""
    began = time.monotonic()
    try:
        from raydistill.data.views import kernels

        kernels.prepare()
    except ImportError as error:
        said = " ".join(str(error).split())[:300]
        yield CheckResult(
            "kernels", "warning", f"views take three times as long without numba: {said}", "pip install 'numba>=0.68'"
        )
        return
    except Exception as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        yield CheckResult("kernels", "fault", f"numba does not compile: {said}", "pip install 'numba>=0.68'")
        return
    seconds, folder = time.monotonic() - began, kernels.kept_in()
    if folder is None:
        yield CheckResult(
            "kernels",
            "warning",
            f"each process compiles for {seconds:.0f} s: no folder is there for the code",
            "`export NUMBA_CACHE_DIR=FOLDER`, a folder that can be written to",
        )
    else:
        yield CheckResult("kernels", "ok", f"ready in {seconds:.1f} s, kept in {folder}")
