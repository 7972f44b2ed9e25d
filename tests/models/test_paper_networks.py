"""The networks of the paper's supplement, Table S1 and C.3, typed from it."""

from __future__ import annotations

import pytest

from dsr_deploy.models.architectures import topology
from dsr_deploy.models.topology import ConnectionSpec, PopulationSpec, Topology

# Table S1: blocks of two 3x3 convolutions, in each of three groups of 16, 32 and 64 channels
TABLE_S1 = {20: 3, 32: 5, 44: 7, 56: 9, 110: 18}


def weighted(net: Topology) -> list[ConnectionSpec]:
    """Return convolutions and linear layers in order, without the 1x1 shortcuts."""
    connections = [c for population in net.populations for c in population.connections]
    return [
        c for c in connections if c.kind == "linear" or (c.kind == "conv" and max(c.kernel) > 1)
    ]


def residual(widths: tuple[int, ...], blocks: int) -> list[tuple[str, int, int, int]]:
    """Return (kind, kernel, channels, stride) of each weighted layer of a residual network."""
    layers = [("conv", 3, widths[0], 1)]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            layers += [("conv", 3, width, stride), ("conv", 3, width, 1)]
    return [*layers, ("linear", 1, 10, 1)]


def described(net: Topology) -> list[tuple[str, int, int, int]]:
    found = weighted(net)
    assert all(pair[0] == pair[1] for c in found for pair in (c.kernel, c.stride))
    return [(c.kind, c.kernel[0], c.channels, c.stride[0]) for c in found]


@pytest.mark.parametrize("layers", TABLE_S1)
def test_residual_networks_of_table_s1(layers: int) -> None:
    net = topology(f"resnet{layers}", (3, 32, 32), 10)
    assert described(net) == residual((16, 32, 64), TABLE_S1[layers])
    assert len(weighted(net)) == layers


def test_resnet18_has_four_groups_of_two_blocks() -> None:
    net = topology("resnet18", (3, 32, 32), 10)
    assert described(net) == residual((64, 128, 256, 512), 2)
    assert len(weighted(net)) == 18


RESIDUAL = ("resnet18", *(f"resnet{layers}" for layers in TABLE_S1))


@pytest.mark.parametrize("arch", RESIDUAL)
def test_the_end_of_a_residual_network_is_average_pool_and_linear(arch: str) -> None:
    """Each followed by neurons; a BatchNorm stands between the classifier and its neurons."""
    pool, output = topology(arch, (3, 32, 32), 10).populations[-2:]
    assert [c.kind for c in pool.connections] == ["pool"]
    assert [c.kind for c in output.connections] == ["linear"]
    assert (pool.norm, output.norm) == (False, True)
    assert topology(arch, (3, 32, 32), 10).shapes()["pool"][1:] == (1, 1)


def sources(population: PopulationSpec) -> set[str]:
    return {c.source for c in population.connections}


@pytest.mark.parametrize("arch", RESIDUAL)
def test_a_shortcut_leads_from_each_blocks_first_neurons(arch: str) -> None:
    """Pre-activation: what goes round a block has passed its first activation."""
    net = topology(arch, (3, 32, 32), 10)
    firsts = [p.name for p in net.populations if p.name.endswith("spike1")]
    added = [sources(p) for p in net.populations if len(p.connections) == 2]
    assert added == [{name, name.replace("spike1", "spike2")} for name in firsts]
    for population in net.populations:
        for connection in population.connections:
            if connection.kind == "conv" and connection.kernel == (1, 1):
                assert connection.source in firsts


def test_vgg11_has_one_linear_layer_and_dropout_of_a_tenth() -> None:
    net = topology("vgg11", (2, 48, 48), 10)
    # Simonyan & Zisserman, configuration A
    widths = [64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool"]
    kinds = [p.connections[0].channels or "pool" for p in net.populations]
    assert kinds == [*widths, 10]
    assert [c.kernel for c in weighted(net)] == [(3, 3)] * 8 + [(1, 1)]
    assert [c.kind for c in weighted(net)] == ["conv"] * 8 + ["linear"]
    *hidden, output = net.populations
    assert {p.dropout for p in hidden} == {0.1}
    assert output.dropout == 0
