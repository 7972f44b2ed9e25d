"""Everything in a foreign network that an integer network cannot hold, at once.

An integer population has one leak, thresholds and a bias per channel, a reset by subtraction, and
at most one spike of each neuron per timestep; populations follow each other without loops.
``docs/network-format.md`` has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from dsr_deploy.foreign.arithmetic import Arithmetic
from dsr_deploy.foreign.compose import Composition
from dsr_deploy.foreign.network import (
    Float64,
    ForeignNetwork,
    Inlet,
    Neurons,
    Obstacle,
    Outlet,
    Shape,
)

SILENT = ("LI", "I", "CubaLI")
"""Neurons that integrate and never spike."""


def obstacles(
    network: ForeignNetwork, composition: Composition, arithmetic: Arithmetic
) -> Iterator[Obstacle]:
    """Yield everything that stands between ``network`` and an integer network, in its order."""
    yield from network.obstacles
    yield from composition.obstacles
    yield from _ends(network)
    for name, node in network.neurons().items():
        if name in network.shapes:
            yield from _neurons(name, node, network.shapes[name], arithmetic)
            if name in composition.biases:
                yield from _bias(name, composition.biases[name])


def per_channel(values: Float64, shape: Shape) -> Float64 | None:
    """Return one value per channel, (C,), or None where they differ within a channel."""
    rows = np.broadcast_to(values, shape).reshape(shape[0], -1)
    return None if (rows != rows[:, :1]).any() else rows[:, 0].copy()


def _ends(network: ForeignNetwork) -> Iterator[Obstacle]:
    for label, kind in (("input", Inlet), ("output", Outlet)):
        count = sum(isinstance(node, kind) for node in network.nodes.values())
        if count != 1:
            yield Obstacle("network", f"it has {count} {label}s", f"export it with one {label}")
    if not network.neurons():
        yield Obstacle("network", "it has no neurons", "put IF or LIF neurons after the layers")
    for name, node in network.nodes.items():
        if (
            isinstance(node, Inlet)
            and name in network.shapes
            and len(network.shapes[name]) not in (1, 3)
        ):
            yield Obstacle(
                f"node '{name}'",
                f"an input of shape {network.shapes[name]}",
                "export one sample of one timestep, (C,) or (C, H, W)",
            )
        elif isinstance(node, Outlet):
            yield from _output(network, name)


def _output(network: ForeignNetwork, name: str) -> Iterator[Obstacle]:
    sources = network.sources(name)
    spiking = [
        source
        for source in sources
        if isinstance(node := network.nodes[source], Neurons) and node.type not in SILENT
    ]
    if len(sources) > 1 or (sources and not spiking):
        yield Obstacle(
            f"node '{name}'",
            f"it reads {' and '.join(repr(s) for s in sources)}, not the spikes of one population",
            "end the network in IF or LIF neurons, one per class",
        )
    elif sources and sources[0] in network.shapes:
        shape = network.shapes[sources[0]]
        if prod(shape[1:]) != 1:
            yield Obstacle(
                f"node '{name}'",
                f"an output of shape {shape}",
                "end the network in one neuron per class",
            )


def _neurons(name: str, node: Neurons, shape: Shape, arithmetic: Arithmetic) -> Iterator[Obstacle]:
    place = f"node '{name}'"
    if node.type in SILENT:
        yield Obstacle(place, f"{node.type} neurons do not spike", "use IF or LIF neurons")
        return
    if node.tau_syn is not None:
        yield Obstacle(
            place, "CubaLIF has a synaptic current, which no population has", "use LIF neurons"
        )
    yield from _reset(place, node, arithmetic)
    if arithmetic.many:
        yield Obstacle(
            place,
            f"in {arithmetic.exporter} it may fire several times in a timestep, a population once",
            "train it to fire once, and say so with --spikes one",
        )
    keep = arithmetic.keep(node.tau)
    if (keep != keep.flat[0]).any():
        yield Obstacle(
            place,
            f"its leak differs between neurons, {_range(keep)} of v stays; a population has one",
            "train one tau per layer",
        )
    elif not 0 < keep.flat[0] <= 1:
        yield Obstacle(
            place,
            f"{keep.flat[0]:.3g} of v stays in a timestep of {arithmetic.dt:g} s; "
            "it must be more than 0 and at most 1",
            "check --dt",
        )
    gain = arithmetic.gain(node)
    assert node.v_threshold is not None
    for label, values in (("v_threshold", node.v_threshold), ("the gain of a current", gain)):
        if per_channel(values, shape) is None:
            yield Obstacle(
                place,
                f"{label} differs between the neurons of a channel, {_range(values)}",
                "use one per channel",
            )
    if not np.isfinite(gain).all():
        yield Obstacle(place, f"a current counts {_range(gain)} times", "check r, tau and --dt")
    if node.v_threshold.min() <= 0:
        yield Obstacle(
            place,
            f"v_threshold must be positive, not {node.v_threshold.min():g}",
            "train with a positive threshold",
        )


def _reset(place: str, node: Neurons, arithmetic: Arithmetic) -> Iterator[Obstacle]:
    assert node.v_reset is not None
    if arithmetic.reset == "zero":
        value = f"{node.v_reset.flat[0]:g}" if np.ptp(node.v_reset) == 0 else _range(node.v_reset)
        yield Obstacle(
            place,
            f"a spike sets v to {value}, a population subtracts v_threshold",
            "train it with reset by subtraction, and say so with --reset subtract",
        )
    if node.v_leak is not None and node.v_leak.any():
        yield Obstacle(
            place,
            f"it leaks to {_range(node.v_leak)}, a population to 0",
            "train with v_leak = 0, a bias does the same",
        )


def _bias(name: str, bias: Float64) -> Iterator[Obstacle]:
    if not np.isfinite(bias).all():
        yield Obstacle(
            f"node '{name}'", "the bias that reaches it exceeds float64", "train smaller weights"
        )
    elif per_channel(bias, bias.shape) is None:
        yield Obstacle(
            f"node '{name}'",
            f"the bias that reaches it differs within a channel, {_range(bias)}",
            "leave out the bias of the layer before a padded one",
        )


def _range(values: Float64) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
