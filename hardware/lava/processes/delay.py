"""A line that holds spikes back, as a Lava process."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Delay(AbstractProcess):
    """Send at every step what came in ``steps`` steps ago, zeros before.

    Lava's Conv and Sparse have no delay of their own.

    Parameters
    ----------
    shape : (W, H, C) of what passes
    steps : at least 1
    """

    def __init__(self, shape: tuple[int, int, int], steps: int) -> None:
        super().__init__(shape=shape, steps=steps)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)


@implements(proc=Delay, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyDelayModel(PyLoihiProcessModel):
    """Delay in Python."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=8)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=8)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        nothing = np.zeros(proc_params["shape"], np.int32)
        self._line = deque([nothing] * proc_params["steps"])

    def run_spk(self) -> None:
        """Pass the line on by one step."""
        self.s_out.send(self._line.popleft())
        self._line.append(self.s_in.recv())
