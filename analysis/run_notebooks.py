"""Executes the notebooks in place and keeps their outputs, without what changes from run to run.

python analysis/run_notebooks.py [NAME ...]
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent
SECONDS = 300  # for a cell


def execute(paths: Sequence[Path]) -> Iterator[Any]:
    """Execute notebooks of one folder, in one kernel of this interpreter; the files stay as they are.

    A kernel takes seconds to import what they need. Between two notebooks it forgets all names.

    Yields: each notebook with the outputs of its run.
    Raises: nbclient.exceptions.CellExecutionError.
    """
    client = _client(nbformat.v4.new_notebook(), paths[0].parent)
    kernel = client.create_kernel_manager()
    kernel.kernel_spec.argv[0] = sys.executable
    try:
        for path in paths:
            notebook = nbformat.read(path, as_version=4)
            forget = nbformat.v4.new_code_cell("%reset -f")
            notebook.cells.insert(0, forget)
            _client(notebook, path.parent, km=kernel).execute()
            del notebook.cells[0]
            yield tidy(notebook)
    finally:
        if kernel.has_kernel:
            run_sync(kernel.shutdown_kernel)(now=True)


def _client(notebook: Any, folder: Path, **more: Any) -> NotebookClient:
    resources = {"metadata": {"path": str(folder)}}
    quiet = ["--log-level=ERROR"]
    return NotebookClient(notebook, timeout=SECONDS, resources=resources, extra_arguments=quiet, **more)


def tidy(notebook: Any) -> Any:
    """Without times, versions and warnings, which name files of this machine, and with small pictures."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                _tidy_output(output)
    return notebook


def _tidy_output(output: Any) -> None:
    if "metadata" in output:
        output.metadata = {}
    if "image/png" in output.get("data", {}):
        output.data["image/png"] = base64.b64encode(_small(base64.b64decode(output.data["image/png"]))).decode()


def _small(png: bytes) -> bytes:
    """The picture with 256 colours, a third of the bytes; the choice that keeps a single coloured point what it is."""
    written = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(written, "png", optimize=True)
    return written.getvalue()


def main() -> None:
    notebooks = {path.stem: path for path in sorted(HERE.glob("*.ipynb"))}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="without its ending [all of them]")
    names = parser.parse_args().names or list(notebooks)
    if unknown := set(names) - set(notebooks):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(notebooks)}")
    for name, done in zip(names, execute([notebooks[name] for name in names]), strict=True):
        nbformat.write(done, notebooks[name])
        print(f"{name}: done", flush=True)


if __name__ == "__main__":
    main()
