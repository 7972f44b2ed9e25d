"""Everything that stands between a network's file and a chip, at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dsr_deploy.errors import UserError
from dsr_deploy.foreign import arithmetic, compose, hdf5, nir_file, obstacles
from dsr_deploy.foreign.arithmetic import Arithmetic, Reset
from dsr_deploy.foreign.network import Obstacle
from dsr_deploy.formats.nir import SEAL
from dsr_deploy.hardware import bounds
from dsr_deploy.hardware import chip as chips
from dsr_deploy.hardware.chip import Chip
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.format.regular_file import read_regular
from dsr_deploy.hardware.mapping import map_network
from dsr_deploy.hardware.network import V_BITS, IntegerNetwork
from dsr_deploy.hardware.schedule import schedule

_ENDINGS: Final = (".nir", ".h5", ".hdf5")


@dataclass(frozen=True)
class TakenFor:
    """How to read what a NIR file leaves open; None is as its framework has it.

    Attributes
    ----------
    framework : a name of :data:`dsr_deploy.foreign.arithmetic.CONVENTIONS`; None tells it from
        the numbers in the file
    dt : seconds per timestep
    many : whether a neuron may fire several times in a timestep
    """

    framework: str | None = None
    reset: Reset | None = None
    dt: float | None = None
    many: bool | None = None


@dataclass(frozen=True)
class Checked:
    """What was found.

    Attributes
    ----------
    content : what the file holds
    assumptions : what the file leaves open and how it was taken
    obstacles : all of them; none if nothing stands in the way
    """

    file: str
    content: str
    chip: str | None
    assumptions: tuple[str, ...]
    obstacles: tuple[Obstacle, ...]


def check(path: Path, chip: str | None = None, taken_for: TakenFor | None = None) -> Checked:
    """List every obstacle of a NIR file of another framework, or of an integer network's file.

    Parameters
    ----------
    chip : name of a profile or path of a YAML file; None checks no chip
    taken_for : for a NIR file of another framework only

    Raises
    ------
    UserError
        If there is no such file or chip, or the file is too damaged to be read.
    """
    try:
        profile = None if chip is None else chips.load_chip(chip)
        data = read_regular(path, network_file.MAX_FILE)
        if path.suffix.lower() in _ENDINGS or data.startswith(hdf5.SIGNATURE):
            if SEAL not in data[-200:]:
                return _foreign(path, profile, taken_for or TakenFor())
            from dsr_deploy.formats import nir_reader

            network = nir_reader.from_bytes(data, str(path))
        else:
            network = network_file.from_bytes(data, str(path))
    except HardwareError as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if taken_for is not None and taken_for != TakenFor():
        raise UserError(
            f"{path}: an integer network leaves nothing open; framework, reset, dt and spikes are "
            "for NIR files of other frameworks"
        )
    found = tuple(map(Obstacle.of_line, _integer_obstacles(network, profile)))
    return Checked(str(path), repr(network), _name(profile), (), found)


def _integer_obstacles(network: IntegerNetwork, chip: Chip | None) -> Iterator[str]:
    """Yield what overflows, and what ``chip`` cannot do or hold."""
    narrow = chip is not None and (chip.v_bits.value or V_BITS + 1) <= V_BITS
    yield from bounds.obstacles(network, ranges=not narrow)  # else the chip's own names them
    if chip is None:
        return
    scheduled = schedule(network)
    yield from chips.obstacles(scheduled, chip)
    mapping = map_network(scheduled, chip)
    for population in mapping.populations:
        for usage in population.usage:
            if usage.used > usage.available:
                doubt = "" if usage.certain else " [not certain]"
                yield (
                    f"population '{population.name}': its fullest core needs {usage.used:,} "
                    f"{usage.limit}, {chip.name} has {usage.available:,}; make the layer "
                    f"smaller{doubt}"
                )
    if mapping.cores_available is not None and mapping.cores > mapping.cores_available:
        yield (
            f"network: it takes {mapping.cores:,} cores, {chip.name} has "
            f"{mapping.cores_available:,}; make layers smaller"
        )


def _foreign(path: Path, chip: Chip | None, taken_for: TakenFor) -> Checked:
    network = nir_file.read(path)
    steps, reason = arithmetic.recognise(network, taken_for.framework)
    steps = _overridden(steps, taken_for)
    found = list(obstacles.obstacles(network, compose.compose(network), steps))
    assumptions = [f"{steps} ({reason})"]
    if chip is not None:
        assumptions.append(f"ranges and cores of {chip.name} are checked once it is quantized")
        if not chip.soft_reset.value and steps.reset == "subtract":
            way_out = "use a chip with programmable neurons, such as loihi2"
            why = f"its neurons reset by subtraction, {chip.name} resets to 0 only"
            found.append(Obstacle("network", why, way_out))
    count = len(network.neurons())
    content = f"NIR, {len(network.nodes)} nodes, {count} of neurons"
    return Checked(str(path), content, _name(chip), tuple(assumptions), tuple(found))


def _overridden(steps: Arithmetic, taken_for: TakenFor) -> Arithmetic:
    return replace(
        steps,
        reset=taken_for.reset or steps.reset,
        dt=steps.dt if taken_for.dt is None else taken_for.dt,
        many=steps.many if taken_for.many is None else taken_for.many,
    )


def _name(chip: Chip | None) -> str | None:
    return None if chip is None else chip.name
