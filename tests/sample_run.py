"""A run directory with a small integer network for the digits, made without any training."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dsr_deploy.data.encoding import encode
from dsr_deploy.data.loading import load
from dsr_deploy.data.samples import TensorSplit
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.network import Connection, IntegerNetwork, Population
from dsr_deploy.run import config, seal, stage
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.trained import labels_digest
from dsr_deploy.stages.export import export

CLASSES = tuple("0123456789")


def network(seed: int = 0) -> IntegerNetwork:
    """Return a convolution of 4 channels and an output of 10, random, T = 3."""
    rng = np.random.default_rng(seed)

    def population(name: str, shape: tuple[int, int, int]) -> Population:
        channels = shape[0]
        return Population(
            name=name,
            shape=shape,
            bias=rng.integers(-20, 20, channels).astype(np.int32),
            v_fire=rng.integers(40, 80, channels).astype(np.int32),
            v_threshold=rng.integers(80, 120, channels).astype(np.int32),
        )

    def weight(*shape: int) -> np.ndarray:
        return rng.integers(-7, 8, shape).astype(np.int8)

    return IntegerNetwork(
        name="digits-sample",
        timesteps=3,
        input=load("digits", timesteps=3).input,
        populations=(population("conv", (4, 8, 8)), population("output", (10, 1, 1))),
        connections=(
            Connection("input", "conv", "conv", weight(4, 1, 3, 3), 4, padding=(1, 1)),
            Connection("conv", "output", "linear", weight(10, 256), 4),
        ),
        readout=(1, 1, 1),
        classes=CLASSES,
    )


def payloads() -> np.ndarray:
    """Return what the network sees of the 360 test images, int8 (360, 1, 8, 8)."""
    digits = load("digits", timesteps=3)
    assert isinstance(digits.test, TensorSplit)
    return encode(digits.input, digits.test.pixels).numpy()


def write(path: Path, made: IntegerNetwork | None = None) -> RunDirectory:
    """Write what train, quantize and export would have left of ``made``."""
    made = network() if made is None else made
    run = RunDirectory(path)
    settings = config.resolve(timesteps=3)
    about = {
        "config": dataclasses.asdict(settings),
        "input": dataclasses.asdict(made.input),
        "classes": list(CLASSES),
        "samples": {"train": 1437, "test": 360},
        "labels": labels_digest(load("digits", timesteps=3)),
        "versions": {"python": "3.11"},
        "command": "dsr-deploy train -T 3",
    }
    epoch = {
        "epoch": 1,
        "lr": 0.1,
        "train_loss": 2.0,
        "train_accuracy": 0.25,
        "validation_loss": 2.0,
        "validation_accuracy": 0.1875,
        "firing_rate": 0.1,
        "firing_rates": {"conv": 0.1, "output": 0.1},
        "seconds": 1.0,
    }
    result = {
        "epoch": 1,
        "epochs": 1,
        "chosen_by": "validation accuracy",
        "validation_accuracy": 0.1875,
        "validation_samples": 142,
        "test_loss": 2.0,
        "test_accuracy": 0.125,
        "test_samples": 360,
        "firing_rate": 0.1,
        "firing_rates": {"conv": 0.1, "output": 0.1},
        "made_from": "",
    }
    row = {
        "neuron": "if",
        "timesteps": 3,
        "bits": 4,
        "float_accuracy": 0.125,
        "post_training_accuracy": 0.0625,
        "accuracy": 0.125,
        "epoch": 2,
        "epochs": 5,
        "validation_accuracy": 0.1875,
        "validation_samples": 142,
        "samples": 360,
        "dead": {},
        "always_on": {},
        "made_from": "",
    }
    predictions = reference.run(made, payloads()).predictions.tolist()
    path.mkdir(parents=True, exist_ok=True)
    run.config.write_text(json.dumps(about | {seal.KEY: config.checksum_of(about)}))
    run.metrics.write_text(json.dumps(epoch) + "\n")
    run.result.write_text(json.dumps(seal.seal(result)))
    put(
        run,
        "quantized-4",
        {
            "network.safetensors": network_file.to_bytes(made),
            "row.json": json.dumps(row).encode(),
            "predictions.json": json.dumps(predictions).encode(),
        },
        sequence=1,
    )
    export(run, "loihi")
    return run


def put(run: RunDirectory, place: str, content: Mapping[str, bytes | None], **record: Any) -> None:
    """Write files of a stage, and entries of its manifest, as if the stage had written them.

    What it held before stays; None removes a file.
    """
    path = run.path / place / stage.MANIFEST
    before = json.loads(path.read_text()) if path.exists() else {"files": {}}
    files = {name: (run.path / place / name).read_bytes() for name in before.pop("files")}
    kept = {name: data for name, data in (files | content).items() if data is not None}
    before.pop(seal.KEY, None)
    stage.write(run.path, place, kept, before | record)


def put_quantized(run: RunDirectory, made: IntegerNetwork) -> None:
    """Let ``made`` be what was quantized to 4 bits."""
    put(run, "quantized-4", {"network.safetensors": network_file.to_bytes(made)})
