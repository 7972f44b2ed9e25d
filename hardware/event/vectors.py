"""Operations on vectors that numba's own loops do not reach.

Each is a plain function, which says what it does and runs where numba is switched off, and the
vector instructions that numba compiles in its place. With AVX2, rows of 48 to 4,608 weights are
added 1.4 to 2.5 times as fast as in numba's own loops, which check the ends of every slice and end
in single elements, and neurons advance 1.3 times as fast: of so many arrays it makes no vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba.extending import overload

from dsr_deploy.hardware.event.instructions import (
    add_product_in_16_bits,
    advancer,
    count_trailing_zeros,
    load_word,
    row_adder,
)


def add_rows(
    total: Any, at: int, weight: Any, offsets: Any, rows: int, shift: int, count: int, narrow: bool
) -> None:
    """Add several rows of weights to the sums from ``at`` on, summing the rows first.

    Parameters
    ----------
    total : int16, int32 or int64, flat
    weight : int8, flat
    offsets : intp, row ``i`` is ``weight[offsets[i] + shift:][:count]``
    rows : number of rows, at least 1
    narrow : sum in 8 bits, else in 16; the caller proves that no sum of the rows leaves them
    """
    for row in range(rows):
        first = offsets[row] + shift
        total[at : at + count] += weight[first : first + count]


def add_product(total: Any, at: int, weight: Any, first: int, payload: int, count: int) -> None:
    """Add a row of weights, times a payload, to the sums from ``at`` on.

    Parameters
    ----------
    total : int16, int32 or int64, flat
    weight : int8, flat; the row begins at ``first``
    payload : within int8
    """
    total[at : at + count] += weight[first : first + count].astype(np.int16) * np.int16(payload)


def integrate(
    v: Any, total: Any, arriving: Any, v_fire: Any, v_threshold: Any, bits: Any, exponent: int
) -> tuple[int, int]:
    """Advance neurons that do not leak by one timestep, and clear their sums.

    Parameters
    ----------
    v, arriving, v_fire, v_threshold : int32 or int64 (n,), n a multiple of 8; v is changed
    total : int16, int32 or int64 (n,), no wider than ``v``, in units of ``2**exponent``; cleared
    bits : uint8 (n / 8 or more,), of the neurons that fire, the first in the lowest bit; written

    Returns
    -------
    Smallest and largest potential before the reset, 0 among them.
    """
    return _advance(v, v, total, arriving, v_fire, v_threshold, bits, exponent)


def leak_and_integrate(
    v: Any, total: Any, arriving: Any, v_fire: Any, v_threshold: Any, bits: Any, exponent: int,
    keep: int,
) -> tuple[int, int]:  # fmt: skip
    """As :func:`integrate`, after ``v`` became ``trunc(v * keep / 4096)``.

    32 bits must hold ``|v| + 4096``: the product is taken in two parts.
    """
    size = np.abs(v)
    kept = np.sign(v) * ((size >> 12) * keep + ((size & 4095) * keep >> 12))
    return _advance(kept, v, total, arriving, v_fire, v_threshold, bits, exponent)


def word(bits: Any, at: int) -> Any:
    """Return eight bytes from ``at`` on as a uint64, the first one the lowest."""
    return bits[at : at + 8].copy().view("<u8")[0]


def lowest_bit(bits: Any) -> int:
    """Return the place of the lowest bit of a nonzero uint64."""
    number = int(bits)
    return (number & -number).bit_length() - 1


def _advance(
    kept: Any, v: Any, total: Any, arriving: Any, v_fire: Any, v_threshold: Any, bits: Any,
    exponent: int,
) -> tuple[int, int]:  # fmt: skip
    u = kept + arriving + (total.astype(v.dtype) << exponent)
    fired = u >= v_fire
    v[:] = u - v_threshold * fired
    total[:] = 0
    bits[: len(v) // 8] = np.packbits(fired, bitorder="little")
    return min(0, int(u.min())), max(0, int(u.max()))


_add_in_8_bits: Final = row_adder(8)
_add_in_16_bits: Final = row_adder(16)


@overload(add_rows, jit_options={"forceinline": True})  # type: ignore[misc, unused-ignore]
def _compile_add_rows(
    total: Any, at: Any, weight: Any, offsets: Any, rows: Any, shift: Any, count: Any, narrow: Any
) -> Callable[..., None]:
    def compiled(
        total: Any, at: Any, weight: Any, offsets: Any, rows: Any, shift: Any, count: Any,
        narrow: Any,
    ) -> None:  # fmt: skip
        if narrow:
            _add_in_8_bits(total, at, weight, offsets, rows, shift, count)
        else:
            _add_in_16_bits(total, at, weight, offsets, rows, shift, count)

    return compiled


@overload(add_product, jit_options={"forceinline": True})  # type: ignore[misc, unused-ignore]
def _compile_add_product(
    total: Any, at: Any, weight: Any, first: Any, payload: Any, count: Any
) -> Callable[..., None]:
    def compiled(total: Any, at: Any, weight: Any, first: Any, payload: Any, count: Any) -> None:
        add_product_in_16_bits(total, at, weight, first, payload, count)  # type: ignore[call-arg]

    return compiled


_integrate: Final = advancer(leaks=False)
_leak_and_integrate: Final = advancer(leaks=True)


@overload(integrate, jit_options={"forceinline": True})  # type: ignore[misc, unused-ignore]
def _compile_integrate(
    v: Any, total: Any, arriving: Any, v_fire: Any, v_threshold: Any, bits: Any, exponent: Any
) -> Callable[..., Any]:
    def compiled(
        v: Any, total: Any, arriving: Any, v_fire: Any, v_threshold: Any, bits: Any, exponent: Any
    ) -> Any:
        return _integrate(v, total, arriving, v_fire, v_threshold, bits, exponent, 0)

    return compiled


@overload(leak_and_integrate, jit_options={"forceinline": True})  # type: ignore[misc, unused-ignore]
def _compile_leak_and_integrate(
    v: Any, total: Any, arriving: Any, v_fire: Any, v_threshold: Any, bits: Any, exponent: Any,
    keep: Any,
) -> Callable[..., Any]:  # fmt: skip
    def compiled(
        v: Any, total: Any, arriving: Any, v_fire: Any, v_threshold: Any, bits: Any, exponent: Any,
        keep: Any,
    ) -> Any:  # fmt: skip
        return _leak_and_integrate(v, total, arriving, v_fire, v_threshold, bits, exponent, keep)

    return compiled


@overload(word, jit_options={"forceinline": True})  # type: ignore[misc, unused-ignore]
def _compile_word(bits: Any, at: Any) -> Callable[..., Any]:
    def compiled(bits: Any, at: Any) -> Any:
        return load_word(bits, at)  # type: ignore[call-arg]

    return compiled


@overload(lowest_bit, jit_options={"forceinline": True})  # type: ignore[misc, unused-ignore]
def _compile_lowest_bit(bits: Any) -> Callable[..., Any]:
    def compiled(bits: Any) -> Any:
        return count_trailing_zeros(bits)  # type: ignore[call-arg]

    return compiled
