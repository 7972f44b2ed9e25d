"""A run that is killed and resumed ends with the weights of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from dsr_deploy.cli import main; main()", "train"]
TRAINING = [*COMMAND, "--epochs", "3", "--seed", "3"]


@pytest.mark.parametrize("after", ["config.json", "checkpoint/latest.safetensors"])
def test_a_killed_run_ends_with_the_same_weights(after: str, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*TRAINING, "--run", str(whole)], cwd=tmp_path, check=True, capture_output=True)
    process = subprocess.Popen(
        [*TRAINING, "--run", str(killed)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (killed / after).exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    resumed = [*COMMAND, "--resume", "--run", str(killed)]
    subprocess.run(resumed, cwd=tmp_path, check=True, capture_output=True)
    name = Path("checkpoint") / "best.safetensors"
    assert (killed / name).read_bytes() == (whole / name).read_bytes()
