"""A channel counts only where all its neurons do; a CSV has one column per number."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from dsr_deploy.measures import sparsity


def measured() -> sparsity.Sparsity:
    """Measure three channels of two neurons in two timesteps of one sample."""
    # All neurons of the first channel spike always, one of the second, none of the third.
    spikes = np.array([[2, 2], [2, 1], [0, 0]]).reshape(3, 2, 1)
    counts = SimpleNamespace(spikes=spikes, per_timestep=np.array([4, 3]))
    network: Any = SimpleNamespace(populations=[SimpleNamespace(name="a", size=6)])
    simulation: Any = SimpleNamespace(samples=1, timesteps=2, populations={"a": counts})
    return sparsity.measure(network, simulation)


def test_one_neuron_that_is_always_on_makes_no_channel_so() -> None:
    (layer,) = measured().layers
    assert (layer.always_on, layer.always_on_channels) == (3, 1)
    assert (layer.dead, layer.dead_channels) == (2, 1)


def test_a_csv_has_a_column_for_each_number() -> None:
    found = measured()
    rows = list(csv.DictReader(io.StringIO(sparsity.to_csv(found))))
    assert list(rows[0]) == [
        "name", "neurons", "spikes", "firing_rate", "spikes_per_sample", "dead", "always_on",
        "dead_channels", "always_on_channels", "spikes_timestep_0", "spikes_timestep_1",
    ]  # fmt: skip
    values = ["6", "7", str(7 / 12), "7.0", "2", "3", "1", "1", "4.0", "3.0"]
    assert [list(row.values()) for row in rows] == [["a", *values], ["total", *values]]
    assert replace(found.total, name="a") == found.layers[0]
