"""Runs the code of a model card as its reader would, in a process that has no raydistill."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[3]
# Cards are read one after the other, each as if the process were new.
READER = """
import os, sys
import numpy as np

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "raydistill":
            raise ImportError("this must work without raydistill")

if sys.argv[1] == "alone":
    sys.meta_path.insert(0, Refuse())
sys.path.insert(0, "")
for folder in sys.argv[2:]:
    os.chdir(folder)
    known = {}
    exec(open("card.py").read(), known)
    found = known["embeddings"]
    np.save("read.npy", found.detach().numpy() if hasattr(found, "detach") else np.asarray(found))
    for name in ("load", "preprocess"):
        sys.modules.pop(name, None)
"""


def code_of(folder):
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return code


def read_by_others(folders, image, alone=True):
    """What the cards' code makes of an image, a file's bytes; one row for each folder."""
    for folder in folders:
        (folder / "image.png").write_bytes(image)
        (folder / "card.py").write_text(code_of(folder))
    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    environment.pop("PYTHONPATH", None)
    if not alone:
        environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", READER, "alone" if alone else "beside", *map(str, folders)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [np.load(folder / "read.npy")[0] for folder in folders]
