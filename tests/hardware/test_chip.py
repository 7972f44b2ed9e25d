"""Chip profiles, and what each chip refuses."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
from chips import PROFILES, changed, profile, small_network

from dsr_deploy.hardware.chip import (
    _SWITCHES,
    Chip,
    Limit,
    _range,
    check_chip,
    known_chips,
    load_chip,
    obstacles,
    parse_chip,
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


@pytest.mark.parametrize("name", ["truenorth", "../chips/loihi1", "loihi", ""])
def test_an_unknown_chip_lists_those_that_come_along(name):
    assert known_chips() == ["loihi1", "loihi2"]
    message = f"chip '{name}': choose one of loihi1, loihi2, or name a file that ends in .yaml"
    with pytest.raises(ProfileError, match=f"^{re.escape(message)}$"):
        load_chip(name)


@pytest.mark.parametrize("ending", ["yaml", "yml"])
def test_the_path_of_a_file_loads_a_chip_of_ones_own(tmp_path, ending):
    path = profile(tmp_path / f"mine.{ending}", lambda c: c.update(name="mine"))
    assert load_chip(str(path)) == replace(load_chip("loihi1"), name="mine")


def test_a_chip_of_ones_own_has_a_name_of_its_own(tmp_path):
    path = profile(tmp_path / "mine.yaml", lambda _: None)
    message = (
        f"chip profile '{path}': the name 'loihi1' belongs to a profile that comes along; "
        "choose another"
    )
    with pytest.raises(ProfileError, match=f"^{re.escape(message)}$"):
        load_chip(str(path))


def test_a_file_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    message = f"chip profile '{path}': cannot be read (No such file or directory)"
    with pytest.raises(ProfileError, match=f"^{re.escape(message)}$"):
        load_chip(str(path))


def test_a_chip_is_the_same_after_a_way_through_json():
    chip = load_chip("loihi1")
    assert parse_chip("here", json.loads(json.dumps(asdict(chip)))) == chip
    with pytest.raises(ProfileError, match=r"^here: must be a mapping, not None$"):
        parse_chip("here", None)


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


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("cores"), "field 'cores' is missing"),
        (lambda c: c.update(core=1), "unknown field 'core'"),
        (
            lambda c: c.update(name=5),
            "name must be a printable line of at most 1000 characters, not 5",
        ),
        (lambda c: c.update(cores=128), "cores: must be a mapping, not 128"),
        (lambda c: c.update(cores={}), "cores: field 'value' is missing"),
        (
            lambda c: c["cores"].update(value=-1),
            "cores: value must be a whole number, 0 to 9007199254740991, or null, not -1",
        ),
        (
            lambda c: c["cores"].update(value=10**400),
            "cores: value must be a whole number, 0 to 9007199254740991, or null, not "
            "a number of more than 64 bits",
        ),
        (
            lambda c: c["cores"].update(certain="yes"),
            "cores: certain must be true or false, not 'yes'",
        ),
    ],
)
def test_an_incomplete_profile_is_refused(tmp_path, edit, message):
    path = profile(tmp_path / "mine.yaml", edit)
    with pytest.raises(ProfileError, match=f"^chip profile '{path}': {re.escape(message)}$"):
        read_chip(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda whole: whole[: whole.index(b"}") - 5], "malformed YAML (while "),
        (lambda whole: b"\xff\xfe\x00" + whole, "malformed YAML ('utf-8' codec"),
        (lambda whole: whole + b"\nname: twice\n", "malformed YAML (field 'name' occurs twice)"),
        (lambda _: b"[" * 100_000, "malformed YAML ("),
        (lambda _: b"!!timestamp x", "malformed YAML ("),
        (lambda _: b"? [1]\n: 2", "malformed YAML ("),
        (lambda _: b"", "must be a mapping, not None"),
        (lambda whole: whole + b"#" * (1 << 20), "cannot be read ("),
    ],
)
def test_a_file_that_is_no_profile_is_refused_in_one_line(tmp_path, content, reason):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content((PROFILES / "loihi1.yaml").read_bytes()))
    with pytest.raises(ProfileError) as refused:
        read_chip(path)
    message = str(refused.value)
    assert message.startswith(f"chip profile '{path}': {reason}")
    assert message.isprintable()
    assert len(message) < 400 + len(str(path))


def test_the_page_describes_every_limit():
    page = (Path(__file__).parents[2] / "docs" / "chips.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", page, re.M)
    assert [name for name, _ in rows] == [f.name for f in fields(Chip) if f.name != "name"]
    for name, values in rows:
        if name in _SWITCHES:
            assert values == "`true`, `false`"
            continue
        low, high = _range(name)
        assert values == (f"from {low}" if high > 32 else f"{low} to {high}")
