"""Axons, memory and neurons of one core, for given cuts, counted by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dsr_deploy.hardware.chip import load_chip
from dsr_deploy.hardware.mapping import (
    PopulationMapping,
    Usage,
    _badness,
    _Cut,
    _fan_out,
    _listened,
    _possible_cuts,
    _stored_bits,
)
from dsr_deploy.hardware.network import Connection


def conv(
    shape: tuple[int, ...], stride: int = 1, groups: int = 1, source: str = "a", target: str = "b"
) -> Connection:
    weight = np.ones(shape, np.int8)
    return Connection(source, target, "conv", weight, 4, stride=(stride, 1), groups=groups)


def other(kind: Any, shape: tuple[int, ...], target: str = "b", **options: Any) -> Connection:
    return Connection("a", target, kind, np.ones(shape, np.int8), 4, **options)


@pytest.mark.parametrize(
    ("connection", "channels", "rows", "heard"),
    [
        # All four channels; two target rows at stride 2 see five rows of five.
        (conv((8, 4, 3, 3), stride=2), 3, 2, 4 * 5 * 5),
        (conv((8, 4, 3, 3), stride=1), 3, 2, 4 * 4 * 5),
        (conv((8, 4, 3, 3), stride=1), 3, 1, 4 * 3 * 5),
        # No more rows than there are.
        (conv((8, 4, 3, 3), stride=2), 3, 9, 4 * 9 * 5),
        # Groups of four targets from two channels: three targets can lie in two groups.
        (conv((8, 2, 3, 3), groups=2), 3, 1, 2 * 2 * 3 * 5),
        (conv((8, 2, 3, 3), groups=2), 1, 1, 2 * 3 * 5),
        (conv((8, 2, 3, 3), groups=2), 8, 1, 4 * 3 * 5),
        # Groups of two targets from one channel each.
        (conv((8, 1, 3, 3), groups=4), 3, 1, 2 * 3 * 5),
        (conv((8, 1, 3, 3), groups=4), 4, 1, 3 * 3 * 5),
        # No window of two reads the fifth column.
        (other("pool", (4,), kernel=(2, 2), stride=(2, 2)), 3, 2, 3 * 4 * 4),
        (other("identity", (4,)), 3, 2, 3 * 2 * 5),
        (other("linear", (7, 180)), 3, 1, 4 * 9 * 5),
    ],
)
def test_a_core_listens_to_what_its_windows_cover(
    connection: Connection, channels: int, rows: int, heard: int
) -> None:
    assert _listened(connection, (4, 9, 5), _Cut(channels, rows, 1, 1)) == heard


@pytest.mark.parametrize(
    ("connections", "cut", "cores"),
    [
        # A pixel lies in two windows of stride 2, which can be in two bands; four targets of a
        # group can be in two groups of three channels.
        ([conv((8, 2, 3, 3), 2, 2)], _Cut(3, 2, 3, 2), 2 * 2),
        ([conv((8, 2, 3, 3), 2, 2)], _Cut(3, 2, 1, 2), 2),
        ([conv((8, 2, 3, 3), 2, 2)], _Cut(3, 2, 3, 1), 2),
        ([conv((8, 4, 3, 3), 1, 1)], _Cut(3, 2, 3, 4), 2 * 3),
        ([conv((8, 4, 3, 3), 1, 1)], _Cut(2, 1, 9, 9), 3 * 5),
        ([conv((8, 1, 1, 1), 1, 4)], _Cut(1, 1, 8, 8), 2),
        ([other("pool", (4,), kernel=(3, 3))], _Cut(1, 1, 4, 4), 3),
        ([other("identity", (4,))], _Cut(1, 1, 4, 4), 1),
        ([other("linear", (7, 180))], _Cut(2, 1, 4, 1), 4),
        ([other("linear", (7, 180)), other("identity", (4,))], _Cut(2, 1, 4, 1), 5),
        ([conv((8, 4, 3, 3), source="c"), other("identity", (4,))], _Cut(1, 1, 4, 4), 1),
    ],
)
def test_a_neuron_sends_to_every_core_that_may_hold_a_target(
    connections: list[Connection], cut: _Cut, cores: int
) -> None:
    network: Any = SimpleNamespace(connections=connections)
    assert _fan_out(network, SimpleNamespace(name="a"), {"b": cut}) == cores  # type: ignore[arg-type]


def test_memory_is_that_of_synapses_or_of_kernels() -> None:
    chip = load_chip("loihi1")
    index = chip.kernel_index_bits.value
    assert index == 10
    shared = conv((8, 2, 3, 5), groups=2)
    assert _stored_bits(shared, 3, 50, chip) == 3 * (3 * 5 * 2) * (4 + 10)
    alone = replace(chip, shared_kernels=replace(chip.shared_kernels, value=False))
    assert _stored_bits(shared, 3, 50, alone) == 50 * (3 * 5 * 2) * (4 + 10)
    plain = replace(chip, kernel_index_bits=replace(chip.kernel_index_bits, value=None))
    assert _stored_bits(shared, 3, 50, plain) == 3 * 30 * 4
    assert _stored_bits(other("pool", (4,), kernel=(2, 3)), 3, 50, chip) == 3 * 6 * 14
    assert _stored_bits(other("identity", (4,)), 3, 50, chip) == 3 * 14
    assert _stored_bits(other("linear", (7, 180)), 3, 3, chip) == 3 * 180 * 4


def test_cuts_are_into_nearly_equal_parts() -> None:
    found = {(c.channels, c.rows, c.groups, c.bands) for c in _possible_cuts((5, 3, 9))}
    assert found == {
        (channels, rows, groups, bands)
        for channels, groups in ((1, 5), (2, 3), (3, 2), (5, 1))
        for rows, bands in ((1, 3), (2, 2), (3, 1))
    }
    assert [_Cut(2, 2, 3, 2).cores, _Cut(1, 1, 5, 3).cores] == [6, 15]


def test_a_cut_is_judged_by_excess_then_cores_then_use_in_all() -> None:
    def use(*percents: int) -> tuple[Usage, ...]:
        return tuple(Usage("x", p, 100, certain=True) for p in percents)

    few, many = _Cut(1, 1, 1, 2), _Cut(1, 1, 2, 2)
    assert _badness((few, use(50, 40))) == (100.0, 2, 90)
    assert _badness((many, use(150, 40))) == (150.0, 4, 190)
    order = [(few, use(99, 1)), (few, use(60, 60)), (many, use(1, 1)), (few, use(101, 0))]
    assert sorted([order[i] for i in (2, 0, 3, 1)], key=_badness) == order


def test_the_binding_limit_is_the_one_of_the_largest_share() -> None:
    usage = (Usage("a", 5, 10, certain=True), Usage("b", 9, 12, certain=True),
             Usage("c", 70, 100, certain=True))  # fmt: skip
    mapping = PopulationMapping("p", 1, 1, 3, 2, usage)
    assert (mapping.binding.limit, mapping.binding.percent) == ("b", 75.0)
    assert (mapping.cores, mapping.fits) == (6, True)
    full = replace(mapping, usage=(Usage("a", 10, 10, certain=True),))
    assert full.fits
    over = replace(mapping, usage=(*usage, Usage("a", 11, 10, certain=True)))
    assert not over.fits
