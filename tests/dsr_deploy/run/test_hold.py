"""A run belongs to one process at a time, and is the same directory from begin to end."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import sample_run

from dsr_deploy.console import cli
from dsr_deploy.errors import UserError
from dsr_deploy.progress import Silent
from dsr_deploy.run import config, provenance
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.hold import hold
from dsr_deploy.run.trained import Trained, load_trained
from dsr_deploy.stages import quantize, train

SMALL = {"timesteps": 1, "epochs": 2, "batch_size": 256, "precision": "fp32", "device": "cpu"}


def _gone(run: Path, command: str) -> str:
    return (
        f"{run}: no longer the directory where this work began (moved, removed or replaced?), "
        f"so nothing more was written; run `dsr-deploy {command} --run DIR` with DIR where it is "
        "now"
    )


def _refused(message: str) -> pytest.RaisesExc[UserError]:
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _move(run: Path) -> None:
    run.rename(run.with_name("moved"))


def _replace(run: Path) -> None:
    _move(run)
    run.mkdir()


def _replace_by_a_copy(run: Path) -> None:
    _move(run)
    shutil.copytree(run.with_name("moved"), run)


@pytest.mark.parametrize("change", [_move, _replace, _replace_by_a_copy])
@pytest.mark.parametrize("command", ["export --target loihi", "simulate", "report"])
def test_a_run_that_goes_away_meanwhile_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    change: Callable[[Path], None],
) -> None:
    run = sample_run.write(tmp_path / "run")
    before = _contents(run.path)
    after: dict[str, bytes] = {}
    real = provenance.stale

    def stale(held: RunDirectory) -> dict[str, provenance.Stale]:
        found = real(held)
        if not after:
            change(run.path)
            after.update(_contents(tmp_path))
        return found

    monkeypatch.setattr(provenance, "stale", stale)
    assert cli.run([*command.split(), "--run", str(run.path)]) == 1
    errors = [s for s in capsys.readouterr().err.splitlines() if s.startswith("error: ")]
    assert errors == [f"error: {_gone(run.path, command)}"]
    assert _contents(tmp_path) == after
    assert _contents(tmp_path / "moved") == before


class MovesAfterAnEpoch(Silent):
    def __init__(self, run: Path) -> None:
        self.run = run

    def note(self, text: str) -> None:
        if text.startswith("epoch ") and self.run.exists():
            _move(self.run)


def test_a_training_whose_run_is_moved_ends_and_goes_on_where_it_is(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    with _refused(_gone(run.path, "train --resume")):
        train.train(config.resolve(**SMALL), run, progress=MovesAfterAnEpoch(run.path))
    assert not run.path.exists()
    moved = RunDirectory(tmp_path / "moved")
    assert train.train(config.read(moved.config), moved, resume=True).epoch == 2


def test_a_quantization_whose_run_is_moved_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sample_run.write(tmp_path / "run")

    def load(run: RunDirectory) -> Trained:
        _move(run.path)
        return load_trained(run)

    monkeypatch.setattr(quantize, "load_trained", load)
    with _refused(_gone(run.path, "quantize --bits 8")):
        quantize.quantize(run, quantize.QuantizeConfig(bits=8, epochs=0))
    assert [path.name for path in tmp_path.iterdir()] == ["moved"]
    assert not (tmp_path / "moved" / "quantized-8").exists()


def test_a_link_that_is_switched_meanwhile_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [sample_run.write(tmp_path / name) for name in ("one", "two")]
    link = tmp_path / "link"
    link.symlink_to("one")
    real = provenance.stale

    def stale(held: RunDirectory) -> dict[str, provenance.Stale]:
        link.unlink()
        link.symlink_to("two")
        return real(held)

    monkeypatch.setattr(provenance, "stale", stale)
    assert cli.run(["export", "--target", "nir", "--run", str(link)]) == 0
    assert [run.export("nir").exists() for run in runs] == [True, False]


def test_a_bug_in_a_run_that_is_there_is_not_called_a_move(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    with pytest.raises(FileNotFoundError), hold(run, "export"):
        (tmp_path / "nowhere").read_bytes()


COMMANDS = (
    ("train --resume", "."),
    ("train --resume", "checkpoint"),
    ("quantize --epochs 0", "."),
    ("export", "export"),
    ("export", "export/loihi"),
    ("export --target nir", "export"),
    ("simulate", "."),
    ("report", "."),
)


@pytest.mark.parametrize(("command", "place"), COMMANDS)
def test_a_folder_that_cannot_be_written_is_found_out_before_the_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    place: str,
) -> None:
    run = sample_run.write(tmp_path / "run")
    (run.path / "checkpoint").mkdir()
    before = _contents(run.path)
    locked = run.path / place
    real = Path.mkdir

    def mkdir(path: Path, *arguments: object, **options: object) -> None:
        if path.parent == locked:
            raise OSError(30, "Read-only file system")
        real(path, *arguments, **options)  # type: ignore[arg-type]

    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    for name in (
        "dsr_deploy.stages.train.load_same_data",
        "dsr_deploy.stages.quantize.load_trained",
        "dsr_deploy.hardware.format.network_file.from_bytes",
        "dsr_deploy.stages.report._values",
    ):
        monkeypatch.setattr(name, work)
    assert cli.run([*command.split(), "--run", str(run.path)]) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(
        rf"error: {re.escape(str(run.path))}\S*: cannot be written \(Read-only file system\); make "
        r"it writable, or copy the run and name the copy with --run DIR\n",
        said,
    )
    assert _contents(run.path) == before


def test_what_was_interrupted_is_cleared_away_by_the_next_command(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    left = ("export/.loihi", "export/.onnx", ".quantized-8", ".reports")
    for name in left:
        (run.path / f"{name}.0123456789abcdef").mkdir()
    (run.path / "checkpoint").mkdir()
    for name in (".metrics.jsonl", ".config.json", "checkpoint/.best.safetensors"):
        (run.path / f"{name}.0123456789abcdef").write_bytes(b"half")
    run.export("loihi").rename(run.path / "export" / ".loihi.00112233445566aa.old")
    (tmp_path / "elsewhere").mkdir()
    (run.path / "reports").symlink_to(tmp_path / "elsewhere")
    for name in (".elsewhere", ".another"):
        (tmp_path / f"{name}.0123456789abcdef").mkdir()
    assert cli.run(["report", "--run", str(run.path)]) == 0
    hidden = {path.name for path in run.path.rglob(".*")}
    assert hidden == {".lock"}
    beside = {path.name for path in tmp_path.iterdir()}
    assert beside == {"run", "elsewhere", ".another.0123456789abcdef"}
    assert run.read("export/loihi", "network.safetensors")


def test_a_run_that_never_began_keeps_no_lock(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with hold(run, "train"):
        assert (tmp_path / ".lock").exists()
    assert not list(tmp_path.iterdir())
