"""Two weights to a byte: bytes worked by hand, and whatever is packed comes back."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from dsr_deploy.hardware.format.nibbles import pack, unpack


def int8(*values: int) -> np.ndarray:
    return np.array(values, np.int8)


def test_the_first_of_two_stands_in_the_low_half() -> None:
    packed = pack(int8(1, 2, 3, 4))
    assert packed.tolist() == [0x21, 0x43]
    assert packed.dtype == np.uint8


def test_negative_weights_are_in_twos_complement() -> None:
    assert pack(int8(-1, 7, -8, 0)).tolist() == [0x7F, 0x08]


def test_an_odd_last_weight_is_followed_by_0() -> None:
    assert pack(int8(5, -6, -7)).tolist() == [0xA5, 0x09]
    assert pack(int8(-1)).tolist() == [0x0F]


def test_weights_are_packed_in_c_order() -> None:
    weight = np.arange(-8, 4, dtype=np.int8).reshape(2, 3, 2)
    assert pack(weight).tolist() == pack(weight.reshape(-1)).tolist()
    assert unpack(pack(weight), (2, 3, 2)).tolist() == weight.tolist()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_weight_in_every_place_comes_back(count: int) -> None:
    every = np.array(list(itertools.product(range(-8, 8), repeat=count)), np.int8)
    for weight in every:
        found = unpack(pack(weight), (count,))
        assert found.tolist() == weight.tolist()
        assert found.dtype == np.int8


@pytest.mark.parametrize(
    ("size", "count", "weights"), [(1, (3,), 3), (3, (2, 2), 4), (1, (), 1), (0, (1,), 1)]
)
def test_bytes_of_another_number_are_refused(
    size: int, count: tuple[int, ...], weights: int
) -> None:
    packed = np.zeros(size, np.uint8)
    if size == 1 and weights == 1:
        assert unpack(packed, count).shape == count
        return
    with pytest.raises(ValueError, match=f"^{size} bytes for {weights} weights$"):
        unpack(packed, count)


def test_bytes_in_two_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("2 bytes for 3 weights")):
        unpack(np.zeros((2, 1), np.uint8), (3,))


def test_an_unused_half_that_is_not_0_is_refused() -> None:
    assert unpack(np.array([0x05], np.uint8), (1,)).tolist() == [5]
    with pytest.raises(ValueError, match=re.escape("the unused half of the last byte is not 0")):
        unpack(np.array([0x15], np.uint8), (1,))
