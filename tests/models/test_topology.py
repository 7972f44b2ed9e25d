"""Which networks can be described, and what is said of those that cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from dsr_deploy.models.architectures import ARCHITECTURES, topology
from dsr_deploy.models.topology import (
    ConnectionSpec,
    Topology,
    TopologyError,
    conv,
    identity,
    linear,
    pool,
    population,
)


def refused(message: str) -> Any:
    return pytest.raises(TopologyError, match=f"^{re.escape(message)}$")


def test_one_number_stands_for_height_and_width() -> None:
    assert ConnectionSpec("s", "conv", 4, 3, 2, 1) == ConnectionSpec(
        "s", "conv", 4, (3, 3), (2, 2), (1, 1)
    )
    assert conv("s", 4, kernel=(1, 5)).padding == (0, 2)
    assert conv("s", 4, padding=0).padding == (0, 0)
    assert pool("s", (2, 3)).stride == (2, 3)


def test_an_oblong_image_goes_through_oblong_windows() -> None:
    net = Topology(
        "oblong",
        (2, 9, 16),
        (
            population("a", conv("input", 6, kernel=(3, 5), stride=(1, 2), groups=2)),
            population("b", conv("a", 6, kernel=(2, 1), padding=(1, 0), groups=6)),
            population("c", pool("b", (2, 4), padding=(1, 0)), norm=False),
            population("d", linear("c", 5)),
        ),
    )
    assert net.shapes() == {
        "input": (2, 9, 16), "a": (6, 9, 8), "b": (6, 10, 8), "c": (6, 6, 2), "d": (5, 1, 1)
    }  # fmt: skip
    shapes = net.shapes()
    weights = [c.weight_shape(shapes[c.source]) for p in net.populations for c in p.connections]
    assert weights == [(6, 1, 3, 5), (6, 1, 2, 1), None, (5, 72)]
    net.check_fits((2, 9, 16), 5)
    assert repr(net) == "Topology('oblong', 2x9x16, 4 populations)"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_takes_oblong_images(arch: str) -> None:
    for shape in ((3, 40, 72), (1, 128, 96)):
        topology(arch, shape, 7).check_fits(shape, 7)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: ConnectionSpec("a", "convolution", 3),  # type: ignore[arg-type]
            "connection from 'a': choose a kind out of conv, linear, pool, identity, not "
            "'convolution'",
        ),
        (
            lambda: conv("a", 0),
            "conv from 'a': channels must be a whole number of at least 1, not 0",
        ),
        (
            lambda: conv("a", 4, kernel=(3, 0)),
            "conv from 'a': kernel must be a whole number of at least 1, not 0",
        ),
        (
            lambda: conv("a", 4, stride=(1, 2, 3)),  # type: ignore[arg-type]
            "conv from 'a': stride must be a number or (height, width), not (1, 2, 3)",
        ),
        (
            lambda: conv("a", 4, padding=-1),
            "conv from 'a': padding must be a whole number of at least 0, not -1",
        ),
        (
            lambda: conv("a", 4, kernel=2.0),  # type: ignore[arg-type]
            "conv from 'a': kernel must be a whole number of at least 1, not 2.0",
        ),
        (
            lambda: conv("a", 4, groups=3),
            "conv from 'a': channels must be a multiple of its 3 groups, not 4",
        ),
        (
            lambda: ConnectionSpec("a", "linear", 4, groups=2),
            "linear from 'a': only a conv has groups; leave them out",
        ),
        (
            lambda: ConnectionSpec("a", "linear", 4, 3),
            "linear from 'a': it has no kernel, stride or padding; leave them out",
        ),
        (
            lambda: ConnectionSpec("a", "pool", 4),
            "pool from 'a': its channels are those of its source; leave them out",
        ),
        (
            lambda: pool("a", (3, 2), padding=(1, 2)),
            "pool from 'a': padding must be at most half of the window 3x2, not 1x2",
        ),
        (
            lambda: population("input", conv("a", 1)),
            "a population needs a name, and not 'input': 'input'",
        ),
        (lambda: population("b"), "population 'b': no connection leads to it"),
        (
            lambda: population("b", "a"),  # type: ignore[arg-type]
            "population 'b': its connections must be made by conv, linear, pool or identity, not "
            "be 'a'",
        ),
        (
            lambda: population("b", identity("a"), dropout=1.0),
            "population 'b': dropout must be at least 0 and below 1, not 1.0",
        ),
        (
            lambda: Topology("n", (1, 2, 2), ("b",)),  # type: ignore[arg-type]
            "network 'n': its populations must be made by population, not be 'b'",
        ),
    ],
)
def test_a_value_out_of_its_range_is_named(build: Callable[[], object], message: str) -> None:
    with refused(message):
        build()


@pytest.mark.parametrize(
    ("populations", "message"),
    [
        ((), "network 'n': it has no population"),
        (
            (population("a", conv("b", 4)), population("b", conv("input", 4))),
            "population 'a': its source 'b' is none of the input and the populations before it",
        ),
        (
            (population("a", conv("input", 4)), population("a", linear("a", 3))),
            "population 'a': two populations have this name",
        ),
        (
            (population("a", conv("input", 4), conv("input", 4, stride=2)),),
            "population 'a': its connections give the shapes [(4, 2, 3), (4, 4, 6)]; they must "
            "be one",
        ),
        (
            (population("a", conv("input", 4, groups=4)),),
            "conv from 'input': its 4 groups do not divide the 2 channels of its source",
        ),
        (
            (population("a", conv("input", 4, kernel=(9, 1), padding=(2, 0))),),
            "conv from 'input': a 9x1 window does not fit 4x6 padded by 2x0; use larger images or "
            "a smaller network",
        ),
        (
            (population("a", linear("input", 4)),),
            "network 'n': its last population 'a' has the shape 4x1x1, 3 classes need 3x1x1",
        ),
    ],
)
def test_connections_that_do_not_meet_are_named(populations: tuple[Any, ...], message: str) -> None:
    with refused(message):
        Topology("n", (2, 4, 6), populations).check_fits((2, 4, 6), 3)


def test_a_network_of_another_input_does_not_fit() -> None:
    with refused("network 'n': it takes an input of 2x4x6, the data set's is 1x4x6"):
        Topology("n", (2, 4, 6), (population("a", linear("input", 3)),)).check_fits((1, 4, 6), 3)


def test_an_unknown_architecture_is_refused() -> None:
    with refused(f"choose an architecture out of {', '.join(ARCHITECTURES)}, not 'resnet19'"):
        topology("resnet19", (3, 32, 32), 10)
