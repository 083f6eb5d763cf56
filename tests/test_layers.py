"""The walls of the house: who imports whom, which libraries wait, how long a file may be."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent / "keyhole"
# A room imports only from rooms of smaller floors. Rooms of one floor that share a line of the
# plan (nets, bottlenecks, heads) know nothing of each other; the others have a floor of their own.
FLOORS = {
    "errors": 0, "core": 1, "data": 2, "model": 2, "store": 2, "modalities": 3, "training": 4,
    "checks": 5, "autoencoder": 6, "tasks": 7, "jobs": 8, "report": 8, "plotting": 8,
    "cli": 9, "__main__": 10,
}  # fmt: skip
FRAMES = {"pandas", "polars", "pyarrow", "narwhals"}
LATE = {
    "pyarrow",
    "matplotlib",
    "rich",
    "click",
    "pandas",
    "polars",
    "ray",
    "jinja2",
    "PIL",
    "tifffile",
    "skimage",
    "pywt",
    "zarr",
    "pydicom",
    "nibabel",
    "onnx",
    "onnxscript",
    "onnxruntime",
}
DOORS = {"cli", "server", "report"}  # rooms that are entered only by who needs their libraries
# What belongs to one kind of data, and the parts that are for images or for series.
OF_ONE_KIND = (
    "keyhole.modalities.tabular", "keyhole.modalities.image",
    "Tabular", "ImageModality",
)  # fmt: skip
FOR_ONE_KIND = {
    ("model", "nets", "images.py"), ("model", "nets", "unet.py"), ("model", "nets", "series.py"),
    ("training", "corruptions", "pixels.py"),
}  # fmt: skip
LINES, FUNCTION_LINES, ARGUMENTS = 400, 40, 8

FILES = sorted(HOUSE.rglob("*.py"))


def every_file(check):
    """A test that checks each file, and names all that fail."""

    def test():
        faults = []
        for path in FILES:
            try:
                check(path)
            except AssertionError as fault:
                faults.append(f"{path.relative_to(HOUSE)}: {fault}")
        assert not faults, "\n".join(faults)

    return test


@cache
def tree_of(path):
    """The syntax tree of a file, not to be changed."""
    return ast.parse(path.read_text())


def room_of(path):
    """The room a file stands in; the front door, `keyhole/__init__.py`, is in none."""
    first = path.relative_to(HOUSE).parts[0].removesuffix(".py")
    return None if first == "__init__" else first


def for_type_checkers(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(tree, *, late=True):
    """The modules that a file imports; without `late`, only those that its own import loads."""
    for node in ast.iter_child_nodes(tree):
        if for_type_checkers(node):
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide the room they lead to"
            yield str(node.module)
            if node.module == "keyhole":
                yield from (f"keyhole.{name.name}" for name in node.names)
        if late or not isinstance(node, ast.FunctionDef | ast.Lambda):
            yield from imports(node, late=late)


def rooms_entered(path):
    for module in imports(tree_of(path)):
        parts = module.split(".")
        if parts[0] == "keyhole" and len(parts) > 1 and parts[1] in FLOORS:
            yield parts[1]


@every_file
def test_a_room_imports_only_from_rooms_above_its_own(path):
    room = room_of(path)
    if room is None:
        return
    assert room in FLOORS, f"{room} has no floor: write it into FLOORS and docs/architecture.md"
    wrong = {to for to in rooms_entered(path) if to != room and FLOORS[to] >= FLOORS[room]}
    assert not wrong, f"{room} must not import {sorted(wrong)}"


@every_file
def test_nets_never_see_a_frame_and_columns_never_see_a_net(path):
    room, observed = room_of(path), set(imports(tree_of(path)))
    if room == "model":
        assert not {name for name in observed if name.split(".")[0] in FRAMES}
        assert not {name for name in observed if name.startswith("keyhole.data")}
    if room == "data" or "columns" in path.parts:
        assert not {name for name in observed if name.startswith("torch.nn")}


def kinds_named(tree):
    """The modules of one kind of data that a file imports, and their classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "keyhole.modalities":
            yield from (name.name for name in node.names if name.name in OF_ONE_KIND)
    yield from (name for name in imports(tree) if name.startswith(OF_ONE_KIND))


@every_file
def test_only_a_modality_and_its_source_know_which_kind_of_data_there_is(path):
    if room_of(path) in {"modalities", "data"} or path.relative_to(HOUSE).parts in FOR_ONE_KIND:
        return
    nodes = [node for node in tree_of(path).body if not for_type_checkers(node)]
    tree = ast.Module(nodes, type_ignores=[])
    assert not set(kinds_named(tree))
    attributes = {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    of_one_kind = ("layout.grid", "layout.patch", "layout.steps", ".form")
    assert not {a for a in attributes if a.endswith(of_one_kind)}


@every_file
def test_a_library_that_is_slow_or_optional_is_imported_where_it_is_used(path):
    if room_of(path) in DOORS:
        return
    at_once = {name.split(".")[0] for name in imports(tree_of(path), late=False)}
    assert not at_once & LATE


@pytest.mark.parametrize("used", ["", "keyhole.Autoencoder"])
def test_importing_the_house_loads_no_library_that_can_wait(used):
    """scikit-learn and torch load some of them themselves where they are installed."""
    theirs = "import torch, torch.optim, sklearn.base, sklearn.decomposition, sklearn.isotonic; "
    code = f"import sys; {theirs if used else ''}before = set(sys.modules); import keyhole; {used}"
    waits = {"pyarrow", "narwhals", "pandas", "polars", "matplotlib", "rich", "click", "ray"}
    code += f"\nprint(sorted((set(sys.modules) - before) & {waits!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@every_file
def test_a_file_is_short(path):
    assert len(path.read_text().splitlines()) <= LINES


def functions(path):
    nodes = ast.walk(tree_of(path))
    return [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


@every_file
def test_a_function_is_short(path):
    for function in functions(path):
        body = function.body
        lines = function.end_lineno - function.lineno + 1
        if ast.get_docstring(function):
            lines -= body[0].end_lineno - body[0].lineno + 1
        assert lines <= FUNCTION_LINES, f"{function.name} has {lines} lines"


@every_file
def test_a_function_has_few_arguments(path):
    for function in functions(path):
        given = function.args
        names = [a.arg for a in [*given.posonlyargs, *given.args, *given.kwonlyargs]]
        count = len([name for name in names if name not in {"self", "cls"}])
        # A scikit-learn estimator takes each of its parts and settings as an argument of its own.
        constructs = function.name == "__init__" and room_of(path) in {"autoencoder", "tasks"}
        assert count <= (10 if constructs else ARGUMENTS), f"{function.name}: {count} arguments"
        if function.name != "set_params" and room_of(path) != "cli":  # scikit-learn's, and click's
            assert given.kwarg is None, f"{function.name} takes arguments of any name"
