"""Networks of spikingjelly, written by its own exporter, run here as there, spike for spike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_graphs import rng
from torch import nn

from dsr_deploy.foreign import arithmetic, nir_file, simulate

pytest.importorskip("nirtorch", reason="spikingjelly exports NIR with nirtorch")

from spikingjelly.activation_based import functional, layer, neuron, nir_exchange


@pytest.mark.parametrize("decay_input", [True, False])
def test_a_network_of_spikingjelly_gives_its_spikes(tmp_path: Path, decay_input: bool) -> None:
    torch.manual_seed(0)
    low = 0.15 if decay_input else 0.3
    network = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1),
        neuron.IFNode(),
        layer.AvgPool2d(2),
        layer.Conv2d(4, 4, 3, padding=1),
        neuron.LIFNode(tau=2.0, v_threshold=low, decay_input=decay_input),
        layer.Flatten(),
        layer.Linear(64, 10),
        neuron.LIFNode(tau=3.0, v_threshold=low / 5, decay_input=decay_input),
    )
    inputs = (rng(1).random((2, 20, 2, 8, 8)) < 0.3).astype(np.float32)
    path = tmp_path / "net.nir"
    nir_exchange.export_to_nir(network, torch.from_numpy(inputs[:, 0]), str(path))
    functional.reset_net(network)
    with torch.no_grad():
        theirs = torch.stack([network(torch.from_numpy(inputs[:, t])) for t in range(20)], 1)
    read = nir_file.read(path)
    assert not read.obstacles
    steps, _ = arithmetic.recognise(read)
    assert steps == arithmetic.named("spikingjelly")
    run = simulate.simulate(read, inputs, steps, dtype=torch.float32)
    assert theirs.sum() > 20
    np.testing.assert_array_equal(run.output, theirs.numpy())
