"""Executes the notebooks in place and keeps their outputs, without what changes from run to run.

python analysis/run_notebooks.py [NAME ...]
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent
SECONDS = 300  # for a cell


def execute(path: Path) -> Any:
    """The notebook at `path` with the outputs of a run in its folder, by this interpreter; `path` stays as it is.

    Raises: nbclient.exceptions.CellExecutionError.
    """
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=SECONDS, resources=resources, extra_arguments=["--log-level=ERROR"])
    client.create_kernel_manager().kernel_spec.argv[0] = sys.executable
    client.execute()
    return tidy(notebook)


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
    for name in names:
        nbformat.write(execute(notebooks[name]), notebooks[name])
        print(f"{name}: done", flush=True)


if __name__ == "__main__":
    main()
