"""The counts of the event-driven simulator, from the torch engine: on a GPU where there is one.

Every spike is counted, not every event: a source neuron that spiked n times sent n events over a
connection, each to as many targets as the neuron has there.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dsr_deploy.engines.torch import Advanced, TorchEngine
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.encoding import check_payloads
from dsr_deploy.hardware.event.simulation import ConnectionCounts, PopulationCounts, Simulation
from dsr_deploy.hardware.network import INPUT, IntegerNetwork
from dsr_deploy.hardware.run import Run
from dsr_deploy.models import dynamics

Int64 = NDArray[np.int64]


class TorchCounter:
    """An integer network, prepared to be simulated on a device.

    Raises
    ------
    DeviceError
        If the device does not add integers exactly.
    """

    def __init__(self, network: IntegerNetwork, device: torch.device) -> None:
        self.network, self.device = network, device
        try:
            self._engine = TorchEngine(network, device)
        except torch.OutOfMemoryError:
            raise self._no_room("its weights") from None
        self._fan_out = [c.geometry.fan_out(network.shapes[c.source]) for c in network.connections]

    def run(self, payloads: NDArray[np.int8]) -> Simulation:
        """Simulate N samples, as :class:`dsr_deploy.hardware.event.simulator.Simulator` does.

        Where the device has no room for them at once, they are halved.

        Raises
        ------
        PayloadError
            If the payloads do not fit the input.
        RegisterError
            If a membrane potential leaves 24 bits.
        UserError
            If the device has no room for a single sample.
        """
        check_payloads(self.network, payloads)
        if not len(payloads):
            return self._result(payloads, {}, np.zeros((0, self.network.output.shape[0]), np.int64))
        try:
            return self._count(payloads)
        except torch.OutOfMemoryError:
            if len(payloads) == 1:
                raise self._no_room("a single sample") from None
        # outside of the handler, which keeps what did not fit
        torch.cuda.empty_cache()
        half = len(payloads) // 2
        return self.run(payloads[:half]).merge(self.run(payloads[half:]))

    def _no_room(self, what: str) -> UserError:
        return UserError(
            f"device '{self.device}': out of memory for {what} of the network "
            f"'{self.network.name}'; leave out the device, or end other programs on it"
        )

    def _count(self, payloads: NDArray[np.int8]) -> Simulation:
        counts = {}
        for name, done in self._engine.advance_all(payloads):
            counts[name] = self._of_population(done)
        return self._result(payloads, counts, self._engine.scores(done.packed))

    def _of_population(self, done: Advanced) -> PopulationCounts:
        spikes = dynamics.spike_counts(done.packed).sum(0, dtype=torch.int64).permute(2, 0, 1)
        per_timestep = [
            ((done.packed[t // 8] >> (t % 8)) & 1).sum() for t in range(self.network.timesteps)
        ]
        return PopulationCounts(
            spikes=np.ascontiguousarray(spikes.cpu().numpy()),
            per_timestep=torch.stack(per_timestep).cpu().numpy(),
            updates=spikes.numel() * self.network.timesteps * done.packed.shape[1],
            u_min=min(0, done.low),
            u_max=max(0, done.high),
        )

    def _result(
        self, payloads: NDArray[np.int8], counts: dict[str, PopulationCounts], scores: Int64
    ) -> Simulation:
        network = self.network
        if not counts:  # of no sample
            counts = {p.name: _silent(p.shape, network.timesteps) for p in network.populations}
        entered = _entered(network, payloads)
        connections = []
        for connection, fan_out in zip(network.connections, self._fan_out, strict=True):
            source = connection.source
            sent = entered if source == INPUT else counts[source].spikes
            connections.append(
                ConnectionCounts(int(sent[fan_out > 0].sum()), int((sent * fan_out).sum()))
            )
        return Simulation(
            samples=len(payloads),
            run=Run(scores),
            populations=counts,
            connections=tuple(connections),
            input_events=int(entered.sum()),
            timesteps=network.timesteps,
        )


def _silent(shape: tuple[int, int, int], timesteps: int) -> PopulationCounts:
    return PopulationCounts(np.zeros(shape, np.int64), np.zeros(timesteps, np.int64), 0, 0, 0)


def _entered(network: IntegerNetwork, payloads: NDArray[np.int8]) -> Int64:
    """Count the nonzero payloads that each input neuron sends, int64 (C, H, W)."""
    samples = (0, 1) if network.input.framed else (0,)
    entered: Int64 = np.sum(payloads != 0, axis=samples, dtype=np.int64)
    return entered if network.input.framed else entered * network.timesteps
