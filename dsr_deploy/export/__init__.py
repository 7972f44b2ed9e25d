"""Writing the quantized network in the formats of chips and of other tools."""

from __future__ import annotations

import dataclasses
import hashlib

from dsr_deploy import files
from dsr_deploy.errors import UserError
from dsr_deploy.export import loihi
from dsr_deploy.export.loihi import LayerSummary
from dsr_deploy.hardware import network_file
from dsr_deploy.hardware.network import NetworkError
from dsr_deploy.run_directory import RunDirectory


def export(run: RunDirectory, target: str, bits: int | None = None) -> list[LayerSummary]:
    """Write the quantized network of ``run`` to ``export/<target>/``; return a summary per layer.

    Parameters
    ----------
    target : "loihi", "onnx" or "nir"
    bits : which quantized network; None is the newest

    Raises
    ------
    UserError
        If nothing was quantized, a file is damaged, or the target cannot express the network.
    """
    if target == "loihi":
        return loihi.export(run, bits)
    width = run.quantized_bits(bits)
    source = run.quantized(width) / "network.safetensors"
    folder = run.export(target)
    path = folder / f"network.{target}"
    files.make_folder(folder)
    try:
        network = network_file.read(source)
        summary = loihi.summarize(network)
        if target == "onnx":
            from dsr_deploy.export.onnx import write_onnx

            write_onnx(network, path)
        elif target == "nir":
            from dsr_deploy.export.nir import write_nir

            write_nir(network, path)
        else:
            raise UserError(f"target {target!r}; known are loihi, onnx, nir")
    except NetworkError as error:
        raise UserError(str(error)) from None
    files.write_json(
        folder / "manifest.json",
        {
            "target": target,
            "bits": width,
            "source": str(source.relative_to(run.path)),
            "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest()},
            "layers": [dataclasses.asdict(layer) for layer in summary],
        },
    )
    return summary
