"""The vector instructions against the plain functions that say what they do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from dsr_deploy.hardware.event import vectors


@njit
def add_rows(total: Any, at: int, weight: Any, offsets: Any, rows: int, shift: int, count: int,
             narrow: bool) -> None:  # fmt: skip
    vectors.add_rows(total, at, weight, offsets, rows, shift, count, narrow)


@njit
def add_product(total: Any, at: int, weight: Any, first: int, payload: int, count: int) -> None:
    vectors.add_product(total, at, weight, first, payload, count)


@njit
def integrate(v: Any, total: Any, arriving: Any, fire: Any, threshold: Any, bits: Any,
              exponent: int) -> Any:  # fmt: skip
    return vectors.integrate(v, total, arriving, fire, threshold, bits, exponent)


@njit
def leak(v: Any, total: Any, arriving: Any, fire: Any, threshold: Any, bits: Any, exponent: int,
         keep: int) -> Any:  # fmt: skip
    return vectors.leak_and_integrate(v, total, arriving, fire, threshold, bits, exponent, keep)


@njit
def word(bits: Any, at: int) -> Any:
    return vectors.word(bits, at)


@njit
def lowest_bit(bits: Any) -> Any:
    return vectors.lowest_bit(bits)


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 48, 64, 191, 200])
def test_rows_are_added_element_by_element(narrow: bool, dtype: type, count: int) -> None:
    rng = np.random.default_rng(count)
    weight = rng.integers(-7, 8, 3000).astype(np.int8)
    offsets = rng.integers(0, 2500, 18).astype(np.intp)
    before = rng.integers(-900, 900, 300).astype(dtype)
    for rows in (1, 2, 18):
        added = before.copy()
        add_rows(added, 50, weight, offsets, rows, 200, count, narrow)
        expected = before.copy()
        for offset in offsets[:rows]:
            expected[50 : 50 + count] += weight[offset + 200 : offset + 200 + count]
        assert np.array_equal(added, expected)
        plain = before.copy()
        vectors.add_rows(plain, 50, weight, offsets, rows, 200, count, narrow)
        assert np.array_equal(plain, expected)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
@pytest.mark.parametrize("payload", [-128, -1, 1, 127])
@pytest.mark.parametrize("count", [1, 8, 191])
def test_products_are_added_element_by_element(dtype: type, payload: int, count: int) -> None:
    rng = np.random.default_rng(count)
    weight = rng.integers(-128, 128, 300).astype(np.int8)
    weight[20:22] = -128, 127
    before = rng.integers(-900, 900, 300).astype(dtype)
    expected = before.copy()
    expected[50 : 50 + count] += weight[20 : 20 + count].astype(dtype) * dtype(payload)
    for add in (add_product, vectors.add_product):
        added = before.copy()
        add(added, 50, weight, 20, payload, count)
        assert np.array_equal(added, expected)


@pytest.mark.parametrize(("narrow", "weight", "rows"),
                         [(True, 7, 18), (True, -8, 16), (True, 127, 1), (False, 127, 258),
                          (False, -128, 256)])  # fmt: skip
def test_sums_as_large_as_their_bits_hold_are_exact(narrow: bool, weight: int, rows: int) -> None:
    total = np.zeros(64, np.int32)
    weights = np.full(64, weight, np.int8)
    add_rows(total, 0, weights, np.zeros(rows, np.intp), rows, 0, 64, narrow)
    assert np.array_equal(total, np.full(64, weight * rows))


@pytest.mark.parametrize(
    ("v_dtype", "total_dtype"),
    [(np.int32, np.int16), (np.int32, np.int32), (np.int64, np.int16), (np.int64, np.int64)],
)
@pytest.mark.parametrize("keep", [4096, 4095, 2048, 1])
@pytest.mark.parametrize("size", [8, 16, 136])
def test_neurons_advance_as_defined(v_dtype: type, total_dtype: type, keep: int, size: int) -> None:
    rng = np.random.default_rng(keep)
    v = rng.integers(-(2**23), 2**23, size).astype(v_dtype)
    v[:4] = 0, -1, 1, -4097
    total = rng.integers(-(2**12), 2**12, size).astype(total_dtype)
    arriving, fire = (rng.integers(-(2**20), 2**20, size).astype(v_dtype) for _ in range(2))
    threshold = rng.integers(1, 2**22, size).astype(v_dtype)
    u = np.trunc(v * (keep / 4096)).astype(np.int64) + arriving + total.astype(np.int64) * 2**3
    fire[:2] = u[0], u[1] + 1  # at the threshold, and one below it
    for compiled in (True, False):
        after, sums, bits = v.copy(), total.copy(), np.zeros(size // 8 + 8, np.uint8)
        arrays = (after, sums, arriving, fire, threshold, bits, 3)
        if keep == 4096:
            low, high = (integrate if compiled else vectors.integrate)(*arrays)
        else:
            low, high = (leak if compiled else vectors.leak_and_integrate)(*arrays, keep)
        assert np.array_equal(after, u - threshold * (u >= fire))
        assert not sums.any()
        assert np.array_equal(np.unpackbits(bits, bitorder="little")[:size], u >= fire)
        assert (low, high) == (min(0, u.min()), max(0, u.max()))


@pytest.mark.parametrize("lane", range(8))
@pytest.mark.parametrize("extreme", [2**40, -(2**40)])
def test_the_extreme_of_any_neuron_is_found(lane: int, extreme: int) -> None:
    none, arriving = np.zeros(16, np.int64), np.zeros(16, np.int64)
    arriving[8 + lane] = extreme
    one = np.ones(16, np.int64)
    found = integrate(none.copy(), none.copy(), arriving, one, one, np.zeros(10, np.uint8), 0)
    assert found == (min(0, extreme), max(0, extreme))


def test_words_and_their_lowest_bits_are_those_of_the_bytes() -> None:
    bits = np.random.default_rng(0).integers(0, 256, 40).astype(np.uint8)
    for at in range(32):
        expected = int.from_bytes(bits[at : at + 8].tobytes(), "little")
        assert int(word(bits, at)) == int(vectors.word(bits, at)) == expected
    for place in range(64):
        number = np.uint64((1 << place) | (1 << 63))
        assert lowest_bit(number) == vectors.lowest_bit(number) == place
