"""The payload table against Python's own arithmetic, one pixel at a time."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsr_deploy.data.encoding import encode, event_input, image_input
from dsr_deploy.data.samples import DataError
from dsr_deploy.hardware.encoding import payload_table
from dsr_deploy.hardware.network import Input


def naive_payload(input: Input, channel: int, pixel: int) -> int:
    value = (pixel * input.pixel_scale - input.mean[channel]) / (input.std[channel] * input.step)
    return min(max(round(value), input.low), input.high)


@st.composite
def inputs(draw: st.DrawFn) -> Input:
    channels = draw(st.integers(1, 3))
    means = st.lists(st.floats(-3, 3), min_size=channels, max_size=channels)
    stds = st.lists(st.floats(0.01, 3), min_size=channels, max_size=channels)
    low = draw(st.integers(-128, 127))
    return Input(
        shape=(channels, 2, 3),
        mean=tuple(draw(means)),
        std=tuple(draw(stds)),
        pixel_scale=draw(st.sampled_from([1 / 255, 1 / 16, 1.0])),
        step=draw(st.floats(1 / 256, 2)),
        low=low,
        high=draw(st.integers(low, 127)),
        framed=draw(st.booleans()),
    )


@given(inputs())
def test_table_is_the_documented_formula_rounded_half_to_even(input: Input) -> None:
    table = payload_table(input)
    assert table.dtype == np.int8
    assert table.tolist() == [
        [naive_payload(input, c, p) for p in range(256)] for c in range(input.shape[0])
    ]


@given(inputs(), st.integers(0, 2**32 - 1))
def test_encode_looks_every_pixel_up_in_its_channel(input: Input, seed: int) -> None:
    frames = (4,) if input.framed else ()
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, size=(2, *frames, *input.shape), dtype=np.uint8)
    table = payload_table(input)
    payload = encode(input, torch.from_numpy(pixels))
    assert payload.dtype == torch.int8
    assert payload.shape == pixels.shape
    for index in np.ndindex(*pixels.shape):
        assert payload[index] == table[index[-3], pixels[index]]


Channels = list[tuple[float, float]]
"""Mean and standard deviation of each."""


def farthest(mean: float, std: float) -> float:
    """Return the largest normalised magnitude of a pixel."""
    return max(abs((pixel - mean) / std) for pixel in (0.0, 1.0))


@pytest.mark.parametrize(
    "channels",
    [
        list(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)),  # ImageNet
        list(zip((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), strict=True)),  # CIFAR-10
        list(zip((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), strict=True)),  # CIFAR-100
        [(0.1307, 0.3081)],  # MNIST
        [(0.01, 0.02)],
    ],
)
def test_usual_images_use_the_whole_range_and_none_saturates(channels: Channels) -> None:
    mean, std = zip(*channels, strict=True)
    input = image_input((len(channels), 4, 4), mean, std)
    assert (input.mean, input.std) == (mean, std)
    assert input.step == max(farthest(m, s) for m, s in channels) / 127
    assert np.abs(payload_table(input).astype(int)).max() == 127


def test_a_narrow_channel_keeps_its_payloads_and_a_quarter_of_the_others() -> None:
    wide, narrow = (0.5, 0.25), (0.25, 0.015625)
    both = payload_table(image_input((2, 4, 4), *zip(wide, narrow, strict=True)))
    alone = payload_table(image_input((1, 4, 4), *zip(narrow, strict=True)))
    assert np.array_equal(both[1], alone[0])
    assert (both[0].min(), both[0].max()) == (-32, 32)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(1e-6, 0.5)), min_size=1, max_size=3),
)
def test_every_channel_has_its_share_of_payloads(channels: Channels) -> None:
    mean, std = zip(*channels, strict=True)
    input = image_input((len(channels), 4, 4), mean, std)
    fewest = min(min(farthest(m, s), 64) for m, s in channels)
    assert input.step * 127 <= 4 * fewest * (1 + 1e-12)
    for (m, s), divisor in zip(channels, input.std, strict=True):
        assert divisor >= s
        # a quarter of the range up to the farthest pixel, or to 64 deviations
        assert min(farthest(m, s), 64) * s / (divisor * input.step) >= 127 / 4 * (1 - 1e-12)


def test_pixels_beyond_64_deviations_saturate() -> None:
    table = payload_table(image_input((1, 4, 4), (100 / 255,), (0.5 / 255,)))[0]
    # 32 levels on each side of the mean, 127 payloads
    assert table[[68, 99, 100, 101, 132]].tolist() == [-127, -4, 0, 4, 127]
    assert (table[:68] == -127).all()
    assert (table[133:] == 127).all()


def test_event_counts_are_their_own_payload_and_saturate_at_127() -> None:
    input = event_input((2, 48, 48))
    assert input.framed
    assert payload_table(input).tolist() == [[*range(128), *[127] * 128]] * 2


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (torch.zeros(5, 3, 4, 4), "torch.float32 of shape (5, 3, 4, 4)"),
        (torch.zeros(5, 4, 4, dtype=torch.uint8), "torch.uint8 of shape (5, 4, 4)"),
        (torch.zeros(5, 1, 4, 4, dtype=torch.uint8), "torch.uint8 of shape (5, 1, 4, 4)"),
    ],
)
def test_encode_refuses_other_types_and_shapes(pixels: torch.Tensor, found: str) -> None:
    message = (
        f"samples: {found}; the input takes torch.uint8 of shape (N, C, H, W) "
        "with (C, H, W) = (3, 4, 4)"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        encode(image_input((3, 4, 4), (0.5,) * 3, (0.5,) * 3), pixels)
