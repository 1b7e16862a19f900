"""What a linter does not know: sections of docstrings, names of errors and classes, lengths of files and folders."""

import ast
import re
from collections import Counter, defaultdict
from importlib import import_module
from pathlib import Path

import pytest
from ray import tune

from raydistill.errors import RaydistillError

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "raydistill"
SOURCES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 400
MOST_FILES = 16  # about fifteen
# A first line that starts so has its noun elsewhere; a reader of one line of help does not.
BARE = {
    "Of",
    "As",
    "So",
    "In",
    "With",
    "What",
    "Whether",
    "Which",
    "Who",
    "How",
    "Where",
    "Why",
    "When",
    "For",
    "It",
    "Its",
    "None",
    "Nothing",
    "Until",
    "On",
    "By",
    "From",
    "Into",
    "To",
    "Not",
    "At",
    "Under",
    "Those",
    "That",
    "Before",
    "After",
    "Up",
    "Raises:",
    "Returns:",
    "Args:",
}

OVERRIDES = {name for name in dir(tune.Callback) if name.startswith("on_")}  # Ray Tune describes them


def name_of(path):
    return str(path.relative_to(ROOT))


def definitions(path, *kinds):
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_first_lines_of_docstrings_stand_alone(path):
    found = definitions(path, ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    lines = [(ast.get_docstring(node) or "x").splitlines()[0] for node in found]
    assert [line for line in lines if line.split()[0] in BARE] == []


def public_functions(path):
    """Yield public functions and methods; nested ones and those of private classes are nobody's interface."""
    for node in ast.parse(path.read_text()).body:
        inner = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]
        for each in inner:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and not each.name.startswith("_"):
                yield each


def described(node):
    lines = re.findall(
        r"^ *(\**\w[\w, *]*?)(?: \([^)]*\))?: ", (ast.get_docstring(node) or "").partition("Args:")[2], re.MULTILINE
    )
    return {name.strip("*") for line in lines for name in re.split(r"[, ]+", line)}


@pytest.mark.parametrize("path", [path for path in SOURCES if not path.name.startswith("_")], ids=name_of)
def test_functions_of_more_than_two_parameters_describe_them(path):
    """Commands are left out, whose docstrings are help texts; so are methods that another class here describes."""
    functions = [node for node in public_functions(path) if node.name != "command"]
    contracts = {node.name for node in functions if described(node)}
    missing = []
    for node in functions:
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        names = [each.arg for each in every if each.arg not in ("self", "cls")]
        inherits = ast.get_docstring(node) is None and (node.name in contracts or node.name in OVERRIDES)
        if len(names) > 2 and not inherits:
            missing += [f"{node.name}: {name}" for name in names if name not in described(node)]
    assert missing == []


def classes():
    return [(node, path) for path in SOURCES for node in definitions(path, ast.ClassDef)]


def test_no_two_classes_share_a_name():
    places = defaultdict(list)
    for node, path in classes():
        places[node.name].append(name_of(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_errors_end_in_error_and_have_one_base():
    builtin = {name for name, kind in vars(__import__("builtins")).items() if isinstance(kind, type)}
    errors = {"RaydistillError"} | {
        name for name in builtin if issubclass(vars(__import__("builtins"))[name], Exception)
    }
    checked = 0
    for node, path in classes():
        bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
        if bases & (errors | {"RaydistillError"}) or node.name.endswith("Error"):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            kind = getattr(import_module(module.removesuffix(".__init__")), node.name)
            assert node.name.endswith("Error"), node.name
            assert issubclass(kind, RaydistillError), node.name
            checked += 1
    assert checked > 10


@pytest.mark.parametrize("folder", ["raydistill", "tests", "analysis", "docs"])
def test_files_and_folders_stay_small(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in files}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}
    crowds = Counter(name_of(path.parent) for path in files if path.name != "__init__.py")
    assert {name: count for name, count in crowds.items() if count > MOST_FILES} == {}


def test_the_formatter_has_no_exceptions():
    markers = re.compile(r"#\s*fmt:\s*(skip|off)")
    found = [
        name_of(path)
        for folder in ("raydistill", "tests", "analysis")
        for path in (ROOT / folder).rglob("*.py")
        if path != Path(__file__) and markers.search(path.read_text())
    ]
    assert found == []
