"""Which room of the house may import which: read the table, then the two tests."""

import ast
from pathlib import Path

import pytest

# A room is a module or a folder of the package. It imports from its own row and from rows below.
HOUSE = """
    cli
    models data testing snapshot
    sparse
    nn optim
    functional
    compiled gradients
    generator parameter sparse_weight
    tensor
    trace
    export
    runtime
    policy
    plan
    autodiff
    ops
    graph
    op timing
    safetensors files
    dtypes errors
"""
# What a function may import: heavy, for a command or a download, never for a training step.
LAZY = {"rich", "matplotlib", "PIL", "scipy", "hashlib", "http", "tarfile", "urllib", "zipfile"}

PACKAGE = Path(__file__).parents[1] / "tinygrad_edge"
FLOOR = {room: -row for row, rooms in enumerate(HOUSE.split("\n")) for room in rooms.split()}
FILES = [f for f in sorted(PACKAGE.rglob("*.py")) if f != PACKAGE / "__init__.py"]


def room_of(file):
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(tree, package):
    """Absolute name of each thing imported, with its node; what only type checkers read apart."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            origin = (*base, *(node.module or "").split("."))
            yield from ((".".join(filter(None, (*origin, a.name))), node) for a in node.names)
        yield from imports(node, package)


def parsed(file):
    package = file.parent.relative_to(PACKAGE.parent).parts
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return tree, package


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(PACKAGE).as_posix())
def test_no_room_imports_from_above(file):
    room = room_of(file)
    assert room in FLOOR, f"{file.name} is in no room: add {room!r} to HOUSE"
    for name, node in imports(*parsed(file)):
        if not name.startswith("tinygrad_edge."):
            continue
        other = name.split(".")[1]
        if other in FLOOR:  # else a name of the package's own __init__, checked by the next line
            assert FLOOR[other] <= FLOOR[room], f"{file}:{node.lineno}: {room} imports {name}"
        else:
            assert other == "_native", f"{file}:{node.lineno}: {name} is in no room"


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(PACKAGE).as_posix())
def test_functions_import_only_what_is_declared_lazy(file):
    tree, package = parsed(file)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for name, node in imports(function, package):
                where = f"{file}:{node.lineno}"
                assert name.split(".")[0] in LAZY, f"{where}: {name} is imported in a function"
