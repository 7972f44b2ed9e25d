"""``dsr-deploy check``: every obstacle at once, and an exit code for a build."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import foreign_graphs as graphs
import numpy as np
import pytest

from dsr_deploy.console import cli
from dsr_deploy.formats import nir as nir_format
from dsr_deploy.hardware.format import network_file

GOLDEN = Path(__file__).resolve().parents[2] / "hardware" / "golden" / "if.safetensors"
READ_AS = (
    "read as spikingjelly computes: dt 0.0001 s, v keeps 1 - dt / tau, a current counts r dt / tau "
    "times; a neuron fires at or above v_threshold, once in a timestep at most; a spike {} "
    "({})"
)
TOLD = "node '1': LIF with r = 1 of each neuron, tau in seconds"


def write(path: Path) -> str:
    graph = graphs.chain((3,), graphs.affine(2, 3), graphs.neurons("spikingjelly", (2,)))
    path.write_bytes(graphs.to_bytes(graph))
    return str(path)


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], str]:
    """Return the exit code, the lines of standard output, and standard error."""
    code = cli.run(["check", *arguments])
    shown = capsys.readouterr()
    return code, shown.out.splitlines(), shown.err


def test_a_foreign_network_with_an_obstacle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "net.nir")
    assert outcome(capsys, file) == (
        1,
        [
            f"{file}: NIR, 4 nodes, 1 of neurons",
            READ_AS.format("sets v to v_reset", TOLD),
            "node '1': a spike sets v to 0, a population subtracts v_threshold; "
            "train it with reset by subtraction, and say so with --reset subtract",
        ],
        f"error: {file}: 1 obstacle stands in the way\n",
    )


def test_a_foreign_network_without_obstacles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "net.nir")
    code, lines, error = outcome(capsys, file, "--reset", "subtract", "--chip", "loihi2")
    assert (code, error) == (0, "")
    assert lines[1:] == [
        READ_AS.format("subtracts v_threshold", TOLD),
        "ranges and cores of loihi2 are checked once it is quantized",
        "nothing stands in the way of an integer network on loihi2",
    ]


def test_a_chip_that_only_resets_to_zero(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "net.nir")
    code, lines, _ = outcome(capsys, file, "--reset", "subtract", "--chip", "loihi1")
    assert code == 1
    assert lines[-1] == (
        "network: its neurons reset by subtraction, loihi1 resets to 0 only; "
        "use a chip with programmable neurons, such as loihi2"
    )


def test_what_a_file_leaves_open_can_be_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "net.nir")
    chosen = ("--from", "sinabs", "--dt", "0.5", "--spikes", "one", "--reset", "zero")
    code, lines, _ = outcome(capsys, file, *chosen)
    assert code == 1
    assert lines[1] == (
        "read as Sinabs computes: dt 0.5 s, v keeps exp(-dt / tau), a current counts r times; a "
        "neuron fires at or above v_threshold, once in a timestep at most; a spike sets v to "
        "v_reset (as chosen)"
    )


def test_json_holds_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "net.nir")
    assert cli.run(["check", file, "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "file": file,
        "content": "NIR, 4 nodes, 1 of neurons",
        "chip": None,
        "assumptions": [READ_AS.format("sets v to v_reset", TOLD)],
        "obstacles": [
            {
                "place": "node '1'",
                "reason": "a spike sets v to 0, a population subtracts v_threshold",
                "way_out": "train it with reset by subtraction, and say so with --reset subtract",
            }
        ],
    }


@pytest.mark.parametrize("name", ["net.safetensors", "net.nir"])
def test_an_integer_network_without_obstacles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    network = network_file.read(GOLDEN)
    path = tmp_path / name
    to_bytes = nir_format.to_bytes if path.suffix == ".nir" else network_file.to_bytes
    path.write_bytes(to_bytes(network))
    assert outcome(capsys, str(path)) == (
        0,
        [f"{path}: {network!r}", "nothing stands in the way of an integer network"],
        "",
    )


def test_an_integer_network_and_everything_that_a_chip_lacks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, lines, error = outcome(capsys, str(GOLDEN), "--chip", "loihi1")
    assert code == 1
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "network",
        "input",
        *(f"population '{name}', channel 0" for name in ("stem", "block", "mixed", "out")),
    ]
    assert error == f"error: {GOLDEN}: 6 obstacles stand in the way\n"


@pytest.mark.parametrize("chip", [(), ("--chip", "loihi2")])
def test_every_population_that_may_overflow_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], chip: tuple[str, ...]
) -> None:
    network = network_file.read(GOLDEN)
    wide = replace(
        network,
        populations=tuple(
            replace(p, v_threshold=np.full_like(p.v_threshold, 2**24)) for p in network.populations
        ),
    )
    path = tmp_path / "wide.safetensors"
    path.write_bytes(network_file.to_bytes(wide))
    code, lines, _ = outcome(capsys, str(path), *chip)
    assert code == 1
    assert [line.partition("'")[2].partition("'")[0] for line in lines[1:]] == [
        p.name for p in network.populations
    ]


def test_a_network_that_is_too_large_for_a_chip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = (GOLDEN.parents[3] / "hardware" / "chips" / "loihi2.yaml").read_text()
    for limit, value in (("120", "1"), ("8192", "2")):
        assert f"{{value: {limit}, " in profile
        profile = profile.replace(f"{{value: {limit}, ", f"{{value: {value}, ")
    chip = tmp_path / "small.yaml"
    chip.write_text(profile.replace("loihi2", "small"))
    code, lines, _ = outcome(capsys, str(GOLDEN), "--chip", str(chip))
    assert code == 1
    assert lines[1] == (
        "population 'stem': its fullest core needs 4 neurons_per_core, small has 2; "
        "make the layer smaller [not certain]"
    )
    assert re.fullmatch(r"network: it takes \d+ cores, small has 1; make layers smaller", lines[-1])


def test_choices_of_nir_are_refused_for_an_integer_network(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert outcome(capsys, str(GOLDEN), "--reset", "zero") == (
        1,
        [],
        f"error: {GOLDEN}: an integer network leaves nothing open; framework, reset, dt and spikes "
        "are for NIR files of other frameworks\n",
    )


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.nir", b"nothing", "not an HDF5 file; export it again"),
        ("a.nir", b"\x89HDF\r\n\x1a\n" + bytes(100), "not a whole HDF5 file"),
        ("a.txt", b"nothing", "not a whole safetensors file"),
    ],
)
def test_a_damaged_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, line: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    code, lines, error = outcome(capsys, str(path))
    assert (code, lines) == (1, [])
    assert error.startswith(f"error: {path}: {line}")
    assert error.count("\n") == 1


def test_a_missing_file_and_unknown_names_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "net.nir")
    gone = tmp_path / "gone.nir"
    assert outcome(capsys, str(gone)) == (
        1,
        [],
        f"error: {gone}: cannot be read (No such file or directory)\n",
    )
    assert outcome(capsys, file, "--from", "nest")[2] == (
        "error: framework 'nest': choose one of snntorch, norse, sinabs, rockpool, spikingjelly, "
        "nir\n"
    )
    assert outcome(capsys, file, "--dt", "-1")[2] == (
        "error: dt must be a positive number of seconds, not -1\n"
    )
    assert outcome(capsys, file, "--chip", "loihi9")[2] == (
        "error: chip 'loihi9': choose one of loihi1, loihi2, or name a file that ends in .yaml\n"
    )
