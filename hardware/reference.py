"""The arithmetic of the integer network, readable and slow: the definition.

Every other engine is compared with this one, spike for spike.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.encoding import check_payloads
from dsr_deploy.hardware.network import (
    DECAY_ONE,
    INPUT,
    Connection,
    IntegerNetwork,
    Population,
)
from dsr_deploy.hardware.register import check_register
from dsr_deploy.hardware.run import Run, read_scores

Int64 = NDArray[np.int64]


def run(
    network: IntegerNetwork,
    payloads: NDArray[np.int8],
    *,
    record: bool = False,
    potentials: Collection[str] = (),
) -> Run:
    """Run ``network`` on N samples.

    Parameters
    ----------
    payloads : int8, (N, C, H, W), or (N, T, C, H, W) for a framed input
    record : keep every spike of every population
    potentials : names of populations whose membrane potentials are kept, see :class:`Run`

    Raises
    ------
    PayloadError
        If the payloads do not fit the input.
    RegisterError
        If a membrane potential leaves 24 bits; one that is kept, after the reset as well.
    """
    check_payloads(network, payloads)
    samples = payloads.shape[0]
    v = {p.name: np.zeros((samples, *p.shape), np.int64) for p in network.populations}
    spikes = {
        p.name: np.zeros((samples, network.timesteps, *p.shape), np.bool_)
        for p in network.populations
    }
    kept = {
        p.name: np.zeros((samples, network.timesteps, *p.shape), np.int32)
        for p in network.populations
        if p.name in potentials
    }
    for t in range(network.timesteps):
        frame = payloads[:, t] if network.input.framed else payloads
        for population in network.populations:
            current = population.bias.astype(np.int64)[:, None, None]
            for connection in network.incoming(population):
                source = connection.source
                sent = frame if source == INPUT else spikes[source][:, t]
                current = current + (
                    transmit(connection, sent.astype(np.int64)) << connection.exponent
                )
            v[population.name], spikes[population.name][:, t] = step(
                population, v[population.name], current
            )
            if population.name in kept:
                kept[population.name][:, t] = _in_register(population, v[population.name])
    scores = read_scores(network.readout, spikes[network.output.name])
    return Run(scores, spikes if record else None, kept)


def _in_register(population: Population, v: Int64) -> Int64:
    """Return the potentials after a reset, which no step has checked yet."""
    if v.size:
        check_register(population.name, v.min(), v.max())
    return v


def step(population: Population, v: Int64, current: Int64) -> tuple[Int64, NDArray[np.bool_]]:
    """Advance the neurons of ``population`` by one timestep.

    ::

        u = trunc(v * (4096 - decay) / 4096) + current        (IF: decay = 0)
        s = u >= v_fire
        v = u - v_threshold * s

    Parameters
    ----------
    v, current : int64, (N, C, H, W)

    Returns
    -------
    The new v and the spikes.

    Raises
    ------
    RegisterError
        If u leaves the signed 24-bit register.
    """
    decayed = np.sign(v) * (np.abs(v) * (DECAY_ONE - population.decay) // DECAY_ONE)
    u = decayed + current
    if u.size:
        check_register(population.name, u.min(), u.max())
    fired = u >= population.v_fire[:, None, None]
    return u - population.v_threshold.astype(np.int64)[:, None, None] * fired, fired


def transmit(connection: Connection, sent: Int64) -> Int64:
    """Return what ``connection`` makes of what its source sent, before the exponent.

    Parameters
    ----------
    sent : int64, (N, C, H, W), payloads or spikes
    """
    weight = connection.weight.astype(np.int64)
    if connection.kind == "linear":
        return (sent.reshape(len(sent), weight.shape[1]) @ weight.T)[:, :, None, None]
    (kh, kw), (sh, sw), (ph, pw) = connection.window, connection.stride, connection.padding
    channels, height, width = connection.output_shape((sent.shape[1], sent.shape[2], sent.shape[3]))
    padded = np.pad(sent, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    total = np.zeros((len(sent), channels, height, width), np.int64)
    for y in range(kh):
        for x in range(kw):
            window = padded[:, :, y : y + sh * height : sh, x : x + sw * width : sw]
            if connection.kind == "conv":
                total += _mix_channels(weight[:, :, y, x], window, connection.groups)
            else:
                total += weight[:, None, None] * window
    return total


def _mix_channels(weight: Int64, window: Int64, groups: int) -> Int64:
    """Apply a (C_out, C_in / groups) matrix at every position."""
    blocks = zip(np.split(weight, groups), np.split(window, groups, axis=1), strict=True)
    return np.concatenate([np.einsum("oc,nchw->nohw", w, x) for w, x in blocks], axis=1)
