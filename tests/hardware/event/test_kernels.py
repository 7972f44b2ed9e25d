"""The inner loops against loops over synapses, in Python."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from dsr_deploy.hardware.event import kernels
from dsr_deploy.hardware.event.arrays import Events, Neurons, Wiring
from dsr_deploy.hardware.event.layers import wire
from dsr_deploy.hardware.network import Connection


@njit
def scatter(wiring, starts, channels, payloads, total):  # type: ignore[no-untyped-def]
    return kernels.scatter(wiring, starts, channels, payloads, total)


def events_of(sent: np.ndarray, *, payloads: bool) -> tuple[np.ndarray, ...]:
    """List what (C, H, W) holds besides zeros, pixel by pixel."""
    starts, channels, values = [0], [], []
    for pixel in range(sent.shape[1] * sent.shape[2]):
        for c, payload in enumerate(sent.reshape(len(sent), -1)[:, pixel]):
            if payload:
                channels.append(c)
                values.append(payload)
        starts.append(len(channels))
    values = values if payloads else []
    return np.array(starts, np.int32), np.array(channels, np.uint16), np.array(values, np.int8)


def synapses(conv: Connection, sent: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Add every event to every target; return sums, events with a target, operations."""
    shape = conv.output_shape(sent.shape)  # type: ignore[arg-type]
    weight = conv.as_convolution(sent.shape)  # type: ignore[arg-type]
    geometry = conv.geometry.as_convolution(sent.shape)  # type: ignore[arg-type]
    (kh, kw), (sh, sw), (ph, pw) = geometry.window, geometry.stride, geometry.padding
    total, carried, delivered = np.zeros(shape, int), 0, 0
    fan, per_group = weight.shape[1], shape[0] // geometry.groups
    for c, y, x in zip(*np.nonzero(sent), strict=True):
        reached = 0
        for out, ty, tx in np.ndindex(shape):
            ky, kx = y + ph - ty * sh, x + pw - tx * sw
            if 0 <= ky < kh and 0 <= kx < kw and out // per_group == c // fan:
                total[out, ty, tx] += int(weight[out, c % fan, ky, kx]) * sent[c, y, x]
                reached += 1
        carried += reached > 0
        delivered += reached
    return total << conv.exponent, carried, delivered


def conv(shape: tuple[int, int, int, int], *, limit: int = 7, **geometry: object) -> Connection:
    weight = np.random.default_rng(2).integers(-limit, limit + 1, shape).astype(np.int8)
    return Connection("a", "b", "conv", weight, 8, **geometry)  # type: ignore[arg-type]


def channelwise(kind: str, channels: int, **geometry: object) -> Connection:
    weight = np.arange(-1, channels - 1).astype(np.int8)
    return Connection("a", "b", kind, weight, 8, **geometry)  # type: ignore[arg-type]


def linear(outputs: int, inputs: int) -> Connection:
    weight = np.random.default_rng(3).integers(-7, 8, (outputs, inputs)).astype(np.int8)
    return Connection("a", "b", "linear", weight, 8)


CONNECTIONS = {
    "3x3, borders": (conv((5, 3, 3, 3), padding=(1, 1)), (3, 4, 5)),
    "as many channels as are added at a time": (conv((64, 9, 3, 3), padding=(1, 1)), (9, 3, 4)),
    "8 bits": (conv((16, 40, 3, 3), limit=127, padding=(1, 1)), (40, 3, 3)),
    "more spikes than meet in 8 bits": (conv((8, 21, 3, 3), limit=31, padding=(1, 1)), (21, 2, 2)),
    "more spikes than meet in 16 bits": (conv((8, 70, 1, 1), limit=127), (70, 1, 2)),
    "weights beyond 8 bits": (conv((3, 2, 3, 2), limit=127, exponent=5), (2, 4, 4)),
    "a window over everything": (conv((2, 2, 3, 4)), (2, 3, 4)),
    "wide borders": (conv((1, 1, 2, 3), padding=(2, 1)), (1, 2, 3)),
    "stride down": (conv((3, 2, 2, 2), stride=(3, 1), padding=(1, 0)), (2, 5, 3)),
    "stride across": (conv((2, 2, 2, 3), stride=(1, 2), padding=(0, 1)), (2, 3, 6)),
    "stride 2, 3x3": (conv((8, 4, 3, 3), stride=(2, 2), padding=(1, 1)), (4, 6, 6)),
    "stride beyond the window": (conv((2, 2, 1, 2), stride=(3, 5)), (2, 5, 9)),
    "stride 3, window 5": (conv((2, 2, 5, 5), stride=(3, 3), padding=(2, 1)), (2, 7, 9)),
    "1x1": (conv((4, 3, 1, 1)), (3, 2, 5)),
    "two groups": (conv((4, 3, 2, 3), padding=(1, 1), groups=2), (6, 3, 4)),
    "groups and stride": (conv((4, 2, 3, 2), stride=(2, 3), padding=(1, 1), groups=2), (4, 4, 5)),
    "groups of 16": (conv((32, 4, 3, 3), padding=(1, 1), groups=2), (8, 3, 3)),
    "wide groups": (conv((4, 2, 2, 2), limit=127, exponent=3, groups=2), (4, 4, 3)),
    "several sources of a single target": (conv((3, 2, 2, 2), stride=(2, 1), groups=3), (6, 4, 3)),
    "depthwise": (conv((4, 1, 3, 3), padding=(1, 1), groups=4), (4, 4, 4)),
    "pool": (channelwise("pool", 3, kernel=(2, 3), stride=(2, 1), padding=(1, 0)), (3, 4, 5)),
    "identity": (channelwise("identity", 5), (5, 3, 2)),
    "identity beyond 8 bits": (channelwise("identity", 5, exponent=9), (5, 3, 2)),
    "linear": (linear(10, 24), (4, 2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONNECTIONS)
@pytest.mark.parametrize("kind", ["spikes", "payloads", "one event", "every neuron"])
def test_every_event_reaches_its_targets(name: str, kind: str) -> None:
    connection, shape = CONNECTIONS[name]
    sent = np.random.default_rng(1).integers(-3, 4, shape)
    sent[:, 0, 1] = 0  # a pixel that sends nothing stands before others
    if kind == "spikes":
        sent = (sent > 0).astype(int)
    elif kind == "one event":
        sent = np.zeros_like(sent)
        sent[-1, -1, 0] = 1
    elif kind == "every neuron":
        sent = np.ones_like(sent)
    wiring = wire(connection, shape, unit=0)
    channels, height, width = connection.output_shape(shape)
    filled = wiring.target_pixel
    total = np.random.default_rng(4).integers(-5, 6, height * width * filled).astype(np.int32)
    before = total.copy()
    found = scatter(wiring, *events_of(sent, payloads=kind == "payloads"), total)
    expected, carried, delivered = synapses(connection, sent)
    added = (total - before).reshape(height, width, filled)
    assert np.array_equal(added[:, :, :channels].transpose(2, 0, 1), expected)
    assert not added[:, :, channels:].any()
    assert found == (carried, delivered)


def test_products_are_exact_where_numba_is_switched_off() -> None:
    connection, shape = conv((3, 2, 1, 1), limit=127, exponent=23), (2, 1, 2)
    sent = np.array([[[127, -128]], [[0, 1]]])
    wiring = wire(connection, shape, unit=0)
    total = np.zeros(2 * wiring.target_pixel, np.int64)
    plain = getattr(kernels._scatter_products, "py_func", kernels._scatter_products)
    plain(wiring, *events_of(sent, payloads=True), total)
    expected, _, _ = synapses(connection, sent)
    assert abs(expected).max() > 2**31
    assert np.array_equal(total.reshape(1, 2, -1)[:, :, :3].transpose(2, 0, 1), expected)


def neurons(v: np.ndarray, width: int, **changes: object) -> Neurons:
    """Neurons at ``v`` (chunks, chunk) to which nothing arrives, that fire at 100."""
    chunk = v.shape[1]
    same = np.ones(chunk, np.int32)
    plain = Neurons(
        v=v.astype(np.int32),
        total=np.zeros(v.shape, np.int16),
        constant=np.zeros((1, chunk), np.int32),
        bias=0 * same,
        v_fire=100 * same,
        v_threshold=100 * same,
        counts=np.zeros(v.size, np.uint16),
        bits=np.zeros(chunk // 8 + 8, np.uint8),
        held_exponent=0,
        exponent=0,
        keep=4096,
        width=width,
        holds=False,
    )
    return plain._replace(**changes)


def room(pixels: int, rows: int = 1) -> Events:
    starts = np.full((rows, pixels + 1), 99, np.int32)
    return Events(starts, np.full((rows, 999), 99, np.uint16), np.zeros((rows, 0), np.int8))


@pytest.mark.parametrize(("width", "pixels_of_chunk"), [(8, 3), (24, 1), (56, 2), (64, 2), (72, 1)])
def test_spikes_become_events_and_are_counted(width: int, pixels_of_chunk: int) -> None:
    pixels = 6
    v = np.random.default_rng(width).integers(0, 200, (pixels, width))
    chunks = v.reshape(pixels // pixels_of_chunk, -1)
    state, sent = neurons(chunks, width), room(pixels)
    for repeat in (1, 2):
        state.v[:] = chunks
        assert kernels.advance(state, sent.starts[0], sent.channels[0]) == (0, v.max())
        fired = v >= 100
        assert np.diff(sent.starts[0]).tolist() == fired.sum(axis=1).tolist()
        assert sent.starts[0, 0] == 0
        number = int(fired.sum())
        assert sent.channels[0, :number].tolist() == np.nonzero(fired)[1].tolist()
        assert (sent.channels[0, number:] == 99).all()
        assert np.array_equal(state.counts, repeat * fired.reshape(-1))


def test_pixels_whose_image_is_held_have_a_current_each() -> None:
    constant = np.arange(16, dtype=np.int32).reshape(2, 8)
    state = neurons(np.zeros((2, 8)), 8, constant=constant, holds=True)
    sent = room(2)
    kernels.advance(state, sent.starts[0], sent.channels[0])
    assert np.array_equal(state.v, constant)


@pytest.mark.parametrize("keep", [4096, 2048])
def test_a_leak_halves_the_potential(keep: int) -> None:
    state, sent = neurons(np.full((1, 8), 7), 8, keep=keep), room(1)
    kernels.advance(state, sent.starts[0], sent.channels[0])
    assert state.v.tolist() == [[7 * keep // 4096] * 8]


def test_samples_begin_at_rest_with_their_own_image_and_go_on_between_blocks() -> None:
    identity = channelwise("identity", 8)
    none = {"rows": np.zeros((0, 3), np.int32), "fan": np.zeros(0, np.int32)}
    silent = wire(identity, (8, 1, 1), unit=0)._replace(**none)
    image, sent = room(1, 2), room(1, 4)
    image = image._replace(payloads=np.full((2, 999), 2, np.int8))
    image.starts[:] = 0, 2
    image.channels[:, :2] = (3, 4), (5, 6)
    state = neurons(np.full((1, 8), 50), 8, bias=np.full(8, 10, np.int32), held_exponent=1,
                    holds=True)  # fmt: skip
    counted = np.zeros((6, 2), np.int64)
    # As many as the worker fills up to, so that the kernel is compiled once for both.
    held, four = (wire(identity, (8, 1, 1), unit=0), silent), (silent,) * 4
    arrays = (held, image, four, (sent,) * 4, state, sent, counted)
    # The weights are -1 to 6: channels 5 and 6 of the second image weigh 4 and 5.
    currents = np.array([10, 10, 10, 10, 10, 10 + 2 * 2 * 4, 10 + 2 * 2 * 5, 10])
    assert kernels.run(2, 2, True, *arrays) == (0, 2 * 30)
    assert state.v.tolist() == [(2 * currents).tolist()]
    assert counted.tolist() == [[4, 4], *[[0, 0]] * 5]
    assert not state.total.any()
    assert kernels.run(1, 3, False, *arrays) == (0, 120)
    fired = 5 * currents >= 100
    assert state.v.tolist() == [(5 * currents - 100 * fired).tolist()]
    assert sent.channels[1, :2].tolist() == np.flatnonzero(fired).tolist() == [5, 6]


def test_payloads_are_listed_by_pixel() -> None:
    frame = np.array([[0, 5, 0], [-3, 0, 0], [0, 7, 0]], np.int8)  # channels, pixels
    starts, channels, payloads = (
        np.full(4, 9, np.int32),
        np.full(9, 9, np.uint16),
        np.zeros(9, np.int8),
    )
    kernels.pack(frame, starts, channels, payloads)
    assert starts.tolist() == [0, 1, 3, 3]
    assert channels[:3].tolist() == [1, 0, 2]
    assert payloads[:3].tolist() == [-3, 5, 7]


def test_events_become_flags_again() -> None:
    fired = np.random.default_rng(0).integers(0, 2, (5, 4)).astype(bool)
    starts, channels, _ = events_of(fired.reshape(5, 2, 2).astype(int), payloads=False)
    found = np.zeros((5, 4), bool)
    kernels.unpack(starts, channels, found)
    assert np.array_equal(found, fired)
    assert isinstance(wire(channelwise("identity", 2), (2, 1, 1), unit=0), Wiring)
