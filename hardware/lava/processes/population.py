"""Neurons with reset by subtraction as a Lava process; no neuron of Lava's own has it."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray

from dsr_deploy.hardware.register import check_register


class Spiking(AbstractProcess):
    """A population of the integer network, see :class:`dsr_deploy.hardware.network.Population`.

    ::

        u = trunc(v * (4096 - decay) / 4096) + bias + a_in
        s_out = u >= v_fire
        v = u - v_threshold * s_out

    It works from step ``start`` (the first is 0) for ``samples * timesteps`` steps, and begins
    every ``timesteps`` steps anew with v = 0. Before and after, it is silent and ignores its
    input. So samples follow each other without a gap, each population one connection behind
    its source.

    ``record`` carries the spikes of the working steps to the Python process that started Lava.

    Parameters
    ----------
    name : of the population, for messages
    shape : (W, H, C)
    bias, v_fire, v_threshold : int32, (C,)
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, int, int],
        bias: NDArray[np.int32],
        v_fire: NDArray[np.int32],
        v_threshold: NDArray[np.int32],
        *,
        decay: int,
        start: int,
        timesteps: int,
        samples: int,
    ) -> None:
        super().__init__(
            population=name, decay=decay, start=start, timesteps=timesteps, samples=samples
        )
        self.bias = Var(shape=bias.shape, init=bias)
        self.v_fire = Var(shape=v_fire.shape, init=v_fire)
        self.v_threshold = Var(shape=v_threshold.shape, init=v_threshold)
        self.v = Var(shape=shape, init=0)
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.record = OutPort(shape=shape)
        self.record.flag_external_pipe(buffer_size=8)


@implements(proc=Spiking, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpikingModel(PyLoihiProcessModel):
    """Spiking in Python."""

    bias: NDArray[np.int32] = LavaPyType(np.ndarray, np.int32, precision=24)
    v_fire: NDArray[np.int32] = LavaPyType(np.ndarray, np.int32, precision=24)
    v_threshold: NDArray[np.int32] = LavaPyType(np.ndarray, np.int32, precision=24)
    v: NDArray[np.int32] = LavaPyType(np.ndarray, np.int32, precision=24)
    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=1)
    record: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, bool, precision=1)

    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self._name: str = proc_params["population"]
        self._decay: int = proc_params["decay"]
        self._start: int = proc_params["start"]
        self._timesteps: int = proc_params["timesteps"]
        self._samples: int = proc_params["samples"]

    def run_spk(self) -> None:
        """Receive, advance by one step, send; Lava counts steps from 1."""
        current = self.a_in.recv()
        step = self.time_step - 1 - self._start
        if not 0 <= step < self._samples * self._timesteps:
            self.s_out.send(np.zeros_like(current))
            return
        if step % self._timesteps == 0:
            self.v[:] = 0
        spikes = self._advance(current)
        self.s_out.send(spikes)
        self.record.send(spikes)

    def _advance(self, current: NDArray[np.int32]) -> NDArray[np.bool_]:
        v = self.v.astype(np.int64)  # v * 4096 needs 36 bits
        u = np.sign(v) * ((np.abs(v) * (4096 - self._decay)) >> 12) + current + self.bias
        check_register(self._name, u.min(), u.max())
        spikes: NDArray[np.bool_] = u >= self.v_fire
        self.v[:] = u - self.v_threshold * spikes
        return spikes
