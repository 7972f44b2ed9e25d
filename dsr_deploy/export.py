"""Writing the quantized network in the formats of chips and of other tools."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

from dsr_deploy.errors import UserError
from dsr_deploy.formats import loihi
from dsr_deploy.formats.loihi import LayerSummary
from dsr_deploy.hardware import network_file
from dsr_deploy.hardware.chip import Chip, is_file, load_chip
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.measures.chip_use import ChipUse
from dsr_deploy.progress import Progress, Silent
from dsr_deploy.run import provenance
from dsr_deploy.run.directory import TARGETS, RunDirectory
from dsr_deploy.run.hold import hold
from dsr_deploy.run.provenance import PROFILE, PROFILE_FILE

DEFAULT_CHIP = "loihi2"
NETWORK = "network.safetensors"


@dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes
    ----------
    bits : width of the weights
    chip : what the network takes of the chip; None for an exchange format
    """

    target: str
    bits: int
    chip: ChipUse | None
    layers: tuple[LayerSummary, ...]


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
    if target not in TARGETS:
        raise UserError(f"target {target!r}; known are {', '.join(TARGETS)}")
    if chip is not None and target != "loihi":
        raise UserError(f"chip {chip!r} for target {target!r}; only the target loihi has chips")
    with hold(run, f"export --target {target}", f"export/{target}") as held:
        width = run.quantized_bits(bits)
        source = run.quantized(width).name
        provenance.tell(run, source, progress or Silent())
        quantized = run.read(source, NETWORK)
        try:
            network = network_file.from_bytes(
                quantized.content[NETWORK], str(quantized.folder / NETWORK)
            )
            layers = tuple(loihi.summarize(network))
            profile = load_chip(chip or DEFAULT_CHIP) if target == "loihi" else None
            content, use = _files(network, target, profile)
        except HardwareError as error:
            raise UserError(str(error)) from None
        made = Export(target, width, use, layers)
        about = {"source": f"{source}/{NETWORK}", provenance.KEY: quantized.digest(NETWORK)}
        record = dataclasses.asdict(made) | about | _noted(profile, chip)
        held.write_stage(f"export/{target}", content, record)
    return made


def _noted(profile: Chip | None, chip: str | None) -> dict[str, Any]:
    """Return what a manifest keeps of a chip: later stages read it here, whatever its file says."""
    if profile is None:
        return {}
    file = {PROFILE_FILE: os.path.abspath(chip)} if chip and is_file(chip) else {}
    return {PROFILE: dataclasses.asdict(profile)} | file


def _files(
    network: IntegerNetwork, target: str, chip: Chip | None
) -> tuple[dict[str, bytes], ChipUse | None]:
    """Return the files of a target, by name, and what the network takes of the chip."""
    if chip is not None:
        return loihi.to_files(network, chip)
    if target == "onnx":
        from dsr_deploy.formats.onnx import to_bytes
    else:
        from dsr_deploy.formats.nir import to_bytes
    return {f"network.{target}": to_bytes(network)}, None
