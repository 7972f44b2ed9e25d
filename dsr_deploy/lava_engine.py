"""The Lava engine: starts the Lava runner in its own Python 3.10 and reads its spikes.

lava-nc runs under no newer Python, and the toolchain under no older one; the two exchange
files, see :mod:`dsr_deploy.hardware.lava.runner`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

import dsr_deploy
from dsr_deploy.errors import UserError
from dsr_deploy.hardware import network_file
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.reference import check_payloads
from dsr_deploy.hardware.run import Run
from dsr_deploy.hardware.schedule import schedule

PYTHON_VARIABLE = "DSR_DEPLOY_LAVA_PYTHON"
ENVIRONMENT = ".venv-lava"
RUNNER = "dsr_deploy.hardware.lava.runner"

PROBE = (
    "import sys, importlib.util as u; "
    "sys.exit(not (sys.version_info[:2] == (3, 10) and u.find_spec('lava') "
    f"and u.find_spec('{RUNNER.rpartition('.')[0]}')))"
)
"""Asks an interpreter whether it can run the runner, without the seconds of Lava's import."""

PROBE_SECONDS = 60.0


class LavaUnavailableError(UserError):
    """There is no Python 3.10 environment with lava-nc."""


class LavaError(UserError):
    """The Lava run failed; the runner's reason, and the traceback where a process raised."""


def find_python310() -> Path | None:
    """Return the interpreter that runs Lava, or None if there is none.

    The first that works of: the one named in ``DSR_DEPLOY_LAVA_PYTHON``, the environment that
    ``make lava`` builds (``.venv-lava`` beside the package's folder or beside this interpreter's
    environment), and ``python3.10`` on the path.

    Raises
    ------
    LavaUnavailableError
        If ``DSR_DEPLOY_LAVA_PYTHON`` names one that cannot run Lava.
    """
    named = os.environ.get(PYTHON_VARIABLE)
    if named:
        if not _runs_lava(Path(named)):
            raise LavaUnavailableError(
                f"{PYTHON_VARIABLE}: {named} is no Python 3.10 with lava-nc and dsr-deploy; run "
                "`make lava` and unset the variable, or name another interpreter"
            )
        return Path(named)
    project = Path(dsr_deploy.__file__).resolve().parents[1]
    candidates = [
        folder / ENVIRONMENT / "bin" / "python" for folder in (project, Path(sys.prefix).parent)
    ]
    on_path = shutil.which("python3.10")
    if on_path:
        candidates.append(Path(on_path))
    return next((path for path in candidates if _runs_lava(path)), None)


def run_lava(
    network: IntegerNetwork, payloads: NDArray[np.int8], *, time_limit: float = 600.0
) -> Run:
    """Run ``network`` in Lava, with its fixed-point models, and record every spike.

    The network is scheduled first; the spikes come back without the shift.

    Parameters
    ----------
    payloads : int8, (N, C, H, W), or (N, T, C, H, W) for a framed input
    time_limit : seconds for the whole run, Lava's start (1 to 10 s) included

    Raises
    ------
    NetworkError
        If the payloads do not fit the input.
    LavaUnavailableError
        If there is no Python 3.10 environment with lava-nc.
    LavaError
        If the run fails or exceeds its time limit.
    """
    check_payloads(network, payloads)
    python = find_python310()
    if python is None:
        raise LavaUnavailableError(
            "lava: no Python 3.10 with lava-nc and dsr-deploy found; run `make lava` in the "
            f"project's folder, or set {PYTHON_VARIABLE} to such an interpreter"
        )
    with tempfile.TemporaryDirectory(prefix="dsr-deploy-lava-") as folder:
        files = [Path(folder, name) for name in ("network.safetensors", "in.npz", "out.npz")]
        network_file.write(schedule(network), files[0])
        np.savez(files[1], payloads=payloads)
        _run_runner(python, files, time_limit)
        with np.load(files[2], allow_pickle=False) as result:
            spikes = {p.name: result[f"spikes_{i}"] for i, p in enumerate(network.populations)}
    fired = spikes[network.output.name][:, :, :, 0, 0].astype(np.int64)
    return Run(np.einsum("t,ntc->nc", np.array(network.readout, np.int64), fired), spikes)


def _runs_lava(python: Path) -> bool:
    # -I: what stands in the current directory or in PYTHONPATH belongs to another interpreter.
    try:
        probe = subprocess.run(
            [python, "-I", "-c", PROBE], capture_output=True, timeout=PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


def _run_runner(python: Path, files: list[Path], time_limit: float) -> None:
    """Run the runner to its end, and leave none of its processes behind."""
    command = [
        str(python),
        "-I",
        # After a failure the shared memory is freed by Python's tracker, which says so.
        "-Wignore:resource_tracker:UserWarning",
        "-m",
        RUNNER,
        *map(str, files),
    ]
    # Each of Lava's many processes would else start a pool of BLAS threads.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    # A file, not a pipe: Lava's processes hold it open for as long as they live, and a pipe is
    # read to its end only when the last one is gone, also the one that was just being started.
    with tempfile.TemporaryFile() as messages:
        code = _wait(command, os.environ | threads, messages, time_limit)
        messages.seek(0)
        reason = messages.read().decode(errors="replace").strip()
    if code is None:
        raise LavaError(f"lava: not done after {time_limit:g} s; run fewer samples")
    if code:
        raise LavaError(reason or f"lava: the runner ended with {code}")


def _wait(
    command: list[str], environment: dict[str, str], messages: IO[bytes], time_limit: float
) -> int | None:
    """Return the exit code of ``command``, or None at the time limit; end its whole group."""
    runner = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=messages,
        start_new_session=True,
    )
    try:
        return runner.wait(time_limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        # Whatever ended the runner, Lava's processes may still be waiting in its group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()
