"""The torch engine gives the reference's spikes, all of them."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import sample_run
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import integer_networks, payloads_for

from dsr_deploy.data.loading import load
from dsr_deploy.engines.torch import TorchEngine
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.errors import RegisterError
from dsr_deploy.hardware.run import Run
from dsr_deploy.progress import Silent
from dsr_deploy.stages.quantize import predict


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_random_networks_give_the_spikes_of_the_reference(data: st.DataObject) -> None:
    network = data.draw(integer_networks())
    payloads = data.draw(payloads_for(network))
    try:
        expected = reference.run(network, payloads, record=True)
    except RegisterError:
        with pytest.raises(RegisterError, match="leaves the 24-bit register"):
            TorchEngine(network).run(payloads)
        return
    counts: dict[str, torch.Tensor] = {}
    found = TorchEngine(network).run(payloads, record=True, counts=counts)
    TorchEngine(network).run(payloads, counts=counts)
    assert expected.spikes is not None
    assert found.spikes is not None
    for name, train in expected.spikes.items():
        assert np.array_equal(found.spikes[name], train), name
        twice = 2 * train.sum((0, 1)).transpose(1, 2, 0)  # H, W, C
        assert np.array_equal(counts[name].numpy(), twice), name
    assert np.array_equal(found.scores, expected.scores)


def test_one_batch_is_held_at_a_time_while_quantize_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[np.ndarray]] = []
    held: list[int] = []
    run_batch = TorchEngine.run

    def watched(engine: TorchEngine, payloads: np.ndarray, **options: object) -> Run:
        held.append(sum(scores() is not None for scores in made))
        found = run_batch(engine, payloads, **options)
        made.append(weakref.ref(found.scores))
        return found

    monkeypatch.setattr(TorchEngine, "run", watched)
    network, device = sample_run.network(), torch.device("cpu")
    digits = load("digits", timesteps=3)
    predictions, counts = predict(network, digits, device, 30, Silent())
    assert len(made) == 12
    assert max(held) <= 1
    expected = reference.run(network, sample_run.payloads(), record=True)
    assert expected.spikes is not None
    assert np.array_equal(predictions, expected.predictions)
    for name, train in expected.spikes.items():
        assert np.array_equal(counts[name].numpy(), train.sum((0, 1)).transpose(1, 2, 0)), name
