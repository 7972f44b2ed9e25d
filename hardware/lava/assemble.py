"""Build the Lava processes of a plan and connect them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.sparse.process import Sparse
from lava.utils.weightutils import SignMode
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from dsr_deploy.hardware.format.network_content import Tensors
from dsr_deploy.hardware.lava import layout, plan
from dsr_deploy.hardware.lava.plan import Plan
from dsr_deploy.hardware.lava.plan_check import check_alignment, connection_of
from dsr_deploy.hardware.lava.processes.delay import Delay
from dsr_deploy.hardware.lava.processes.population import Spiking
from dsr_deploy.hardware.lava.processes.source import Source


@dataclass(frozen=True)
class Assembly:
    """The connected processes.

    Attributes
    ----------
    source : any process of the network starts them all
    populations : by name, their ``record`` ports give the spikes
    steps : how long Lava runs until the last population has done its last sample
    """

    source: AbstractProcess
    populations: dict[str, Spiking]
    steps: int


def assemble(planned: Plan, tensors: Tensors, payloads: NDArray[np.int8]) -> Assembly:
    """Build the processes of a plan for these samples back to back.

    Parameters
    ----------
    planned : checked by :func:`dsr_deploy.hardware.lava.plan_check.check_plan`
    tensors : of its network, unpacked
    payloads : int8, (N, C, H, W), or (N, T, C, H, W) for a framed input

    Raises
    ------
    PlanError
        If several samples meet a plan that is not aligned in time: spikes of one would reach the
        next.
    """
    if len(payloads) > 1:
        check_alignment(planned)
    built = {p.name: _process(p, tensors, payloads) for p in planned.processes}
    for wire in planned.wires:
        _connect(built[wire.source], built[wire.target])
    return Assembly(
        source=next(p for p in built.values() if isinstance(p, Source)),
        populations={name: p for name, p in built.items() if isinstance(p, Spiking)},
        steps=planned.steps(len(payloads)),
    )


def _connect(source: AbstractProcess, target: AbstractProcess) -> None:
    sender = source.a_out if isinstance(source, Conv | Dense | Sparse) else source.s_out
    receiver = target.a_in if isinstance(target, Spiking) else target.s_in
    # Dense and Sparse take and give one axis, in the order of (W, H, C).
    if sender.shape != receiver.shape:
        sender = sender.reshape(receiver.shape)
    sender.connect(receiver)


def _process(
    process: plan.Process, tensors: Tensors, payloads: NDArray[np.int8]
) -> AbstractProcess:
    if isinstance(process, plan.Source):
        frames = payloads.reshape(-1, *process.shape).swapaxes(1, 3)
        return Source(np.ascontiguousarray(frames), repeat=process.repeat)
    if isinstance(process, plan.Spiking):
        return Spiking(
            process.name,
            layout.turned(process.shape),
            tensors[process.bias],
            tensors[process.v_fire],
            tensors[process.v_threshold],
            decay=process.decay,
            start=process.start,
            timesteps=process.timesteps,
            samples=len(payloads),
        )
    if isinstance(process, plan.Delay):
        return Delay(layout.turned(process.shape), process.steps)
    return _synapses(process, tensors)


def _synapses(process: plan.Synapses, tensors: Tensors) -> AbstractProcess:
    connection = connection_of(process, tensors)
    source = process.shape
    if process.process == "Conv":
        return Conv(
            weight=layout.conv_kernel(connection, source),
            input_shape=layout.turned(source),
            stride=process.stride[::-1],
            padding=process.padding[::-1],
            groups=connection.geometry.as_convolution(source).groups,
            num_message_bits=process.message_bits,
        )
    options = matrix_options(process.exponent) | {"num_message_bits": process.message_bits}
    if process.process == "Dense":
        return Dense(weights=2 * layout.dense_weight(connection, source), **options)
    synapses = layout.synapses(connection, source)
    shape = (int(np.prod(connection.output_shape(source))), int(np.prod(source)))
    weights = csr_matrix((2 * synapses.weight, (synapses.target, synapses.source)), shape)
    return Sparse(weights=weights, **options)


def matrix_options(exponent: int) -> dict[str, Any]:
    """Return how Dense and Sparse hold doubled weights.

    For 8 bits of mixed sign Lava keeps even weights from -256 to 254 and halves nothing:
    twice the integer weight and one less in the exponent is exact.
    """
    return {"weight_exp": exponent - 1, "num_weight_bits": 8, "sign_mode": SignMode.MIXED}
