"""Run a foreign network as it was read, in floating point.

Every node is computed as its file has it, nothing is composed or rounded: what comes out is to be
compared with the framework that wrote the file, before any integer is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dsr_deploy.errors import UserError
from dsr_deploy.foreign.arithmetic import Arithmetic
from dsr_deploy.foreign.network import (
    Affine,
    Convolution,
    Flatten,
    Float64,
    ForeignNetwork,
    Inlet,
    Neurons,
    Node,
    Outlet,
    Pool,
    Scale,
    Shape,
)


@dataclass(frozen=True, eq=False)
class FloatRun:
    """What a simulation gives.

    Attributes
    ----------
    spikes : of each node of neurons, float64 (N, T, ...) of its shape: how often each fired
    output : what reaches the output, float64 (N, T, ...)
    """

    spikes: dict[str, Float64]
    output: Float64


def simulate(
    network: ForeignNetwork,
    inputs: NDArray[np.generic],
    arithmetic: Arithmetic,
    *,
    dtype: torch.dtype = torch.float64,
) -> FloatRun:
    """Run ``network`` on ``inputs``, from potentials of 0 (of v_leak, where neurons leak to it).

    Within a timestep every node sees what its sources give at the same timestep.

    Parameters
    ----------
    inputs : (N, T, ...) of the shape of the network's input
    dtype : of the arithmetic; frameworks compute in float32

    Raises
    ------
    UserError
        If the network has obstacles in its graph, several inputs or outputs, neurons whose
        arithmetic is not known here, or the inputs have another shape.
    """
    inlet, outlet = _ends(network)
    shape = network.shapes[inlet]
    if inputs.ndim < 2 or inputs.shape[2:] != shape:
        raise UserError(f"inputs must be (N, T) and {shape}, not {inputs.shape}")
    values: dict[str, Tensor] = {inlet: torch.as_tensor(inputs.astype(np.float64)).to(dtype)}
    spikes = {}
    with torch.no_grad():
        for name, node in network.nodes.items():
            if name == inlet:
                continue
            incoming = [values[source] for source in network.sources(name)]
            values[name] = evaluate(node, sum(incoming[1:], incoming[0]), arithmetic)
            if isinstance(node, Neurons) and node.v_threshold is not None:
                spikes[name] = values[name].double().numpy()
    return FloatRun(spikes, values[outlet].double().numpy())


def evaluate(node: Node, x: Tensor, arithmetic: Arithmetic | None = None) -> Tensor:
    """Return the output of one node for x of (N, T, ...); neurons need an arithmetic."""
    if isinstance(node, Neurons):
        assert arithmetic is not None
        return _neurons(node, x, arithmetic)
    if isinstance(node, Outlet):
        return x
    if isinstance(node, Flatten):
        return x.flatten(node.first + 2, node.last + 2 if node.last >= 0 else node.last)
    if isinstance(node, Scale):
        return x * _tensor(node.factor, x)
    if isinstance(node, Affine):
        return functional.linear(x, _tensor(node.weight, x), _tensor(node.bias, x))
    assert isinstance(node, Convolution | Pool)
    images = x.flatten(0, 1)
    if isinstance(node, Convolution):
        out = functional.conv2d(
            images,
            _tensor(node.weight, x),
            _tensor(node.bias, x),
            node.stride,
            node.padding,
            node.dilation,
            node.groups,
        )
    else:
        kernel = torch.ones((images.shape[1], 1, *node.kernel), dtype=x.dtype)
        if node.mean:
            kernel /= kernel[0].numel()
        out = functional.conv2d(
            images, kernel, None, node.stride, node.padding, groups=images.shape[1]
        )
    return out.reshape(*x.shape[:2], *out.shape[1:])


def _ends(network: ForeignNetwork) -> tuple[str, str]:
    """Return the one input and the one output of a network without obstacles."""
    if network.obstacles:
        raise UserError(str(network.obstacles[0]))
    inlets = [name for name, node in network.nodes.items() if isinstance(node, Inlet)]
    outlets = [name for name, node in network.nodes.items() if isinstance(node, Outlet)]
    if len(inlets) != 1 or len(outlets) != 1:
        raise UserError(
            f"network: {len(inlets)} inputs and {len(outlets)} outputs, one of each is simulated"
        )
    return inlets[0], outlets[0]


def _neurons(node: Neurons, x: Tensor, arithmetic: Arithmetic) -> Tensor:
    """Advance neurons by all T timesteps of x, (N, T, ...)."""
    shape: Shape = tuple(x.shape[2:])
    synaptic = node.tau_syn is not None
    if synaptic and arithmetic.exporter not in ("snnTorch", "spikingjelly", "NIR"):
        raise UserError(
            f"{node.type} of {arithmetic.exporter}: when its current reaches the potential is not "
            "known here; choose snntorch, spikingjelly or nir"
        )
    keep, gain = (_tensor(a, x) for a in (arithmetic.keep(node.tau), arithmetic.gain(node)))
    leak = _tensor(node.v_leak, x) if node.v_leak is not None else x.new_zeros(())
    if synaptic:
        assert node.tau_syn is not None
        assert node.w_in is not None
        keep_syn = _tensor(arithmetic.keep(node.tau_syn), x)
        gain_syn = _tensor(node.w_in * arithmetic.dt / node.tau_syn, x)
    current = x.new_zeros((x.shape[0], *shape))
    v = current + leak
    fired = torch.zeros_like(current)
    out = []
    for t in range(x.shape[1]):
        current = keep_syn * current + gain_syn * x[:, t] if synaptic else x[:, t]
        v = leak + keep * (v - leak) + gain * current
        if node.v_threshold is None:
            out.append(v)
            continue
        v, fired = _fire(node, v, fired, arithmetic)
        out.append(fired)
    return torch.stack(out, 1)


def _fire(
    node: Neurons, v: Tensor, before: Tensor, arithmetic: Arithmetic
) -> tuple[Tensor, Tensor]:
    """Return the potentials after the reset, and how often each neuron fires."""
    assert node.v_threshold is not None
    assert node.v_reset is not None
    threshold = _tensor(node.v_threshold, v)
    subtract = arithmetic.reset == "subtract"
    if arithmetic.late and subtract:
        v = v - threshold * before
    if arithmetic.many:
        fired = torch.div(v, threshold, rounding_mode="trunc").clamp(min=0)
    else:
        fired = (v > threshold if arithmetic.strict else v >= threshold).to(v.dtype)
    if not subtract:
        v = torch.where(fired > 0, _tensor(node.v_reset, v), v)
    elif not arithmetic.late:
        v = v - threshold * fired
    return v, fired


def _tensor(values: Float64, like: Tensor) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(values)).to(like.dtype)
