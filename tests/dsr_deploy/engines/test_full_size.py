"""The network of the paper at full width: all engines, spike for spike."""

from __future__ import annotations

import numpy as np
import onnx_runs
import pytest
import torch

from dsr_deploy.engines.compare import compare
from dsr_deploy.engines.torch import TorchEngine
from dsr_deploy.hardware import bounds
from dsr_deploy.hardware.encoding import payload_table
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.network import Input
from dsr_deploy.lowering.fold import fold
from dsr_deploy.lowering.quantized_network import QuantizedNetwork
from dsr_deploy.models.architectures import topology
from dsr_deploy.models.network import SpikingNetwork
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.training.thresholds import choose_thresholds

TIMESTEPS, SAMPLES = 20, 2
INPUT = Input((3, 32, 32), (0.49, 0.48, 0.45), (0.25, 0.24, 0.26), 1 / 255, 1 / 50)


def pictures() -> np.ndarray:
    """Return payloads of random blobs of 8 x 8 pixels with noise on them, int8 (N, C, H, W)."""
    rng = np.random.default_rng(0)
    blobs = rng.integers(20, 236, (SAMPLES, 3, 4, 4)).repeat(8, axis=2).repeat(8, axis=3)
    pixels = blobs + rng.integers(-20, 20, blobs.shape)
    table = payload_table(INPUT)
    return np.stack([table[c][pixels[:, c]] for c in range(3)], axis=1)


@torch.no_grad()
def resnet18(payloads: np.ndarray) -> SpikingNetwork:
    """Return PreAct-ResNet-18 of random weights, its thresholds and BatchNorms fit to the data."""
    torch.manual_seed(0)
    neuron = Neuron("if", TIMESTEPS, alpha=0.5, v_threshold_min=1e-3)
    network = SpikingNetwork(topology("resnet18", INPUT.shape, 10), neuron)
    pixels = torch.from_numpy(payloads).float() * INPUT.step
    choose_thresholds(network, pixels)
    for population in network.members():
        if population.norm is not None:
            population.norm.momentum = 1.0  # the running statistics become those of the next batch
    network.train()(pixels)
    return network.eval()


@pytest.mark.slow
def test_resnet18_at_full_width_gives_the_same_spikes_in_torch_event_and_onnx() -> None:
    payloads = pictures()
    network = resnet18(payloads)
    model = QuantizedNetwork(fold(network, INPUT.step), network.neuron, INPUT, bits=4)
    frozen = model.freeze("resnet18", network.shapes, tuple("0123456789"))
    bounds.check(frozen)
    assert sum(c.weight.size for c in frozen.connections) > 11_000_000
    found = compare(
        frozen,
        payloads,
        {
            "torch": lambda sent: TorchEngine(frozen).run(sent, record=True),
            "event": lambda sent: Simulator(frozen).run(sent, record=True).run,
            "onnx": lambda sent: onnx_runs.run(frozen, sent, record=True),
        },
    )
    assert found.agreed, str(found.difference)
    possible = {p.name: SAMPLES * TIMESTEPS * p.size for p in frozen.populations}
    for name, spikes in found.spikes.items():
        assert 0.01 < spikes / possible[name] < 0.9, name
    print(f"{sum(found.spikes.values())} spikes of {sum(possible.values())} possible")
