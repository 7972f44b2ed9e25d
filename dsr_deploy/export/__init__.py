"""Writing the quantized network in the formats of chips and of other tools."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from dsr_deploy import files, provenance
from dsr_deploy.chip_use import ChipUse
from dsr_deploy.errors import UserError
from dsr_deploy.export import loihi
from dsr_deploy.export.loihi import LayerSummary
from dsr_deploy.hardware import network_file
from dsr_deploy.hardware.chip import load_chip
from dsr_deploy.hardware.network import IntegerNetwork, NetworkError
from dsr_deploy.progress import Progress, Silent
from dsr_deploy.run_directory import RunDirectory

TARGETS = ("loihi", "onnx", "nir")
DEFAULT_CHIP = "loihi2"


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
    chip : for the target loihi, name of a profile; None is loihi2

    Raises
    ------
    UserError
        If nothing was quantized, a file is damaged, or the target cannot express the network.
    """
    if target not in TARGETS:
        raise UserError(f"target {target!r}; known are {', '.join(TARGETS)}")
    if chip is not None and target != "loihi":
        raise UserError(f"chip {chip!r} for target {target!r}; only the target loihi has chips")
    width = run.quantized_bits(bits)
    source = run.quantized(width) / "network.safetensors"
    provenance.tell(run, source.parent.name, progress or Silent())
    folder = run.export(target)
    use = None
    try:
        made_from = files.digest(source)
        network = network_file.read(source)
        layers = tuple(loihi.summarize(network))
        if target == "loihi":
            names, use = loihi.write(network, load_chip(chip or DEFAULT_CHIP), folder)
        else:
            names = (_write_exchange(network, target, folder),)
    except NetworkError as error:
        raise UserError(str(error)) from None
    made = Export(target, width, use, layers)
    about = {
        "source": str(source.relative_to(run.path)),
        provenance.KEY: made_from,
        "files": {name: files.digest(folder / name) for name in names},
    }
    files.write_json(folder / "manifest.json", dataclasses.asdict(made) | about)
    return made


def _write_exchange(network: IntegerNetwork, target: str, folder: Path) -> str:
    """Write the network in an exchange format; return the file's name."""
    path = folder / f"network.{target}"
    if target == "onnx":
        from dsr_deploy.export.onnx import write_onnx as write
    else:
        from dsr_deploy.export.nir import write_nir as write
    write(network, path)
    return path.name
