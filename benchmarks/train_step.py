"""Time and memory of a training step, beside spikingjelly's, measured in one run.

PreAct-ResNet-18 on CIFAR-size images, the same network three times:

- ours: DSR at the level of representations, in each precision that this machine has;
- DSRIFNode: the same method in spikingjelly, which keeps every timestep for the backward pass;
- BPTT: spikingjelly's IFNode with a surrogate gradient, backpropagated through time.

Every measurement is a process of its own, so that its peak memory is its own. The engines take
turns, and the fastest step of each counts: on a shared machine the others tell of its neighbours.

    python benchmarks/train_step.py [--timesteps 20] [--batch 32] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

V_THRESHOLD, ALPHA = 6.0, 0.5  # the paper's, supplement C.4
WARM_UP = 1
PEERS = ("DSRIFNode", "BPTT")


def ours(timesteps: int, precision: str, device: str) -> nn.Module:
    """Return our network in the given precision."""
    from dsr_deploy.models.architectures import topology
    from dsr_deploy.models.network import SpikingNetwork
    from dsr_deploy.models.neuron import Neuron

    neuron = Neuron("if", timesteps, ALPHA, 0.01)
    network = SpikingNetwork(topology("resnet18", (3, 32, 32), 10), neuron, V_THRESHOLD)
    network.precision = precision  # type: ignore[assignment]
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def peer(timesteps: int, kind: str, device: str) -> nn.Module:
    """Return spikingjelly's network: ``"dsr"`` or ``"bptt"``."""
    from peers import PreActResNet18
    from spikingjelly.activation_based import neuron, surrogate

    def dsr() -> nn.Module:
        return neuron.DSRIFNode(T=timesteps, v_threshold=V_THRESHOLD, alpha=ALPHA)

    def bptt() -> nn.Module:
        return neuron.IFNode(surrogate_function=surrogate.ATan(), detach_reset=True, step_mode="m")

    return PreActResNet18(timesteps, dsr if kind == "dsr" else bptt).to(device)


def measure(engine: str, timesteps: int, batch: int, steps: int, device: str) -> dict[str, Any]:
    """Train for some steps; return seconds of each and the peak memory of this process."""
    torch.manual_seed(0)
    name, _, precision = engine.partition(" ")
    network = (
        ours(timesteps, precision, device)
        if name == "ours"
        else peer(timesteps, {"DSRIFNode": "dsr", "BPTT": "bptt"}[name], device)
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    images = torch.randn(batch, 3, 32, 32, device=device)
    labels = torch.randint(0, 10, (batch,), device=device)
    seconds = []
    for _ in range(WARM_UP + steps):
        started = time.perf_counter()
        step(network, optimizer, images, labels)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"seconds": seconds[WARM_UP:], "peak_mib": peak}


def step(
    network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> None:
    """Take one training step."""
    loss = F.cross_entropy(network(images), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if hasattr(network, "clamp_thresholds"):
        network.clamp_thresholds()
    else:
        from spikingjelly.activation_based import functional

        functional.reset_net(network)


def compare(engines: list[str], timesteps: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure the engines in turn; return per engine the fastest step and the peak memory."""
    found: dict[str, Any] = {name: {"seconds": float("inf"), "peak_mib": 0.0} for name in engines}
    for _ in range(options.rounds):
        for name in engines:
            command = [
                sys.executable, __file__, "--engine", name, "--timesteps", str(timesteps),
                "--batch", str(options.batch), "--steps", str(options.steps),
            ]  # fmt: skip
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            result = json.loads(done.stdout.splitlines()[-1])
            best = found[name]
            best["seconds"] = min(best["seconds"], *result["seconds"])
            best["peak_mib"] = max(best["peak_mib"], result["peak_mib"])
    return found


def precisions(device: str) -> list[str]:
    """Return the arithmetics to measure on this machine."""
    from dsr_deploy.models import int8_convolution

    if device == "cuda":
        return ["fp32", "bf16"]
    able = torch.cpu.get_capabilities()
    bf16 = ["bf16"] if able.get("avx512_bf16") or able.get("amx_bf16") else []
    return ["fp32", *bf16, *(["fixed16"] if int8_convolution.is_fast() else [])]


def main() -> None:
    """Measure, print a table, and as the last line everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--timesteps", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each process")
    parser.add_argument("--rounds", type=int, default=2, help="processes per engine")
    parser.add_argument("--engine", help=argparse.SUPPRESS)  # measure this one, in this process
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.engine:
        (timesteps,) = options.timesteps
        measured = measure(options.engine, timesteps, options.batch, options.steps, device)
        print(json.dumps(measured))
        return
    engines = [*(f"ours {name}" for name in precisions(device)), *PEERS]
    results = {t: compare(engines, t, options) for t in options.timesteps}
    table = Table(title=f"A training step, PreAct-ResNet-18, batch {options.batch}, {device}")
    for title in ("T", "engine", "s / step", "DSRIFNode / it", "BPTT / it", "peak MiB"):
        table.add_column(title, justify="right" if title != "engine" else "left")
    for timesteps, found in results.items():
        for name in engines:
            own = found[name]
            ratios = [found[p]["seconds"] / own["seconds"] for p in PEERS]
            own["times_as_fast_as"] = dict(zip(PEERS, ratios, strict=True))
            table.add_row(
                str(timesteps), name, f"{own['seconds']:.2f}", *(f"{r:.2f}" for r in ratios),
                f"{own['peak_mib']:.0f}",
            )  # fmt: skip
    Console().print(table)
    print(json.dumps({"device": device, "threads": torch.get_num_threads(), "steps": results}))


if __name__ == "__main__":
    # As the command line does, see dsr_deploy.console.cli.main; for the peers alike.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()
