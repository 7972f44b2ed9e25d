import numpy as np
import pytest
import torch
from torch import Tensor

from dsr_deploy.data.encoding import encode
from dsr_deploy.data.loading import load
from dsr_deploy.data.samples import TensorSplit
from dsr_deploy.models.architectures import topology
from dsr_deploy.models.network import Activity, PopulationModule, SpikingNetwork
from dsr_deploy.run import config
from dsr_deploy.run.trained import build
from dsr_deploy.training.thresholds import choose_thresholds


def _network(neuron: str) -> tuple[SpikingNetwork, Tensor]:
    settings = config.resolve(neuron=neuron, timesteps=4)
    digits = load("digits", timesteps=4)
    assert isinstance(digits.train, TensorSplit)
    torch.manual_seed(0)
    network = build(settings, topology(settings.arch, digits.input.shape, 10))
    payloads = encode(digits.input, digits.train.pixels[:16])
    return network, payloads.float() * digits.input.step


@pytest.mark.parametrize("neuron", ["if", "lif"])
def test_one_in_a_hundred_positive_mean_inputs_exceeds_what_a_layer_can_say(neuron: str) -> None:
    network, pixels = _network(neuron)
    choose_thresholds(network, pixels)
    inputs: dict[str, np.ndarray] = {}

    def keep(population: PopulationModule, mean_input: Tensor) -> None:
        inputs[population.spec.name] = mean_input.numpy()

    activity = Activity()
    with torch.no_grad():
        network.train()(pixels, activity, before_firing=keep)
    for population in network.members():
        mean_input = inputs[population.spec.name]
        largest = population.height.item() * network.neuron.divisor
        expected = np.quantile(mean_input[mean_input > 0], 0.99)
        assert largest == pytest.approx(expected, rel=1e-5)
    assert min(activity.rates.values()) > 0


def test_choosing_leaves_weights_and_statistics_alone() -> None:
    network, pixels = _network("if")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    choose_thresholds(network, pixels)
    changed = {n for n, value in network.state_dict().items() if not value.equal(before[n])}
    assert changed == {name for name in before if name.endswith("height")}


def test_a_layer_that_no_input_reaches_keeps_its_threshold() -> None:
    network, pixels = _network("if")
    last = network.members()[-1]
    assert last.norm is not None
    with torch.no_grad():
        last.norm.gamma.zero_()
        last.norm.beta.fill_(-1.0)
        last.height.fill_(3.25)
    choose_thresholds(network, pixels)
    assert last.height.item() == 3.25
