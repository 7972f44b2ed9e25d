"""Quantize a trained network, and fine-tune it in the integer arithmetic it will run in."""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsr_deploy import files
from dsr_deploy.data.batches import batches
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.validation import hold_out
from dsr_deploy.engines.torch import TorchEngine
from dsr_deploy.errors import UserError
from dsr_deploy.hardware import bounds
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.lowering.fine_tune import Schedule, fine_tune
from dsr_deploy.lowering.fold import fold
from dsr_deploy.lowering.quantized_network import QuantizedNetwork
from dsr_deploy.lowering.scale import Granularity
from dsr_deploy.measures.accuracy import Row
from dsr_deploy.progress import Progress, Silent
from dsr_deploy.run import provenance
from dsr_deploy.run.config import check_type
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.hold import hold
from dsr_deploy.run.trained import Trained, keep_place, load_same_data, load_trained
from dsr_deploy.training.device import resolve_device, resolve_precision
from dsr_deploy.training.evaluate import EVALUATION_BATCH, evaluate


@dataclass(frozen=True)
class QuantizeConfig:
    """How to quantize.

    Attributes
    ----------
    bits : of the weights, 2 to 8, sign included
    epochs : of fine-tuning; 0 rounds the trained network as it is; None is a tenth of the
        training's epochs, at least 5, at 4 bits, and in inverse proportion to the bits elsewhere
    lr : Adam's, in units of a weight's last bit; falls as a cosine to 0
    batch_size : None is the training's
    granularity : scales per channel or per layer
    wide_ends : 8 bits in the first and last layer (the paper quantizes all)
    """

    bits: int = 4
    epochs: int | None = None
    lr: float = 1e-2
    batch_size: int | None = None
    granularity: Granularity = "channel"
    wide_ends: bool = False
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("bits", "epochs", "batch_size", "seed"):
            value = getattr(self, name)
            if value is not None or name in ("bits", "seed"):
                check_type(name, value, int)
        if not 2 <= self.bits <= 8:
            raise UserError(f"bits must be 2 to 8, not {self.bits}")
        if self.epochs is not None and not 0 <= self.epochs <= 100_000:
            raise UserError(f"epochs must be 0 to 100000, not {self.epochs}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise UserError(f"lr must be positive and finite, not {self.lr}")
        if self.batch_size is not None and self.batch_size < 2:
            raise UserError(f"batch_size must be at least 2, not {self.batch_size}")
        if self.granularity not in ("channel", "layer"):
            raise UserError(f"granularity {self.granularity!r}: choose one of channel, layer")


def quantize(
    run: RunDirectory,
    settings: QuantizeConfig,
    *,
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> Row:
    """Quantize the best network of ``run`` and keep the result beside it.

    Parameters
    ----------
    data_dir : where the data lie now, if they were moved

    Returns
    -------
    The row of Table S4; the accuracy is that of the very integers that are written.

    Raises
    ------
    UserError
        If there is no trained network, the data do not fit it, or no 24-bit register holds it.
    """
    progress = progress or Silent()
    device = resolve_device(settings.device)
    place = run.quantized(settings.bits).name
    with hold(run, f"quantize --bits {settings.bits}", place) as held:
        trained = load_trained(run)
        if trained.doubt is not None:
            progress.note(trained.doubt)
        dataset = load_same_data(trained.description, progress, data_dir)
        held.check()
        keep_place(run, data_dir)
        try:
            network, row, predictions = _quantize(trained, dataset, settings, device, progress)
        except HardwareError as error:
            raise UserError(str(error)) from None
        content = {
            "network.safetensors": network_file.to_bytes(network),
            "config.json": files.to_json(dataclasses.asdict(settings)),
            "predictions.json": files.to_json(predictions.tolist()),
            "row.json": files.to_json(dataclasses.asdict(row)),
        }
        record = {"sequence": run.next_sequence(), provenance.KEY: trained.digest}
        held.write_stage(place, content, record)
    return row


def _quantize(
    trained: Trained,
    dataset: Dataset,
    settings: QuantizeConfig,
    device: torch.device,
    progress: Progress,
) -> tuple[IntegerNetwork, Row, NDArray[np.int64]]:
    network, about = trained.network, trained.description
    network.precision = resolve_precision("auto", device)
    labels = dataset.test.labels.numpy()
    batch_size = settings.batch_size or trained.config.batch_size
    tested = evaluate(network.to(device), dataset.test, dataset.input, device, batch_size)
    float_accuracy = tested.accuracy
    network.cpu()
    model = QuantizedNetwork(
        fold(network, about.input.step),
        network.neuron,
        about.input,
        settings.bits,
        settings.granularity,
        wide_ends=settings.wide_ends,
    ).to(device)

    def freeze() -> IntegerNetwork:
        name = f"{trained.config.dataset}-{trained.config.network}"
        frozen = copy.deepcopy(model).cpu().freeze(name, network.shapes, about.classes)
        bounds.check(frozen)
        return frozen

    def accuracy(predictions: NDArray[np.int64]) -> float:
        return float((predictions == labels).mean())

    held_out = trained.config.validation, trained.config.seed
    samples, validation = hold_out(dataset.train, *held_out)
    epochs = settings.epochs
    if epochs is None:
        epochs = math.ceil(max(5, trained.config.epochs / 10) * 4 / settings.bits)
    schedule = Schedule(epochs, settings.lr, batch_size, settings.seed)
    rounded, taken = fine_tune(model, freeze, samples, validation, schedule, device, progress)
    predictions, counts = predict(rounded.network, dataset, device, batch_size, progress)
    post_training = accuracy(predictions)
    if taken is not rounded:
        predictions, counts = predict(taken.network, dataset, device, batch_size, progress)
    moments = len(labels) * taken.network.timesteps
    row = Row(
        neuron=trained.config.neuron,
        timesteps=trained.config.timesteps,
        bits=settings.bits,
        float_accuracy=float_accuracy,
        post_training_accuracy=post_training,
        accuracy=accuracy(predictions),
        epoch=taken.epoch,
        epochs=epochs,
        validation_accuracy=taken.accuracy,
        validation_samples=0 if validation is None else len(validation),
        samples=len(labels),
        dead=_count_where(counts, 0),
        always_on=_count_where(counts, moments),
        made_from=trained.digest,
    )
    return taken.network, row, predictions


def _count_where(counts: dict[str, Tensor], spikes: int) -> dict[str, int]:
    """Return how many neurons of each layer spiked so often, without the layers that have none."""
    found = {name: int((count == spikes).sum()) for name, count in counts.items()}
    return {name: number for name, number in found.items() if number}


def predict(
    network: IntegerNetwork,
    dataset: Dataset,
    device: torch.device,
    batch_size: int,
    progress: Progress,
) -> tuple[NDArray[np.int64], dict[str, Tensor]]:
    """Return the predictions of the integer network over the test set, by the torch engine, (N,).

    And how often each neuron spiked, by population, int64 (H, W, C).
    """
    engine = TorchEngine(network, device)
    stream = batches(
        dataset.test,
        network.input,
        min(EVALUATION_BATCH, batch_size),
        augment=False,
        seed=0,
        epoch=0,
        shuffle=False,
    )
    predictions = []
    counts: dict[str, Tensor] = {}
    with progress.task("testing", len(stream)) as task:
        for payloads, _ in stream:
            predictions.append(engine.run(payloads.numpy(), counts=counts).predictions)
            task.advance()
    return np.concatenate(predictions), counts
