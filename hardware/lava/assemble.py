"""Build the Lava processes of an integer network and connect them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.sparse.process import Sparse
from lava.utils.weightutils import SignMode
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from dsr_deploy.hardware.lava import layout
from dsr_deploy.hardware.lava.processes.delay import Delay
from dsr_deploy.hardware.lava.processes.population import Spiking
from dsr_deploy.hardware.lava.processes.source import Source
from dsr_deploy.hardware.network import INPUT, Connection, IntegerNetwork, NetworkError, Population

PAYLOAD_BITS = 8


@dataclass(frozen=True)
class Assembly:
    """The connected processes.

    Attributes
    ----------
    source : any process of the network starts them all
    populations : by name, their ``record`` ports give the spikes
    steps : how long Lava runs until the last population has done its last sample
    """

    source: Source
    populations: dict[str, Spiking]
    steps: int


def assemble(network: IntegerNetwork, payloads: NDArray[np.int8]) -> Assembly:
    """Build ``network`` as it is scheduled, for these samples back to back.

    Parameters
    ----------
    payloads : int8, (N, C, H, W), or (N, T, C, H, W) for a framed input

    Raises
    ------
    NetworkError
        If no process of Lava's can hold a connection's sum, or several samples meet a network
        that is not aligned in time: spikes of one would reach the next.
    """
    if len(payloads) > 1:
        _check_alignment(network)
    framed = network.input.framed
    frames = payloads.reshape(-1, *network.input.shape).swapaxes(1, 3)
    source = Source(np.ascontiguousarray(frames), repeat=1 if framed else network.timesteps)
    populations = {
        p.name: _population(p, network.timesteps, len(payloads)) for p in network.populations
    }
    senders = {INPUT: source.s_out} | {name: p.s_out for name, p in populations.items()}
    for connection in network.connections:
        target = populations[connection.target].a_in
        _connect(network, connection, senders[connection.source], target)
    latest = max(p.start for p in network.populations)
    return Assembly(source, populations, latest + len(payloads) * network.timesteps)


def _check_alignment(network: IntegerNetwork) -> None:
    start = {INPUT: 0} | {p.name: p.start for p in network.populations}
    for connection in network.connections:
        arrival = start[connection.source] + 1 + connection.delay
        if arrival != start[connection.target]:
            raise NetworkError(
                f"connection '{connection.name}': its first spike arrives at step {arrival}, its "
                f"target starts at step {start[connection.target]}; schedule the network, or run "
                "one sample at a time"
            )


def _population(population: Population, timesteps: int, samples: int) -> Spiking:
    return Spiking(
        population.name,
        layout.turned(population.shape),
        population.bias,
        population.v_fire,
        population.v_threshold,
        decay=population.decay,
        start=population.start,
        timesteps=timesteps,
        samples=samples,
    )


def _connect(network: IntegerNetwork, connection: Connection, sender: Any, target: Any) -> None:
    """Lead from the port ``sender`` to the port ``target``, through a delay if there is one."""
    source = network.shapes[connection.source]
    if connection.delay:
        delay = Delay(layout.turned(source), connection.delay)
        sender.connect(delay.s_in)
        sender = delay.s_out
    payload = layout.largest_payload(connection, network.input)
    # With 0 bits, "a spike or none", Lava's Sparse takes five times as long for the same sums.
    message_bits = PAYLOAD_BITS if connection.source == INPUT else 1
    if layout.takes_conv(connection, source, payload):
        conv = _conv(connection, source, message_bits)
        sender.connect(conv.s_in)
        conv.a_out.connect(target)
        return
    layout.check_sum(connection, payload)
    matrix = _matrix(connection, source, message_bits)
    sender.reshape(matrix.s_in.shape).connect(matrix.s_in)
    matrix.a_out.reshape(target.shape).connect(target)


def _conv(connection: Connection, source: tuple[int, int, int], message_bits: int) -> Conv:
    groups = connection.groups if connection.kind == "conv" else len(connection.weight)
    return Conv(
        weight=layout.conv_kernel(connection),
        input_shape=layout.turned(source),
        stride=connection.stride[::-1],
        padding=connection.padding[::-1],
        groups=groups,
        num_message_bits=message_bits,
    )


def _matrix(
    connection: Connection, source: tuple[int, int, int], message_bits: int
) -> Dense | Sparse:
    """Return a Dense for a linear connection, a Sparse for the others."""
    options = matrix_options(connection.exponent) | {"num_message_bits": message_bits}
    if connection.kind == "linear":
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
