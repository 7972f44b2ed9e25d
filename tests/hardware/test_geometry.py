"""Which neurons a connection joins, against a loop over all pairs."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsr_deploy.hardware import reference
from dsr_deploy.hardware.errors import NetworkError
from dsr_deploy.hardware.geometry import Geometry, Shape
from dsr_deploy.hardware.network import Connection

PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def geometries(draw: st.DrawFn) -> tuple[Geometry, Shape]:
    """Draw a geometry and a source that it fits."""
    kind = draw(st.sampled_from(["conv", "linear", "pool", "identity"]))
    groups = draw(st.integers(1, 2))
    fan, out = draw(PAIRS)
    height, width = draw(st.tuples(st.integers(3, 5), st.integers(3, 5)))
    if kind == "linear":
        return Geometry("linear", (out, fan * height * width)), (fan, height, width)
    if kind == "identity":
        return Geometry("identity", (fan,)), (fan, height, width)
    window, stride = draw(PAIRS), draw(PAIRS)
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    if kind == "pool":
        return Geometry("pool", (fan,), window, stride, padding), (fan, height, width)
    shape = (out * groups, fan, *window)
    return Geometry("conv", shape, (1, 1), stride, padding, groups), (fan * groups, height, width)


def joined(geometry: Geometry, source: Shape) -> np.ndarray:
    """Return the weight from each source neuron to each target neuron, where all weights are 1."""
    connection = Connection(
        "a",
        "b",
        geometry.kind,
        np.ones(geometry.weight_shape, np.int8),
        8,
        kernel=geometry.kernel,
        stride=geometry.stride,
        padding=geometry.padding,
        groups=geometry.groups,
    )
    size = int(np.prod(source))
    alone = np.eye(size, dtype=np.int64).reshape(size, *source)
    return reference.transmit(connection, alone)


@settings(max_examples=100, deadline=None)
@given(geometries())
def test_shape_synapses_and_fan_in_are_those_of_the_definition(drawn: tuple[Any, Shape]) -> None:
    geometry, source = drawn
    pairs = joined(geometry, source)
    assert pairs.shape[1:] == geometry.output_shape(source)
    assert pairs.sum() == geometry.synapses(source)
    fan_out = geometry.fan_out(source)
    np.testing.assert_array_equal(fan_out, pairs.reshape(len(pairs), -1).sum(1).reshape(source))
    assert pairs.sum(axis=0).max() <= geometry.fan_in
    if geometry.padding == (0, 0):
        assert (pairs.sum(axis=0) == geometry.fan_in).all()


@settings(max_examples=100, deadline=None)
@given(geometries())
def test_the_convolution_of_a_connection_joins_the_same_neurons(drawn: tuple[Any, Shape]) -> None:
    geometry, source = drawn
    conv = geometry.as_convolution(source)
    assert conv.kind == "conv"
    np.testing.assert_array_equal(joined(conv, source), joined(geometry, source))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "lstm"}, "kind 'lstm': choose one of conv, linear, pool, identity"),
        ({"weight_shape": (2, 3)}, "the weight of a conv must have 4 dimensions, not shape (2, 3)"),
        ({"groups": 0}, "groups must be 1 to 16777216, not 0"),
        ({"stride": (1, 0)}, "stride must be 1 to 65536, not 0"),
        ({"padding": (-1, 0)}, "padding must be 0 to 65536, not -1"),
        ({"stride": (1, 2.0)}, "stride must be 1 to 65536, not 2.0"),
        ({"kernel": (2, 2)}, "only a pool has a kernel; leave out (2, 2)"),
        (
            {"kind": "identity", "weight_shape": (2,), "stride": (2, 2)},
            "an identity has no stride or padding; leave them out",
        ),
        (
            {"kind": "pool", "weight_shape": (2,), "groups": 2},
            "only a conv has groups; leave out 2",
        ),
    ],
)
def test_what_is_no_geometry_is_refused(values: dict[str, Any], message: str) -> None:
    whole: dict[str, Any] = {"kind": "conv", "weight_shape": (2, 1, 3, 3)} | values
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        Geometry(**whole)


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (
            Geometry("linear", (2, 5)),
            "weight of shape (2, 5) for a source of 2x3x3 = 18 neurons",
        ),
        (
            Geometry("conv", (3, 1, 2, 2), groups=2),
            "weight of shape (3, 1, 2, 2) in 2 groups for a source of 2 channels",
        ),
        (Geometry("pool", (3,)), "3 weights for a source of 2 channels"),
        (
            Geometry("pool", (2,), kernel=(2, 6), padding=(0, 1)),
            "a window of 6 does not fit a source of 3 padded by 1",
        ),
    ],
)
def test_weights_that_do_not_fit_the_source_are_refused(geometry: Geometry, message: str) -> None:
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        geometry.output_shape((2, 3, 3))


def test_every_channel_count_has_its_pool() -> None:
    channels = [1, 70_000]
    for count, kind in itertools.product(channels, ("pool", "identity")):
        geometry = Geometry(kind, (count,))  # type: ignore[arg-type]
        assert geometry.as_convolution((count, 1, 1)).groups == count
