"""NeuroBench's metrics, computed as its code does: layers of ones on recorded spikes, in torch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import sample_run
import torch
from numpy.typing import NDArray
from recomputed import network as every_kind

from dsr_deploy.hardware import reference
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.hardware.network import Connection, IntegerNetwork
from dsr_deploy.measures import neurobench
from dsr_deploy.measures.neurobench import NeuroBench, SynapticOperations

SAMPLES = 5


def _sparse() -> IntegerNetwork:
    """Return a network with every kind of connection, a third of whose weights are zero."""
    rng, whole = np.random.default_rng(7), every_kind(0)
    connections = tuple(
        dataclasses.replace(c, weight=c.weight * (rng.random(c.weight.shape) > 1 / 3))
        for c in whole.connections
    )
    return dataclasses.replace(whole, connections=connections)


@pytest.fixture(scope="module")
def sent() -> dict[str, NDArray[np.bool_]]:
    """Return every spike of the samples, (N, T, C, H, W)."""
    spikes = reference.run(_sparse(), sample_run.payloads()[:SAMPLES], record=True).spikes
    assert spikes is not None
    return spikes


@pytest.fixture(scope="module")
def metrics() -> NeuroBench:
    simulation = Simulator(_sparse()).run(sample_run.payloads()[:SAMPLES])
    return neurobench.measure(_sparse(), simulation, 0.25)


def _layer_of_ones(c: Connection, source: torch.Tensor, *, dense: bool) -> int:
    """Return what NeuroBench's single_layer_MACs does, for a batch (N, C, H, W)."""
    weight = torch.tensor(c.weight != 0 if not dense else np.ones_like(c.weight)).double()
    seen = torch.ones_like(source) if dense else (source != 0).double()
    if c.kind == "linear":
        return int((seen.flatten(1) @ weight.T).sum())
    return int(
        torch.nn.functional.conv2d(
            seen, weight, stride=c.stride, padding=c.padding, groups=c.groups
        ).sum()
    )


def _expected(sent: dict[str, NDArray[np.bool_]], *, dense: bool, of_input: bool) -> float:
    total = 0
    for c in _sparse().connections:
        if c.kind not in ("conv", "linear") or (c.source == "input") != of_input:
            continue
        if c.source == "input":
            shown = sample_run.payloads()[:SAMPLES]
            steps = np.repeat(shown[:, None], 3, axis=1)
        else:
            steps = sent[c.source]
        batch = torch.tensor(steps.reshape(-1, *steps.shape[2:])).double()
        total += _layer_of_ones(c, batch, dense=dense)
    return total / SAMPLES


def test_accumulates_are_of_spikes_and_weights_that_are_not_zero(
    metrics: NeuroBench, sent: dict[str, NDArray[np.bool_]]
) -> None:
    found = metrics.synaptic_operations
    assert found.Effective_ACs == _expected(sent, dense=False, of_input=False)
    assert found.Effective_ACs < _expected(sent, dense=True, of_input=False)


def test_dense_operations_are_of_everything_inside_the_borders(
    metrics: NeuroBench, sent: dict[str, NDArray[np.bool_]]
) -> None:
    expected = sum(_expected(sent, dense=True, of_input=of_input) for of_input in (True, False))
    assert metrics.synaptic_operations.Dense == expected


def test_multiplies_of_the_input_count_weights_of_zero_too(metrics: NeuroBench) -> None:
    first = dataclasses.replace(_sparse().connections[0])
    first = dataclasses.replace(first, weight=np.ones_like(first.weight))
    shown = torch.tensor(sample_run.payloads()[:SAMPLES]).double()
    expected = 3 * _layer_of_ones(first, shown, dense=False) / SAMPLES
    assert metrics.synaptic_operations.Effective_MACs == expected


@pytest.mark.parametrize(
    ("stride", "padding", "groups", "kernel"),
    [((1, 1), (0, 0), 1, (3, 3)), ((2, 3), (2, 0), 2, (3, 2)), ((3, 1), (1, 2), 4, (2, 5)),
     ((4, 4), (0, 0), 1, (1, 1)), ((2, 2), (3, 3), 1, (7, 7))],
)  # fmt: skip
def test_effective_operations_of_any_window(
    stride: tuple[int, int],
    padding: tuple[int, int],
    groups: int,
    kernel: tuple[int, int],
) -> None:
    rng = np.random.default_rng(3)
    weight = rng.integers(-1, 2, (8, 4 // groups, *kernel)).astype(np.int8)
    c = Connection("a", "b", "conv", weight, 4, stride=stride, padding=padding, groups=groups)
    spikes = rng.integers(0, 9, (4, 7, 6))
    ones = torch.tensor(weight != 0).double()
    expected = torch.nn.functional.conv2d(
        torch.tensor(spikes)[None].double(), ones, stride=stride, padding=padding, groups=groups
    ).sum()
    assert neurobench.effective(c, spikes) == int(expected)


def test_the_other_metrics_are_what_a_hand_counts(
    metrics: NeuroBench, sent: dict[str, NDArray[np.bool_]]
) -> None:
    spikes, moments = sum(int(s.sum()) for s in sent.values()), sum(s.size for s in sent.values())
    weights = [c.weight for c in _sparse().connections if c.kind in ("conv", "linear")]
    values = np.concatenate([weight.reshape(-1) for weight in weights])
    assert metrics.activation_sparsity == pytest.approx(1 - spikes / moments, rel=1e-12)
    assert metrics.connection_sparsity == (values == 0).mean()
    assert metrics.membrane_updates == moments / SAMPLES
    assert metrics.classification_accuracy == 0.25
    # 54 + 324 + 36 + 960 weights of 4 bits, 12 of 8, and 3 numbers of 4 bytes for 28 channels
    assert metrics.footprint == (54 + 324 + 36 + 960) / 2 + 12 + 28 * 12


def test_the_table_has_neurobenchs_names() -> None:
    shown = NeuroBench(1234.5, 0.5, None, 0.875, SynapticOperations(1000.0, 2000.0, 3000.0), 40.0)
    assert neurobench.table(shown).rows == [
        ("footprint", "1,234 bytes"),
        ("connection_sparsity", "0.5000"),
        ("classification_accuracy", "-"),
        ("activation_sparsity", "0.8750"),
        ("synaptic_operations: Effective_MACs", "1,000"),
        ("synaptic_operations: Effective_ACs", "2,000"),
        ("synaptic_operations: Dense", "3,000"),
        ("membrane_updates", "40"),
    ]
