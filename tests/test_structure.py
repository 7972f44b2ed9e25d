"""Who may import whom: downwards only, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "dsr_deploy": ROOT / "dsr_deploy",
    "dsr_deploy.models": ROOT / "models",
    "dsr_deploy.hardware": ROOT / "hardware",
}

LAYERS = (
    ("console", "api", "__main__"),
    ("stages",),
    ("measures", "lowering", "training", "engines"),
    ("run",),
    ("data", "foreign", "formats", "parallel"),
    ("files",),
    ("models", "hardware"),
    ("compiled", "errors", "progress", "text", "version"),
)
"""What stands directly below ``dsr_deploy``, the highest layer first."""

RANKS = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def modules() -> dict[str, Path]:
    """Return the path of every module, by the name under which it is imported."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(part for part in parts if part != "__init__")))] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """Yield each of our modules that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in MODULES or node.module in MODULES:
                    yield name if name in MODULES else node.module


GRAPH = {
    name: set(imports(path))
    for name, path in MODULES.items()
    if name != "dsr_deploy"  # which imports what it offers when it is asked for it
}


def place(module: str) -> str:
    """Return the file or folder directly below ``dsr_deploy`` in which a module stands."""
    return module.split(".")[1]


def test_every_file_and_folder_has_a_layer() -> None:
    assert {place(module) for module in GRAPH} == set(RANKS)


def test_no_module_imports_upwards() -> None:
    upward = [
        f"{importer} imports {imported}"
        for importer, used in GRAPH.items()
        for imported in used
        if RANKS[place(imported)] < RANKS[place(importer)]
    ]
    assert not upward


def test_models_and_hardware_import_nothing_of_each_other() -> None:
    assert not [
        f"{importer} imports {imported}"
        for importer, used in GRAPH.items()
        for imported in used
        if {place(importer), place(imported)} == {"models", "hardware"}
    ]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the members of a circle, or nothing if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        members: list[str] = error.args[1]
        return members
    return []


def test_no_modules_import_in_a_circle() -> None:
    assert circle(GRAPH) == []


def test_no_folders_import_in_a_circle() -> None:
    folders: dict[str, set[str]] = {}
    for importer, used in GRAPH.items():
        others = {place(imported) for imported in used} - {place(importer)}
        folders.setdefault(place(importer), set()).update(others)
    assert circle(folders) == []


@pytest.mark.parametrize(
    "graph", [{"a": {"b"}, "b": {"c"}, "c": {"a"}}, {"a": {"a"}}], ids=["three", "itself"]
)
def test_a_circle_is_found(graph: dict[str, set[str]]) -> None:
    assert circle(graph)
