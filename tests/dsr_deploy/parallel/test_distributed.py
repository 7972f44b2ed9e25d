"""Several processes, really started by PyTorch's launcher, do what one does.

Order and augmentation of the samples, first weights and thresholds are the same; the sums of the
gradients have another order, so their last bits differ: measured, up to 3e-5 of a tensor's norm
after one step. Some steps later a first spike flips, as after any change of a last bit, and from
there the curves part as far as those of two learning rates that differ in the seventh digit.
Three steps on all samples at a small learning rate stay within 1e-5. The bound, 1e-3, lets a few
spikes flip; a sum over the processes that is missing, in the gradients or in either pass of
BatchNorm, makes 0.12 or more.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import launcher
import numpy as np
import pytest
import sample_run
import torch
import torch.distributed as dist
from PIL import Image
from safetensors.torch import load_file

from dsr_deploy.console import cli

# All 1437 samples in one batch: 718 of them for the first process, 719 for the second.
TRAINING = ("train", "--precision", "fp32", "-T", "4", "--seed", "5", "--batch-size", "1437")
TRAINING += ("--epochs", "3", "--lr", "0.001")


def _metrics(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) | {"seconds": None} for line in lines]


def _latest(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoint" / "latest.safetensors")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where one process trained ``one`` and two processes ``two``."""
    place = tmp_path_factory.mktemp("place")
    assert launcher.run_alone(*TRAINING, "--run", "one", cwd=place).code == 0
    logs = place / "logs"
    ended = launcher.run(*TRAINING, "--run", "two", cwd=place, processes=2, logs=logs)
    assert (ended.code, ended.errors) == (0, [])
    assert "written to     two" in ended.out[0]
    assert ended.out[1] == ""
    assert (place / "runs" / "latest").resolve() == place / "two"
    return place


def test_two_processes_train_what_one_trains(place: Path) -> None:
    for alone, together in zip(_metrics(place / "one"), _metrics(place / "two"), strict=True):
        for name in ("lr", "train_loss", "validation_loss", "firing_rate"):
            assert together[name] == pytest.approx(alone[name], rel=1e-4), name
        assert together["train_accuracy"] == pytest.approx(alone["train_accuracy"], abs=2 / 1295)
    one, two = _latest(place / "one"), _latest(place / "two")
    assert one.keys() == two.keys()
    for name, value in one.items():  # the momentum is the sum of the last gradients
        assert (two[name] - value).norm() <= 1e-3 * value.norm(), name


@pytest.mark.slow
def test_two_processes_resume_to_the_same_end(place: Path, tmp_path: Path) -> None:
    logs = tmp_path / "killed"
    process = launcher.start(*TRAINING, "--run", "run", cwd=tmp_path, processes=2, logs=logs)
    while not (tmp_path / "run" / "checkpoint" / "latest.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    killed = launcher.wait(process, logs)
    gone = (
        "error: another process of this run ended without an error (killed, or out of memory?); "
        "continue a training with --resume"
    )
    assert killed.code == 1
    assert killed.errors in ([gone], [])  # the launcher may stop the other one first

    logs = tmp_path / "resumed"
    resumed = launcher.run("train", "--resume", cwd=tmp_path, processes=2, logs=logs)
    assert (resumed.code, resumed.errors) == (0, [])
    assert _metrics(tmp_path / "run") == _metrics(place / "two")
    expected, found = _latest(place / "two"), _latest(tmp_path / "run")
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


@pytest.mark.slow
def test_the_curve_of_two_processes_is_as_near_as_that_of_a_changed_last_digit(
    tmp_path: Path,
) -> None:
    line = ("train", "--precision", "fp32", "--epochs", "6")
    assert launcher.run_alone(*line, "--run", "one", cwd=tmp_path).code == 0
    changed = (*line, "--lr", "0.1000001", "--run", "changed")
    assert launcher.run_alone(*changed, cwd=tmp_path).code == 0
    logs = tmp_path / "logs"
    assert launcher.run(*line, "--run", "two", cwd=tmp_path, processes=2, logs=logs).code == 0

    def loss(run: str) -> np.ndarray:
        return np.array([epoch["train_loss"] for epoch in _metrics(tmp_path / run)])

    # Both bound alike what the first flipped spike sets off, so a factor of three is wide enough.
    assert abs(loss("two") - loss("one")).max() < 3 * abs(loss("changed") - loss("one")).max()


def test_no_thread_of_a_group_outlives_it(tmp_path: Path) -> None:
    """One that does may abort its process at the exit."""
    script = (
        "import pathlib, torch\n"
        "from dsr_deploy.parallel import distributed\n"
        "names = lambda: [p.read_text() for p in pathlib.Path('/proc/self/task').glob('*/comm')]\n"
        "with distributed.process_group(torch.device('cpu')):\n"
        "    distributed.sum_over_ranks(torch.ones(1))\n"
        "    torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)\n"
        "    print(sum('gloo' in name for name in names()) > 0)\n"
        "print(sum('gloo' in name for name in names()))\n"
    )
    logs = tmp_path / "logs"
    program = (sys.executable, "-c", script)
    process = launcher.start(cwd=tmp_path, processes=2, logs=logs, program=program)
    assert launcher.wait(process, logs) == launcher.Ended(0, 2 * ("True\n0\n",), ("", ""))


@pytest.mark.slow
def test_a_failure_of_all_is_told_once(tmp_path: Path) -> None:
    line = ("train", "--dataset", "imagefolder", "--data-dir", "none", "--run", "run")
    ended = launcher.run(*line, cwd=tmp_path, processes=2, logs=tmp_path / "logs")
    assert ended.code == 1
    assert ended.errors == [
        f"error: {tmp_path}/none: there is no such directory; name the data set's with data_dir"
    ]
    assert not (tmp_path / "run").exists()


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the variables of three processes but for RANK, and what they talk through."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True)  # as the launcher holds it
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "3"}
    told["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    yield
    del store


REFUSED = [
    ("train --lr -1 --run run", "lr must be 1e-37 to 1e+38, not -1.0"),
    ("train", "several processes need the same directory; name it with --run DIR"),
    *(
        (
            f"{name} --run run",
            f"3 processes were started for `dsr-deploy {name}`, which runs in one; start it "
            "without torchrun, which is for train and simulate",
        )
        for name in ("quantize", "export", "verify", "report")
    ),
]


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(("line", "message"), REFUSED)
def test_what_is_refused_is_told_by_one_of_all(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    line: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for rank in ("1", "0", "1", "2"):
        monkeypatch.setenv("RANK", rank)
        assert cli.run(line.split()) == 1
    assert capsys.readouterr().err == 2 * f"error (process 1): {message}\n"
    assert not list(tmp_path.iterdir())


def test_a_failure_of_one_is_told_by_it_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in range(2):
            folder = tmp_path / "images" / part / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(8):
                pixels = rng.integers(0, 256, (72, 72, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    line = ("train", "--dataset", "imagefolder", "--data-dir", "images", "--arch", "resnet-tiny")
    line += ("--image-size", "16", "--batch-size", "16", "--epochs", "2", "--run", "run")
    # Images of this size are read when they are needed; the second process has the last test image.
    damaged = tmp_path / "images" / "test" / "class1" / "7.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    ended = launcher.run(*line, cwd=tmp_path, processes=2, logs=tmp_path / "logs")
    why = "the image is damaged (image file is truncated); replace it"
    assert (ended.code, ended.errors) == (1, [f"error (process 1): {damaged}: {why}"])


@pytest.mark.slow
def test_a_shared_simulation_writes_the_reports_of_one_process(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    line = ("simulate", "--run", "run", "--samples", "101", "--json")
    alone = launcher.run_alone(*line, cwd=tmp_path)
    assert alone.code == 0
    names = ("simulate.json", "sparsity.json", "sparsity.csv", "energy.json", "energy.csv")
    expected = {name: (run.reports / name).read_bytes() for name in names}
    for path in run.reports.iterdir():
        path.unlink()
    ended = launcher.run(*line, cwd=tmp_path, processes=2, logs=tmp_path / "logs")
    assert (ended.code, ended.errors) == (0, [])
    assert ended.out == (alone.out[0], "")
    assert {name: (run.reports / name).read_bytes() for name in names} == expected
