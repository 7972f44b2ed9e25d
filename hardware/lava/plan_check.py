"""Whether a plan fits the network beside it, before any process is started."""

from __future__ import annotations

from typing import Final

from dsr_deploy.hardware.errors import HardwareError, PlanError
from dsr_deploy.hardware.format.network_content import Tensors, unpacked_tensors_of
from dsr_deploy.hardware.geometry import Shape
from dsr_deploy.hardware.lava.plan import Delay, Plan, Process, Source, Spiking, Synapses
from dsr_deploy.hardware.network import (
    DECAY_ONE,
    INPUT,
    Connection,
    IntegerNetwork,
)

_MOST_STEPS: Final = 1 << 16
"""Of a delay and before a start, as in a network."""

_KINDS: Final = {
    "Conv": ("conv", "pool"),
    "Dense": ("linear",),
    "Sparse": ("conv", "pool", "identity"),
}


_FEEDS: Final[dict[type[Process], tuple[type[Process], ...]]] = {
    Source: (Delay, Synapses),
    Spiking: (Delay, Synapses),
    Delay: (Synapses,),
    Synapses: (Spiking,),
}


def check_plan(plan: Plan, network: IntegerNetwork, digest: str, where: str) -> None:
    """Check that the processes of ``network`` can be built from a plan.

    Parameters
    ----------
    digest : SHA-256 of the network's file, in hexadecimal digits
    where : the plan's file, for errors

    Raises
    ------
    PlanError
        If it was made for another network, or its processes do not fit the tensors or each other.
    """
    try:
        _check_plan(plan, network, digest)
    except HardwareError as error:
        raise PlanError(f"{where}: {error}; export again") from error


def _check_plan(plan: Plan, network: IntegerNetwork, digest: str) -> None:
    if plan.network != digest:
        raise PlanError("it does not describe the network beside it")
    names = [process.name for process in plan.processes]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise PlanError(f"process '{name}': two have that name")
    shapes = {p.name: p.shape for p in plan.processes if isinstance(p, Source | Spiking)}
    if shapes != network.shapes:
        raise PlanError("its sources and populations are not those of the network beside it")
    tensors = unpacked_tensors_of(network)
    for process in plan.processes:
        _check_process(process, network, tensors)
    _check_wires(plan, tensors)


def check_alignment(plan: Plan) -> None:
    """Check that in a plan no spikes of one sample reach the next.

    Raises
    ------
    PlanError
        If the first spike of a source does not meet the start of its target.
    """
    start = {INPUT: 0} | {p.name: p.start for p in plan.populations}
    delays = {p.name: p.steps for p in plan.processes if isinstance(p, Delay)}
    senders = {w.target: w.source for w in plan.wires if w.target not in start}
    for synapses, target in ((w.source, w.target) for w in plan.wires if w.target in start):
        arrival, sender = 1, senders[synapses]
        if sender in delays:
            arrival, sender = 1 + delays[sender], senders[sender]
        arrival += start[sender]
        if arrival != start[target]:
            raise PlanError(
                f"synapses '{synapses}': their first spike arrives at step {arrival}, '{target}' "
                f"starts at step {start[target]}; schedule the network, or run one sample at a time"
            )


def connection_of(synapses: Synapses, tensors: Tensors) -> Connection:
    """Return what ``synapses`` do as a connection of a network; its ends do not matter.

    Raises
    ------
    PlanError
        If there is no such tensor, or it has not the shape of the kind.
    """
    where = f"connection '{synapses.name}'"
    if synapses.weight not in tensors:
        raise PlanError(f"{where}: there is no tensor '{synapses.weight}'")
    return Connection(
        source="",
        target=synapses.name,
        kind=synapses.kind,
        weight=tensors[synapses.weight],
        weight_bits=8,
        exponent=synapses.exponent,
        kernel=synapses.kernel,
        stride=synapses.stride,
        padding=synapses.padding,
        groups=synapses.groups,
    )


def _check_process(process: Process, network: IntegerNetwork, tensors: Tensors) -> None:
    where = f"process '{process.name}'"
    timesteps = network.timesteps
    if isinstance(process, Source):
        repeat = 1 if network.input.framed else timesteps
        _check_range(where, "repeat", process.repeat, repeat, repeat)
    elif isinstance(process, Spiking):
        _check_range(where, "timesteps", process.timesteps, timesteps, timesteps)
        _check_range(where, "decay", process.decay, 0, DECAY_ONE - 1)
        _check_range(where, "start", process.start, 0, _MOST_STEPS)
        for name in (process.bias, process.v_fire, process.v_threshold):
            if name not in tensors or tensors[name].shape != process.shape[:1]:
                raise PlanError(f"{where}: there is no tensor '{name}' of its channels")
    elif isinstance(process, Delay):
        _check_range(where, "steps", process.steps, 1, _MOST_STEPS)
    elif process.kind not in _KINDS[process.process]:
        raise PlanError(f"{where}: kind '{process.kind}' is none of a {process.process}")
    else:
        _check_range(where, "message_bits", process.message_bits, 1, 24)
        try:
            connection_of(process, tensors).output_shape(process.shape)
        except HardwareError as error:
            raise PlanError(f"{where}: {str(error).partition(': ')[2]}") from error


def _check_wires(plan: Plan, tensors: Tensors) -> None:
    """Check that every wire leads somewhere, and that every process has as many as it needs."""
    processes = {process.name: process for process in plan.processes}
    fed = dict.fromkeys(processes, 0)
    for wire in plan.wires:
        where = f"wire from '{wire.source}' to '{wire.target}'"
        source, target = processes.get(wire.source), processes.get(wire.target)
        if source is None or target is None:
            raise PlanError(f"{where}: there is no such process")
        if not isinstance(target, _FEEDS[type(source)]):
            raise PlanError(
                f"{where}: a {type(source).__name__} cannot feed a {type(target).__name__}"
            )
        sent = source.shape
        if isinstance(source, Synapses):
            sent = connection_of(source, tensors).output_shape(sent)
        if sent != target.shape:
            raise PlanError(f"{where}: {_show(sent)} to {_show(target.shape)}")
        fed[wire.target] += 1
    for name, count in fed.items():
        most = {Source: 0, Spiking: len(plan.wires)}.get(type(processes[name]), 1)
        if not min(1, most) <= count <= most:
            raise PlanError(f"process '{name}': {count} wires lead to it")


def _check_range(where: str, label: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        limits = str(low) if low == high else f"{low} to {high}"
        raise PlanError(f"{where}: {label} must be {limits}, not {value}")


def _show(shape: Shape) -> str:
    return "x".join(map(str, shape))
