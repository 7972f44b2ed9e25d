"""Cores that a neuron sends to through windows that are no squares; a chip just large enough."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dsr_deploy.hardware.mapping import Mapping, PopulationMapping, _Cut, _fan_out, _listened
from dsr_deploy.hardware.network import Connection


def conv(window: tuple[int, int], stride: tuple[int, int]) -> Connection:
    return Connection("a", "b", "conv", np.ones((8, 2, *window), np.int8), 4, stride=stride)


@pytest.mark.parametrize(
    ("window", "stride", "bands"),
    [
        ((3, 3), (1, 1), 3),
        ((3, 5), (1, 1), 3),
        ((5, 3), (1, 1), 5),
        ((3, 3), (2, 1), 2),
        ((3, 3), (1, 2), 3),
    ],
)
def test_rows_of_the_window_and_their_stride_decide_the_bands(
    window: tuple[int, int], stride: tuple[int, int], bands: int
) -> None:
    # A row to a core, and eight channels in pairs, which can begin within a pair: five cores.
    network: Any = SimpleNamespace(connections=[conv(window, stride)])
    population: Any = SimpleNamespace(name="a")
    found = _fan_out(network, population, {"b": _Cut(2, 1, 9, 9)})
    assert (found, type(found)) == (bands * 5, int)


def test_axons_are_whole_numbers() -> None:
    heard = _listened(conv((3, 3), (1, 1)), (2, 9, 5), _Cut(3, 2, 1, 1))
    assert (heard, type(heard)) == (2 * 4 * 5, int)


@pytest.mark.parametrize(("cores", "fits"), [(5, False), (6, True), (7, True), (None, True)])
def test_a_chip_of_just_so_many_cores_is_enough(cores: int | None, fits: bool) -> None:
    parts = (PopulationMapping("a", 1, 1, 2, 2, ()), PopulationMapping("b", 1, 1, 2, 1, ()))
    assert Mapping("chip", parts, cores, ()).fits is fits
