"""What a wheel holds, and what runs where it alone is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
import tomllib

pytest.importorskip("setuptools", "77", reason="the extra 'test' brings setuptools 77 or newer")

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("dsr_deploy", "models", "hardware")
NETWORK = ROOT / "tests" / "hardware" / "golden" / "if.safetensors"
LEFT_OUT = ("__pycache__", "*.egg-info", "build")
SIMULATE = """
import json, sys
sys.modules["torch"] = None  # importing it fails
import numpy as np
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.chip import load_chip
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.format import network_file
load_chip("loihi1")
network = network_file.read(sys.argv[1])
payloads = np.ones((2, *network.input.shape), np.int8)
if sys.argv[2] == "event":
    run = Simulator(network).run(payloads, record=True).run
else:  # nothing to compile first
    run = reference.run(network, payloads, record=True)
print(json.dumps({name: int(spikes.sum()) for name, spikes in run.spikes.items()}))
"""


def _settings(folder: Path) -> dict[str, Any]:
    setuptools: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]
    return dict(setuptools["setuptools"])


def _installed(path: Path) -> str:
    """Return where a file of the tree stands below site-packages."""
    place = path.relative_to(ROOT).as_posix()
    return place if place.startswith("dsr_deploy/") else f"dsr_deploy/{place}"


def _files(folder: Path) -> set[str]:
    """Return every file of a package of the tree, but what tools leave behind."""
    tools = {"__pycache__", "build"}
    return {
        _installed(path)
        for path in folder.rglob("*")
        if path.is_file()
        and path.name != "pyproject.toml"
        and not any(part in tools or part.endswith(".egg-info") for part in path.parts)
    }


def _packages(*folders: str) -> list[str]:
    """Return the folders with modules, by import name."""
    modules = {Path(name) for folder in folders for name in _files(ROOT / folder)}
    return sorted({".".join(path.parent.parts) for path in modules if path.suffix == ".py"})


def test_the_packages_are_the_folders_of_the_tree() -> None:
    listed = _settings(ROOT)["packages"]
    assert sorted(listed) == _packages(*FOLDERS)


def test_the_packages_of_the_chip_side_are_the_folders_of_hardware() -> None:
    listed = _settings(ROOT / "hardware")["packages"]
    assert sorted(listed) == _packages("hardware")


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _build(folder: Path, place: Path) -> Path:
    """Build the wheel of a folder of a copy of the tree, without a network."""
    tree = place / "tree"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel")
    _run(*pip, *options, "--wheel-dir", place, tree / folder, cwd=place)
    (wheel,) = place.glob("*.whl")
    return wheel


def _install(wheel: Path, place: Path) -> Path:
    """Install a wheel alone, beside the other packages of this environment; return its bin/."""
    venv.create(place / "venv", with_pip=False, symlinks=True)
    (site,) = (place / "venv").glob("lib/python*/site-packages")
    others = [entry for entry in sys.path if Path(entry).name == "site-packages"]
    (site / "others.pth").write_text("\n".join(others))
    python = place / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    options = ("--quiet", "--no-deps", "--no-index", "--ignore-installed")
    _run(*pip, "install", *options, wheel, cwd=place)
    return python.parent


def test_an_installed_wheel_runs_and_holds_every_file(tmp_path: Path) -> None:
    wheel = _build(Path(), tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == set().union(*(_files(ROOT / folder) for folder in FOLDERS))
    commands = _install(wheel, tmp_path)
    assert "Usage: dsr-deploy" in _run(commands / "dsr-deploy", "--help", cwd=tmp_path)
    assert "digits" in _run(commands / "dsr-deploy", "train", "--print-config", cwd=tmp_path)


def test_the_chip_side_alone_simulates_without_torch(tmp_path: Path) -> None:
    wheel = _build(Path("hardware"), tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    shared = {f"dsr_deploy/{name}.py" for name in ("__init__", "compiled", "version")}
    assert held == _files(ROOT / "hardware") | shared
    commands = _install(wheel, tmp_path)
    found = _run(commands / "python", "-c", SIMULATE, NETWORK, "reference", cwd=tmp_path)
    assert min(json.loads(found).values()) > 0


@pytest.mark.slow
def test_the_chip_side_brings_no_torch(tmp_path: Path) -> None:
    """With its own dependencies alone, from the package index."""
    wheel = _build(Path("hardware"), tmp_path)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    _run(python, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    _run(python, "-c", SIMULATE, NETWORK, "event", cwd=tmp_path)
    assert "torch" not in _run(python, "-m", "pip", "freeze", cwd=tmp_path)
