"""Each limit of a chip is reached and not passed, and entries of a profile are checked."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import pytest
from chips import changed, profile, small_network

from dsr_deploy.hardware.chip import (
    Chip,
    Limit,
    _signed_bits,
    check_chip,
    load_chip,
    obstacles,
    read_chip,
)
from dsr_deploy.hardware.errors import ProfileError


def limitless():
    """Return a chip that resets by subtraction and sets no limit at all."""
    chip = changed(load_chip("loihi1"), soft_reset=True)
    return changed(chip, **{f.name: None for f in fields(Chip) if f.name not in UNLIMITED})


UNLIMITED = ("name", "soft_reset")
EXTREME = {
    "low": -128,
    "high": 127,
    "bias": (8_000_001, -8_000_001),
    "v_fire": (2**31 - 1, -(2**31)),
    "decay": 4095,
    "exponent": 8,
    "delay": 60_000,
}


def test_a_chip_without_limits_takes_everything():
    assert list(obstacles(small_network(**EXTREME), limitless())) == []


@pytest.mark.parametrize(
    ("limits", "options", "beyond", "words"),
    [
        ({"payload_bits": 1}, {"low": 0, "high": 1}, {"low": 0, "high": 2}, "0 to 2 take 3 bits"),
        ({"payload_bits": 1}, {"low": 1, "high": 1}, {"low": -1, "high": 1}, "-1 to 1 take 2 bits"),
        ({"payload_bits": 1}, {"low": 0, "high": 0}, {"low": -1, "high": 0}, "0 take 2 bits"),
        ({"payload_bits": 8}, {"low": -128}, None, ""),
        ({"payload_bits": 7}, {"low": -64, "high": 63}, {"low": -65}, "-65 to 63 take 8 bits"),
        ({"payload_bits": 7}, {"high": 63}, {"high": 64}, "0 to 64 take 8 bits"),
        ({"weight_bits": 8}, {"weight_bits": 8}, None, ""),
        ({"max_exponent": 3}, {"exponent": 3}, {"exponent": 4}, "exponent 4, loihi1 allows 3"),
        ({"max_delay": 3}, {"delay": 3}, {"delay": 4}, "a delay of 4 steps, loihi1 allows 3"),
        ({"decay_bits": 4}, {"decay": 15}, {"decay": 16}, "decay 16, loihi1 stores 4 bits"),
        (
            {"threshold_settings_per_core": 1, "cores": 2},
            {"v_fire": (1, 2)},
            None,
            "",
        ),
        (
            {"threshold_settings_per_core": 1, "cores": 1},
            {"v_fire": (1, 1)},
            {"v_fire": (1, 2)},
            "2 different thresholds, loihi1 has 1 on each of 1 cores",
        ),
        ({"threshold_settings_per_core": 1}, {"v_fire": (1, 2)}, None, ""),
        ({"cores": 1}, {"v_fire": (1, 2)}, None, ""),
        (
            {"threshold_mantissa_bits": 3, "threshold_exponent": 2},
            {"v_fire": (1, 7 * 4 + 1)},
            {"v_fire": (1, 8 * 4 + 1)},
            "channel 1: v_fire 33, loihi1 compares v > m * 4 with m of 3 bits; "
            "use v_fire = m * 4 + 1",
        ),
        (
            {"threshold_mantissa_bits": 3, "threshold_exponent": 2},
            {"v_fire": (5, 9)},
            {"v_fire": (0, 1)},
            "channel 0: v_fire 0, ",
        ),
        (
            {"threshold_mantissa_bits": 3, "threshold_exponent": 2},
            {"v_fire": (5, 9)},
            {"v_fire": (5, 7)},
            "channel 1: v_fire 7, ",
        ),
        (
            {"threshold_mantissa_bits": 3, "threshold_exponent": 0},
            {"v_fire": (1, 8)},
            {"v_fire": (8, 0)},
            "channel 1: v_fire 0, ",
        ),
        ({"threshold_mantissa_bits": 3}, {"v_fire": (7, 9999)}, None, ""),
        ({"threshold_exponent": 3}, {"v_fire": (7, 9999)}, None, ""),
        (
            {"bias_mantissa_bits": 4, "bias_exponent_bits": 1},
            {"bias": (7, -8)},
            {"bias": (7, 9)},
            "channel 1: bias 9, loihi1 stores a mantissa of 4 bits times 2**0 to 2**1",
        ),
        (
            {"bias_mantissa_bits": 4, "bias_exponent_bits": 1},
            {"bias": (14, -16)},
            {"bias": (16, 0)},
            "channel 0: bias 16, ",
        ),
        (
            {"bias_mantissa_bits": 4, "bias_exponent_bits": 2},
            {"bias": (7 * 8, -8 * 8)},
            {"bias": (0, -9 * 8)},
            "channel 1: bias -72, loihi1 stores a mantissa of 4 bits times 2**0 to 2**3",
        ),
        ({"bias_mantissa_bits": 4}, {"bias": (9, 9)}, None, ""),
        ({"bias_exponent_bits": 1}, {"bias": (9, 9)}, None, ""),
        # 7 bits hold -64 to 63; two steps of 31 + 2 are 66.
        ({"v_bits": 7}, {"bias": (29, 0), "v_fire": (999, 999)}, None, ""),
        (
            {"v_bits": 7},
            {"bias": (30, 0), "v_fire": (999, 999)},
            {"bias": (0, 31), "v_fire": (999, 999)},
            "channel 1: the membrane potential may take 8 bits (0 to 66), loihi1 has 7",
        ),
        (
            {"v_bits": 7},
            {"bias": (-31, -31), "v_fire": (999, 999)},
            {"bias": (-32, 0), "v_fire": (999, 999)},
            "channel 0: the membrane potential may take 8 bits (-66 to 0), loihi1 has 7",
        ),
    ],
)
def test_a_limit_is_reached_and_not_passed(limits, options, beyond, words):
    chip = changed(limitless(), **limits)
    check_chip(small_network(**options), chip)
    if beyond is not None:
        (found,) = obstacles(small_network(**options | beyond), chip)
        assert words in found


def test_every_number_in_doubt_is_named_with_its_source():
    chip = limitless()
    doubtful = replace(
        chip,
        threshold_mantissa_bits=Limit(1, "a rumour", certain=False),
        threshold_exponent=Limit(0, "another", certain=False),
    )
    (found,) = obstacles(small_network(v_fire=(1, 9)), doubtful)
    assert found.endswith(", or loihi2 [not certain: a rumour] [not certain: another]")


@pytest.mark.parametrize(
    ("entry", "fits"),
    [
        ({"value": 0}, True),
        ({"value": None}, True),
        ({"value": -1}, False),
        ({"value": 1.5}, False),
        ({"value": True}, False),
        ({"value": 1 << 53}, False),
        ({"value": (1 << 53) - 1}, True),
        ({"value": "8"}, False),
        ({"source": 5}, False),
        ({"source": "two\nlines"}, False),
        ({"source": "x" * 1001}, False),
        ({"certain": "yes"}, False),
        ({"certain": 1}, False),
        ({"more": 1}, False),
    ],
)
def test_an_entry_is_a_whole_number_a_source_and_a_certainty(tmp_path, entry, fits):
    path = profile(tmp_path / "mine.yaml", lambda c: c["cores"].update(entry))
    if fits:
        assert read_chip(path).cores.value == entry["value"]
        return
    with pytest.raises(ProfileError, match=rf"^chip profile '{path}': cores: "):
        read_chip(path)


def test_what_is_missing_is_named_before_what_is_unknown(tmp_path):
    path = profile(tmp_path / "mine.yaml", lambda c: c.update(b=c.pop("cores"), a=1))
    with pytest.raises(ProfileError, match=rf"^chip profile '{path}': field 'cores' is missing$"):
        read_chip(path)
    path = profile(tmp_path / "mine.yaml", lambda c: c.update(b=1, a=1))
    with pytest.raises(ProfileError, match=rf"^chip profile '{path}': unknown field 'a'$"):
        read_chip(path)


@pytest.mark.parametrize("content", ["[]", "5", "text"])
def test_a_profile_is_a_mapping(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ProfileError, match=rf"^chip profile '{path}': must be a mapping, not "):
        read_chip(path)


@pytest.mark.parametrize(
    ("low", "high", "bits"),
    [(0, 0, 1), (-1, 0, 1), (0, 1, 2), (-2, 1, 2), (-3, 0, 3), (-128, 127, 8), (0, 128, 9)],
)
def test_a_register_is_as_wide_as_its_wider_end(low, high, bits):
    assert _signed_bits(low, high) == bits


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("payload_bits", 1, 32),
        ("v_bits", 1, 32),
        ("kernel_index_bits", 0, 32),
        ("max_exponent", 0, 32),
        ("bias_exponent_bits", 0, 5),
        ("neurons_per_core", 1, (1 << 53) - 1),
        ("max_delay", 0, (1 << 53) - 1),
    ],
)
def test_a_value_is_one_that_can_be_computed_with(tmp_path, field, low, high):
    for value in (low, high):
        path = profile(tmp_path / "mine.yaml", lambda c, v=value: c[field].update(value=v))
        assert getattr(read_chip(path), field).value == value
    for value in (low - 1, high + 1):
        path = profile(tmp_path / "mine.yaml", lambda c, v=value: c[field].update(value=v))
        message = (
            f"chip profile '{path}': {field}: value must be a whole number, {low} to {high}, or "
            f"null, not {value}"
        )
        with pytest.raises(ProfileError, match=f"^{re.escape(message)}$"):
            read_chip(path)


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_a_switch_is_true_or_false(tmp_path, value):
    path = profile(tmp_path / "mine.yaml", lambda c: c["soft_reset"].update(value=value))
    message = f"soft_reset: value must be true or false, not {value!r}"
    with pytest.raises(ProfileError, match=f": {re.escape(message)}$"):
        read_chip(path)
