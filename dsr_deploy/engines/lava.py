"""The Lava engine: starts the Lava runner in its own Python 3.10 and reads its spikes.

lava-nc runs under no newer Python, and the toolchain under no older one; the two exchange
files, see :mod:`dsr_deploy.hardware.lava.runner`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.engines.engine import Engine, Runner
from dsr_deploy.errors import UserError
from dsr_deploy.formats import loihi
from dsr_deploy.hardware.encoding import check_payloads
from dsr_deploy.hardware.lava import cost, plan_file
from dsr_deploy.hardware.lava.plan import make_plan
from dsr_deploy.hardware.lava.plan_check import check_plan
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.run import Run, read_scores

PYTHON_VARIABLE = "DSR_DEPLOY_LAVA_PYTHON"
ENVIRONMENT = ".venv-lava"
RUNNER = "dsr_deploy.hardware.lava.runner"

PROBE = (
    "import sys, importlib.util as u; "
    "able = sys.version_info[:2] == (3, 10) and u.find_spec('lava') "
    f"and u.find_spec('{RUNNER.rpartition('.')[0]}'); "
    "print(sys.argv[1][::-1] if able else '')"
)
"""Asks an interpreter whether it can run the runner, without the seconds of Lava's import.

It says a word backwards: no other program does, whatever its exit code.
"""

PROBE_SECONDS = 30.0

LEAST_LIMIT = 600.0
LIMIT_PER_ESTIMATE = 5.0
"""A process of Lava's that hangs says nothing, so every run has a limit."""


class LavaUnavailableError(UserError):
    """There is no Python 3.10 environment with lava-nc."""


class LavaError(UserError):
    """The Lava run failed: the runner's reason, and as a note its traceback if any."""


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
    project = Path(__file__).resolve().parents[2]
    candidates = [
        folder / ENVIRONMENT / "bin" / "python" for folder in (project, Path(sys.prefix).parent)
    ]
    on_path = shutil.which("python3.10")
    if on_path:
        candidates.append(Path(on_path))
    return next((path for path in candidates if _runs_lava(path)), None)


def obstacle() -> str | None:
    """Return why Lava cannot run here and what to do about it; None if it can.

    Raises
    ------
    LavaUnavailableError
        As :func:`find_python310`.
    """
    if find_python310() is not None:
        return None
    return (
        "no Python 3.10 with lava-nc and dsr-deploy found; run `make lava` in the project's "
        f"folder, or set {PYTHON_VARIABLE} to such an interpreter"
    )


def require_python310() -> Path:
    """Return the interpreter that runs Lava.

    Raises
    ------
    LavaUnavailableError
        If there is none; says how to get one.
    """
    python = find_python310()
    if python is None:
        raise LavaUnavailableError(f"lava: {obstacle()}")
    return python


def run_lava(
    network: IntegerNetwork, payloads: NDArray[np.int8], *, time_limit: float | None = None
) -> Run:
    """Schedule ``network``, run it in Lava, and record every spike, without the schedule's shift.

    Parameters and errors are those of :func:`run_files`; a sum that no process of Lava's can hold
    is a RegisterError.
    """
    check_payloads(network, payloads)
    return run_files(loihi.to_files(network), network, payloads, time_limit=time_limit)


def estimate_seconds(network: IntegerNetwork, samples: int) -> float:
    """Return about how long Lava takes for ``samples`` samples of a scheduled network."""
    return cost.estimate_seconds(make_plan(network, ""), network, samples)


def run_files(
    content: Mapping[str, bytes],
    network: IntegerNetwork,
    payloads: NDArray[np.int8],
    *,
    time_limit: float | None = None,
) -> Run:
    """Run the processes of ``lava.json`` in Lava, with the tensors of the network beside it.

    Parameters
    ----------
    content : the files that :func:`dsr_deploy.formats.loihi.to_files` returned, by name
    network : what is in the network's file
    payloads : int8, (N, C, H, W), or (N, T, C, H, W) for a framed input
    time_limit : seconds for the whole run, Lava's start included; None is ten minutes, or five
        times the estimate where that is more

    Raises
    ------
    PayloadError
        If the payloads do not fit the input.
    LavaUnavailableError
        If there is no Python 3.10 environment with lava-nc.
    LavaError
        If the files do not fit each other, the run fails or exceeds its time limit.
    """
    check_payloads(network, payloads)
    python = require_python310()
    if time_limit is None:
        estimate = estimate_seconds(network, len(payloads))
        time_limit = max(LEAST_LIMIT, LIMIT_PER_ESTIMATE * estimate)
    with tempfile.TemporaryDirectory(prefix="dsr-deploy-lava-") as folder:
        names = (loihi.NETWORK_FILE, loihi.PLAN_FILE, "in.npz", "out.npz")
        paths = [Path(folder, name) for name in names]
        for path in paths[:2]:
            path.write_bytes(content[path.name])
        np.savez(paths[2], payloads=payloads)
        _run_runner(python, paths, time_limit)
        spikes = _read_spikes(paths[3], network)
    return Run(read_scores(network.readout, spikes[network.output.name]), spikes)


def _read_spikes(path: Path, network: IntegerNetwork) -> dict[str, NDArray[np.bool_]]:
    try:
        with np.load(path, allow_pickle=False) as result:
            return {p.name: result[f"spikes_{i}"] for i, p in enumerate(network.populations)}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        raise LavaError("lava: the runner ended without a result; run `make lava` again") from None


def _runs_lava(python: Path) -> bool:
    word = secrets.token_hex(16)
    expected = f"{word[::-1]}\n".encode()
    # -I: what stands in the current directory or in PYTHONPATH belongs to another interpreter.
    command = [str(python), "-I", "-c", PROBE, word]
    try:
        probe = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    assert probe.stdout is not None
    limit = threading.Timer(PROBE_SECONDS, _kill, [probe.pid])
    limit.start()
    try:
        # No more than that, since some programs never stop talking.
        return probe.stdout.read(len(expected) + 1) == expected
    finally:
        limit.cancel()
        _kill(probe.pid)
        probe.communicate()


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


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
        "--end-with-stdin",
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
        raise _failure(reason.splitlines() or [f"lava: the runner ended with {code}"])


def _failure(said: list[str]) -> LavaError:
    """Return what the runner said: a reason with or without tracebacks, or a traceback alone."""
    reason, log = (said[0], said[1:]) if said[0].startswith("lava: ") else (said[-1], said)
    error = LavaError(f"lava: {reason.removeprefix('lava: ')}")
    if log:
        error.add_note("\n".join(log))
    return error


def _wait(
    command: list[str], environment: dict[str, str], messages: IO[bytes], time_limit: float
) -> int | None:
    """Return the exit code of ``command``, or None at the time limit; end its whole group."""
    runner = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,  # closes when this process ends, however it does
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
        _kill(runner.pid)
        runner.communicate()


def _open(network: IntegerNetwork, content: Mapping[str, bytes], where: str) -> Runner:
    require_python310()
    plan = plan_file.from_bytes(content[loihi.PLAN_FILE], where)
    digest = hashlib.sha256(content[loihi.NETWORK_FILE]).hexdigest()
    check_plan(plan, network, digest, where)
    return lambda payloads: run_files(content, network, payloads)


ENGINE: Final = Engine(
    "loihi",
    _open,
    file=loihi.PLAN_FILE,
    obstacle=obstacle,
    seconds=estimate_seconds,
    all_at_once=True,
)
