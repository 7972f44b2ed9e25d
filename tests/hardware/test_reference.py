"""The definition itself: every kind of connection against loops, neurons worked by hand."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from dsr_deploy.hardware import reference
from dsr_deploy.hardware.errors import PayloadError, RegisterError
from dsr_deploy.hardware.network import (
    INPUT,
    V_MAX,
    V_MIN,
    Connection,
    Input,
    IntegerNetwork,
    Population,
)


def int32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def neuron(
    name: str = "layer",
    *,
    bias: tuple[int, ...] = (0,),
    v_fire: tuple[int, ...] = (10,),
    v_threshold: tuple[int, ...] = (10,),
    decay: int = 0,
) -> Population:
    shape = (len(bias), 1, 1)
    return Population(name, shape, int32(*bias), int32(*v_fire), int32(*v_threshold), decay)


def loops(connection: Connection, sent: np.ndarray) -> np.ndarray:
    """What a connection adds, one synapse after another; the weights' own definition."""
    out = np.zeros((len(sent), *connection.output_shape(sent.shape[1:])), np.int64)
    weight = connection.weight.astype(int)
    if connection.kind == "linear":
        for n, o in itertools.product(range(len(sent)), range(len(weight))):
            out[n, o, 0, 0] = sum(weight[o, i] * x for i, x in enumerate(sent[n].reshape(-1)))
        return out
    (kh, kw), (sh, sw), (ph, pw) = connection.window, connection.stride, connection.padding
    channels = sent.shape[1]
    for n, o, y, x in np.ndindex(out.shape):
        for c, ky, kx in itertools.product(range(channels), range(kh), range(kw)):
            row, column = y * sh + ky - ph, x * sw + kx - pw
            if not (0 <= row < sent.shape[2] and 0 <= column < sent.shape[3]):
                continue
            if connection.kind == "conv":
                fan = channels // connection.groups
                if o // (len(weight) // connection.groups) != c // fan:
                    continue
                out[n, o, y, x] += weight[o, c % fan, ky, kx] * sent[n, c, row, column]
            elif c == o:
                out[n, o, y, x] += weight[o] * sent[n, c, row, column]
    return out


SOURCE = (4, 5, 6)
CONNECTIONS = {
    "conv": Connection(
        INPUT, "t", "conv", np.zeros((3, 4, 2, 3), np.int8), 8, stride=(2, 1), padding=(1, 2)
    ),
    "grouped conv": Connection(
        INPUT, "t", "conv", np.zeros((6, 2, 3, 1), np.int8), 8, stride=(1, 3), groups=2
    ),
    "depthwise conv": Connection(
        INPUT, "t", "conv", np.zeros((4, 1, 1, 2), np.int8), 8, padding=(0, 1), groups=4
    ),
    "linear": Connection(INPUT, "t", "linear", np.zeros((3, 120), np.int8), 8),
    "pool": Connection(
        INPUT, "t", "pool", np.zeros(4, np.int8), 8, kernel=(3, 2), stride=(1, 2), padding=(1, 0)
    ),
    "identity": Connection(INPUT, "t", "identity", np.zeros(4, np.int8), 8),
}


@pytest.mark.parametrize("kind", CONNECTIONS)
def test_a_connection_adds_up_its_synapses(kind: str) -> None:
    rng = np.random.default_rng(5)
    connection = CONNECTIONS[kind]
    connection.weight[...] = rng.integers(-127, 128, connection.weight.shape)
    sent = rng.integers(-128, 128, (2, *SOURCE))
    found = reference.transmit(connection, sent)
    assert found.dtype == np.int64
    assert np.array_equal(found, loops(connection, sent))


@pytest.mark.parametrize(
    ("decay", "v", "current", "new", "fired"),
    [
        (0, [9, -9, 0, 0], [0, 0, 9, 10], [9, -9, 9, 0], [False, False, False, True]),
        (0, [5, 30, 0, -3], [6, 0, 10, 12], [1, 20, 0, 9], [True, True, True, False]),
        # Half is kept, rounded toward zero.
        (2048, [9, -9, 3, -3], [0, 0, 0, 0], [4, -4, 1, -1], [False] * 4),
        (1, [4096, -4096, 1, -1], [-4000, 0, 0, 0], [85, -4095, 0, 0], [True, *[False] * 3]),
        (4095, [4095, 4096, -4096, 0], [9, 9, 0, 0], [9, 0, -1, 0], [False, True, False, False]),
    ],
)
def test_a_step_decays_adds_fires_and_subtracts(
    decay: int, v: list[int], current: list[int], new: list[int], fired: list[bool]
) -> None:
    population = neuron(decay=decay)
    shape = (4, 1, 1, 1)
    found = reference.step(population, np.array(v).reshape(shape), np.array(current).reshape(shape))
    assert found[0].reshape(-1).tolist() == new
    assert found[1].reshape(-1).tolist() == fired


def test_each_channel_has_its_own_thresholds() -> None:
    population = neuron(bias=(0, 0), v_fire=(4, 5), v_threshold=(7, 2))
    v, fired = reference.step(
        population, np.zeros((1, 2, 1, 1), np.int64), np.array([4, 4]).reshape(1, 2, 1, 1)
    )
    assert v.reshape(-1).tolist() == [-3, 4]
    assert fired.reshape(-1).tolist() == [True, False]


@pytest.mark.parametrize(
    ("current", "fits"), [(V_MAX, True), (V_MAX + 1, False), (V_MIN, True), (V_MIN - 1, False)]
)
def test_a_potential_beyond_24_bits_is_refused(current: int, fits: bool) -> None:
    population = neuron()
    arrays = np.zeros((1, 1, 1, 1), np.int64), np.full((1, 1, 1, 1), current)
    if fits:
        reference.step(population, *arrays)
        return
    message = (
        f"population 'layer': membrane potential {current} "
        "leaves the 24-bit register (-8388608 to 8388607)"
    )
    with pytest.raises(RegisterError, match=f"^{re.escape(message)}$"):
        reference.step(population, *arrays)


@pytest.mark.parametrize(
    ("low", "high", "named"), [(-1, V_MAX + 7, V_MAX + 7), (V_MIN - 3, 5, V_MIN - 3)]
)
def test_the_potential_that_leaves_the_register_is_named(low: int, high: int, named: int) -> None:
    current = np.array([high, 1, low]).reshape(3, 1, 1, 1)
    with pytest.raises(RegisterError, match=f"potential {named} leaves"):
        reference.step(neuron(), np.zeros_like(current), current)


@pytest.mark.parametrize(("v_fire", "fires"), [(3, True), (4, False)])
def test_potentials_begin_at_0(v_fire: int, fires: bool) -> None:
    network = IntegerNetwork(
        "one step",
        1,
        Input((1, 1, 1), (0.0,), (1.0,), 1.0, 1.0),
        (neuron(bias=(1,), v_fire=(v_fire,)),),
        (Connection(INPUT, "layer", "linear", np.array([[2]], np.int8), 8),),
        (1,),
    )
    found = reference.run(network, np.ones((1, 1, 1, 1), np.int8))
    assert found.scores.tolist() == [[int(fires)]]


def two_layers(*, framed: bool) -> IntegerNetwork:
    """Two pixels, two hidden neurons, two classes; the second class sees the input as well."""
    rows = (np.array([[1, 0], [0, 2]]), np.array([[3, -1], [0, 1]]), np.array([[0, 0], [1, 0]]))
    weights = [row.astype(np.int8) for row in rows]
    return IntegerNetwork(
        "two layers",
        3,
        Input((2, 1, 1), (0.0,) * 2, (1.0,) * 2, 1.0, 1.0, framed=framed),
        (
            neuron("hidden", bias=(1, 0), v_fire=(4, 4), v_threshold=(4, 4)),
            neuron("out", bias=(0, 0), v_fire=(6, 8), v_threshold=(6, 4), decay=2048),
        ),
        (
            Connection(INPUT, "hidden", "linear", weights[0], 8),
            Connection("hidden", "out", "linear", weights[1], 8, exponent=1),
            Connection(INPUT, "out", "linear", weights[2], 8),
        ),
        (1, 10, 100),
    )


def test_a_network_worked_by_hand() -> None:
    # hidden: u0 = 4, 4, 4 fires each time; u1 = 2, 4, 2 fires the second time.
    # out 0: 6 fires; 0 + 6 - 2 = 4; 2 + 6 = 8 fires. out 1: 3; 1 + 2 + 3 = 6; 3 + 3 = 6.
    found = reference.run(
        two_layers(framed=False), np.array([[3, 1]], np.int8).reshape(1, 2, 1, 1), record=True
    )
    assert found.spikes is not None
    assert found.spikes["hidden"].reshape(3, 2).tolist() == [[1, 0], [1, 1], [1, 0]]
    assert found.spikes["out"].reshape(3, 2).tolist() == [[1, 0], [0, 0], [1, 0]]
    assert found.scores.tolist() == [[101, 0]]
    assert found.predictions.tolist() == [0]


def test_frames_enter_one_after_the_other() -> None:
    network = two_layers(framed=True)
    frames = np.array([[[3, 0], [0, 0], [7, 2]], [[0, 0], [8, 0], [0, 0]]], np.int8)
    found = reference.run(network, frames.reshape(2, 3, 2, 1, 1), record=True)
    assert found.spikes is not None
    # First sample, hidden 0: 4 fires; 1; 9 fires. hidden 1: 0, 0, 4 fires.
    assert found.spikes["hidden"][0].reshape(3, 2).tolist() == [[1, 0], [0, 0], [1, 1]]
    # out 0: 6 fires; 0; 6 - 2 = 4. out 1: 3; 1; 0 + 2 + 7 = 9 fires.
    assert found.spikes["out"][0].reshape(3, 2).tolist() == [[1, 0], [0, 0], [0, 1]]
    # Second sample, hidden 0: 1; 10 fires, 6; 7 fires. out 0: 0, 6 fires, 6 fires.
    # out 1: 0, 8 fires, 4 kept, 2.
    assert found.scores.tolist() == [[1, 100], [110, 10]]


def test_spikes_are_kept_only_if_asked_for() -> None:
    payloads = np.zeros((0, 2, 1, 1), np.int8)
    found = reference.run(two_layers(framed=False), payloads)
    assert found.spikes is None
    assert found.scores.shape == (0, 2)


@pytest.mark.parametrize(
    ("framed", "payloads", "message"),
    [
        (
            False,
            np.zeros((1, 2, 1, 1), np.int64),
            "input: payloads are int64 of shape (1, 2, 1, 1), not int8 of shape (N, 2, 1, 1)",
        ),
        (
            False,
            np.zeros((1, 2, 1), np.int8),
            "input: payloads are int8 of shape (1, 2, 1), not int8 of shape (N, 2, 1, 1)",
        ),
        (
            False,
            np.zeros((1, 3, 1, 1), np.int8),
            "input: payloads are int8 of shape (1, 3, 1, 1), not int8 of shape (N, 2, 1, 1)",
        ),
        (
            True,
            np.zeros((1, 2, 2, 1, 1), np.int8),
            "input: payloads are int8 of shape (1, 2, 2, 1, 1), not int8 of shape (N, 3, 2, 1, 1)",
        ),
        (
            False,
            np.zeros((1, 1, 1, 1), np.int8),
            "input: payloads are int8 of shape (1, 1, 1, 1), not int8 of shape (N, 2, 1, 1)",
        ),
        (
            False,
            np.zeros((1, 2, 1, 1), np.float64),
            "input: payloads are float64 of shape (1, 2, 1, 1), not int8 of shape (N, 2, 1, 1)",
        ),
    ],
)
def test_other_payloads_are_refused(framed: bool, payloads: np.ndarray, message: str) -> None:
    with pytest.raises(PayloadError, match=f"^{re.escape(message)}$"):
        reference.run(two_layers(framed=framed), payloads)
