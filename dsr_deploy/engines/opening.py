"""The engines of a comparison, each on the file that was exported for it.

Nothing is converted anew: what runs is what another tool would read. A file of another network
than the exported one is refused before anything runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dsr_deploy import files
from dsr_deploy.engines import lava as lava_engine
from dsr_deploy.errors import UserError
from dsr_deploy.hardware import network_file, reference
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.lava import plan_file
from dsr_deploy.hardware.lava.plan_check import check_plan
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.network_content import difference, identity, widths_text
from dsr_deploy.hardware.run import Run
from dsr_deploy.hardware.simulator import Simulator
from dsr_deploy.run.directory import RunDirectory

Payloads = NDArray[np.int8]
Engine = Callable[[Payloads], Run]
"""Runs one network on payloads and records every spike."""

ENGINES: Final = ("torch", "event", "reference", "onnx", "nir", "lava")


@dataclass(frozen=True, eq=False)
class Exported:
    """The network that ``export --target loihi`` wrote; every engine's file must be of it.

    Attributes
    ----------
    bits : width of the quantized network that it was made from
    """

    run: RunDirectory
    network: IntegerNetwork
    bits: int

    @cached_property
    def identity(self) -> str:
        return identity(self.network)

    @property
    def path(self) -> Path:
        return self.run.export("loihi") / lava_engine.NETWORK_FILE

    def file(self, engine: str) -> Path:
        """Return the file that ``engine`` opens."""
        if engine == "torch":
            return self.run.quantized(self.bits) / "network.safetensors"
        if engine in ("onnx", "nir"):
            return self.run.export(engine) / f"network.{engine}"
        return self.run.export("loihi") / lava_engine.PLAN_FILE if engine == "lava" else self.path

    def read(self, engine: str) -> bytes:
        """Return what is in the file that ``engine`` opens, as its stage wrote it.

        Raises
        ------
        UserError
            If it is missing, or not what the stage wrote.
        """
        path = self.file(engine)
        place = path.parent.relative_to(self.run.path).as_posix()
        return self.run.read(place, path.name).content[path.name]

    def writes(self, engine: str) -> str:
        """Return the command that writes the file of ``engine``."""
        target = engine if engine in ("onnx", "nir") else "loihi"
        stage = f"export --target {target} --bits {self.bits}"
        if engine == "torch":
            stage = f"quantize --bits {self.bits}"
        return self.run.command(stage)

    def missing(self, engine: str) -> str | None:
        """Return what is to be said where the file of ``engine`` is not there."""
        path = self.file(engine)
        return None if path.exists() else f"{path}: not there; run `{self.writes(engine)}`"


def open_engine(name: str, exported: Exported) -> Engine:
    """Open the file of an engine, and return what runs it.

    Raises
    ------
    UserError
        If the file is missing, damaged or of another network, or the engine cannot run here.
    """
    if name == "lava":
        lava_engine.require_python310()
    if missing := exported.missing(name):
        raise UserError(missing)
    try:
        try:
            data = exported.read(name)
        except UserError as damaged:
            _tell_apart(name, exported)
            raise damaged from None
        return _open(name, exported, data)
    except HardwareError as error:
        what = str(error).removesuffix("; export it again").removesuffix("; export again")
        raise UserError(f"{what}; run `{exported.writes(name)}`") from None


def _tell_apart(name: str, exported: Exported) -> None:
    """Refuse a file that was put there if it is of another network: that says more than a digest.

    A damaged graph is not given to onnxruntime for that; the other formats carry checksums.
    """
    data = files.read_bytes(exported.file(name), network_file.MAX_FILE)
    if name == "onnx":
        from dsr_deploy.engines import onnx as onnx_engine

        onnx_engine.load(exported.network, data, str(exported.file(name)))
    else:
        _open(name, exported, data)


def _open(name: str, exported: Exported, data: bytes) -> Engine:
    """Return what runs ``data``, the file of an engine."""
    network, path = exported.network, exported.file(name)
    if name == "torch":
        from dsr_deploy.engines.torch import TorchEngine

        trained = network_file.from_bytes(data, str(path))
        engine = TorchEngine(_same(name, trained, exported))
        return lambda payloads: engine.run(payloads, record=True)
    if name == "onnx":
        from dsr_deploy.engines.onnx import OnnxEngine

        return OnnxEngine(network, data, where=str(path), record=True).run
    if name == "lava":
        plan = plan_file.from_bytes(data, str(path))
        check_plan(plan, network, hashlib.sha256(exported.read("event")).hexdigest(), str(path))
        return lambda payloads: lava_engine.run_files(path.parent, network, payloads)
    if name == "reference":
        return lambda payloads: reference.run(network, payloads, record=True)
    if name == "nir":
        from dsr_deploy.formats import nir_reader

        network = _same(name, nir_reader.from_bytes(data, str(path)), exported)
    simulator = Simulator(network)
    return lambda payloads: simulator.run(payloads, record=True).run


def _same(name: str, network: IntegerNetwork, exported: Exported) -> IntegerNetwork:
    """Return the network of an engine's file if it is the exported one, but for its schedule."""
    if identity(network) != exported.identity:
        apart = difference(widths_text(network), widths_text(exported.network))
        # What was quantized since is not to be quantized again.
        command = exported.writes("event" if name == "torch" else name)
        raise UserError(
            f"{exported.file(name)}: not the network of {exported.path} ({apart}); run `{command}`"
        )
    return network
