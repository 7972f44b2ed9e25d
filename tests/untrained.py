"""Networks of the shapes people train, of random weights, that fire; for tests and benchmarks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dsr_deploy.hardware.encoding import payload_table
from dsr_deploy.hardware.network import Input, IntegerNetwork
from dsr_deploy.lowering.fold import fold
from dsr_deploy.lowering.quantized_network import QuantizedNetwork
from dsr_deploy.models.architectures import topology
from dsr_deploy.models.network import SpikingNetwork
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.training.thresholds import choose_thresholds

IMAGES = Input((3, 32, 32), (0.49, 0.48, 0.45), (0.25, 0.24, 0.26), 1 / 255, 1 / 50)


def pictures(number: int) -> NDArray[np.int8]:
    """Return payloads of random blobs of 8 x 8 pixels with noise on them, (N, C, H, W)."""
    rng = np.random.default_rng(0)
    blobs = rng.integers(20, 236, (number, 3, 4, 4)).repeat(8, axis=2).repeat(8, axis=3)
    pixels = blobs + rng.integers(-20, 20, blobs.shape)
    table = payload_table(IMAGES)
    return np.stack([table[c][pixels[:, c]] for c in range(3)], axis=1)


@torch.no_grad()
def untrained(arch: str, neuron: Neuron, bits: int, samples: int = 2) -> IntegerNetwork:
    """Return a network of random weights whose thresholds and BatchNorms fit the pictures."""
    torch.manual_seed(0)
    network = SpikingNetwork(topology(arch, IMAGES.shape, 10), neuron)
    pixels = torch.from_numpy(pictures(samples)).float() * IMAGES.step
    choose_thresholds(network, pixels)
    for population in network.members():
        if population.norm is not None:
            population.norm.momentum = 1.0  # the running statistics become those of the next batch
    network.train()(pixels)
    network.eval()
    model = QuantizedNetwork(fold(network, IMAGES.step), neuron, IMAGES, bits=bits)
    return model.freeze(arch, network.shapes, tuple("0123456789"))
