"""Time the passes over time on a GPU, and say how near each comes to copying memory.

``python benchmarks/gpu_kernels.py`` prints a row for each kernel and each layer shape of
PreAct-ResNet-18 (CIFAR, T = 20, batch 128): microseconds, and the bytes that the kernel has to move
as a share of what a copy moves in that time on the same card. The last line is the table as JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import torch

from dsr_deploy.models import dynamics
from dsr_deploy.models.architectures import topology
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.topology import INPUT

NEURON = Neuron("if", timesteps=20, alpha=0.5, v_threshold_min=0.001)
SAMPLES = 128
REPEATS = 20
COPIED = 1 << 30
"""Bytes of the copy that bandwidth is measured with; far more than any cache."""

Shape = tuple[int, int, int]
Pass = tuple[str, int, Callable[[], object]]
"""Name, bytes that have to be moved, and the call."""


def main() -> int:
    """Measure, print, and return the exit code."""
    if not torch.cuda.is_available() or find_spec("triton") is None:
        print("no GPU with Triton here: nothing to measure", file=sys.stderr)
        return 1
    card, bandwidth = torch.cuda.get_device_name(), copy_bandwidth()
    print(f"{card}: a copy moves {bandwidth / 1e9:.0f} GB/s")
    print(f"{'C, H, W':>14}  {'kernel':<18} {'us':>8} {'GB/s':>7} {'share':>6}")
    rows = []
    for shape in layer_shapes():
        for name, moved, call in passes(shape, torch.device("cuda")):
            time = seconds(call)
            rate = moved / time
            share = rate / bandwidth
            layer = "{}, {}, {}".format(*shape)
            print(f"{layer:>14}  {name:<18} {time * 1e6:8.1f} {rate / 1e9:7.0f} {share:6.0%}")
            rows.append({"shape": shape, "kernel": name, "seconds": time, "share": share})
    print(json.dumps({"device": card, "copy_bytes_per_second": bandwidth, "kernels": rows}))
    return 0


def layer_shapes() -> list[Shape]:
    """Return the distinct (C, H, W) of the convolutional layers, the largest first."""
    shapes = topology("resnet18", (3, 32, 32), 10).shapes()
    distinct = {shape for name, shape in shapes.items() if name != INPUT and shape[1] > 1}
    return sorted(distinct, key=lambda shape: -shape[0] * shape[1] * shape[2])


def passes(shape: Shape, device: torch.device) -> Iterator[Pass]:
    """Yield every kernel with the least it can read and write, in bytes."""
    channels, height, width = shape
    neurons = SAMPLES * channels * height * width
    train = neurons * NEURON.timesteps
    dims = (NEURON.timesteps, SAMPLES, height, width, channels)
    current = torch.randn(dims, device=device)
    scale, shift = torch.ones(channels, device=device), torch.zeros(channels, device=device)
    v_threshold = torch.ones((), device=device)
    packed, _ = dynamics.fire(current, scale, shift, v_threshold, NEURON)
    yield (
        "moments",
        train * 4 + neurons * 4,
        lambda: dynamics.moments(current, NEURON),
    )
    yield (
        "fire",
        train * 4 + packed.numel() + neurons * 4,
        lambda: dynamics.fire(current, scale, shift, v_threshold, NEURON),
    )
    for dtype, kind in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        yield (
            f"expand {kind}",
            packed.numel() + train * dtype.itemsize,
            lambda dtype=dtype: dynamics.expand(packed, 0, NEURON.timesteps, dtype),
        )
    yield (
        "add_spikes",
        packed.numel() + 2 * train * 4,
        lambda: dynamics.add_spikes(current, packed, v_threshold),
    )
    whole, wide = (current * 100).round_(), scale.double()
    weights = torch.ones(NEURON.timesteps, device=device)
    yield (
        "fire_integer",
        train * 4 + packed.numel() + neurons * 4,
        lambda: dynamics.fire_integer(whole, wide, 90 * wide, 180 * wide, 0.5, weights),
    )


def copy_bandwidth() -> float:
    """Return bytes read and written per second by a copy."""
    source = torch.empty(COPIED, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPIED / seconds(lambda: target.copy_(source))


def seconds(call: Callable[[], object]) -> float:
    """Return the median time of a call on the GPU, once it is compiled and warm."""
    for _ in range(3):
        call()
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
