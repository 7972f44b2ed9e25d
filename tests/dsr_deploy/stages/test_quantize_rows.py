"""What a row of the table says, from a small network and scripted fine-tuning; and the settings."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dsr_deploy.data.samples import TensorSplit
from dsr_deploy.data.validation import hold_out
from dsr_deploy.errors import UserError
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.network import Input
from dsr_deploy.lowering.fine_tune import Candidate
from dsr_deploy.lowering.fold import fold
from dsr_deploy.lowering.quantized_network import QuantizedNetwork
from dsr_deploy.models.network import SpikingNetwork
from dsr_deploy.models.neuron import Neuron
from dsr_deploy.models.topology import INPUT, ConnectionSpec, PopulationSpec, Topology
from dsr_deploy.progress import Silent
from dsr_deploy.run import provenance
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.stages import quantize
from dsr_deploy.stages.quantize import QuantizeConfig

CPU = torch.device("cpu")
SHOWN = Input((2, 4, 4), (0.0, 0.0), (1.0, 1.0), 1 / 16, 1 / 16)
STEPS = 3


def spiking_network() -> SpikingNetwork:
    """Return a convolution and a linear layer of three classes, with random weights."""
    layers = (
        PopulationSpec("conv", (ConnectionSpec(INPUT, "conv", 2, 3, 1, 1),)),
        PopulationSpec("output", (ConnectionSpec("conv", "linear", 3),)),
    )
    torch.manual_seed(0)
    return SpikingNetwork(Topology("two", (2, 4, 4), layers), Neuron("if", STEPS, 0.5, 0.01)).eval()


def split(samples: int, seed: int) -> TensorSplit:
    drawn = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 100, (samples, 2, 4, 4), generator=drawn).to(torch.uint8)
    return TensorSplit(pixels, torch.arange(samples) % 3)


TRAIN, TEST = split(40, 1), split(30, 2)
DATA: Any = SimpleNamespace(train=TRAIN, test=TEST, input=SHOWN)


def trained(**choice: Any) -> Any:
    settings = {
        "dataset": "made", "network": "two", "batch_size": 8, "validation": 0.25, "seed": 4,
        "epochs": 30, "neuron": "if", "timesteps": STEPS,
    }  # fmt: skip
    return SimpleNamespace(
        network=spiking_network(),
        description=SimpleNamespace(input=SHOWN, classes=("a", "b", "c")),
        config=SimpleNamespace(**settings | choice),
        digest="d" * 64,
    )


def integers(bits: int, **choice: Any) -> Any:
    network = spiking_network()
    model = QuantizedNetwork(fold(network, SHOWN.step), network.neuron, SHOWN, bits, **choice)
    return model.freeze("made-two", network.shapes, ("a", "b", "c"))


class Scripted:
    """Stands for fine-tuning: takes the rounded network, or one of 8 bits as if it had learned."""

    def __init__(self, taken: bool) -> None:
        self.taken, self.arguments = taken, ()

    def __call__(self, *arguments: Any) -> tuple[Candidate, Candidate]:
        self.arguments = arguments  # type: ignore[assignment]
        rounded = Candidate(0, arguments[1](), 0.5, 1.0)
        return rounded, Candidate(3, integers(8), 0.75, 0.5) if self.taken else rounded


def quantized(
    monkeypatch: pytest.MonkeyPatch, settings: QuantizeConfig, *, taken: bool = False, **choice: Any
) -> tuple[Any, quantize.Row, Any, Any]:
    """Quantize; return network, row, predictions and what fine-tuning was given."""
    script = Scripted(taken)
    monkeypatch.setattr(quantize, "fine_tune", script)
    found = quantize._quantize(trained(**choice), DATA, settings, CPU, Silent())
    return *found, script.arguments


def says(network: Any) -> Any:
    payloads = TEST.pixels.to(torch.int8).numpy()
    return reference.run(network, payloads, record=True)


def right(network: Any) -> float:
    return float(np.mean(says(network).predictions == TEST.labels.numpy()))


@pytest.mark.parametrize("taken", [False, True])
def test_a_row_tells_of_the_rounded_network_and_of_the_one_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, *, taken: bool
) -> None:
    network, row, predictions, _ = quantized(monkeypatch, QuantizeConfig(bits=2), taken=taken)
    rounded, written = integers(2), integers(8 if taken else 2)
    for mine, other in zip(network.connections, written.connections, strict=True):
        np.testing.assert_array_equal(mine.weight, other.weight)
    np.testing.assert_array_equal(predictions, says(written).predictions)
    with torch.no_grad():
        outputs = spiking_network()(TEST.pixels.float() / 16)
    spikes = says(written).spikes
    always = {name: int(s.all((0, 1)).sum()) for name, s in spikes.items()}
    dead = {name: int((~s.any((0, 1))).sum()) for name, s in spikes.items()}
    assert row == quantize.Row(
        neuron="if",
        timesteps=STEPS,
        bits=2,
        float_accuracy=float((outputs.argmax(1) == TEST.labels).double().mean()),
        post_training_accuracy=right(rounded),
        accuracy=right(written),
        epoch=3 if taken else 0,
        epochs=10,
        validation_accuracy=0.75 if taken else 0.5,
        validation_samples=10,
        samples=30,
        dead={name: n for name, n in dead.items() if n},
        always_on={name: n for name, n in always.items() if n},
        made_from="d" * 64,
    )
    assert row.dead or row.always_on


@pytest.mark.parametrize(
    ("settings", "trained_for", "epochs"),
    [
        (QuantizeConfig(bits=4), 30, 5),
        (QuantizeConfig(bits=4), 50, 5),
        (QuantizeConfig(bits=4), 70, 7),
        (QuantizeConfig(bits=4), 71, 8),
        (QuantizeConfig(bits=2), 30, 10),
        (QuantizeConfig(bits=8), 30, 3),
        (QuantizeConfig(bits=3), 90, 12),
        (QuantizeConfig(bits=3, epochs=0), 90, 0),
        (QuantizeConfig(bits=3, epochs=2), 90, 2),
    ],
)
def test_few_bits_are_fine_tuned_for_long(
    monkeypatch: pytest.MonkeyPatch, settings: QuantizeConfig, trained_for: int, epochs: int
) -> None:
    _, row, _, given = quantized(monkeypatch, settings, epochs=trained_for)
    assert (row.epochs, given[4].epochs) == (epochs, epochs)


def test_fine_tuning_is_given_the_parts_of_training_and_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = QuantizeConfig(bits=4, lr=0.25, batch_size=5, seed=9)
    model, _, samples, validation, schedule, device, _ = quantized(monkeypatch, settings)[3]
    assert (schedule.lr, schedule.batch_size, schedule.seed, device) == (0.25, 5, 9, CPU)
    assert model.neuron == spiking_network().neuron
    expected = hold_out(TRAIN, 0.25, 4)
    assert torch.equal(samples.pixels, expected[0].pixels)  # type: ignore[union-attr]
    assert torch.equal(validation.pixels, expected[1].pixels)  # type: ignore[union-attr]
    assert quantized(monkeypatch, QuantizeConfig())[3][4].batch_size == 8
    _, row, _, given = quantized(monkeypatch, settings, validation=0.0)
    assert (given[3], row.validation_samples) == (None, 0)


def test_wide_ends_and_granularity_reach_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = quantized(monkeypatch, QuantizeConfig(bits=3, epochs=0, wide_ends=True))[0]
    assert [c.weight_bits for c in wide.connections] == [8, 8]
    assert (wide.name, wide.classes) == ("made-two", ("a", "b", "c"))
    for granularity in ("channel", "layer"):
        network = quantized(monkeypatch, QuantizeConfig(bits=3, granularity=granularity))[0]
        assert [c.weight_bits for c in network.connections] == [3, 3]
        for mine, other in zip(
            network.connections, integers(3, granularity=granularity).connections, strict=True
        ):
            np.testing.assert_array_equal(mine.weight, other.weight)


def test_predictions_come_in_the_order_of_the_test_set_from_any_batch() -> None:
    network = integers(4)
    spikes = says(network).spikes
    for size in (1, 7, 30, 1000):
        predictions, counts = quantize.predict(network, DATA, CPU, size, Silent())
        np.testing.assert_array_equal(predictions, says(network).predictions)
        for name, count in counts.items():
            by_channel = spikes[name].sum((0, 1))
            np.testing.assert_array_equal(count.permute(2, 0, 1).numpy(), by_channel)


def test_batches_are_no_larger_than_those_of_training_nor_than_128(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    real = quantize.batches

    def noted(split: Any, shown: Any, size: int, **options: Any) -> Any:
        sizes.append(size)
        return real(split, shown, size, **options)

    monkeypatch.setattr(quantize, "batches", noted)
    for size in (16, 128, 129):
        quantize.predict(integers(4), DATA, CPU, size, Silent())
    assert sizes == [16, 128, 128]


def test_every_network_is_proven_to_fit_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    proven: list[Any] = []
    monkeypatch.setattr(quantize.bounds, "check", proven.append)
    network = quantized(monkeypatch, QuantizeConfig(bits=4))[0]
    assert proven == [network]


class Held:
    """Stands for a run that is held; notes what is done in it."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.done.append("left")

    def check(self) -> None:
        self.done.append("check")

    def write_stage(self, place: str, content: dict[str, Any], record: dict[str, Any]) -> None:
        self.done.append(("write", place, sorted(content), record))


@pytest.mark.parametrize("doubt", [None, "an odd checkpoint"])
def test_a_stage_is_written_once_the_run_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, doubt: str | None
) -> None:
    held, told = Held(), Silent()
    notes: list[str] = []
    monkeypatch.setattr(told, "note", notes.append, raising=False)
    source = trained()
    source.doubt = doubt
    row = quantized(monkeypatch, QuantizeConfig(bits=3))[1]
    monkeypatch.setattr(quantize, "hold", lambda run, what, place: held)
    monkeypatch.setattr(quantize, "load_trained", lambda run: source)
    monkeypatch.setattr(quantize, "load_same_data", lambda about, said, where: DATA)
    monkeypatch.setattr(quantize, "keep_place", lambda run, where: held.done.append("place"))
    run = RunDirectory(tmp_path)
    found = quantize.quantize(run, QuantizeConfig(bits=3, device="cpu"), progress=told)
    assert found == row
    files = ["config.json", "network.safetensors", "predictions.json", "row.json"]
    record = {"sequence": run.next_sequence(), provenance.KEY: "d" * 64}
    written = ("write", run.quantized(3).name, files, record)
    assert held.done == ["check", "place", written, "left"]
    assert notes == ([] if doubt is None else [doubt])


def test_layers_without_such_neurons_are_left_out() -> None:
    counts = {"a": torch.tensor([0, 3, 0]), "b": torch.tensor([1, 2, 3]), "c": torch.tensor([3])}
    assert quantize._count_where(counts, 0) == {"a": 2}
    assert quantize._count_where(counts, 3) == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"bits": 1}, "bits must be 2 to 8, not 1"),
        ({"bits": 9}, "bits must be 2 to 8, not 9"),
        ({"bits": "4"}, "bits must be a whole number, not '4'"),
        ({"bits": None}, "bits must be a whole number, not None"),
        ({"epochs": 2.0}, "epochs must be a whole number, not 2.0"),
        ({"epochs": -1}, "epochs must be 0 to 100000, not -1"),
        ({"epochs": 100_001}, "epochs must be 0 to 100000, not 100001"),
        ({"lr": 0.0}, "lr must be positive and finite, not 0.0"),
        ({"lr": float("inf")}, "lr must be positive and finite, not inf"),
        ({"lr": float("nan")}, "lr must be positive and finite, not nan"),
        ({"batch_size": 1}, "batch_size must be at least 2, not 1"),
        ({"granularity": "row"}, "granularity 'row': choose one of channel, layer"),
    ],
)
def test_settings_have_bounds(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        QuantizeConfig(**choice)


def test_settings_reach_their_bounds_and_have_defaults() -> None:
    for choice in (
        {"bits": 2}, {"bits": 8}, {"epochs": 0}, {"epochs": 100_000}, {"lr": 1e-30},
        {"batch_size": 2}, {"granularity": "layer"},
    ):  # fmt: skip
        assert dataclasses.asdict(QuantizeConfig(**choice)).items() >= choice.items()  # type: ignore[arg-type]
    assert dataclasses.astuple(QuantizeConfig()) == (
        4, None, 0.01, None, "channel", False, 0, "auto",
    )  # fmt: skip


def test_the_test_set_is_read_as_it_is_with_a_bar_for_its_batches() -> None:
    shown: list[Any] = []

    class Told(Silent):
        @contextlib.contextmanager
        def task(self, description: str, total: int) -> Iterator[Any]:
            shown.append((description, total))
            yield SimpleNamespace(advance=lambda: shown.append("advance"))

    moving = dataclasses.replace(TEST, padding=2, flip=True)
    data: Any = SimpleNamespace(train=TRAIN, test=moving, input=SHOWN)
    predictions, _ = quantize.predict(integers(4), data, CPU, 16, Told())
    np.testing.assert_array_equal(predictions, says(integers(4)).predictions)
    assert shown == [("testing", 2), "advance", "advance"]


def test_the_float_network_is_tested_in_the_default_arithmetic_of_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, torch.device]] = []
    used: list[str] = []
    real = quantize.evaluate

    def resolve(name: str, device: torch.device) -> str:
        asked.append((name, device))
        return "bf16"

    def noted(network: Any, *rest: Any) -> Any:
        used.append(network.precision)
        return real(network, *rest)

    monkeypatch.setattr(quantize, "resolve_precision", resolve)
    monkeypatch.setattr(quantize, "evaluate", noted)
    quantized(monkeypatch, QuantizeConfig(bits=4))
    assert asked == [("auto", CPU)]
    assert used == ["bf16"]
