"""The command ``simulate``: its options, of a run and of a network's file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sample_run

from dsr_deploy.console import cli
from dsr_deploy.hardware.format import network_file


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current directory, with a network and samples for it."""
    monkeypatch.chdir(tmp_path)
    network_file.write(sample_run.network(), tmp_path / "n.safetensors")
    np.save("p.npy", sample_run.payloads()[:12])
    return tmp_path


def _run(line: str) -> int:
    return cli.run(["simulate", *line.split()])


def test_a_networks_file_needs_no_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--network n.safetensors --inputs p.npy --report sparsity") == 0
    text = capsys.readouterr().out
    assert text.startswith("Simulated 12 samples in integers only, 3 timesteps each.\n")
    assert "  accuracy             unknown, as there are no labels\n" in text
    assert (
        "  network  n.safetensors\n  samples  payloads (int8) of p.npy, taken as they are\n" in text
    )
    assert "written to" not in text
    assert "Next:" not in text
    assert {path.name for path in here.iterdir()} == {"n.safetensors", "p.npy"}
    line = "--network n.safetensors --dataset digits --samples 20 --out out --predictions c.npy"
    assert _run(line) == 0
    text = capsys.readouterr().out
    assert "  samples  test samples of digits\n" in text
    assert text.endswith("  written to  out, c.npy\n")
    assert len(np.load("c.npy")) == 20
    assert (here / "out" / "simulate.json").exists()


def test_json_is_everything_and_valid(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--network n.safetensors --inputs p.npy --json") == 0
    text = capsys.readouterr().out
    assert "NaN" not in text
    values = json.loads(text)
    assert values["accuracy"] is None
    assert len(values["predictions"]) == values["samples"] == 12
    assert values["source"] == "payloads (int8) of p.npy, taken as they are"
    assert {"sparsity", "energy", "ranges", "chip"} <= set(values)


SEE = "; see `dsr-deploy simulate --help`"


@pytest.mark.parametrize(
    ("line", "message", "code"),
    [
        ("--inputs p.npy", f"--inputs belongs to --network FILE{SEE}", 2),
        ("--out o", f"--out belongs to --network FILE{SEE}", 2),
        ("--network n.safetensors --inputs p.npy --run .", "--network and --run exclude each other"
         f"{SEE}", 2),
        ("--network n.safetensors", "no samples; name them with --dataset NAME or --inputs FILE",
         1),
        ("--network n.safetensors --inputs p.npy --dataset digits", "--dataset and --inputs "
         "exclude each other; name the samples with one", 1),
        ("--network x --dataset digits", "x: cannot be read (No such file or directory)", 1),
        ("--network n.safetensors --inputs x.npy", "x.npy: cannot be read (No such file or "
         "directory)", 1),
        ("--network n.safetensors --inputs p.npy --samples 13", "samples must be 1 to 12, not 13",
         1),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, message: str, code: int
) -> None:
    before = set(here.iterdir())
    assert _run(line) == code
    assert capsys.readouterr().err == f"error: {message}\n"
    assert set(here.iterdir()) == before


def test_traces_are_recorded_of_what_is_chosen(here: Path) -> None:
    line = "--network n.safetensors --inputs p.npy --record t.npz --potentials"
    assert _run(f"{line} --layers conv --record-samples 3,5") == 0
    traces = np.load("t.npz")
    assert set(traces.files) == {"spikes/conv", "potentials/conv", "samples", "predictions"}
    assert traces["samples"].tolist() == [3, 5]
    assert _run("--network n.safetensors --inputs p.npy --record t.npz --record-samples 3") == 0
    assert np.load("t.npz")["samples"].tolist() == [0, 4, 8]
    assert _run("--network n.safetensors --inputs p.npy --record t.npz --record-samples 3,") == 0
    assert np.load("t.npz")["samples"].tolist() == [3]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--potentials", f"--potentials belongs to --record FILE{SEE}"),
        ("--record-samples 3", f"--record-samples belongs to --record FILE{SEE}"),
        ("--record t.npz --record-samples 3,x", "Invalid value for --record-samples: '3,x': give a "
         f"whole number, or several separated by commas{SEE}"),
    ],
)  # fmt: skip
def test_options_of_a_recording_need_one(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    assert _run(f"--network n.safetensors --inputs p.npy {line}") == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (here / "t.npz").exists()
