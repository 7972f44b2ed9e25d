"""Neurons against spikingjelly's DSR neurons and against values worked by hand."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based.neuron import DSRIFNode, DSRLIFNode
from unrolled import UnrolledSpikes

from dsr_deploy.models import dynamics
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.representation import clamp_gradients

SHAPE = (3, 4, 5, 6)  # N, H, W, C


def make(kind: str, timesteps: int, alpha: float = 0.5, dt: float = 0.05) -> Neuron:
    return Neuron(kind, timesteps, alpha, 0.001, tau=1.0, dt=dt)  # type: ignore[arg-type]


def fire(current: torch.Tensor, v_threshold: float, neuron: Neuron) -> torch.Tensor:
    """Return spikes, bool (T, N, H, W, C), with neutral scale and shift."""
    channels = current.shape[-1]
    packed, _ = dynamics.fire(
        current, torch.ones(channels), torch.zeros(channels), torch.tensor(v_threshold), neuron
    )
    return dynamics.unpack(packed, neuron.timesteps)


@pytest.mark.parametrize("timesteps", [1, 5, 8, 9, 20])
def test_if_spikes_are_spikingjellys(timesteps: int) -> None:
    torch.manual_seed(timesteps)
    current = torch.randn(timesteps, *SHAPE) * 2
    neuron = make("if", timesteps)
    oracle = DSRIFNode(T=timesteps, v_threshold=1.7, alpha=0.5)
    assert torch.equal(fire(current, 1.7, neuron), oracle(current) > 0)


@pytest.mark.parametrize(("timesteps", "alpha", "dt"), [(5, 0.5, 0.1), (20, 0.3, 0.05)])
def test_lif_spikes_are_spikingjellys(timesteps: int, alpha: float, dt: float) -> None:
    torch.manual_seed(timesteps)
    current = torch.randn(timesteps, *SHAPE) * 4 + 2
    neuron = make("lif", timesteps, alpha, dt)
    oracle = DSRLIFNode(T=timesteps, v_threshold=0.3, tau=1.0, delta_t=dt, alpha=alpha)
    spikes = fire(current, 0.3, neuron)
    assert torch.equal(spikes, oracle(current) > 0)
    assert 0.1 < spikes.float().mean() < 0.9


def representation_gradients(
    current: torch.Tensor, height: float, upstream: torch.Tensor, neuron: Neuron
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients to the mean input and to the height."""
    weights = torch.tensor(neuron.weights)
    mean = torch.einsum("tnhwc,t->nhwc", current, weights)
    return clamp_gradients(upstream, mean, torch.tensor(height), neuron)


def test_if_gradients_are_spikingjellys() -> None:
    torch.manual_seed(0)
    timesteps = 7
    current = (torch.randn(timesteps, *SHAPE) * 2).requires_grad_()
    oracle = DSRIFNode(T=timesteps, v_threshold=1.7, alpha=0.5)
    upstream = torch.randn(SHAPE)
    (oracle(current).mean(0) * upstream).sum().backward()
    neuron = make("if", timesteps)
    to_mean, to_height = representation_gradients(current.detach(), 1.7, upstream, neuron)
    assert current.grad is not None
    assert torch.allclose(to_mean / timesteps, current.grad[0], rtol=1e-5, atol=1e-7)
    assert torch.allclose(to_height, oracle.v_threshold.grad, rtol=1e-4)


def test_lif_gradients_are_spikingjellys_where_the_formula_agrees() -> None:
    """spikingjelly, as the authors, multiplies the Vth gradient by dt where Eq. 17 divides.

    Ours is the gradient to the height Vth / dt, which is spikingjelly's divided by dt: a
    step of gradient descent on the height then moves Vth as spikingjelly's moves it.
    """
    torch.manual_seed(0)
    timesteps, dt, v_threshold = 6, 0.1, 0.3
    current = (torch.randn(timesteps, *SHAPE) * 4 + 2).requires_grad_()
    oracle = DSRLIFNode(T=timesteps, v_threshold=v_threshold, tau=1.0, delta_t=dt, alpha=0.5)
    upstream = torch.randn(SHAPE)
    neuron = make("lif", timesteps, 0.5, dt)
    # spikingjelly takes the gradient of each step's output to be 1 / T of the representation's.
    (oracle(current).mean(0) * upstream).sum().backward()
    to_mean, to_height = representation_gradients(
        current.detach(), v_threshold / dt, upstream, neuron
    )
    assert current.grad is not None
    assert torch.allclose(to_mean / timesteps, current.grad[0], rtol=1e-4, atol=1e-6)
    assert oracle.v_threshold.grad is not None
    assert torch.allclose(to_height * dt, oracle.v_threshold.grad, rtol=1e-4)


def test_the_authors_share_lifs_gradient_evenly_over_time_and_stop_it_at_a_mean_of_zero() -> None:
    """What docs/training.md says of spikingjelly's neuron, which does as the authors' does."""
    torch.manual_seed(0)
    timesteps, dt, v_threshold = 6, 0.1, 0.3
    neuron = make("lif", timesteps, 0.5, dt)
    current = torch.randn(timesteps, *SHAPE) * 4 + 2
    current[:, 0, 0, 0, 0] = 0  # its mean is exactly 0
    theirs, ours = current.clone().requires_grad_(), current.clone().requires_grad_()
    upstream = torch.rand(SHAPE) + 0.5
    oracle = DSRLIFNode(T=timesteps, v_threshold=v_threshold, tau=1.0, delta_t=dt, alpha=0.5)
    (oracle(theirs).mean(0) * upstream).sum().backward()
    height = torch.tensor(v_threshold / dt)
    (UnrolledSpikes.apply(ours, height, neuron).mean(0) * upstream).sum().backward()
    assert theirs.grad is not None
    assert ours.grad is not None
    assert torch.equal(theirs.grad, theirs.grad[:1].expand_as(theirs.grad))
    total = ours.grad.sum(0)
    weights = torch.tensor(neuron.weights).reshape(-1, 1, 1, 1, 1)
    assert torch.allclose(ours.grad, weights * total, rtol=1e-5)
    assert theirs.grad[:, 0, 0, 0, 0].abs().max() == 0
    assert total[0, 0, 0, 0] > 0
    elsewhere = torch.ones(SHAPE, dtype=torch.bool)
    elsewhere[0, 0, 0, 0] = False
    assert torch.allclose(theirs.grad.sum(0)[elsewhere], total[elsewhere], rtol=1e-4)


def test_reset_keeps_the_overshoot() -> None:
    # Vth 2, fires at 1: u = 3 -> 1 left, fires again with input 0 -> -1, then 0.5 - 1 < 1.
    current = torch.tensor([3.0, 0.0, 0.5, 1.5]).reshape(4, 1, 1, 1, 1)
    spikes = fire(current, 2.0, make("if", 4))
    assert spikes.flatten().tolist() == [True, True, False, True]


def test_the_threshold_itself_fires() -> None:
    spikes = fire(torch.ones(1, 1, 1, 1, 1), 2.0, make("if", 1))
    assert spikes.all()


def test_a_constant_current_is_one_step_given_once() -> None:
    torch.manual_seed(1)
    neuron = make("lif", 11)
    once = torch.randn(1, *SHAPE) * 5
    assert torch.equal(
        fire(once, 0.3, neuron), fire(once.expand(11, *SHAPE).contiguous(), 0.3, neuron)
    )


def test_weights_of_the_representation() -> None:
    neuron = make("lif", 3, dt=0.5)
    decay = neuron.leak
    total = decay**2 + decay + 1
    assert neuron.weights == pytest.approx((decay**2 / total, decay / total, 1 / total))
    assert make("if", 4).weights == (0.25,) * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "lif2"}, r"^neuron 'lif2': choose if or lif$"),
        ({"timesteps": 0}, r"^timesteps must be 1 to 1024, not 0$"),
        ({"alpha": 1.5}, r"^alpha must be above 0 and at most 1, not 1\.5$"),
        ({"tau": 0.0}, r"^tau must be positive and finite, not 0\.0$"),
        ({"dt": float("nan")}, r"^dt must be positive and finite, not nan$"),
    ],
)
def test_constants_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    values = {"kind": "if", "timesteps": 4, "alpha": 0.5, "v_threshold_min": 0.01} | change
    with pytest.raises(ValueError, match=message):
        Neuron(**values)  # type: ignore[arg-type]
