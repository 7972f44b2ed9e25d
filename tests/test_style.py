"""Lint, format, types, and who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = "dsr_deploy.compiled"
"""What both packages may import; it imports nothing of the project."""
PACKAGES = {"models": ROOT / "models", "hardware": ROOT / "hardware"}


def _run(*command: str, cwd: Path = ROOT) -> None:
    """Run a tool of this environment; on failure show what it said."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def test_ruff_finds_nothing() -> None:
    _run("ruff", "check", "--quiet", "--output-format", "concise", ".")


def test_every_file_is_formatted() -> None:
    _run("ruff", "format", "--quiet", "--check", ".")


def test_mypy_finds_nothing(tmp_path: Path) -> None:
    # mypy knows nothing of the mapped folders, so it gets the tree as it is imported.
    tree = tmp_path / "dsr_deploy"
    tree.mkdir()
    for path in [*(ROOT / "dsr_deploy").iterdir(), *PACKAGES.values()]:
        (tree / path.name).symlink_to(path)
    cache = str(ROOT / ".mypy_cache")
    config = str(ROOT / "pyproject.toml")
    _run("mypy", "--config-file", config, "--cache-dir", cache, "dsr_deploy", cwd=tmp_path)


def _modules(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the import name below ``folder`` and the path of every module in it."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def _imports(path: Path, package: str) -> Iterator[str]:
    """Yield the full name of everything that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("name", PACKAGES)
def test_package_imports_nothing_of_the_others(name: str) -> None:
    own = f"dsr_deploy.{name}"
    found = {
        f"{path.relative_to(ROOT)} imports {imported}"
        for module, path in _modules(PACKAGES[name])
        for imported in _imports(path, f"{own}.{module}".rpartition(".")[0])
        if imported.startswith("dsr_deploy")
        and not f"{imported}.".startswith(f"{own}.")
        # `from dsr_deploy import hardware` names its own package in the second half
        and imported != "dsr_deploy"
        and not f"{imported}.".startswith(f"{SHARED}.")
    }
    assert not found


def test_what_both_packages_share_imports_nothing_of_the_project() -> None:
    path = ROOT / f"{SHARED.replace('.', '/')}.py"
    assert not [name for name in _imports(path, "dsr_deploy") if name.startswith("dsr_deploy")]


def test_every_module_of_hardware_imports_without_torch() -> None:
    names = [
        f"dsr_deploy.hardware.{module}".rstrip(".") for module, _ in _modules(ROOT / "hardware")
    ]
    # Lava's own processes need Lava, which is in an environment of its own.
    names = [name for name in names if ".lava." not in name]
    assert len(names) > 10
    script = (
        "import importlib, sys\n"
        "sys.modules['torch'] = None  # importing it fails\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "others = [n for n in sys.modules if n.startswith('dsr_deploy.')\n"
        "          and not n.startswith('dsr_deploy.hardware')\n"
        f"          and n not in ({SHARED!r}, 'dsr_deploy.version')]\n"  # the package's face has it
        "sys.exit(str(others) if others else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
