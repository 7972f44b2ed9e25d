"""What other programs leave in the environment."""

import os
import pwd
import subprocess
import sys
import warnings
from pathlib import Path

import launcher
import pytest
import sample_run

from dsr_deploy.console import cli, environment


@pytest.mark.parametrize("value", ["0", "-1", "x", "", "1.5", "4097", "9" * 5000, "²"])
def test_a_number_of_threads_that_numba_cannot_start_is_refused(
    value: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", value)
    monkeypatch.chdir(tmp_path)
    assert cli.run(["simulate"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: environment variable NUMBA_NUM_THREADS must be 1 to 4096, not '")
    assert said.endswith("; unset it for one thread per core\n")
    assert len(said) < 1100
    monkeypatch.setenv("NUMBA_NUM_THREADS", "4096")
    environment.check()


def test_a_user_without_a_name_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment, "_open_standard_streams", lambda: None)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setenv("MPLBACKEND", "x")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    environment.prepare()
    assert (os.environ["USER"], os.environ["HOME"]) == ("uid12345", "/")
    assert (os.environ["MPLBACKEND"], os.environ["OMP_WAIT_POLICY"]) == ("agg", "active")
    monkeypatch.setenv("USER", "me")
    monkeypatch.setenv("HOME", "/home/me")
    environment.prepare()
    assert (os.environ["USER"], os.environ["HOME"]) == ("me", "/home/me")


def test_a_notebooks_backend_and_a_home_that_cannot_be_written_do_not_matter(
    tmp_path: Path,
) -> None:
    run = sample_run.write(tmp_path / "run")
    odd = {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": "/dev/null",
        "HOME": "/dev/null",
    }
    done = subprocess.run(
        [*launcher.PROGRAM, "report", "--run", str(run.path)],
        env=launcher.ENVIRONMENT | odd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_librarys_warning_is_one_line() -> None:
    script = "from dsr_deploy.console import environment; environment.prepare(); import numba"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"NUMBA_OPT": "x"},  # numba shows a traceback
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == (
        "warning: Environment variable 'NUMBA_OPT' is defined but its associated value 'x' could "
        "not be parsed.\n"
    )


def test_what_is_closed_receives_nothing_that_is_printed(tmp_path: Path) -> None:
    script = (
        "import os; from dsr_deploy.console import environment; environment.prepare()\n"
        "made = os.open('made', os.O_CREAT | os.O_WRONLY)\n"
        "os.write(1, b'out'); os.write(2, b'err')\n"
        "os.write(made, str(made).encode())\n"
    )
    done = subprocess.run(
        f'exec {sys.executable} -c "{script}" <&- >&- 2>&-',
        shell=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0
    assert int((tmp_path / "made").read_text()) > 2
