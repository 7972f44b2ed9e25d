"""The passes over time against the same operations in torch."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsr_deploy.models import dynamics
from dsr_deploy.models.neuron import Neuron


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["if", "lif"]),
    timesteps=st.integers(1, 20),
    constant=st.booleans(),
    channels=st.sampled_from([1, 3, 10, 16, 1500]),
    seed=st.integers(0, 2**31 - 1),
)
def test_fire_is_the_loop_in_torch(
    kind: str, timesteps: int, constant: bool, channels: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    neuron = Neuron(kind, timesteps, 0.4, 0.001, dt=0.1)  # type: ignore[arg-type]
    shape = (1 if constant else timesteps, 2, 3, 1, channels)
    current = torch.randn(shape, generator=generator) * 3
    scale, shift = torch.randn((2, channels), generator=generator)
    v_threshold = torch.tensor(0.7)
    packed, rate = dynamics.fire(current, scale, shift, v_threshold, neuron)
    v = torch.zeros(shape[1:])
    expected, mean = [], torch.zeros(shape[1:])
    for t in range(timesteps):
        v = neuron.leak * v + neuron.gain * (current[0 if constant else t] * scale + shift)
        spike = v >= neuron.alpha * v_threshold
        v = v - v_threshold * spike
        expected.append(spike)
        mean += neuron.weights[t] * spike
    spikes = torch.stack(expected)
    assert torch.equal(dynamics.unpack(packed, timesteps), spikes)
    assert torch.allclose(rate, mean, atol=1e-6)
    assert abs(dynamics.firing_rate(packed, timesteps) - spikes.double().mean()) < 1e-9


def test_moments_are_those_of_float64() -> None:
    torch.manual_seed(0)
    neuron = Neuron("lif", 6, 0.4, 0.001)
    current = torch.randn(6, 3, 4, 5, 7) * 10
    mean, total, square = dynamics.moments(current, neuron)
    weights = torch.tensor(neuron.weights)
    assert torch.allclose(mean, torch.einsum("tnhwc,t->nhwc", current, weights), atol=1e-5)
    assert torch.allclose(total, current.double().sum((0, 1, 2, 3)), rtol=1e-12)
    assert torch.allclose(square, current.double().square().sum((0, 1, 2, 3)), rtol=1e-12)


def test_expand_gives_back_what_was_packed() -> None:
    torch.manual_seed(0)
    neuron = Neuron("if", 19, 0.5, 0.001)
    packed, _ = dynamics.fire(
        torch.randn(19, 2, 3, 3, 5), torch.ones(5), torch.zeros(5), torch.tensor(1.0), neuron
    )
    train = dynamics.unpack(packed, 19)
    for dtype in (torch.uint8, torch.float32, torch.bfloat16):
        expanded = dynamics.expand(packed, 7, 4, dtype)
        assert expanded.dtype == dtype
        assert torch.equal(expanded, train[7:11].to(dtype))
    total = torch.randn(train.shape)
    expected = total + 2.5 * train
    dynamics.add_spikes(total, packed, torch.tensor(2.5))
    assert torch.equal(total, expected)
    assert torch.equal(dynamics.spike_counts(packed), train.int().sum(0))
