"""Accuracy in 32 bits and in fewer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A row of Table S4. Accuracies lie between 0 and 1.

    Attributes
    ----------
    float_accuracy, post_training_accuracy, accuracy : on the test set: of the network in 32 bits,
        of the same rounded, and of the one that is written
    epoch, epochs : after which epoch of fine-tuning the network was taken, 0 if it is the rounded
        one, and how many there were
    validation_accuracy, validation_samples : on the part of the training samples that it was chosen
        by; None and 0 if none are held out, then the last epoch's is taken
    samples : of the test set
    dead, always_on : by layer, where there are any, the number of neurons that spiked at no
        timestep of any test sample, and at every one
    made_from : SHA-256 of the checkpoint that was quantized
    """

    neuron: str
    timesteps: int
    bits: int
    float_accuracy: float
    post_training_accuracy: float
    accuracy: float
    epoch: int
    epochs: int
    validation_accuracy: float | None
    validation_samples: int
    samples: int
    dead: dict[str, int]
    always_on: dict[str, int]
    made_from: str
