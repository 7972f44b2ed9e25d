"""Files written once: today's code writes the same bytes, reads them, and gives the same spikes."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import onnx
import onnx_runs
import pytest
from golden_networks import FOLDER, KINDS, Kind, golden_network, golden_payloads, summary
from pipelined_chip import run_scheduled

from dsr_deploy import __version__
from dsr_deploy.engines.torch import TorchEngine
from dsr_deploy.formats.onnx import to_onnx
from dsr_deploy.hardware import bounds, reference
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.format.network_file import read, to_bytes
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.run import Run

ENGINES: dict[str, Callable[[IntegerNetwork, np.ndarray], Run]] = {
    "reference": lambda network, sent: reference.run(network, sent, record=True),
    "scheduled": lambda network, sent: run_scheduled(network, sent, record=True),
    "event": lambda network, sent: Simulator(network).run(sent, record=True).run,
    "torch": lambda network, sent: TorchEngine(network).run(sent, record=True),
    "onnx": lambda network, sent: onnx_runs.run(network, sent, record=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_gives_the_golden_bytes(kind: Kind) -> None:
    assert to_bytes(golden_network(kind)) == (FOLDER / f"{kind}.safetensors").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_golden_bytes_give_the_network(kind: Kind) -> None:
    network = read(FOLDER / f"{kind}.safetensors")
    assert {p.neuron for p in network.populations} == {kind}
    assert {c.kind for c in network.connections} == {"conv", "pool", "identity", "linear"}
    assert to_bytes(network) == (FOLDER / f"{kind}.safetensors").read_bytes()
    bounds.check(network)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_golden_file_gives_the_golden_spikes(kind: Kind, engine: str) -> None:
    network = read(FOLDER / f"{kind}.safetensors")
    run = ENGINES[engine](network, golden_payloads(network))
    expected = json.loads((FOLDER / f"{kind}.json").read_text())
    assert summary(run) == expected
    counts = [population["count"] for population in expected["spikes"].values()]
    assert min(counts) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_gives_the_golden_onnx_file_but_for_the_version(kind: Kind) -> None:
    model = onnx.load(FOLDER / f"{kind}.onnx")
    model.producer_version = __version__
    found = to_onnx(golden_network(kind)).SerializeToString(deterministic=True)
    assert model.SerializeToString(deterministic=True) == found


@pytest.mark.parametrize("kind", KINDS)
def test_a_golden_onnx_file_gives_the_golden_spikes(kind: Kind) -> None:
    network = golden_network(kind)
    run = onnx_runs.run(
        network, golden_payloads(network), record=True, file=FOLDER / f"{kind}.onnx"
    )
    assert summary(run) == json.loads((FOLDER / f"{kind}.json").read_text())
