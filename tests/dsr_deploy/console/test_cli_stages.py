"""The commands one after another, as a newcomer types them."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import launcher
import pytest

from dsr_deploy.console import cli
from dsr_deploy.measures.all import MEASURES


def _lines(*lines: str) -> None:
    for line in lines:
        assert cli.run(line.split()) == 0, line


@pytest.mark.parametrize("neuron", ["if", "lif"])
def test_every_stage_reads_what_the_one_before_wrote(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    neuron: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    _lines(
        f"train --neuron {neuron} --epochs 1 -T 3",
        "quantize --bits 4 --epochs 1",
        "export --target loihi",
        "simulate --report sparsity",
        "verify --samples 5",
        "report",
    )
    text = capsys.readouterr().out
    for next_command in ("quantize --bits 4", "export --target loihi", "simulate", "report"):
        assert f"Next: dsr-deploy {next_command}" in text
    run = tmp_path / "runs" / f"digits-resnet-tiny-{neuron}-t3"
    assert (tmp_path / "runs" / "latest").resolve() == run
    written = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    written = {name for name in written if not name.startswith("tensorboard/")}
    assert written >= {
        "config.json",
        "metrics.jsonl",
        "checkpoint/latest.safetensors",
        "checkpoint/best.safetensors",
        "quantized-4/network.safetensors",
        "quantized-4/row.json",
        "quantized-4/predictions.json",
        "export/loihi/network.safetensors",
        "export/loihi/lava.json",
        "export/loihi/manifest.json",
        "reports/simulate.json",
        "reports/sparsity.csv",
        "reports/sparsity.json",
        "reports/sparsity.png",
        "reports/sparsity.svg",
        "reports/energy.csv",
        "reports/energy.json",
        "reports/report.html",
    }
    assert not [name for name in written if "/." in name]  # nothing half-written
    row = json.loads((run / "quantized-4" / "row.json").read_text())
    simulated = json.loads((run / "reports" / "simulate.json").read_text())
    assert simulated["accuracy"] == row["accuracy"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a run of one epoch, quantized by rounding to 8 bits."""
    folder = tmp_path_factory.mktemp("trained")
    with contextlib.chdir(folder):
        _lines("train --epochs 1 -T 3", "quantize --bits 8 --epochs 0")
    return folder


def test_a_second_training_gets_a_directory_of_its_own(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    _lines("train --epochs 1 -T 3")
    second = trained / "runs" / "digits-resnet-tiny-if-t3-2"
    assert (trained / "runs" / "latest").resolve() == second


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "simulate",
            "{run}: no exported network; run `dsr-deploy export --target loihi --run {run}` first",
        ),
        (
            "export --bits 4",
            "{run}: no network of 4 bits (found: 8); run "
            "`dsr-deploy quantize --bits 4 --run {run}` first",
        ),
    ],
)
def test_a_stage_that_comes_too_early_names_the_one_before(
    trained: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    run = trained / "runs" / "digits-resnet-tiny-if-t3"
    assert cli.run([*line.split(), "--run", str(run)]) == 1
    assert capsys.readouterr().err == f"error: {message.format(run=run)}\n"


def test_a_truncated_checkpoint_is_refused(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trained / "runs" / "digits-resnet-tiny-if-t3" / "checkpoint" / "best.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    try:
        assert cli.run(["quantize", "--run", str(path.parents[1])]) == 1
    finally:
        path.write_bytes(whole)
    errors = [s for s in capsys.readouterr().err.splitlines() if s.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {path}: not a complete checkpoint (")
    assert errors[0].endswith("; train again in another directory")


def _a_file(latest: Path) -> None:
    latest.parent.mkdir()
    latest.write_text("mine")


def _a_folder(latest: Path) -> None:
    (latest / "mine").mkdir(parents=True)


def _no_folder_above(latest: Path) -> None:
    latest.parent.write_text("mine")


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (_a_file, "it is not a link"),
        (_a_folder, "it is not a link"),
        (_no_folder_above, "File exists"),
    ],
)
def test_training_goes_on_where_the_link_to_it_cannot_be_made(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    block: Callable[[Path], None],
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    block(tmp_path / "runs" / "latest")
    before = set(tmp_path.rglob("*"))
    note = f"runs/latest: cannot be written ({why}); later commands need --run run"
    for line in ("train --epochs 1 -T 1 --run run", "train --resume --run run"):
        _lines(line)
        said = capsys.readouterr()
        assert said.err.splitlines()[0] == note
        assert "Next: dsr-deploy quantize --bits 4 --run run\n" in said.out
    left = {path for path in tmp_path.rglob("*") if tmp_path / "run" not in (path, *path.parents)}
    assert left == before


def test_an_interrupted_training_names_the_command_that_continues_it(tmp_path: Path) -> None:
    # A shell lets what it starts in the background ignore the signal.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from dsr_deploy.console.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "train", "-T", "1", "--run", "run"],
        cwd=tmp_path,
        env=launcher.ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not (tmp_path / "run" / "config.json").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == (
        "error: stopped; `dsr-deploy train --resume --run run` continues the training"
    )


def test_a_training_interrupted_before_it_began_leaves_nothing_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dsr_deploy.stages import train

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "load_data", stop)
    assert cli.run(["train"]) == 130
    assert capsys.readouterr().err == "\nerror: stopped\n"
    assert not list(tmp_path.iterdir())


def test_an_unknown_table_is_refused_before_anything_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["simulate", "--report", "heat"]) == 2
    assert capsys.readouterr().err == (
        "error: Invalid value for --report: 'heat': choose one of sparsity, energy, ranges, chip, "
        "load, time, neurobench, all; see `dsr-deploy simulate --help`\n"
    )


def test_help_names_every_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["simulate", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"{', '.join(MEASURES)} or all" in text
