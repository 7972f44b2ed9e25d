"""Traces as NIRData, the form in which neuromorphic frameworks exchange what neurons did.

Nodes are named as in the file that ``export --target nir`` writes. A node's neurons are flat, in
the order (C, H, W). Its ``spikes`` are a grid of time, or events in the middle of their timesteps;
its ``voltages`` are a grid, at the end of each timestep, after the reset. Beside the nodes lie
``samples``, ``predictions`` and, where they are known, ``labels``, which readers of NIR pass over.
"""

from __future__ import annotations

import io
import math
from typing import Any

import h5py
import nir
import numpy as np
from numpy.typing import NDArray

from dsr_deploy.formats.nir import DT, population_keys
from dsr_deploy.formats.traces import Traces
from dsr_deploy.hardware.network import IntegerNetwork


def to_bytes(traces: Traces, network: IntegerNetwork, *, events: bool) -> bytes:
    """Return the file of traces of ``network``, which nir reads with ``read_data``.

    Parameters
    ----------
    events : spikes as a list of events instead of a grid of time
    """
    buffer = io.BytesIO()
    nir.write_data(buffer, to_nir_data(traces, network, events=events))
    with h5py.File(buffer, "r+") as file:
        file["samples"] = traces.samples
        file["predictions"] = traces.predictions
        if traces.labels is not None:
            file["labels"] = traces.labels
    return buffer.getvalue()


def to_nir_data(traces: Traces, network: IntegerNetwork, *, events: bool) -> nir.NIRGraphData:
    """Return traces of ``network`` as nir's own object; see :func:`to_bytes`."""
    keys = population_keys(network)
    nodes = {}
    for layer, spikes in traces.spikes.items():
        grid = _grid(spikes)
        observed = {"spikes": _events(grid) if events else grid}
        if layer in traces.potentials:
            observed["voltages"] = _grid(traces.potentials[layer])
        nodes[keys[layer]] = nir.NIRNodeData(observed)
    return nir.NIRGraphData(nodes)


def _grid(values: NDArray[Any]) -> nir.TimeGriddedData:
    return nir.TimeGriddedData(values.reshape(*values.shape[:2], -1), DT)


def _events(grid: nir.TimeGriddedData) -> nir.EventData:
    """Return spikes as events; in the middle of a timestep, where rounding cannot move them."""
    most = int(grid.data.sum((1, 2)).max())
    events = grid.to_event(most, time_shift=DT / 2)
    if int(events.t_max / DT) < grid.n_time_steps:  # as nir counts the timesteps
        events.t_max = math.nextafter(events.t_max, np.inf)
    return events
