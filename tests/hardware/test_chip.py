"""Chip profiles, and what each chip refuses."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import numpy as np
import pytest
from chips import PROFILES, changed, profile, small_network

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
from dsr_deploy.hardware.errors import ChipError, ProfileError


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
    with pytest.raises(ProfileError, match=f"^{re.escape(message)}$"):
        load_chip("truenorth")


@pytest.mark.parametrize("name", ["../chips/loihi1", "loihi1.yaml", ""])
def test_a_chip_name_is_no_path(name):
    with pytest.raises(ProfileError, match=r"unknown; choose one of loihi1, loihi2$"):
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
    with pytest.raises(ChipError, match=f"^{re.escape(message)}$"):
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
    with pytest.raises(ChipError, match=f"^{re.escape(message)}$"):
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
    with pytest.raises(ChipError, match=f"^{re.escape(found[0])}$"):
        check_chip(network, load_chip("loihi1"))


def test_channels_with_the_same_two_thresholds_share_a_setting():
    population = small_network(v_fire=(65, 65)).output
    assert threshold_settings(population) == 1
    other = replace(population, v_threshold=np.array([64, 65], np.int32))
    assert threshold_settings(other) == 2


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
    with pytest.raises(ProfileError, match=f"^chip profile 'mine.yaml': {re.escape(message)}$"):
        read_chip(path)


def test_a_truncated_profile_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    content = (PROFILES / "loihi1.yaml").read_bytes()
    path.write_bytes(content[: content.index(b"}") - 5])
    with pytest.raises(ProfileError, match=r"^chip profile 'mine.yaml': not YAML \(.*\); repair"):
        read_chip(path)
    path.write_bytes(b"")
    with pytest.raises(
        ProfileError,
        match=r"^chip profile 'mine.yaml': no mapping of limits; copy one of the shipped profiles$",
    ):
        read_chip(path)


def test_a_corrupted_profile_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00" + (PROFILES / "loihi1.yaml").read_bytes())
    with pytest.raises(ProfileError, match=r"^chip profile 'mine.yaml': not YAML \(.*\); repair"):
        read_chip(path)
