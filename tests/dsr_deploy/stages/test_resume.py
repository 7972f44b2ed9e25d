"""A run that is killed and resumed ends with the weights of one that was not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import launcher
import numpy as np
import pytest
import torch
from safetensors import safe_open

TRAINING = (
    "train",
    "--epochs",
    "4",
    "--seed",
    "3",
    "-T",
    "2",
    "--batch-size",
    "128",
    "--run",
    "run",
)

# The command line, killed when a file is written for the n-th time but does not have its name yet.
DIES = """
import os, signal, sys
from dsr_deploy.console.cli import main
name, left, rename = sys.argv.pop(1), int(sys.argv.pop(1)), os.replace
def replace(old, new):
    global left
    left -= os.path.basename(new) == name
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(old, new)
os.replace = replace
main()
"""


@dataclass(frozen=True)
class End:
    """All that a run leaves, apart from the seconds that it took."""

    tensors: dict[str, list[int]]
    metrics: list[dict[str, Any]]
    best: bytes

    @classmethod
    def of(cls, run: Path) -> End:
        with safe_open(run / "checkpoint" / "latest.safetensors", framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            bits = {
                name: file.get_tensor(name).reshape(-1).view(torch.int32).tolist()
                for name in file.keys()  # noqa: SIM118
            }
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert about["history"] == lines
        metrics = [line | {"seconds": None} for line in lines]
        return cls(bits, metrics, (run / "checkpoint" / "best.safetensors").read_bytes())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[End, float]:
    """Return the end of a run that was not killed, and how many seconds it took."""
    folder = tmp_path_factory.mktemp("whole")
    started = time.monotonic()
    assert launcher.run_alone(*TRAINING, cwd=folder).code == 0
    return End.of(folder / "run"), time.monotonic() - started


def _killed_after(seconds: float, *line: str, cwd: Path) -> None:
    process = launcher.start(*line, cwd=cwd)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _next_line(folder: Path) -> tuple[str, ...]:
    """Return what a user types after a run was killed: there may be nothing to resume yet."""
    if (folder / "run" / "config.json").exists():
        return ("train", "--resume")
    refused = launcher.run_alone("train", "--resume", cwd=folder)
    message = "no run in this directory yet; run `dsr-deploy train` first, or name a run with --run"
    assert (refused.code, refused.errors) == (1, [f"error: {message} DIR"])
    return TRAINING


def _finish(folder: Path) -> End:
    assert launcher.run_alone(*_next_line(folder), cwd=folder).code == 0
    written = [path.name for path in (folder / "run" / "checkpoint").iterdir()]
    assert sorted(written) == ["best.safetensors", "latest.safetensors"]
    return End.of(folder / "run")


def _killed_in_write(name: str, number: int, *line: str, cwd: Path) -> None:
    program = [sys.executable, "-c", DIES, name, str(number), *line]
    done = subprocess.run(
        program, cwd=cwd, env=launcher.ENVIRONMENT, capture_output=True, check=False
    )
    assert done.returncode == -9


@pytest.mark.slow
def test_a_run_killed_three_times_in_a_row_ends_the_same(
    whole: tuple[End, float], tmp_path: Path
) -> None:
    expected, duration = whole
    # Before the first checkpoint has its name, then before the second has, then at random.
    _killed_in_write("best.safetensors", 1, *TRAINING, cwd=tmp_path)
    _killed_in_write("latest.safetensors", 2, "train", "--resume", cwd=tmp_path)
    moment = np.random.default_rng(11).uniform(0.3, 0.9) * duration
    _killed_after(moment, "train", "--resume", cwd=tmp_path)
    assert _finish(tmp_path) == expected


@pytest.mark.slow
@pytest.mark.parametrize("tenth", range(10))
def test_a_run_killed_at_any_moment_ends_the_same(
    whole: tuple[End, float], tmp_path: Path, tenth: int
) -> None:
    expected, duration = whole
    moment = (tenth + np.random.default_rng(tenth).random()) / 10 * duration
    _killed_after(moment, *TRAINING, cwd=tmp_path)
    assert _finish(tmp_path) == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_run_killed_twice_at_random_ends_the_same(
    whole: tuple[End, float], tmp_path: Path, seed: int
) -> None:
    expected, duration = whole
    line = TRAINING
    for moment in np.random.default_rng(seed).uniform(0.3, 0.9, 2) * duration:
        _killed_after(moment, *line, cwd=tmp_path)
        line = _next_line(tmp_path)
    assert _finish(tmp_path) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("config.json", 1),
        ("metrics.jsonl", 1),
        ("latest.safetensors", 1),
        ("best.safetensors", 2),
        ("metrics.jsonl", 2),
    ],
)
def test_a_run_killed_in_any_write_ends_the_same(
    whole: tuple[End, float], tmp_path: Path, name: str, number: int
) -> None:
    expected, _ = whole
    _killed_in_write(name, number, *TRAINING, cwd=tmp_path)
    assert _finish(tmp_path) == expected
