"""NeuroBench's metrics, under its names, for its leaderboards and for papers that use them.

The definitions are those of NeuroBench's code, version 2, in ``neurobench/metrics``:
``static/footprint.py``, ``static/connection_sparsity.py``, ``workload/activation_sparsity.py``,
``workload/synaptic_operations.py`` (with ``utils/layers/macs.py``),
``workload/membrane_updates.py`` and ``workload/classification_accuracy.py``. What cannot be counted
in the same way is in :data:`NOTES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.network import INPUT, Connection, IntegerNetwork
from dsr_deploy.measures.measure import Measure, Section, Subject
from dsr_deploy.measures.tables import Table

LAYERS: Final = ("conv", "linear")
"""Kinds of connections that NeuroBench counts: a torch model's pools and sums are no layers of
weights to it (``neurobench/blocks/layer.py``)."""

NOTES: Final = (
    "synaptic_operations and connection_sparsity count convolutions and fully connected layers, as "
    "NeuroBench does; 'synaptic operations' elsewhere in this report also counts pools and "
    "shortcuts, and weights of zero, which a chip computes too.",
    "Effective_MACs are of the input's connections. They include weights of zero, which NeuroBench "
    "leaves out. An image is delivered at every timestep.",
    "membrane_updates are one per neuron and timestep, as a chip does them; NeuroBench leaves out "
    "those after the first timestep that change nothing.",
    "footprint packs the weights in their bits and has 32 bits for each threshold, firing level "
    "and bias; NeuroBench's code counts whole bytes of torch tensors.",
)


@dataclass(frozen=True)
class SynapticOperations:
    """Per sample, in NeuroBench's names.

    Attributes
    ----------
    Effective_MACs : of nonzero payloads with a weight
    Effective_ACs : of spikes with nonzero weights
    Dense : of every source neuron with every weight, at every timestep
    """

    Effective_MACs: float
    Effective_ACs: float
    Dense: float


@dataclass(frozen=True)
class NeuroBench:
    """A simulation in NeuroBench's metrics.

    Attributes
    ----------
    footprint : bytes of weights, thresholds, firing levels and biases
    connection_sparsity : share of the weights that are zero, 0 to 1
    classification_accuracy : 0 to 1; None without labels
    activation_sparsity : share of neurons and timesteps without a spike, 0 to 1
    membrane_updates : per sample
    """

    footprint: float
    connection_sparsity: float
    classification_accuracy: float | None
    activation_sparsity: float
    synaptic_operations: SynapticOperations
    membrane_updates: float


def measure(
    network: IntegerNetwork, simulation: Simulation, accuracy: float | None = None
) -> NeuroBench:
    """Return the metrics of a simulation of ``network`` on at least one sample."""
    counts = simulation.populations.values()
    spikes = sum(int(population.spikes.sum()) for population in counts)
    neurons = sum(population.size for population in network.populations)
    weights = [c.weight for c in network.connections if c.kind in LAYERS]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    return NeuroBench(
        footprint=_footprint(network),
        connection_sparsity=zeros / max(1, sum(weight.size for weight in weights)),
        classification_accuracy=accuracy,
        activation_sparsity=1 - spikes / (neurons * simulation.samples * simulation.timesteps),
        synaptic_operations=_operations(network, simulation),
        membrane_updates=sum(population.updates for population in counts) / simulation.samples,
    )


def _footprint(network: IntegerNetwork) -> float:
    bits = sum(c.weight.size * c.weight_bits for c in network.connections)
    channels = sum(population.shape[0] for population in network.populations)
    return bits / 8 + channels * 3 * 4


def _operations(network: IntegerNetwork, simulation: Simulation) -> SynapticOperations:
    macs = acs = dense = 0
    for connection, counts in zip(network.connections, simulation.connections, strict=True):
        if connection.kind not in LAYERS:
            continue
        source = network.shapes[connection.source]
        dense += connection.geometry.synapses(source) * simulation.timesteps
        if connection.source == INPUT:
            macs += counts.synops
        else:
            acs += effective(connection, simulation.populations[connection.source].spikes)
    samples = simulation.samples
    return SynapticOperations(macs / samples, acs / samples, float(dense))


def effective(connection: Connection, spikes: NDArray[np.int64]) -> int:
    """Count the pairs of a spike and a nonzero weight that has a target.

    Parameters
    ----------
    spikes : of each source neuron, int64 (C, H, W)
    """
    channels, height, width = spikes.shape
    conv = connection.geometry.as_convolution((channels, height, width))
    _, *targets = conv.output_shape((channels, height, width))
    used = connection.as_convolution((channels, height, width)) != 0
    # of each source channel and tap, the output channels with a nonzero weight
    fan_out = used.reshape(conv.groups, -1, *used.shape[1:]).sum(axis=1)
    fan_out = fan_out.reshape(channels, *conv.window)
    found = 0
    for y in range(conv.window[0]):
        rows = _read(height, targets[0], y - conv.padding[0], conv.stride[0])
        for x in range(conv.window[1]):
            columns = _read(width, targets[1], x - conv.padding[1], conv.stride[1])
            found += int(fan_out[:, y, x] @ spikes[:, rows, columns].sum(axis=(1, 2)))
    return found


def _read(size: int, targets: int, first: int, stride: int) -> slice:
    """Return the positions along an axis that one tap reads, those outside left out."""
    skipped = max(0, -(first // stride)) if first < 0 else 0
    return slice(first + skipped * stride, min(size, first + targets * stride), stride)


def table(metrics: NeuroBench) -> Table:
    """Tabulate the metrics under their names."""
    operations, accuracy = metrics.synaptic_operations, metrics.classification_accuracy
    return Table(
        ("metric", "value"),
        [
            ("footprint", f"{metrics.footprint:,.0f} bytes"),
            ("connection_sparsity", f"{metrics.connection_sparsity:.4f}"),
            ("classification_accuracy", "-" if accuracy is None else f"{accuracy:.4f}"),
            ("activation_sparsity", f"{metrics.activation_sparsity:.4f}"),
            ("synaptic_operations: Effective_MACs", f"{operations.Effective_MACs:,.0f}"),
            ("synaptic_operations: Effective_ACs", f"{operations.Effective_ACs:,.0f}"),
            ("synaptic_operations: Dense", f"{operations.Dense:,.0f}"),
            ("membrane_updates", f"{metrics.membrane_updates:,.0f}"),
        ],
    )


def _section(metrics: NeuroBench) -> Section:
    return Section(
        "NeuroBench", "NeuroBench's metrics; counts are per sample:", table(metrics), NOTES
    )


def _measure(subject: Subject) -> NeuroBench:
    return measure(subject.network, subject.simulation, subject.accuracy)


MEASURE: Final = Measure(_measure, _section)
