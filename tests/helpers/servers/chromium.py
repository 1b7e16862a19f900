"""Pages as a browser without a window shows them."""

import shutil
import subprocess
import tempfile

import pytest

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needed = pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed")


def dom(address):
    """The document once its scripts have run."""
    return _run(address, "--dump-dom").stdout


def picture(address, path, size="1500,1100"):
    _run(address, f"--screenshot={path}", f"--window-size={size}")
    return path


def _run(address, *options):
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(
            [
                PROGRAM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                f"--user-data-dir={profile}",
                "--virtual-time-budget=30000",
                *options,
                address,
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
