"""Writing the quantized network in the formats of chips and of other tools."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from dsr_deploy.errors import UserError
from dsr_deploy.formats import TARGETS, load_target
from dsr_deploy.hardware.chip import Chip, check_chip, is_file, load_chip
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.schedule import schedule
from dsr_deploy.measures.chip_use import ChipUse, chip_use
from dsr_deploy.measures.layers import LayerSummary, summarize
from dsr_deploy.progress import Progress, Silent
from dsr_deploy.run import config, provenance
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.hold import hold
from dsr_deploy.run.provenance import PROFILE, PROFILE_FILE

DEFAULT_CHIP = "loihi2"
NETWORK = "network.safetensors"


@dataclass(frozen=True)
class Export:
    """An export: its target, width, chip and layers.

    Attributes
    ----------
    bits : width of the weights
    chip : what the network takes of the chip; None for an exchange format
    """

    target: str
    bits: int
    chip: ChipUse | None
    layers: tuple[LayerSummary, ...]


@dataclass(frozen=True)
class NetworkFiles:
    """The files of a network, by name.

    Attributes
    ----------
    profile : the chip that they are for; None for an exchange format
    """

    about: Export
    content: dict[str, bytes]
    profile: Chip | None


def export(
    run: RunDirectory,
    target: str,
    bits: int | None = None,
    chip: str | None = None,
    *,
    progress: Progress | None = None,
) -> Export:
    """Write the quantized network of ``run`` to ``export/<target>/``.

    Parameters
    ----------
    target : "loihi", "onnx" or "nir"
    bits : which quantized network; None is the newest
    chip : for the target loihi, name of a profile or path of a YAML file; None is loihi2

    Raises
    ------
    UserError
        If nothing was quantized, a file is damaged, or the target cannot express the network.
    """
    _check(target, chip)
    config.read(run.config)  # a damaged run is named before anything is written
    with hold(run, f"export --target {target}", f"export/{target}") as held:
        width = run.quantized_bits(bits)
        source = run.quantized(width).name
        provenance.tell(run, source, progress or Silent())
        quantized = run.read(source, NETWORK)
        try:
            network = network_file.from_bytes(
                quantized.content[NETWORK], str(quantized.folder / NETWORK)
            )
        except HardwareError as error:
            raise UserError(str(error)) from None
        exported = export_network(network, target, chip, bits=width)
        about: dict[str, Any] = {
            "source": f"{source}/{NETWORK}",
            provenance.KEY: quantized.digest(NETWORK),
        }
        about |= dataclasses.asdict(exported.about) | _profile_record(exported.profile, chip)
        held.write_stage(f"export/{target}", exported.content, about)
    return exported.about


def export_network(
    network: IntegerNetwork, target: str, chip: str | None = None, *, bits: int | None = None
) -> NetworkFiles:
    """Return the files of ``network``, what they take of the chip; nothing is written.

    Parameters
    ----------
    target, chip : see :func:`export`
    bits : None is the smallest width of its weights

    Raises
    ------
    UserError
        If the target or the chip cannot express the network.
    """
    _check(target, chip)
    kind = load_target(target)
    try:
        layers = tuple(summarize(network))
        profile = load_chip(chip or DEFAULT_CHIP) if kind.for_chip else None
        use = None if profile is None else _chip_use(network, profile)
        content = kind.write(network)
    except HardwareError as error:
        raise UserError(str(error)) from None
    return NetworkFiles(Export(target, bits or narrowest(network), use, layers), content, profile)


def narrowest(network: IntegerNetwork) -> int:
    """Return the smallest width of the weights: 4 where all but the first and the last have 4."""
    return min(connection.weight_bits for connection in network.connections)


def _check(target: str, chip: str | None) -> None:
    if target not in TARGETS:
        raise UserError(f"target {target!r}: choose one of {', '.join(TARGETS)}")
    if chip is not None and not load_target(target).for_chip:
        raise UserError(f"chip {chip!r} for target {target!r}; only the target loihi has chips")


def _profile_record(profile: Chip | None, chip: str | None) -> dict[str, Any]:
    """Return what a manifest keeps of a chip: later stages read it there, not in its file."""
    if profile is None:
        return {}
    file = {PROFILE_FILE: os.path.abspath(chip)} if chip and is_file(chip) else {}
    return {PROFILE: dataclasses.asdict(profile)} | file


def _chip_use(network: IntegerNetwork, chip: Chip) -> ChipUse:
    """Check that the chip can run the network; return what the network takes of it."""
    scheduled = schedule(network)
    check_chip(scheduled, chip)
    return chip_use(scheduled, chip)
