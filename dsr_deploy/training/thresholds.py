"""Initial thresholds that fit the data, so that every layer fires from the first step."""

from __future__ import annotations

import torch
from torch import Tensor

from dsr_deploy.models.network import PopulationModule, SpikingNetwork

QUANTILE = 0.99
"""Share of mean inputs that lie below a Vth chosen from data: few are clamped, most can be told
apart by their rates."""
READ = 100_000
"""Mean inputs that the quantile is taken of, evenly spread over those of a layer."""


@torch.no_grad()
def choose_thresholds(network: SpikingNetwork, pixels: Tensor) -> None:
    """Set each population's Vth from its mean input, layer after layer.

    A layer whose mean input is nowhere positive keeps the Vth it has.

    Parameters
    ----------
    pixels : float32 (N, C, H, W) or (N, T, C, H, W), training samples
    """
    divisor = network.neuron.divisor

    def choose(population: PopulationModule, mean_input: Tensor) -> None:
        positive = mean_input[mean_input > 0]
        if len(positive):
            # float32 cannot count to the number of inputs of a large layer
            places = torch.linspace(0, len(positive) - 1, READ, dtype=torch.float64)
            top = torch.quantile(positive[places.long().unique()], QUANTILE)
            population.height.fill_(float(top) / divisor)

    network.train()
    running = {k: v.clone() for k, v in network.state_dict().items() if "running" in k}
    network(pixels, before_firing=choose)
    network.clamp_thresholds()
    network.load_state_dict(running, strict=False)
