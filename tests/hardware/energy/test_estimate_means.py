"""Operations per inference are a mean, whole or not."""

from __future__ import annotations

import numpy as np

from dsr_deploy.hardware.energy.constants import load_constants
from dsr_deploy.hardware.energy.estimate import estimate
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.network import INPUT, Connection, Input, IntegerNetwork, Population


def test_samples_of_different_activity_have_a_mean_between_them() -> None:
    one = np.ones(1, np.int32)
    network = IntegerNetwork(
        name="one",
        timesteps=1,
        input=Input((1, 1, 1), (0.0,), (1.0,), 1.0, 1.0),
        populations=(Population("out", (1, 1, 1), 0 * one, one, one),),
        connections=(Connection(INPUT, "out", "linear", np.ones((1, 1), np.int8), 8),),
        readout=(1,),
    )
    # One synaptic operation in the first sample, none in the second.
    counted = Simulator(network).run(np.array([5, 0], np.int8).reshape(2, 1, 1, 1))
    found = estimate(counted, network, load_constants("loihi1-sanafe"))
    assert found.operations == 0.5
