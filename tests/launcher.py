"""The command line in processes of its own, one or several as PyTorch's launcher starts them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAM = (sys.executable, "-c", "from dsr_deploy.console.cli import main; main()")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class Ended:
    """How processes ended: the launcher's exit code, and what each process wrote."""

    code: int
    out: tuple[str, ...]
    err: tuple[str, ...]

    @property
    def errors(self) -> list[str]:
        """Everything on standard error that is not progress."""
        lines = [line for text in self.err for line in text.splitlines()]
        return [line for line in lines if not line.startswith(("epoch ", "reading "))]


def start(
    *arguments: str,
    cwd: Path,
    processes: int = 1,
    logs: Path | None = None,
    program: tuple[str, ...] = PROGRAM,
) -> subprocess.Popen[bytes]:
    """Start a command line; several processes write to files below ``logs``."""
    launcher: tuple[str, ...] = ()
    if processes > 1:
        launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python")
        launcher += ("--nproc-per-node", str(processes), "--redirects", "3")
        launcher += ("--log-dir", str(logs), "--")
    return subprocess.Popen(
        [*launcher, *program, *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=processes > 1,
    )


def wait(process: subprocess.Popen[bytes], logs: Path, seconds: float = 300) -> Ended:
    """Wait for the end of a command line of several processes; it must come within ``seconds``."""
    try:
        code = process.wait(seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):  # nothing of it is left
            os.killpg(process.pid, signal.SIGKILL)
    out, err = (
        tuple(path.read_text() for path in sorted(logs.rglob(f"[0-9]*/{name}.log")))
        for name in ("stdout", "stderr")
    )
    return Ended(code, out, err)


def run(*arguments: str, cwd: Path, processes: int, logs: Path) -> Ended:
    """Run a command line in several processes to its end."""
    return wait(start(*arguments, cwd=cwd, processes=processes, logs=logs), logs)


def run_alone(*arguments: str, cwd: Path) -> Ended:
    """Run a command line in one process to its end."""
    done = subprocess.run(
        [*PROGRAM, *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    return Ended(done.returncode, (done.stdout,), (done.stderr,))
