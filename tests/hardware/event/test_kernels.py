"""The inner loops against loops over synapses, in Python: numba compiles the same source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dsr_deploy.hardware.event import kernels
from dsr_deploy.hardware.event.kernels import Window


def plain(kernel: Any) -> Callable[..., Any]:
    """The function that numba compiles."""
    function: Callable[..., Any] = getattr(kernel, "py_func", kernel)
    return function


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_add", plain(kernels._add))


def geometry(
    source: tuple[int, int],
    channels: int,
    window: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
) -> Window:
    height, width = (
        (size + 2 * p - k) // s + 1
        for size, k, s, p in zip(source, window, stride, padding, strict=True)
    )
    return Window(
        source_width=source[1],
        target_height=height,
        target_width=width,
        target_channels=channels,
        window_height=window[0],
        window_width=window[1],
        stride_y=stride[0],
        stride_x=stride[1],
        padding_y=padding[0],
        padding_x=padding[1],
        groups=groups,
        contiguous=groups == 1 and stride[1] == 1,
    )


def events_of(sent: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List what (C, H, W) holds besides zeros, pixel by pixel."""
    starts, channels, payloads = [0], [], []
    for pixel in range(sent.shape[1] * sent.shape[2]):
        for c, payload in enumerate(sent.reshape(len(sent), -1)[:, pixel]):
            if payload:
                channels.append(c)
                payloads.append(payload)
        starts.append(len(channels))
    return np.array(starts), np.array(channels, int), np.array(payloads, int)


def synapses(weight: np.ndarray, sent: np.ndarray, shape: Window) -> tuple[np.ndarray, int]:
    """Add every event to every target that a (C_out, C_in / groups, KH, KW) weight leads to."""
    made = (shape.target_height, shape.target_width, shape.target_channels)
    total, delivered = np.zeros(made, int), 0
    fan, per_group = weight.shape[1], shape.target_channels // shape.groups
    for c, y, x in zip(*np.nonzero(sent), strict=True):
        for ty, tx, out in np.ndindex(made):
            ky = y + shape.padding_y - ty * shape.stride_y
            kx = x + shape.padding_x - tx * shape.stride_x
            near = 0 <= ky < shape.window_height and 0 <= kx < shape.window_width
            if near and out // per_group == c // fan:
                total[ty, tx, out] += weight[out, c % fan, ky, kx] * sent[c, y, x]
                delivered += 1
    return total, delivered


GEOMETRIES = {
    "a window over everything": (geometry((3, 4), 2, (3, 4)), 3),
    "borders": (geometry((3, 4), 2, (3, 2), padding=(1, 1)), 2),
    "wide borders": (geometry((2, 3), 1, (2, 3), padding=(2, 1)), 1),
    "stride down": (geometry((5, 3), 3, (2, 2), stride=(3, 1), padding=(1, 0)), 2),
    "stride across": (geometry((3, 6), 2, (2, 3), stride=(1, 2), padding=(0, 1)), 2),
    "pixels that no window reaches": (geometry((5, 7), 2, (1, 1), stride=(3, 3)), 2),
    "two groups": (geometry((3, 4), 4, (2, 3), padding=(1, 1), groups=2), 6),
    "a group per channel": (geometry((4, 3), 3, (2, 2), stride=(2, 1), groups=3), 3),
    "stride and groups": (geometry((4, 5), 4, (3, 2), (2, 3), (1, 1), groups=2), 4),
}


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("kind", ["spikes", "payloads", "one event"])
def test_every_event_reaches_its_targets(name: str, kind: str) -> None:
    shape, channels = GEOMETRIES[name]
    rng = np.random.default_rng(1)
    fan = channels // shape.groups
    window = (shape.window_height, shape.window_width)
    weight = rng.integers(-9, 10, (shape.target_channels, fan, *window))
    padded = shape.target_height - 1, shape.target_width - 1
    size = (
        padded[0] * shape.stride_y + window[0] - 2 * shape.padding_y,
        shape.source_width,
    )
    sent = rng.integers(-3, 4, (channels, *size))
    sent[:, 0, 1] = 0  # a pixel that sends nothing stands before others
    if kind == "spikes":
        sent = (sent > 0).astype(int)
    elif kind == "one event":
        sent = np.zeros_like(sent)
        sent[-1, -1, 0] = 1
    laid = weight.transpose(1, 2, 3, 0)[:, :, ::-1].reshape(-1)
    total = rng.integers(-5, 6, shape.target_height * shape.target_width * shape.target_channels)
    before = total.copy()
    delivered = plain(kernels.scatter)(*events_of(sent), laid, total, shape)
    added, count = synapses(weight, sent, shape)
    assert np.array_equal(total - before, added.reshape(-1))
    assert delivered == count


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("keep", [4096, 4095, 2048, 1])
def test_neurons_advance_as_defined(held: bool, keep: int) -> None:
    v = np.array([[5, -5, 4096], [-4097, 7, -1], [0, -4096, 2]])
    total = np.array([[1, -2, 3], [0, 4, -5], [6, 0, 1]])
    constant = np.array([[10, 20, -30], [1, 2, 3], [-9, 0, 9]])[: 3 if held else 1]
    fire, threshold = np.array([9, 30, 4]), np.array([4, 100, 1])
    u = np.trunc(v * keep / 4096).astype(int) + constant + total * 2**3
    expected = u - threshold * (u >= fire)
    arrays = v.copy(), total.copy(), np.ones(v.shape, bool)
    low, high = plain(kernels.advance)(
        arrays[0], arrays[1], 3, constant, fire, threshold, keep, arrays[2]
    )
    assert np.array_equal(arrays[0], expected)
    assert not arrays[1].any()
    assert np.array_equal(arrays[2], u >= fire)
    assert (low, high) == (u.min(), u.max())


def test_two_pixels_have_a_current_each() -> None:
    none, fired = np.zeros((2, 1), int), np.zeros((2, 1), bool)
    v = none.copy()
    plain(kernels.advance)(
        v, none.copy(), 0, np.array([[3], [5]]), np.array([9]), np.array([9]), 4096, fired
    )
    assert v.tolist() == [[3], [5]]


@pytest.mark.parametrize("extreme", [2**62 - 1, 1 - 2**62])
def test_the_extremes_of_any_potential_are_found(extreme: int) -> None:
    one, none = np.array([[extreme]]), np.zeros((1, 1), int)
    found = plain(kernels.advance)(
        none.copy(), none.copy(), 0, one, np.array([2**30]), np.array([1]), 4096, none.copy()
    )
    assert found == (extreme, extreme)


def test_a_neuron_fires_at_its_threshold_and_not_below() -> None:
    fired = np.zeros((1, 3), bool)
    none, constant = np.zeros((1, 3), int), np.array([[6, 7, 8]])
    plain(kernels.advance)(
        none.copy(), none.copy(), 0, constant, np.array([7] * 3), np.array([1] * 3), 4096, fired
    )
    assert fired.tolist() == [[False, True, True]]


def test_spikes_become_events_and_are_counted() -> None:
    fired = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]], bool)
    starts, channels = np.full(5, 9), np.full(12, 9)
    counts = np.arange(12).reshape(4, 3)
    assert plain(kernels.collect)(fired, starts, channels, counts) == 4
    assert starts.tolist() == [0, 2, 2, 3, 4]
    assert channels.tolist() == [1, 2, 0, 2, *[9] * 8]
    assert np.array_equal(counts, np.arange(12).reshape(4, 3) + fired)
