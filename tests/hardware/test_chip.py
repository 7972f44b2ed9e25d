"""Chip profiles, and what each chip refuses."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from dsr_deploy.hardware import chip as chip_module
from dsr_deploy.hardware.chip import (
    Chip,
    Limit,
    check_chip,
    known_chips,
    load_chip,
    obstacles,
    read_chip,
    threshold_settings,
)
from dsr_deploy.hardware.network import Connection, Input, IntegerNetwork, NetworkError, Population

PROFILES = Path(chip_module.__file__).parent / "chips"


def small_network(
    *, low=0, high=1, bias=(0, 0), v_fire=(65, 129), decay=0, weight_bits=8, exponent=0, delay=0
):
    out = Population(
        "out",
        (2, 1, 1),
        np.array(bias, np.int32),
        np.array(v_fire, np.int32),
        np.array((64, 64), np.int32),
        decay,
    )
    connection = Connection(
        "input",
        "out",
        "linear",
        np.array([[1, -1], [1, 1]], np.int8),
        weight_bits,
        exponent=exponent,
        delay=delay,
    )
    source = Input((2, 1, 1), (0.0, 0.0), (1.0, 1.0), 1.0, 1.0, low, high)
    return IntegerNetwork("small", 2, source, (out,), (connection,), (1, 1))


def changed(chip, **values):
    """Return ``chip`` with other numbers."""
    return replace(
        chip, **{name: replace(getattr(chip, name), value=v) for name, v in values.items()}
    )


def test_profiles_carry_the_numbers_of_the_literature():
    loihi1, loihi2 = load_chip("loihi1"), load_chip("loihi2")
    assert (loihi1.cores.value, loihi1.neurons_per_core.value) == (128, 1024)
    assert loihi1.synaptic_memory_per_core == Limit(
        128 * 1024 * 8, "nengo-loihi block.py: 128 KiB, in bits", True
    )
    assert (loihi1.soft_reset.value, loihi2.soft_reset.value) == (False, True)
    assert loihi2.in_axons_per_core == Limit(None, "not public", False)
    assert not loihi2.neurons_per_core.certain


@pytest.mark.parametrize("name", ["loihi1", "loihi2"])
def test_every_number_has_a_source(name):
    chip = load_chip(name)
    assert chip.name == name
    assert all(getattr(chip, f.name).source for f in fields(Chip) if f.name != "name")


def test_unknown_chip_lists_those_known():
    assert known_chips() == ["loihi1", "loihi2"]
    message = "chip 'truenorth': unknown; choose one of loihi1, loihi2"
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        load_chip("truenorth")


@pytest.mark.parametrize("name", ["../chips/loihi1", "loihi1.yaml", ""])
def test_a_chip_name_is_no_path(name):
    with pytest.raises(NetworkError, match=r"unknown; choose one of loihi1, loihi2$"):
        load_chip(name)


def test_loihi2_takes_a_network_with_graded_input():
    check_chip(
        small_network(low=-127, high=127, bias=(5, 100_003), v_fire=(1, 3)), load_chip("loihi2")
    )


def test_loihi1_refuses_reset_by_subtraction():
    message = (
        "network: its neurons reset by subtraction, loihi1 resets to 0 only; "
        "use a chip with programmable neurons, such as loihi2"
    )
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        check_chip(small_network(), load_chip("loihi1"))
    assert list(obstacles(small_network(), load_chip("loihi1"))) == [message]


@pytest.mark.parametrize(
    ("options", "limits", "message"),
    [
        (
            {"low": -127, "high": 127},
            {},
            "input: payloads from -127 to 127 take 8 bits, a spike of loihi1 carries 1; "
            "use payloads 0 and 1, or a chip with graded spikes, such as loihi2",
        ),
        (
            {"weight_bits": 8},
            {"weight_bits": 4},
            "connection 'input->out': weights of 8 bits, loihi1 allows 4; quantize to fewer bits",
        ),
        (
            {"exponent": 15},
            {},
            "connection 'input->out': exponent 15, loihi1 allows 14; "
            "lower with fewer fractional bits [not certain: derived: mantissa 2w, unit 2**6 and "
            "weight exponents -7 to 7 (nengo-loihi block.py) give w * 2**0 to w * 2**14; not tried "
            "on a chip]",
        ),
        (
            {"delay": 63},
            {},
            "connection 'input->out': a delay of 63 steps, loihi1 allows 62; "
            "shorten the path beside it",
        ),
        (
            {"bias": (0, 40)},
            {"v_bits": 7},
            "population 'out', channel 1: the membrane potential may take 8 bits (0 to 84), "
            "loihi1 has 7; lower the population with fewer fractional bits",
        ),
        (
            {"v_fire": (65, 128)},
            {},
            "population 'out', channel 1: v_fire 128, loihi1 compares v > m * 64 with m of "
            "17 bits; use v_fire = m * 64 + 1, or loihi2",
        ),
        (
            {"v_fire": (-63, 65)},
            {},
            "population 'out', channel 0: v_fire -63, loihi1 compares v > m * 64 with m of "
            "17 bits; use v_fire = m * 64 + 1, or loihi2",
        ),
        (
            {"bias": (4096, -4097)},
            {},
            "population 'out', channel 1: bias -4097, loihi1 stores a mantissa of 13 bits times "
            "2**0 to 2**7; round the bias to that grid, or use loihi2",
        ),
        (
            {"decay": 1024},
            {"decay_bits": 10},
            "population 'out': decay 1024, loihi1 stores 10 bits; use a decay below 1024",
        ),
        (
            {},
            {"threshold_settings_per_core": 1, "cores": 1},
            "network: 2 different thresholds, loihi1 has 1 on each of 1 cores; "
            "let channels share thresholds, or use loihi2 [not certain: sources disagree: 8 or 16]",
        ),
    ],
)
def test_each_limit_is_named_with_value_limit_and_way_out(options, limits, message):
    chip = changed(load_chip("loihi1"), soft_reset=True, **limits)
    with pytest.raises(NetworkError, match=f"^{re.escape(message)}$"):
        check_chip(small_network(**options), chip)
    assert list(obstacles(small_network(**options), chip)) == [message]


def test_values_at_each_limit_pass():
    chip = changed(load_chip("loihi1"), soft_reset=True, v_bits=23)
    largest = ((1 << 17) - 1) * 64 + 1
    check_chip(small_network(v_fire=(1, largest), exponent=14, delay=62, decay=4095), chip)
    check_chip(small_network(bias=(4095 * 128, -4096 * 128)), chip)


def test_the_first_obstacle_is_raised_and_all_are_listed():
    network = small_network(low=-1, exponent=15, delay=63)
    found = list(obstacles(network, load_chip("loihi1")))
    assert len(found) == 4
    with pytest.raises(NetworkError, match=f"^{re.escape(found[0])}$"):
        check_chip(network, load_chip("loihi1"))


def test_channels_with_the_same_two_thresholds_share_a_setting():
    population = small_network(v_fire=(65, 65)).output
    assert threshold_settings(population) == 1
    other = replace(population, v_threshold=np.array([64, 65], np.int32))
    assert threshold_settings(other) == 2


def profile(path, edit):
    """Write an edited copy of Loihi 1's profile."""
    content = yaml.safe_load((PROFILES / "loihi1.yaml").read_text())
    edit(content)
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_profile_of_ones_own_can_be_read(tmp_path):
    path = profile(tmp_path / "mine.yaml", lambda c: c.update(name="mine"))
    assert read_chip(path) == replace(load_chip("loihi1"), name="mine")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("cores"), "lacks: cores; copy one of the shipped profiles"),
        (lambda c: c.update(core=1), "unknown: core; copy one of the shipped profiles"),
        (lambda c: c.update(name=5), "name 5; a name is text"),
        (lambda c: c.update(cores=128), "cores needs exactly value, source and certain"),
        (
            lambda c: c["cores"].update(value=-1),
            "cores has value -1, source 'Davies et al. 2018', certain True; "
            "a whole number of at least 0 or null, a text, true or false",
        ),
    ],
)
def test_an_incomplete_profile_is_refused(tmp_path, edit, message):
    path = profile(tmp_path / "mine.yaml", edit)
    with pytest.raises(NetworkError, match=f"^chip profile 'mine.yaml': {re.escape(message)}$"):
        read_chip(path)


def test_a_truncated_profile_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    content = (PROFILES / "loihi1.yaml").read_bytes()
    path.write_bytes(content[: content.index(b"}") - 5])
    with pytest.raises(NetworkError, match=r"^chip profile 'mine.yaml': not YAML \(.*\); repair"):
        read_chip(path)
    path.write_bytes(b"")
    with pytest.raises(
        NetworkError,
        match=r"^chip profile 'mine.yaml': no mapping of limits; copy one of the shipped profiles$",
    ):
        read_chip(path)


def test_a_corrupted_profile_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00" + (PROFILES / "loihi1.yaml").read_bytes())
    with pytest.raises(NetworkError, match=r"^chip profile 'mine.yaml': not YAML \(.*\); repair"):
        read_chip(path)


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
        # Two steps of 29 + 1 + 1 are 62; 7 bits hold 63.
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
        ({"value": "8"}, False),
        ({"source": 5}, False),
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
    with pytest.raises(NetworkError, match=r"^chip profile 'mine.yaml': cores "):
        read_chip(path)


def test_what_is_missing_is_named_before_what_is_unknown(tmp_path):
    path = profile(tmp_path / "mine.yaml", lambda c: c.update(b=c.pop("cores"), a=1))
    with pytest.raises(NetworkError, match=r"^chip profile 'mine.yaml': lacks: cores; copy"):
        read_chip(path)
    path = profile(tmp_path / "mine.yaml", lambda c: c.update(b=1, a=1))
    with pytest.raises(NetworkError, match=r"^chip profile 'mine.yaml': unknown: a, b; copy"):
        read_chip(path)


@pytest.mark.parametrize("content", ["[]", "5", "text"])
def test_a_profile_is_a_mapping(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(NetworkError, match=r"^chip profile 'mine.yaml': no mapping of limits; "):
        read_chip(path)
