"""Pixels to payloads: a table worked out pixel by pixel in exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from dsr_deploy.hardware.encoding import payload_table
from dsr_deploy.hardware.network import Input


def test_a_payload_is_the_normalized_pixel_in_steps_rounded_half_to_even_and_clipped() -> None:
    # Powers of two are exact in float64, so that fractions say the same, halves included.
    mean, std, scale, step = (0.25, 1.5), (0.5, 4.0), 0.125, 0.5
    table = payload_table(Input((2, 1, 1), mean, std, scale, step, low=-3, high=100))
    assert table.dtype == np.int8
    for c in range(2):
        unit = Fraction(std[c]) * Fraction(step)
        exact = [(Fraction(p) * Fraction(scale) - Fraction(mean[c])) / unit for p in range(256)]
        assert any(x.denominator == 2 for x in exact)
        assert table[c].tolist() == [min(max(round(x), -3), 100) for x in exact]


def test_both_ends_are_clipped() -> None:
    table = payload_table(Input((1, 1, 1), (100.0,), (1.0,), 1.0, 1.0, low=-128, high=127))
    assert table[0, [0, 99, 100, 101, 227, 228, 255]].tolist() == [-100, -1, 0, 1, 127, 127, 127]
    table = payload_table(Input((1, 1, 1), (200.0,), (1.0,), 1.0, 1.0, low=-128, high=5))
    assert table[0, [0, 72, 73, 205, 206]].tolist() == [-128, -128, -127, 5, 5]
