"""Blocks of samples and of timesteps, what is counted over many of them, and who has the arrays."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
from numpy.typing import NDArray

from dsr_deploy.hardware import reference
from dsr_deploy.hardware.errors import RegisterError
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.event.worker import BLOCK, Worker
from dsr_deploy.hardware.network import INPUT, Connection, Input, IntegerNetwork, Population

Int8 = NDArray[np.int8]


def network(timesteps: int, *, framed: bool) -> IntegerNetwork:
    """Leaky neurons "a" that see the input, and "out" that sees both."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> Int8:
        return rng.integers(-7, 8, shape).astype(np.int8)

    def population(name: str, channels: int, size: int, decay: int) -> Population:
        bias, fire, threshold = ([x] * channels for x in (1, 150, 250))
        arrays = (np.array(x, np.int32) for x in (bias, fire, threshold))
        return Population(name, (channels, size, size), *arrays, decay)

    return IntegerNetwork(
        "blocks",
        timesteps,
        Input((2, 3, 3), (0.0,) * 2, (1.0,) * 2, 1.0, 1.0, -128, 127, framed=framed),
        (population("a", 3, 3, 300), population("out", 2, 1, 0)),
        (
            Connection(INPUT, "a", "conv", weight(3, 2, 3, 3), 4, padding=(1, 1)),
            Connection("a", "out", "linear", weight(2, 27), 4, 3),
            Connection(INPUT, "out", "linear", weight(2, 18), 4),
        ),
        tuple(range(1, timesteps + 1)),
    )


def shown(made: IntegerNetwork, samples: int) -> Int8:
    """Payloads of which the first sample has much larger ones than the others."""
    frames = (made.timesteps,) if made.input.framed else ()
    payloads = np.random.default_rng(1).integers(-9, 10, (samples, *frames, *made.input.shape))
    payloads[0] *= 3
    return payloads.astype(np.int8)


def assert_as_the_reference(made: IntegerNetwork, payloads: Int8, found: Simulation) -> None:
    names = [p.name for p in made.populations]
    expected = reference.run(made, payloads, record=True, potentials=names)
    assert expected.spikes is not None
    assert expected.potentials is not None
    assert np.array_equal(found.run.scores, expected.scores)
    for p in made.populations:
        spikes, counts = expected.spikes[p.name], found.populations[p.name]
        if found.run.spikes is not None:
            assert np.array_equal(found.run.spikes[p.name], spikes)
        assert 0 < spikes.sum() < spikes.size
        assert np.array_equal(counts.spikes, spikes.sum((0, 1)))
        assert np.array_equal(counts.per_timestep, spikes.sum((0, 2, 3, 4)))
        u = expected.potentials[p.name] + p.v_threshold[:, None, None] * spikes
        assert (counts.u_min, counts.u_max) == (min(0, u.min()), max(0, u.max()))
    entered = np.count_nonzero(payloads) * (1 if made.input.framed else made.timesteps)
    assert found.input_events == entered
    into_out = (found.connections[1].events, found.connections[2].events)
    assert into_out == (expected.spikes["a"].sum(), entered)


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize(
    "timesteps", [1, 5, BLOCK // 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 6]
)
def test_samples_of_any_length_are_counted_whole(timesteps: int, framed: bool) -> None:
    made = network(timesteps, framed=framed)
    payloads = shown(made, 2 * BLOCK + 3 if timesteps == 1 else 8)
    simulator = Simulator(made)
    for record in (True, False):  # the second time by a worker that has been used
        found = simulator.run(payloads, record=record, threads=1)
        assert_as_the_reference(made, payloads, found)


def test_more_spikes_of_a_neuron_than_16_bits_count_are_all_counted() -> None:
    one, timesteps, samples = np.ones(1, np.int32), 1024, 129
    made = IntegerNetwork(
        "always",
        timesteps,
        Input((1, 1, 1), (0.0,), (1.0,), 1.0, 1.0),
        (Population("out", (1, 1, 1), one, one, one),),
        (Connection(INPUT, "out", "linear", np.ones((1, 1), np.int8), 2),),
        (1,) * timesteps,
    )
    found = Simulator(made).run(np.zeros((samples, 1, 1, 1), np.int8), threads=1)
    assert timesteps * samples > 2 * 2**16
    assert found.populations["out"].spikes.tolist() == [[[timesteps * samples]]]


@pytest.mark.slow
def test_channels_beyond_16_bits_are_told_apart() -> None:
    channels = 2**16 + 8
    chosen = [5, 2**16 + 5]  # their numbers are the same in 16 bits
    weight = np.zeros((1, channels), np.int8)
    weight[0, chosen] = 1, 3
    each, one = np.ones(channels, np.int32), np.ones(1, np.int32)
    made = IntegerNetwork(
        "wide",
        1,
        Input((channels, 1, 1), (0.0,) * channels, (1.0,) * channels, 1.0, 1.0),
        (
            Population("a", (channels, 1, 1), 0 * each, each, each),
            Population("out", (1, 1, 1), 0 * one, 100 * one, one),
        ),
        (
            Connection(INPUT, "a", "identity", np.ones(channels, np.int8), 2),
            Connection("a", "out", "linear", weight, 4),
        ),
        (1,),
    )
    payloads = np.zeros((1, channels, 1, 1), np.int8)
    payloads[0, chosen[1]] = 1
    found = Simulator(made).run(payloads).populations
    assert np.flatnonzero(found["a"].spikes).tolist() == chosen[1:]
    assert found["out"].u_max == 3


@pytest.mark.parametrize("framed", [False, True])
def test_a_simulator_is_right_after_an_error(framed: bool) -> None:
    made = network(BLOCK + 8, framed=framed)
    into, *others = made.connections
    made = replace(made, connections=(replace(into, exponent=13), *others))
    good = shown(made, 3) // 9
    bad = np.full_like(good, 127)
    simulator = Simulator(made)
    expected = Simulator(made).run(good, record=True)
    for _ in range(2):
        with pytest.raises(RegisterError):
            simulator.run(bad, threads=2)
        found = simulator.run(good, record=True, threads=2)
        assert np.array_equal(found.run.scores, expected.run.scores)
        assert found.connections == expected.connections
        assert found.input_events == expected.input_events
        for name, counts in expected.populations.items():
            assert np.array_equal(found.populations[name].spikes, counts.spikes)
            assert found.populations[name].u_max == counts.u_max


def test_an_error_in_a_later_block_names_its_timestep() -> None:
    made = network(BLOCK + 8, framed=True)
    into, *others = made.connections
    made = replace(made, connections=(replace(into, exponent=13), *others))
    payloads = shown(made, 3) * 0
    payloads[1, BLOCK + 3 :] = 127
    payloads[2] = 127
    with pytest.raises(RegisterError, match=rf" at timestep {BLOCK + 3} of sample 1 leaves "):
        Simulator(made).run(payloads, threads=1)


def meet(monkeypatch: pytest.MonkeyPatch, number: int) -> list[tuple[Worker, list[int]]]:
    """Let workers begin when as many run at once; return which did, and their samples."""
    all_of_them, run, begun = Barrier(number, timeout=60), Worker.run, []

    def together(worker: Worker, payloads: Int8, samples: list[int], spikes: None) -> Simulation:
        begun.append((worker, samples))
        all_of_them.wait()
        return run(worker, payloads, samples, spikes)

    monkeypatch.setattr(Worker, "run", together)
    return begun


def test_runs_of_one_simulator_at_once_have_arrays_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = network(5, framed=False)
    payloads = shown(made, 8)
    simulator = Simulator(made)
    simulator.run(payloads, threads=1)  # leaves a worker that both would take
    begun = meet(monkeypatch, 2)
    parts = payloads[:5], payloads[3:]
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(simulator.run, part, threads=1) for part in parts]
    assert len({id(worker) for worker, _ in begun}) == 2
    for part, job in zip(parts, jobs, strict=True):
        assert_as_the_reference(made, part, job.result())


def test_threads_share_the_samples_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made = network(5, framed=True)
    payloads = shown(made, 8)
    begun = meet(monkeypatch, 3)
    assert_as_the_reference(made, payloads, Simulator(made).run(payloads, threads=3))
    assert sorted(samples for _, samples in begun) == [[0, 1, 2], [3, 4, 5], [6, 7]]
