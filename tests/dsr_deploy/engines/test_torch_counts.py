"""The torch engine counts what the event-driven simulator counts, every number of it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import integer_networks, payloads_for
from random_networks import random_network, residual_network

from dsr_deploy.engines import torch as torch_engine
from dsr_deploy.engines import torch_counts
from dsr_deploy.engines.torch import DeviceError
from dsr_deploy.engines.torch_counts import TorchCounter
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.errors import PayloadError, RegisterError
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.network import IntegerNetwork

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.cuda,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
        ],
    ),
]


def assert_same(found: Simulation, expected: Simulation) -> None:
    """Compare every number of two simulations."""
    np.testing.assert_array_equal(found.run.scores, expected.run.scores)
    assert (found.samples, found.timesteps) == (expected.samples, expected.timesteps)
    assert found.input_events == expected.input_events
    assert found.connections == expected.connections
    assert list(found.populations) == list(expected.populations)
    for name, counts in expected.populations.items():
        other = found.populations[name]
        np.testing.assert_array_equal(other.spikes, counts.spikes)
        np.testing.assert_array_equal(other.per_timestep, counts.per_timestep)
        assert other.spikes.dtype == counts.spikes.dtype
        assert other.per_timestep.dtype == counts.per_timestep.dtype
        assert (other.updates, other.u_min, other.u_max) == (
            counts.updates, counts.u_min, counts.u_max,
        )  # fmt: skip


def _both(network: IntegerNetwork, payloads: np.ndarray, device: str) -> None:
    counter = TorchCounter(network, torch.device(device))
    assert_same(counter.run(payloads), Simulator(network).run(payloads, threads=1))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_small_networks_of_every_kind(data: st.DataObject) -> None:
    network = data.draw(integer_networks())
    payloads = data.draw(payloads_for(network))
    try:
        expected = Simulator(network).run(payloads, threads=1)
    except RegisterError:
        with pytest.raises(RegisterError, match="leaves the 24-bit register"):
            TorchCounter(network, torch.device("cpu")).run(payloads)
        return
    assert_same(TorchCounter(network, torch.device("cpu")).run(payloads), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(8))
def test_strides_padding_groups_pools_and_frames(device: str, seed: int) -> None:
    build = random_network(seed)
    _both(build.network(), build.payloads(5), device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("decay", [0, 819])
def test_a_residual_network(device: str, decay: int) -> None:
    build = residual_network(0, shape=(3, 8, 8), stages=(4, 8), timesteps=9, decay=decay)
    _both(build.network(), build.payloads(4), device)


def test_no_sample_and_many_have_the_same_form() -> None:
    build = random_network(3)
    network, payloads = build.network(), build.payloads(7)
    counter = TorchCounter(network, torch.device("cpu"))
    assert_same(counter.run(payloads[:0]), Simulator(network).run(payloads[:0]))
    parts = counter.run(payloads[:0]).merge(counter.run(payloads[:3]))
    assert_same(parts.merge(counter.run(payloads[3:])), Simulator(network).run(payloads))
    with pytest.raises(PayloadError, match=r"^input: payloads are uint8"):
        counter.run(payloads.astype(np.uint8))


def test_samples_that_do_not_fit_at_once_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    build = random_network(4)
    network, payloads = build.network(), build.payloads(7)
    sizes: list[int] = []
    count = TorchCounter._count

    def with_room_for_two(counter: TorchCounter, part: np.ndarray) -> Simulation:
        sizes.append(len(part))
        if len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return count(counter, part)

    monkeypatch.setattr(TorchCounter, "_count", with_room_for_two)
    found = TorchCounter(network, torch.device("cpu")).run(payloads)
    assert_same(found, Simulator(network).run(payloads))
    assert sizes == [7, 3, 1, 2, 4, 2, 2]


def test_a_device_without_room_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    build = random_network(5)

    def no_room(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    way = "of the network 'random'; leave out the device, or end other programs on it"
    counter = TorchCounter(build.network(), torch.device("cpu"))
    monkeypatch.setattr(TorchCounter, "_count", no_room)
    message = f"device 'cpu': out of memory for a single sample {way}"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        counter.run(build.payloads(3))
    monkeypatch.setattr(torch_counts, "TorchEngine", no_room)
    message = f"device 'cpu': out of memory for its weights {way}"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        TorchCounter(build.network(), torch.device("cpu"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_device_that_rounds_is_refused(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    convolution = torch.nn.functional.conv2d
    calls: list[int] = []

    def rounds_first(*given: torch.Tensor, **options: int) -> torch.Tensor:
        calls.append(1)
        return convolution(*given, **options) + (len(calls) == 1) * 0.25

    monkeypatch.setattr(torch_engine.F, "conv2d", rounds_first)
    message = (
        f"device 'cpu': its {str(dtype)[6:]} convolutions do not add integers exactly; use the "
        "device cpu"
    )
    with pytest.raises(DeviceError, match=f"^{re.escape(message)}$"):
        torch_engine.check_exact.__wrapped__(torch.device("cpu"), dtype)
