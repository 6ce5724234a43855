"""The rooms of the package: which may import which."""

import ast
from pathlib import Path

import pytest

import pyg_bgformer

PACKAGE = Path(pyg_bgformer.__file__).parent
ORDER = [
    ("errors",),
    ("files", "memory", "precision", "ranges", "typed"),
    ("registry",),
    ("graph", "geometry"),
    ("nn",),
    ("losses",),
    ("data",),
    ("encoders",),
    ("methods",),
    ("evaluation",),
    ("runs",),
    ("config",),
    ("deploy",),
    ("engine",),
    ("report",),
    ("study",),
    ("cli",),
]
"""From the ground up. A room imports lower rooms, and its own files."""

LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
TOP = ("__init__", "__main__")
"""The package's own files offer names of all rooms."""


def modules():
    """Returns every module of the package by its dotted name below it."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }


def imports(path):
    """Yields the dotted names below the package that a file imports, inside functions too.

    What it imports for the type checker alone does not count.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyg_bgformer"):
            inside = (node.module or "").partition("pyg_bgformer")[2].lstrip(".")
            for name in node.names:
                full = f"{inside}.{name.name}".lstrip(".")
                yield full if full in MODULES else inside
        elif isinstance(node, ast.Import):
            names = (name.name for name in node.names if name.name.startswith("pyg_bgformer."))
            yield from (name.partition(".")[2] for name in names)


MODULES = modules()
INSIDE = {name: path for name, path in MODULES.items() if name not in TOP}


def test_every_module_is_in_a_room_of_the_plan():
    assert {name.partition(".")[0] for name in INSIDE} <= LEVEL.keys()


@pytest.mark.parametrize("room", [room for rooms in ORDER for room in rooms])
def test_a_room_imports_lower_rooms_only(room):
    upward = [
        f"{name} imports {found}"
        for name, path in INSIDE.items()
        if name.partition(".")[0] == room
        for found in imports(path)
        if found and found.partition(".")[0] != room and LEVEL[found.partition(".")[0]] >= LEVEL[room]
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle():
    arrows = {name: {found for found in imports(path) if found in INSIDE} for name, path in INSIDE.items()}
    packages = {name for name, path in INSIDE.items() if path.name == "__init__.py"}
    arrows = {name: found - packages for name, found in arrows.items() if name not in packages}
    while free := [name for name, found in arrows.items() if not found & arrows.keys()]:
        for name in free:
            del arrows[name]
    assert sorted(arrows) == []
