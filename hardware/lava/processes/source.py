"""The network's input as a Lava process."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray


class Source(AbstractProcess):
    """Send one frame of payloads per step, sample after sample, then zeros.

    Parameters
    ----------
    frames : int8, (F, W, H, C)
    repeat : steps for which each frame is sent: T for images, 1 for framed samples
    """

    def __init__(self, frames: NDArray[np.int8], repeat: int) -> None:
        super().__init__(repeat=repeat)
        self.frames = Var(shape=frames.shape, init=frames)
        self.s_out = OutPort(shape=frames.shape[1:])


@implements(proc=Source, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySourceModel(PyLoihiProcessModel):
    """Source in Python."""

    frames: NDArray[np.int8] = LavaPyType(np.ndarray, np.int8, precision=8)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=8)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self._repeat: int = proc_params["repeat"]

    def run_spk(self) -> None:
        """Send the frame of this step; Lava counts steps from 1."""
        index = (self.time_step - 1) // self._repeat
        if index < len(self.frames):
            self.s_out.send(self.frames[index])
        else:
            self.s_out.send(np.zeros_like(self.frames[0]))
