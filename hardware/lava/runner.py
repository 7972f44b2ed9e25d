"""Run an integer network in Lava: ``python -m dsr_deploy.hardware.lava.runner``.

A program for the Python 3.10 environment that holds lava-nc; the toolchain starts it and
exchanges files with it. Exit code 0, or 1 with the reason on standard error. It has no time limit;
who starts it ends it, with all the processes of its group.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.runtime.message_infrastructure.multiprocessing import SystemProcess
from numpy.typing import NDArray

from dsr_deploy.hardware.encoding import check_payloads
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.format.network_content import unpacked_tensors_of
from dsr_deploy.hardware.format.regular_file import read_regular
from dsr_deploy.hardware.lava import plan_file
from dsr_deploy.hardware.lava.assemble import Assembly, assemble
from dsr_deploy.hardware.lava.plan import Plan
from dsr_deploy.hardware.lava.plan_check import check_plan
from dsr_deploy.hardware.network import IntegerNetwork

Spikes = dict[str, NDArray[np.bool_]]

IDLE_SECONDS = 0.001
GRACE_SECONDS = 2.0
"""How long after a process has ended the reason of another may still come in."""


class LavaProcessError(RuntimeError):
    """A process of Lava's ended before its time; the reason, then the tracebacks."""


def main(arguments: list[str] | None = None) -> int:
    """Run the program; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m dsr_deploy.hardware.lava.runner")
    parser.add_argument("network", type=Path, help="integer network (.safetensors)")
    parser.add_argument("plan", type=Path, help="its processes (.json)")
    parser.add_argument("payloads", type=Path, help=".npz with int8 'payloads' (N, [T,] C, H, W)")
    parser.add_argument("out", type=Path, help=".npz to write: 'spikes_<i>' of population i")
    parser.add_argument(
        "--end-with-stdin",
        action="store_true",
        help="when standard input closes, end with all processes of the group",
    )
    options = parser.parse_args(arguments)
    if options.end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        data = read_regular(options.network, network_file.MAX_FILE)
        network = network_file.from_bytes(data, str(options.network))
        plan = plan_file.read(options.plan)
        check_plan(plan, network, hashlib.sha256(data).hexdigest(), str(options.plan))
        with np.load(options.payloads, allow_pickle=False) as file:
            payloads = file["payloads"]
        spikes = execute(network, plan, payloads)
        _write(options.out, [spikes[p.name] for p in network.populations])
    except (HardwareError, LavaProcessError) as error:
        print(f"lava: {error}", file=sys.stderr)
        _end(1)
    except Exception:
        traceback.print_exc()
        _end(1)
    return 0


def execute(network: IntegerNetwork, plan: Plan, payloads: NDArray[np.int8]) -> Spikes:
    """Run the processes of ``network`` on the samples, back to back.

    Parameters
    ----------
    payloads : int8, (N, C, H, W), or (N, T, C, H, W) for a framed input

    Returns
    -------
    For each population by name, bool (N, T, C, H, W).

    Raises
    ------
    PayloadError
        If the payloads do not fit the input.
    PlanError
        If the plan is not aligned in time.
    LavaProcessError
        If a process fails; Lava's other processes may still be waiting for it.
    """
    check_payloads(network, payloads)
    assembly = assemble(plan, unpacked_tensors_of(network), payloads)
    assembly.source.run(
        RunSteps(num_steps=assembly.steps, blocking=False), Loihi2SimCfg(select_tag="fixed_pt")
    )
    workers = [c for c in multiprocessing.active_children() if isinstance(c, SystemProcess)]
    frames = len(payloads) * network.timesteps
    trains = _collect(assembly, frames, lambda: _check(workers))
    assembly.source.wait()
    assembly.source.stop()
    return {
        name: train.reshape(len(payloads), network.timesteps, *train.shape[1:]).swapaxes(2, 4)
        for name, train in trains.items()
    }


def _collect(assembly: Assembly, frames: int, check: Callable[[], None]) -> Spikes:
    """Receive ``frames`` frames of every population; bool (frames, W, H, C) each."""
    ports = {name: p.record.external_pipe_csp_recv_port for name, p in assembly.populations.items()}
    trains = {
        name: np.empty((frames, *p.record.shape), np.bool_)
        for name, p in assembly.populations.items()
    }
    received = dict.fromkeys(ports, 0)
    while min(received.values()) < frames:
        idle = True
        for name, port in ports.items():
            while port.probe():
                trains[name][received[name]] = port.recv()
                received[name] += 1
                idle = False
        if idle:
            check()
            time.sleep(IDLE_SECONDS)
    return trains


def _check(workers: list[Any]) -> None:
    """Raise LavaProcessError if a worker has ended: Lava itself would wait for it forever."""
    if all(worker.is_alive() for worker in workers):
        return
    time.sleep(GRACE_SECONDS)
    reports = [worker.exception for worker in workers]
    failures = {traceback_text: error for error, traceback_text in filter(None, reports)}
    if failures:
        reason = "; ".join(dict.fromkeys(str(error) for error in failures.values()))
        raise LavaProcessError("\n".join([reason, *failures]))
    codes = sorted({worker.exitcode for worker in workers if not worker.is_alive()})
    raise LavaProcessError(f"a process ended before the run was over, exit codes {codes}")


def _end_with_stdin() -> None:
    """End the group once the program that started it is gone, however that came."""
    # Not sys.stdin: a thread that waits in it makes the interpreter's own end fail.
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def _end(code: int) -> None:
    """Leave at once: Lava's own way out waits for the processes that hang."""
    try:
        for child in multiprocessing.active_children():
            child.kill()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _write(path: Path, trains: list[NDArray[np.bool_]]) -> None:
    """Write the spikes under a temporary name, then rename."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        arrays: dict[str, Any] = {f"spikes_{i}": train for i, train in enumerate(trains)}
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
