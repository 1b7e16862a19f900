"""Search-space files to test with."""

import yaml

from raydistill.sweep.search.space_parser import load_space

OBJECTIVES = "method.objectives: {values: [[simclr], [simclr, simsiam]]}"
CONDITIONAL = "method.lambda_simsiam: {values: [1, 2], when: {method.objectives: [[simclr, simsiam]]}}"
TOP = "method: random\nmetric: {name: val_knn, goal: maximize}\n"


def write(folder, text):
    path = folder / "space.yaml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text, sort_keys=False))
    return path


def read(folder, *parameters, method="dogo", fixed=None, top=TOP):
    lines = "".join(f"  {line}\n" for line in parameters)
    return load_space(write(folder, f"{top}parameters:\n{lines}"), method, fixed or {})


def only(folder, line, **others):
    return read(folder, line, **others).parameters[0]
