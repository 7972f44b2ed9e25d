"""What happens along time: moments of the currents, neurons, packed spike trains.

Nothing here has a gradient. Tensors are channels last, (T, N, H, W, C). A spike
train is packed eight timesteps to a byte: (ceil(T / 8), N, H, W, C), bit t % 8 of
plane t // 8 is the spike at t. On a CPU numba kernels do the work in one pass, on a GPU
Triton's do; elsewhere torch does, with the same operations in the same order.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dsr_deploy.models import dynamics_cpu
from dsr_deploy.models.neuron import Neuron


def moments(current: Tensor, neuron: Neuron) -> tuple[Tensor, Tensor, Tensor]:
    """Return a current's mean over time, and per channel its sum and sum of squares.

    Parameters
    ----------
    current : float32 (T, N, H, W, C), or (1, N, H, W, C) if it is the same at every timestep

    Returns
    -------
    mean : float32 (N, H, W, C), weighted as the neuron's representation is
    sum, square : float64 (C,), over the steps given, positions and samples
    """
    if _engine(current.device) == "triton":
        from dsr_deploy.models import dynamics_gpu

        return dynamics_gpu.moments(current, neuron)
    weights = torch.tensor(neuron.weights, dtype=torch.float32)
    if _engine(current.device) == "numba":
        mean = torch.empty(current.shape[1:])
        sums = dynamics_cpu.moments(_rows(current), weights.numpy(), _rows(mean[None])[0])
        total, square = torch.from_numpy(sums).sum(1)
        return mean, total, square
    total = current.sum((0, 1, 2, 3), dtype=torch.float64)
    square = torch.stack([step.double().square().sum((0, 1, 2)) for step in current]).sum(0)
    if len(current) == 1:
        return current[0].float().clone(), total, square
    mean = torch.zeros(current.shape[1:], device=current.device)
    for step, weight in zip(current, weights.tolist(), strict=True):
        mean.add_(step, alpha=weight)
    return mean, total, square


def fire(
    current: Tensor, scale: Tensor, shift: Tensor, v_threshold: Tensor, neuron: Neuron
) -> tuple[Tensor, Tensor]:
    """Run neurons on ``scale * current + shift`` for T timesteps.

    Parameters
    ----------
    current : float32 (T, N, H, W, C) or (1, N, H, W, C)
    scale, shift : float32 (C,)
    v_threshold : float32 scalar

    Returns
    -------
    packed : uint8 (ceil(T / 8), N, H, W, C), the spike train
    rate : float32 (N, H, W, C), the weighted mean of the spikes, 0 to 1
    """
    if _engine(current.device) == "triton":
        from dsr_deploy.models import dynamics_gpu

        return dynamics_gpu.fire(current, scale, shift, v_threshold, neuron)
    weights = torch.tensor(neuron.weights, dtype=torch.float32)
    planes = (neuron.timesteps + 7) // 8
    packed = torch.zeros((planes, *current.shape[1:]), dtype=torch.uint8, device=current.device)
    rate = torch.zeros(current.shape[1:], device=current.device)
    v_fire = neuron.alpha * v_threshold
    if _engine(current.device) == "numba":
        dynamics_cpu.fire(
            _rows(current),
            scale.numpy(),
            shift.numpy(),
            weights.numpy(),
            np.float32(neuron.leak),
            np.float32(neuron.gain),
            np.float32(v_fire.item()),
            np.float32(v_threshold.item()),
            _rows(packed),
            _rows(rate[None])[0],
        )
        return packed, rate
    v = torch.zeros_like(rate)
    for t, weight in enumerate(weights.tolist()):
        step = current[t if len(current) > 1 else 0]
        v = neuron.leak * v + neuron.gain * (step * scale + shift)
        spike = v >= v_fire
        v = v - v_threshold * spike
        packed[t // 8] |= spike.to(torch.uint8) << (t % 8)
        rate.add_(spike, alpha=weight)
    return packed, rate


def fire_integer(
    current: Tensor,
    bias: Tensor,
    v_fire: Tensor,
    v_threshold: Tensor,
    keep: float,
    weights: Tensor,
) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Run integer neurons, carried exactly in floats, for T timesteps.

    ::

        u = trunc(v * keep) + current + bias;  s = u >= v_fire;  v = u - v_threshold * s

    Parameters
    ----------
    current : float32 or float64 (T, N, H, W, C) or (1, N, H, W, C), whole numbers
    bias, v_fire, v_threshold : float64 (C,), whole numbers
    keep : (4096 - decay) / 4096
    weights : float32 (T,), of the rate

    Returns
    -------
    packed : uint8 (ceil(T / 8), N, H, W, C), the spike train
    rate : float32 (N, H, W, C), the weighted sum of the spikes
    range : smallest and largest u
    """
    if _engine(current.device) == "triton":
        from dsr_deploy.models import dynamics_gpu

        return dynamics_gpu.fire_integer(current, bias, v_fire, v_threshold, keep, weights)
    timesteps = len(weights)
    packed = torch.zeros(
        ((timesteps + 7) // 8, *current.shape[1:]), dtype=torch.uint8, device=current.device
    )
    rate = torch.zeros(current.shape[1:], device=current.device)
    if _engine(current.device) == "numba":
        least, most = dynamics_cpu.fire_integer(
            _rows(current),
            bias.numpy(),
            v_fire.numpy(),
            v_threshold.numpy(),
            np.float64(keep),
            weights.numpy(),
            _rows(packed),
            _rows(rate[None])[0],
        )
        return packed, rate, (int(least.min()), int(most.max()))
    v = torch.zeros_like(rate, dtype=torch.float64)
    extremes = []
    for t, weight in enumerate(weights.tolist()):
        u = torch.trunc(v * keep) + (current[t if len(current) > 1 else 0] + bias)
        extremes.append(torch.stack(torch.aminmax(u)))
        spike = u >= v_fire
        v = u - v_threshold * spike
        packed[t // 8] |= spike.to(torch.uint8) << (t % 8)
        rate.add_(spike, alpha=weight)
    least, most = torch.stack(extremes).T
    return packed, rate, (int(least.min()), int(most.max()))


def expand(packed: Tensor, first: int, count: int, dtype: torch.dtype) -> Tensor:
    """Return the spikes from timestep ``first`` on, 0 or 1, ``dtype`` (count, N, H, W, C).

    Parameters
    ----------
    dtype : uint8, bfloat16, float32 or float64
    """
    if _engine(packed.device) == "triton":
        from dsr_deploy.models import dynamics_gpu

        return dynamics_gpu.expand(packed, first, count, dtype)
    if _engine(packed.device) == "numba":
        out = torch.empty((count, *packed.shape[1:]), dtype=dtype)
        one = torch.ones((), dtype=dtype)
        if dtype == torch.bfloat16:  # which numpy does not know: its bits do
            out, one = out.view(torch.int16), one.view(torch.int16)
        flat = packed.numpy().reshape(len(packed), -1)
        dynamics_cpu.expand(flat, first, one.numpy()[()], out.numpy().reshape(count, -1))
        return out.view(dtype)
    steps = [(packed[t // 8] >> (t % 8)) & 1 for t in range(first, first + count)]
    return torch.stack(steps).to(dtype)


def add_spikes(total: Tensor, packed: Tensor, height: Tensor) -> None:
    """Add ``height * spike`` to ``total``, float32 (T, N, H, W, C), in place."""
    if _engine(packed.device) == "triton":
        from dsr_deploy.models import dynamics_gpu

        dynamics_gpu.add_spikes(total, packed, height)
        return
    if _engine(packed.device) == "numba":
        flat = packed.numpy().reshape(len(packed), -1)
        rows = total.numpy().reshape(len(total), -1)
        dynamics_cpu.add_spikes(flat, np.float32(height.item()), rows)
        return
    for t, step in enumerate(total):
        step.addcmul_((packed[t // 8] >> (t % 8)) & 1, height)


def spike_counts(packed: Tensor) -> Tensor:
    """Return how often each neuron of a packed train spikes, int32 (N, H, W, C)."""
    return _bit_counts(packed).sum(0, dtype=torch.int32)


def unpack(packed: Tensor, timesteps: int) -> Tensor:
    """Return the spikes of a packed train, bool (T, N, H, W, C)."""
    return expand(packed, 0, timesteps, torch.uint8).bool()


def firing_rate(packed: Tensor, timesteps: int) -> float:
    """Return the plain mean of all spikes of a packed train, 0 to 1."""
    return _bit_counts(packed).sum().item() / (packed[0].numel() * timesteps)


def _bit_counts(packed: Tensor) -> Tensor:
    """Return the number of ones in each byte: of pairs of bits, of fours, of all eight."""
    pairs = packed - ((packed >> 1) & 0x55)
    fours = (pairs & 0x33) + ((pairs >> 2) & 0x33)
    return (fours + (fours >> 4)) & 0x0F


@cache
def _engine(device: torch.device) -> Literal["numba", "triton", "torch"]:
    """Return what runs the passes on a device; Triton is imported only where it does."""
    if device.type == "cpu":
        return "numba"
    # Triton supports no older card.
    if find_spec("triton") and torch.cuda.get_device_capability(device) >= (8, 0):
        return "triton"
    return "torch"


def _rows(tensor: Tensor) -> np.ndarray:
    """View (T, N, H, W, C) as a numpy array (T, N * H * W, C)."""
    return tensor.numpy().reshape(len(tensor), -1, tensor.shape[-1])
