"""The network of the paper at full width: all engines, spike for spike."""

from __future__ import annotations

import onnx_runs
import pytest
from untrained import pictures, untrained

from dsr_deploy.engines.compare import compare
from dsr_deploy.engines.torch import TorchEngine
from dsr_deploy.hardware import bounds
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.models.neuron import Neuron

TIMESTEPS, SAMPLES = 20, 2


@pytest.mark.slow
def test_resnet18_at_full_width_gives_the_same_spikes_in_torch_event_and_onnx() -> None:
    payloads = pictures(SAMPLES)
    neuron = Neuron("if", TIMESTEPS, alpha=0.5, v_threshold_min=1e-3)
    frozen = untrained("resnet18", neuron, bits=4, samples=SAMPLES)
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
