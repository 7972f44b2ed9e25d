"""Networks of a user's own: from a file, checked, and kept in the run."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from dsr_deploy.console import cli
from dsr_deploy.errors import UserError
from dsr_deploy.models.topology import Topology, conv, linear, population
from dsr_deploy.run import topologies
from dsr_deploy.run.config import resolve
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.trained import describe

NET = """
from blocks import WIDTH
from dsr_deploy.models.topology import Topology, conv, linear, pool, population


def build(input_shape, classes):
    return Topology("mine", input_shape, (
        population("a", conv("input", WIDTH, kernel=(3, 1), stride=(1, 2))),
        population("b", conv("a", WIDTH, kernel=(1, 3), groups=2)),
        population("c", pool("b", (2, 1)), norm=False),
        population("output", linear("c", classes)),
    ))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("nets").mkdir()
    Path("nets/my_net.py").write_text(NET)
    Path("nets/blocks.py").write_text("WIDTH = 4\n")
    return tmp_path


def refused(message: str) -> Any:
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


def described(text: str, arch: str = "net.py:build") -> Topology:
    Path("net.py").write_text(text)
    return topologies.describe(topologies.builder(arch), (1, 8, 8), 10)


def test_a_run_keeps_the_network_and_needs_the_file_no_more(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", "--arch", "nets/my_net.py:build", "--epochs", "1", "-T", "2"]
    assert cli.run([*line, "--batch-size", "512"]) == 0
    assert "Trained my_net with IF neurons and 2 timesteps" in capsys.readouterr().out
    (path,) = here.glob("runs/digits-*")
    assert path.name == "digits-my_net-if-t2"
    Path("nets/my_net.py").unlink()
    kept = describe(RunDirectory(path)).topology
    assert kept.name == "mine"
    assert kept.shapes() == {
        "input": (1, 8, 8), "a": (4, 8, 4), "b": (4, 8, 4), "c": (4, 4, 4), "output": (10, 1, 1)
    }  # fmt: skip
    assert kept.populations[1].connections[0].groups == 2
    assert cli.run(["quantize", "--epochs", "0"]) == 0
    for target in ("loihi", "onnx", "nir"):
        assert cli.run(["export", "--target", target]) == 0
    assert cli.run(["simulate", "--samples", "20"]) == 0
    capsys.readouterr()
    assert cli.run(["verify", "--samples", "20", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["differing"].keys() | {result["baseline"]} >= {
        "torch", "event", "reference", "onnx", "nir"
    }  # fmt: skip
    assert all(not any(each.values()) for each in result["differing"].values())


def test_a_changed_topology_in_a_run_is_noticed(here: Path) -> None:
    settings = ["--epochs", "1", "-T", "1", "--batch-size", "512", "--run", "run"]
    assert cli.run(["train", "--arch", "nets/my_net.py:build", *settings]) == 0
    path = Path("run/config.json")
    stored = json.loads(path.read_text())
    stored["topology"]["populations"][0]["dropout"] = 0.5
    path.write_text(json.dumps(stored))
    with refused(
        f"{path}: changed since training wrote it (its checksum does not match); restore it: only "
        "data_dir, device, epochs, precision may be changed"
    ):
        describe(RunDirectory(Path("run")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "net.py: it has no function 'build'; name one that it has, FILE.py:NAME"),
        ("build = 3\n", "net.py: it has no function 'build'; name one that it has, FILE.py:NAME"),
        ("\n\nx = 1 / 0\n", "net.py, line 3: its import failed (ZeroDivisionError: division by "
         "zero)"),
        ("def build(:\n", "net.py, line 1: its import failed (SyntaxError: invalid syntax)"),
        ("import nothing_here\n", "net.py, line 1: its import failed (ModuleNotFoundError: No "
         "module named 'nothing_here')"),
        ("raise SystemExit('enough')\n", "net.py, line 1: its import failed (SystemExit: enough)"),
        (
            "def build(shape, classes):\n    x = 1\n    return shape[3]\n",
            "net.py, line 3: build(input_shape, classes) failed (IndexError: tuple index out of "
            "range)",
        ),
        (
            "def build(shape):\n    return shape\n",
            "net.py: build(input_shape, classes) failed (TypeError: build() takes 1 positional "
            "argument but 2 were given)",
        ),
        (
            "from dsr_deploy.models.topology import conv\n"
            "def build(shape, classes):\n    return conv('input', 0)\n",
            "net.py, line 3: build(input_shape, classes) failed (conv from 'input': channels must "
            "be a whole number of at least 1, not 0)",
        ),
        (
            "def build(shape, classes):\n    return None\n",
            "net.py: build must return a Topology, not NoneType",
        ),
    ],
)  # fmt: skip
def test_an_error_in_a_users_file_is_one_line_with_its_place(
    here: Path, text: str, message: str
) -> None:
    with pytest.raises(UserError) as error:
        described(text)
    assert str(error.value) == message


def test_a_users_file_is_a_module_and_leaves_the_path_as_it_was(here: Path) -> None:
    path = list(sys.path)
    text = "from __future__ import annotations\nfrom dataclasses import KW_ONLY, dataclass\n"
    text += "@dataclass\nclass Width:\n    _: KW_ONLY\n    value: int = 4\n"
    text += NET.replace("from blocks import WIDTH", "WIDTH = Width(value=4).value")
    assert described(text).name == "mine"
    with pytest.raises(UserError):
        described("x = 1 / 0\n")
    assert sys.path == path


def test_the_users_own_frames_are_noted_with_an_error(here: Path) -> None:
    with pytest.raises(UserError) as error:
        described("def inner():\n    return 1 / 0\n\ndef build(s, c):\n    return inner()\n")
    assert str(error.value).startswith("net.py, line 2: ")
    (note,) = error.value.__notes__
    assert re.findall(r"line (\d+)", note) == ["5", "2"]
    assert note.endswith("ZeroDivisionError: division by zero")
    assert "topologies.py" not in note


@pytest.mark.parametrize(
    ("populations", "message"),
    [
        (
            "population('a', linear('input', classes + 1))",
            "network 'n': its last population 'a' has the shape 11x1x1, 10 classes need 10x1x1",
        ),
        (
            "population('a', linear('b', classes))",
            "population 'a': its source 'b' is none of the input and the populations before it",
        ),
    ],
)
def test_a_network_that_does_not_fit_is_refused(here: Path, populations: str, message: str) -> None:
    with refused(message):
        described(
            "from dsr_deploy.models.topology import *\n"
            f"def build(shape, classes):\n    return Topology('n', shape, ({populations},))\n"
        )


def test_a_missing_file_is_named(here: Path) -> None:
    with refused("lost.py: not there; name the file of your network, FILE.py:NAME"):
        topologies.builder("lost.py:build")


def test_an_error_ends_the_command_before_anything_is_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("nets/my_net.py").write_text("x = [\n")
    assert cli.run(["train", "--arch", "nets/my_net.py:build"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "error: nets/my_net.py, line 1: its import failed (SyntaxError: '[' was never closed); "
        "more is in "
    )
    assert not Path("runs").exists()


@pytest.mark.parametrize("arch", ["my_net.py", "my_net:build", ":build", "my_net.py:", "net.py:1"])
def test_what_is_neither_a_name_nor_a_function_in_a_file_is_refused(arch: str) -> None:
    names = ", ".join(topologies.ARCHITECTURES)
    with refused(f"arch {arch!r}: choose one of {names}, FILE.py:FUNCTION"):
        resolve(arch=arch)


def test_a_run_of_a_topology_given_in_python_has_its_name() -> None:
    assert resolve(arch="python:my net/2").network == "my-net-2"
    with refused("arch 'python:x': its topology was given in Python; give it there again"):
        topologies.builder("python:x")


def test_a_topology_survives_json(tmp_path: Path) -> None:
    made = Topology("n", (1, 8, 8), (population("a", conv("input", 4, (1, 3), groups=1)),
                                     population("b", linear("a", 3), dropout=0.25)))  # fmt: skip
    assert topologies.describe(lambda *_: made, (1, 8, 8), 3) is made
