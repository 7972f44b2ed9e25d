"""Time per sample of the event-driven simulator, beside what else runs the same network.

PreAct-ResNet-18 and ResNet-20 of random weights, whose thresholds are set so that every population
fires at a given rate, on CIFAR-size images; in one run, on the same samples:

- event: this project's simulator, spikes counted;
- alone: the simulator in one thread; bare: its kernels, without what surrounds them;
- torch: this project's dense engine, in 8-bit products where the processor has them;
- fp32: the same network in PyTorch, one timestep after the other, as its users would write it;
- spikingjelly: the same layers with its IF neurons, all timesteps of a layer at once;
- onnxruntime: the exported graph, its loop over time included.

The engines take turns, and the fastest round of each counts: on a shared machine the others tell
of its neighbours. Every engine's predictions are compared with the simulator's.

    python benchmarks/simulate.py [--arch resnet20] [--timesteps 4 20] [--rates 0.02 0.08 0.16]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import firing
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from stepping import SpikingjellyNetwork, SteppedNetwork
from untrained import pictures, untrained

from dsr_deploy.engines.onnx import OnnxEngine
from dsr_deploy.engines.torch import TorchEngine
from dsr_deploy.formats import load_target
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.network import IntegerNetwork

Engine = Callable[[NDArray[np.int8]], NDArray[np.int64]]
"""Takes payloads, returns predictions."""

PEERS = ("torch", "fp32", "spikingjelly", "onnxruntime")
SAMPLES = {"resnet18": 4, "resnet20": 32}
SECONDS = 0.5
"""A round repeats an engine for as long."""


def engines(network: IntegerNetwork, names: list[str]) -> dict[str, Engine]:
    """Return what runs the network, by name."""
    simulator, threads = Simulator(network), torch.get_num_threads()
    found: dict[str, Engine] = {
        "event": lambda sent: simulator.run(sent, threads=threads).run.predictions
    }
    if "torch" in names:
        dense = TorchEngine(network)
        found["torch"] = lambda sent: dense.run(sent).predictions
    if "fp32" in names:
        found["fp32"] = SteppedNetwork(network).predict
    if "spikingjelly" in names:
        found["spikingjelly"] = SpikingjellyNetwork(network).predict
    if "onnxruntime" in names:
        content = load_target("onnx").write(network)
        (graph,) = (data for name, data in content.items() if name.endswith(".onnx"))
        session = OnnxEngine(network, graph)
        found["onnxruntime"] = lambda sent: session.run(sent).predictions
    return found


def measure(network: IntegerNetwork, samples: int, rounds: int, names: list[str]) -> dict[str, Any]:
    """Time every engine on the same samples; return what was counted and seconds per sample."""
    payloads = pictures(samples)
    running = engines(network, names)
    expected = running["event"](payloads)
    differ = {name: int((run(payloads) != expected).sum()) for name, run in running.items()}
    best = dict.fromkeys((*running, "alone", "bare"), float("inf"))
    single = Simulator(network)
    few = payloads[: max(1, samples // 4)]
    for _ in range(rounds):
        for name, run in running.items():
            best[name] = min(best[name], _seconds(lambda run=run: run(payloads)) / samples)
        alone = _seconds(lambda: single.run(few, threads=1)) / len(few)
        best["alone"] = min(best["alone"], alone)
        best["bare"] = min(
            best["bare"], firing.time_kernels(network, payloads[: firing.BARE_SAMPLES])
        )
    counted = Simulator(network).run(payloads)
    return {**_counts(counted), "samples": samples, "predictions_differ": differ, "seconds": best}


def _counts(counted: Simulation) -> dict[str, float]:
    updates = sum(population.updates for population in counted.populations.values())
    spikes = sum(int(population.spikes.sum()) for population in counted.populations.values())
    synops = sum(connection.synops for connection in counted.connections)
    return {"rate": spikes / updates, "synops": synops / counted.samples,
            "updates": updates / counted.samples}  # fmt: skip


def _seconds(run: Callable[[], object]) -> float:
    """Return the seconds of one call, the fastest of those that fit a round."""
    fastest, started = float("inf"), time.perf_counter()
    while True:
        before = time.perf_counter()
        run()
        now = time.perf_counter()
        fastest = min(fastest, now - before)
        if now - started > SECONDS:
            return fastest


def main() -> None:
    """Measure, print a table, and as the last line everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", nargs="+", default=["resnet20", "resnet18"])
    parser.add_argument("--timesteps", type=int, nargs="+", default=[4, 20])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.04, 0.08, 0.16])
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--neuron", choices=["if", "lif"], default="if")
    parser.add_argument("--engines", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    cases = [
        (arch, timesteps, bits, rate)
        for arch in options.arch
        for timesteps in options.timesteps
        for bits in options.bits
        for rate in options.rates
    ]
    results = []
    for arch, timesteps, bits, rate in track(cases, console=Console(stderr=True)):
        plain = untrained(arch, firing.neuron(options.neuron, timesteps), bits, samples=8)
        network = firing.with_rate(plain, rate)
        found = measure(network, SAMPLES.get(arch, 4), options.rounds, options.engines)
        results.append({"arch": arch, "timesteps": timesteps, "bits": bits, **found})
    Console(width=150).print(_table(results, options.engines))
    threads = torch.get_num_threads()
    print(json.dumps({"threads": threads, "cases": results, "ratios": _ratios(results)}))


def _table(results: list[dict[str, Any]], peers: list[str]) -> Table:
    threads = torch.get_num_threads()
    table = Table(title=f"Milliseconds per sample, {threads} threads; times as fast as each peer")
    for title in ("network", "T", "bits", "rate", "M synops", "event", "G synops/s",
                  "of bare kernels", *peers):  # fmt: skip
        table.add_column(title, justify="left" if title == "network" else "right")
    for case in results:
        seconds = case["seconds"]
        own = seconds["event"]
        table.add_row(
            case["arch"], str(case["timesteps"]), str(case["bits"]), f"{case['rate']:.1%}",
            f"{case['synops'] / 1e6:.1f}", f"{own * 1e3:.2f}", f"{case['synops'] / own / 1e9:.1f}",
            f"{seconds['bare'] / seconds['alone']:.0%}",
            *(f"{seconds[peer] * 1e3:.1f} ({seconds[peer] / own:.1f}x)" for peer in peers),
        )  # fmt: skip
    return table


def _ratios(results: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return, per case, how many times as fast as each peer the simulator is."""
    return {
        f"{case['arch']} T={case['timesteps']} {case['bits']} bits {case['rate']:.1%}": {
            name: seconds / case["seconds"]["event"]
            for name, seconds in case["seconds"].items()
            if name not in ("event", "alone", "bare")
        }
        for case in results
    }


if __name__ == "__main__":
    # As the command line does, see dsr_deploy.console.cli.main; for the peers alike.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()
