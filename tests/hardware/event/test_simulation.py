"""What a simulation counts, and what two of them make together."""

from __future__ import annotations

import numpy as np
import pytest

from dsr_deploy.hardware.event.simulation import ConnectionCounts, PopulationCounts, Simulation
from dsr_deploy.hardware.run import Run


def counts(seed: int, updates: int, u_min: int, u_max: int) -> PopulationCounts:
    rng = np.random.default_rng(seed)
    return PopulationCounts(
        spikes=rng.integers(0, 9, (2, 3, 1)),
        per_timestep=rng.integers(0, 9, 4),
        updates=updates,
        u_min=u_min,
        u_max=u_max,
    )


def simulation(seed: int, samples: int, *, recorded: bool) -> Simulation:
    rng = np.random.default_rng(seed)
    spikes = rng.integers(0, 2, (samples, 4, 2, 3, 1)).astype(bool)
    return Simulation(
        samples=samples,
        run=Run(rng.integers(-9, 9, (samples, 3)), {"a": spikes} if recorded else None),
        populations={
            "a": counts(seed, 10 * seed, -seed, seed),
            "b": counts(seed + 1, 3 * seed, seed - 5, 5 - seed),
        },
        connections=(ConnectionCounts(seed, 7 * seed), ConnectionCounts(100 * seed, 2 * seed)),
        input_events=1000 * seed,
        timesteps=4,
    )


def test_counts_add_up() -> None:
    first, second = counts(1, 5, -7, 3), counts(2, 8, -2, 9)
    merged = first.merge(second)
    assert np.array_equal(merged.spikes, first.spikes + second.spikes)
    assert np.array_equal(merged.per_timestep, first.per_timestep + second.per_timestep)
    assert (merged.updates, merged.u_min, merged.u_max) == (13, -7, 9)
    assert (second.merge(first).u_min, second.merge(first).u_max) == (-7, 9)


def test_a_merged_simulation_has_the_samples_of_both() -> None:
    first, second = simulation(1, 2, recorded=True), simulation(2, 3, recorded=True)
    merged = first.merge(second)
    assert (merged.samples, merged.timesteps, merged.input_events) == (5, 4, 3000)
    assert merged.run.scores.tolist() == [*first.run.scores.tolist(), *second.run.scores.tolist()]
    assert merged.run.spikes is not None
    assert first.run.spikes is not None
    assert second.run.spikes is not None
    assert np.array_equal(merged.run.spikes["a"][:2], first.run.spikes["a"])
    assert np.array_equal(merged.run.spikes["a"][2:], second.run.spikes["a"])
    assert list(merged.populations) == ["a", "b"]
    assert [merged.populations[name].updates for name in "ab"] == [30, 9]
    assert merged.connections == (ConnectionCounts(3, 21), ConnectionCounts(300, 6))


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (False, False)])
def test_spikes_are_kept_only_if_both_recorded_them(first: bool, second: bool) -> None:
    one, other = simulation(1, 1, recorded=first), simulation(2, 1, recorded=second)
    assert one.merge(other).run.spikes is None


def test_a_prediction_is_the_first_class_of_the_largest_score() -> None:
    run = Run(np.array([[1, 3, 3], [-2, -1, -5], [4, 4, 4]]))
    assert run.predictions.tolist() == [1, 1, 0]


def test_counts_alone_know_how_many_samples_there_were() -> None:
    whole = simulation(1, 3, recorded=True)
    counted = whole.without_scores()
    assert counted.samples == 3
    assert counted.run.scores.shape == (0, 3)
    assert counted.run.spikes is None
    assert (counted.connections, counted.input_events) == (whole.connections, 1000)
    assert counted.merge(counted).samples == 6
