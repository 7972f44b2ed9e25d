"""What libraries and the machine make fail, as the user reads it."""

import errno
import sys
from pathlib import Path

import pytest
import sample_run
import torch

from dsr_deploy.console import cli, environment, failures
from dsr_deploy.data.samples import DataError
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.errors import HardwareError, NetworkError
from dsr_deploy.models.topology import TopologyError
from dsr_deploy.stages import report, train

OUT_OF_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=range(len(OUT_OF_MEMORY)))
def test_memory_that_runs_out_names_the_options_that_need_less(error: Exception) -> None:
    parameters = ["directory", "timesteps", "batch_size", "image_size"]
    assert failures.explain(error, parameters) == (
        "out of memory; lower --batch-size, --timesteps or --image-size, or use a larger machine"
    )
    assert failures.explain(error, ["samples"]) == (
        "out of memory; lower --samples, or use a larger machine"
    )
    assert failures.explain(error) == "out of memory; use a larger machine"


def test_really_allocating_too_much_is_such_an_error() -> None:
    with pytest.raises(RuntimeError) as failed:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert failures.is_out_of_memory(failed.value)


OTHERS = [
    (
        PermissionError(errno.EACCES, "Permission denied", "/secret/run/config.json"),
        "/secret/run/config.json: cannot be used (Permission denied)",
    ),
    (
        OSError(errno.ENOSPC, "No space left on device"),
        "the operating system failed: No space left on device",
    ),
    (OSError("weird\nsecond line"), "the operating system failed: weird"),
    (
        RuntimeError("can't start new thread"),
        "no more threads can be started; end other programs, or raise the limit (ulimit -u)",
    ),
    # mistakes that say themselves what to do, and bugs of ours
    (UserError("out of memory"), None),
    (NetworkError("out of memory"), None),
    (TopologyError("x"), None),
    (DataError("x"), None),
    (ZeroDivisionError("x"), None),
    (RuntimeError("shapes do not match"), None),
]


@pytest.mark.parametrize(("error", "line"), OTHERS, ids=range(len(OTHERS)))
def test_the_system_is_named_and_bugs_are_not_explained(error: Exception, line: str | None) -> None:
    assert failures.explain(error) == line
    assert failures.is_ours(error) == isinstance(error, UserError | HardwareError | DataError
                                                 | TopologyError)  # fmt: skip


def _raise_in(*modules: str) -> Exception:
    """Return an error that the last of ``modules`` raised, each called by the one before."""
    code = "def run(others):\n    others[0](others[1:]) if others else int('x\\ny')"
    calls = []
    for name in modules:
        space: dict[str, object] = {"__name__": name}
        exec(code, space)
        calls.append(space["run"])
    with pytest.raises(ValueError, match="invalid literal") as failed:
        calls[0](calls[1:])  # type: ignore[operator]
    return failed.value


def test_a_library_that_fails_at_its_import_names_its_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NUMBA_THREADING_LAYER", "foo")
    at_import = ("dsr_deploy.console.cli", "importlib._bootstrap", "numba.core.config", "tempfile")
    assert failures.explain(_raise_in(*at_import)) == (
        "numba cannot start (invalid literal for int() with base 10: 'x\\ny'); it reads these "
        "environment variables: NUMBA_THREADING_LAYER; correct or unset them"
    )
    for bug in (
        ("importlib._bootstrap", "numba", "dsr_deploy.hardware"),
        ("dsr_deploy.console.cli", "numba.core.config"),
    ):
        assert failures.explain(_raise_in(*bug)) is None
    monkeypatch.delenv("NUMBA_THREADING_LAYER")
    assert failures.explain(_raise_in(*at_import)) is None


def test_a_training_out_of_memory_can_be_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(train, "train", fail)
    assert cli.run(["train", "--run", "new"]) == 1
    assert capsys.readouterr().err == (
        "error: out of memory; lower --batch-size, --timesteps or --image-size, or use "
        "a larger machine\n"
    )
    sample_run.write(tmp_path / "my run")
    assert cli.run(["train", "--resume", "--run", "my run"]) == 1
    assert capsys.readouterr().err == (
        "error: out of memory; lower --batch-size, --timesteps or --image-size, or continue with "
        "`dsr-deploy train --resume --run 'my run'` on a larger machine\n"
    )


@pytest.mark.parametrize("command", ["quantize", "export", "simulate", "verify", "report"])
def test_a_folder_that_may_not_be_entered_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)  # tests may run as root, who may enter all
    assert cli.run([command, "--run", "secret/run"]) == 1
    assert capsys.readouterr().err == (
        "error: secret/run/config.json: cannot be used (Permission denied)\n"
    )


@pytest.fixture(name="bug")
def fixture_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the program report fail; return the folder for temporary files."""

    def fail(run: object) -> None:
        raise ZeroDivisionError("by\nzero")

    run = sample_run.write(tmp_path / "run")
    monkeypatch.setattr(report, "report", fail)
    monkeypatch.setattr(environment, "prepare", lambda: None)
    monkeypatch.setattr(sys, "argv", ["dsr-deploy", "report", "--run", str(run.path)])
    monkeypatch.delenv(failures.DEBUG, raising=False)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_a_bug_is_a_line_with_the_traceback_in_a_file(
    bug: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main()
    (kept,) = bug.iterdir()
    assert (end.value.code, capsys.readouterr().err) == (
        1,
        "error: a bug of dsr-deploy (ZeroDivisionError: by); please report it, with the traceback "
        f"in {kept}\n",
    )
    assert kept.read_text().startswith("Traceback (most recent call last):\n")
    assert kept.read_text().endswith("ZeroDivisionError: by\nzero\n")


def test_a_bug_is_printed_for_who_looks_for_it(
    bug: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSR_DEPLOY_DEBUG", "1")
    bug.rmdir()  # no room for a file
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):\n")
    assert said.endswith(
        "error: a bug of dsr-deploy (ZeroDivisionError: by); please report it, with what "
        "DSR_DEPLOY_DEBUG=1 prints\n"
    )


def test_what_is_noted_with_an_error_is_kept_in_a_file(bug: Path) -> None:
    error = UserError("lava: a reason")
    assert failures.with_notes(error) == "lava: a reason"
    error.add_note("Traceback\nof Lava")
    line = failures.with_notes(error)
    (kept,) = bug.iterdir()
    assert line == f"lava: a reason; more is in {kept}"
    assert kept.read_text() == "Traceback\nof Lava"
