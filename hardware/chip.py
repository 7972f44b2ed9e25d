"""Chips: what they can hold and compute, with the source of every number.

A number that cannot be checked in a primary source or in code is marked uncertain, and every
result that it decides says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware import profile
from dsr_deploy.hardware.bounds import network_bounds
from dsr_deploy.hardware.errors import ChipError, ProfileError
from dsr_deploy.hardware.format.json_text import printable
from dsr_deploy.hardware.format.regular_file import read_regular
from dsr_deploy.hardware.format.strict_json import LARGEST_WHOLE
from dsr_deploy.hardware.network import Connection, IntegerNetwork, Population

_PROFILES: Final = Path(__file__).parent / "chips"


MAX_FILE: Final = 1 << 20
"""Most bytes of a profile."""

_SWITCHES: Final = ("soft_reset", "shared_kernels")
"""Limits that are true or false."""
_WIDTHS: Final = ("payload_bits", "weight_bits", "v_bits", "bias_mantissa_bits")
"""Of registers, which have a bit at least."""
CORE_LIMITS: Final = (
    "neurons_per_core",
    "synaptic_memory_per_core",
    "in_axons_per_core",
    "out_axons_per_core",
    "threshold_settings_per_core",
)
"""Of a core; a core that holds nothing is none."""


@dataclass(frozen=True)
class Limit:
    """One number of a chip.

    Attributes
    ----------
    value : None if the chip sets no such limit or, where not certain, none is public
    source : where the number stands
    certain : read in a primary source or in code
    """

    value: int | None
    source: str
    certain: bool


@dataclass(frozen=True)
class Chip:
    """What a chip can hold and compute.

    Attributes
    ----------
    soft_reset : whether a spike can subtract a threshold from the membrane potential
    payload_bits : width of what a spike carries; 1 is a plain spike
    weight_bits : of a stored weight, sign included
    max_exponent : largest :attr:`Connection.exponent`
    v_bits : width of the signed membrane potential
    threshold_mantissa_bits, threshold_exponent : a neuron spikes if v > m * 2**exponent
    threshold_settings_per_core : different thresholds on one core
    bias_mantissa_bits, bias_exponent_bits : a bias is a signed mantissa times a power of two
    decay_bits : of the decay, in 1/2**decay_bits
    max_delay : of a connection, in timesteps
    cores, neurons_per_core : of one chip
    synaptic_memory_per_core : bits
    in_axons_per_core, out_axons_per_core : spike sources and destinations of one core
    shared_kernels : whether the positions of a convolution on one core share its weights
    kernel_index_bits : bits stored beside each shared weight
    """

    name: str
    soft_reset: Limit
    payload_bits: Limit
    weight_bits: Limit
    max_exponent: Limit
    v_bits: Limit
    threshold_mantissa_bits: Limit
    threshold_exponent: Limit
    threshold_settings_per_core: Limit
    bias_mantissa_bits: Limit
    bias_exponent_bits: Limit
    decay_bits: Limit
    max_delay: Limit
    cores: Limit
    neurons_per_core: Limit
    synaptic_memory_per_core: Limit
    in_axons_per_core: Limit
    out_axons_per_core: Limit
    shared_kernels: Limit
    kernel_index_bits: Limit


_FIELDS: Final = tuple(field.name for field in fields(Chip))


def known_chips() -> list[str]:
    """Return the names of the profiles that come along."""
    return sorted(path.stem for path in _PROFILES.glob("*.yaml"))


def load_chip(name: str) -> Chip:
    """Load the profile of a chip.

    Parameters
    ----------
    name : one of :func:`known_chips`, or the path of a YAML file, ``.yaml`` or ``.yml``

    Raises
    ------
    ProfileError
        If there is no such profile or file, or the file is no profile, or goes by the name of one
        that comes along.
    """
    if name in known_chips():
        return read_chip(_PROFILES / f"{name}.yaml")
    if not is_file(name):
        raise ProfileError(
            f"chip '{printable(name)}': choose one of {', '.join(known_chips())}, or name a file "
            "that ends in .yaml"
        )
    chip = read_chip(Path(name))
    if chip.name in known_chips():
        raise ProfileError(
            f"chip profile '{name}': the name '{chip.name}' belongs to a profile that comes along; "
            "choose another"
        )
    return chip


def is_file(name: str) -> bool:
    """Return whether :func:`load_chip` takes ``name`` for the path of a file."""
    return name.endswith((".yaml", ".yml"))


def read_chip(path: Path) -> Chip:
    """Read a chip profile from a YAML file: ``name`` and, for each limit, its three entries.

    Raises
    ------
    ProfileError
        If the file cannot be read or is no complete profile.
    """
    where = f"chip profile '{path}'"
    try:
        text = read_regular(path, MAX_FILE)
    except OSError as error:
        raise ProfileError(f"{where}: cannot be read ({error.strerror})") from None
    return parse_chip(where, profile.parse(where, text, _FIELDS))


def parse_chip(where: str, content: object) -> Chip:
    """Return the chip that :func:`dataclasses.asdict` made ``content`` of.

    Parameters
    ----------
    where : names the content in errors

    Raises
    ------
    ProfileError
        If a field is missing, unknown or not what it must be.
    """
    entries = profile.exactly(where, content, _FIELDS)
    name = profile.line(f"{where}: name", entries.pop("name"))
    limits = {key: _limit(f"{where}: {key}", key, entry) for key, entry in entries.items()}
    return Chip(name=name, **limits)


def check_chip(network: IntegerNetwork, chip: Chip) -> None:
    """Check that ``chip`` can do what a network needs.

    Give a network from :func:`dsr_deploy.hardware.schedule.schedule`, so that its delays are
    checked as well. Whether the network fits in size says
    :func:`dsr_deploy.hardware.mapping.map_network`.

    Raises
    ------
    ChipError
        With the first of :func:`obstacles`.
    """
    for obstacle in obstacles(network, chip):
        raise ChipError(obstacle)


def obstacles(network: IntegerNetwork, chip: Chip) -> Iterator[str]:
    """Yield everything that ``chip`` cannot do for ``network``, each with a way out.

    What an uncertain number of the chip decides says so, with the number's source.
    """
    if not chip.soft_reset.value:
        yield (
            f"network: its neurons reset by subtraction, {chip.name} resets to 0 only; "
            f"use a chip with programmable neurons, such as loihi2{_doubt(chip.soft_reset)}"
        )
    low, high = network.input.low, network.input.high
    if chip.payload_bits.value is not None:
        # A plain spike has no sign, so -1 and 0 do not fit one bit.
        needed = 1 if low >= 0 and high <= 1 else max(2, _signed_bits(low, high))
        if needed > chip.payload_bits.value:
            yield (
                f"input: payloads from {low} to {high} take {needed} bits, a spike of "
                f"{chip.name} carries {chip.payload_bits.value}; use payloads 0 and 1, "
                f"or a chip with graded spikes, such as loihi2{_doubt(chip.payload_bits)}"
            )
    for connection in network.connections:
        yield from _connection_obstacles(connection, chip)
    bounds = network_bounds(network)
    for population in network.populations:
        membrane = bounds[population.name]
        yield from _range_obstacle(population, membrane.low, membrane.high, chip)
        yield from _population_obstacles(population, chip)
    per_core, cores = chip.threshold_settings_per_core.value, chip.cores.value
    if per_core is not None and cores is not None:
        settings = sum(threshold_settings(p) for p in network.populations)
        if settings > per_core * cores:
            yield (
                f"network: {settings} different thresholds, {chip.name} has {per_core} on each "
                f"of {cores} cores; let channels share thresholds, or use loihi2"
                f"{_doubt(chip.threshold_settings_per_core, chip.cores)}"
            )


def threshold_settings(population: Population) -> int:
    """Count the different pairs of v_fire and v_threshold in ``population``."""
    pairs = np.stack([population.v_fire, population.v_threshold])
    return int(np.unique(pairs, axis=1).shape[1])


def _connection_obstacles(connection: Connection, chip: Chip) -> Iterator[str]:
    where = f"connection '{connection.name}'"
    for label, value, limit, way_out in (
        ("weights of {} bits", connection.weight_bits, chip.weight_bits, "quantize to fewer bits"),
        ("exponent {}", connection.exponent, chip.max_exponent, "lower with fewer fractional bits"),
        ("a delay of {} steps", connection.delay, chip.max_delay, "shorten the path beside it"),
    ):
        if limit.value is not None and value > limit.value:
            yield (
                f"{where}: {label.format(value)}, {chip.name} allows {limit.value}; {way_out}"
                f"{_doubt(limit)}"
            )


def _range_obstacle(
    population: Population, low: NDArray[np.int64], high: NDArray[np.int64], chip: Chip
) -> Iterator[str]:
    if chip.v_bits.value is None:
        return
    bits = [_signed_bits(int(a), int(b)) for a, b in zip(low, high, strict=True)]
    channel = int(np.argmax(bits))
    if bits[channel] > chip.v_bits.value:
        yield (
            f"population '{population.name}', channel {channel}: the membrane potential may take "
            f"{bits[channel]} bits ({low[channel]} to {high[channel]}), {chip.name} has "
            f"{chip.v_bits.value}; lower the population with fewer fractional bits"
            f"{_doubt(chip.v_bits)}"
        )


def _population_obstacles(population: Population, chip: Chip) -> Iterator[str]:
    where = f"population '{population.name}'"
    bits, exponent = chip.threshold_mantissa_bits.value, chip.threshold_exponent.value
    if bits is not None and exponent is not None:
        below = population.v_fire.astype(np.int64) - 1  # v >= v_fire is v > v_fire - 1
        held = (below >= 0) & (below % (1 << exponent) == 0) & (below >> exponent < 1 << bits)
        if not held.all():
            channel = int(np.argmin(held))
            yield (
                f"{where}, channel {channel}: v_fire {population.v_fire[channel]}, {chip.name} "
                f"compares v > m * {1 << exponent} with m of {bits} bits; "
                f"use v_fire = m * {1 << exponent} + 1, or loihi2"
                f"{_doubt(chip.threshold_mantissa_bits, chip.threshold_exponent)}"
            )
    bits, exponents = chip.bias_mantissa_bits.value, chip.bias_exponent_bits.value
    if bits is not None and exponents is not None:
        bias = population.bias.astype(np.int64)
        reach = 1 << (bits - 1)
        held = np.zeros(bias.shape, np.bool_)
        for e in range(1 << exponents):
            mantissa = bias >> e
            held |= (mantissa << e == bias) & (-reach <= mantissa) & (mantissa < reach)
        if not held.all():
            channel = int(np.argmin(held))
            yield (
                f"{where}, channel {channel}: bias {bias[channel]}, {chip.name} stores a mantissa "
                f"of {bits} bits times 2**0 to 2**{(1 << exponents) - 1}; "
                "round the bias to that grid, or use loihi2"
                f"{_doubt(chip.bias_mantissa_bits, chip.bias_exponent_bits)}"
            )
    if chip.decay_bits.value is not None and population.decay >= 1 << chip.decay_bits.value:
        yield (
            f"{where}: decay {population.decay}, {chip.name} stores {chip.decay_bits.value} bits; "
            f"use a decay below {1 << chip.decay_bits.value}{_doubt(chip.decay_bits)}"
        )


def _doubt(*limits: Limit) -> str:
    """Return what to add to a verdict of ``limits``: nothing if all of them are certain."""
    return "".join(f" [not certain: {limit.source}]" for limit in limits if not limit.certain)


def _signed_bits(low: int, high: int) -> int:
    """Return the width of the two's complement register that holds ``low`` to ``high``."""
    return max((~n if n < 0 else n).bit_length() for n in (low, high)) + 1


def _limit(where: str, key: str, entry: object) -> Limit:
    limit = Limit(**profile.exactly(where, entry, ("value", "source", "certain")))
    profile.line(f"{where}: source", limit.source)
    if not isinstance(limit.certain, bool):
        raise ProfileError(
            f"{where}: certain must be true or false, not {profile.show(limit.certain)}"
        )
    value = limit.value
    if key in _SWITCHES:
        fits, wanted = isinstance(value, bool), "true or false"
    else:
        low, high = _range(key)
        fits = type(value) is int and low <= value <= high
        fits, wanted = fits or value is None, f"a whole number, {low} to {high}, or null"
    if not fits:
        raise ProfileError(f"{where}: value must be {wanted}, not {profile.show(value)}")
    return limit


def _range(key: str) -> tuple[int, int]:
    """Return the smallest and the largest value of a limit."""
    if key == "bias_exponent_bits":
        return 0, 5  # shifts up to 2**31
    if key.endswith(("_bits", "_exponent")):
        return int(key in _WIDTHS), 32
    return int(key in CORE_LIMITS), LARGEST_WHOLE
