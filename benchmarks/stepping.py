"""An integer network in floats, as users of PyTorch and of spikingjelly would write it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from spikingjelly.activation_based import functional, neuron
from torch import Tensor

from dsr_deploy.hardware.network import DECAY_ONE, INPUT, Connection, IntegerNetwork


class SteppedNetwork:
    """One timestep after the other, each population after those it hears, in float32."""

    def __init__(self, network: IntegerNetwork) -> None:
        self.network = network
        self._weights = [
            torch.from_numpy(c.weight.astype(np.float32) * 2**c.exponent)
            for c in network.connections
        ]
        self._fire, self._threshold, self._bias = (
            {p.name: _per_channel(getattr(p, field)) for p in network.populations}
            for field in ("v_fire", "v_threshold", "bias")
        )

    def predict(self, payloads: NDArray[np.int8]) -> NDArray[np.int64]:
        """Return the classes of payloads (N, C, H, W)."""
        network, frame = self.network, torch.from_numpy(payloads).float()
        v = {p.name: torch.zeros(len(frame), *p.shape) for p in network.populations}
        scores = torch.zeros(len(frame), network.output.shape[0])
        for weight in network.readout:
            spikes = {INPUT: frame}
            for population in network.populations:
                name, keep = population.name, (DECAY_ONE - population.decay) / DECAY_ONE
                u = self.current(name, spikes)
                u += torch.trunc(v[name] * keep) if population.decay else v[name]
                fired = u >= self._fire[name]
                v[name] = u - fired * self._threshold[name]
                spikes[name] = fired.float()
            scores += weight * spikes[network.output.name].flatten(1)
        best: NDArray[np.int64] = scores.argmax(1).numpy()
        return best

    def current(self, name: str, spikes: dict[str, Tensor]) -> Tensor:
        """Return what a population receives of the spikes or payloads of its sources."""
        total = self._bias[name]
        for connection, weight in zip(self.network.connections, self._weights, strict=True):
            if connection.target == name:
                total = total + _transmit(connection, weight, spikes[connection.source])
        return total


class SpikingjellyNetwork(SteppedNetwork):
    """All timesteps of a layer at once, then spikingjelly's neurons over them.

    Its neurons have one threshold per layer; thresholds here differ per channel, so the currents
    are divided by them. That is not exact, and costs next to nothing.
    """

    def __init__(self, network: IntegerNetwork) -> None:
        super().__init__(network)
        self._neurons = {
            p.name: neuron.IFNode(v_threshold=1.0, v_reset=None, step_mode="m").eval()
            for p in network.populations
        }

    def predict(self, payloads: NDArray[np.int8]) -> NDArray[np.int64]:
        """Return the classes of payloads (N, C, H, W)."""
        network, samples = self.network, len(payloads)
        frames = torch.from_numpy(payloads).float()[None].expand(network.timesteps, *payloads.shape)
        spikes = {INPUT: frames.flatten(0, 1)}
        for population in network.populations:
            current = self.current(population.name, spikes) / self._threshold[population.name]
            neurons = self._neurons[population.name]
            fired = neurons(current.unflatten(0, (network.timesteps, samples)))
            functional.reset_net(neurons)
            spikes[population.name] = fired.flatten(0, 1)
        readout = torch.tensor(network.readout, dtype=torch.float32)
        scores = torch.einsum("t,tnc->nc", readout, fired.flatten(2))
        best: NDArray[np.int64] = scores.argmax(1).numpy()
        return best


def _per_channel(values: NDArray[np.int32]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))[:, None, None]


def _transmit(connection: Connection, weight: Tensor, sent: Tensor) -> Tensor:
    if connection.kind == "conv":
        return F.conv2d(sent, weight, None, connection.stride, connection.padding, 1,
                        connection.groups)  # fmt: skip
    if connection.kind == "linear":
        return F.linear(sent.flatten(1), weight)[:, :, None, None]
    if connection.kind == "pool":
        padded = F.pad(sent, (connection.padding[1],) * 2 + (connection.padding[0],) * 2)
        sent = F.avg_pool2d(padded, connection.kernel, connection.stride, divisor_override=1)
    return sent * weight[:, None, None]
