"""What a data set is: samples, labels, and how a pixel becomes a payload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dsr_deploy.data import digest, tensors
from dsr_deploy.data.augmentation import Augmentation
from dsr_deploy.data.samples import DataError, Split, TensorSplit
from dsr_deploy.hardware.network import Input


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled samples for training and testing.

    Attributes
    ----------
    name : one of :data:`dsr_deploy.data.datasets.DATASETS`, or a user's own
    classes : name of each label
    input : how a pixel becomes a payload
    train, test : the samples
    contents : what tells them from others, for training and for testing, see
        :mod:`dsr_deploy.data.digest`; empty if it is not known
    notes : what a user should know of how they were found, a line each
    """

    name: str
    classes: tuple[str, ...]
    input: Input
    train: Split
    test: Split
    contents: tuple[str, str] = ("", "")
    notes: tuple[str, ...] = ()

    @classmethod
    def from_tensors(
        cls,
        train: Any,
        test: Any,
        *,
        classes: Sequence[str] | None = None,
        name: str = "tensors",
        value_range: tuple[float, float] | None = None,
    ) -> Dataset:
        """Make a data set of samples in memory.

        Whole numbers stay as they are. Floats become bytes, ``value_range`` in 255 steps; a note
        says so, as training, quantization and the chip then all see the bytes.

        Parameters
        ----------
        train, test : a pair of samples and labels, tensors or arrays; or a torch ``Dataset`` of
            such pairs that has a length. Samples are (N, H, W), (N, C, H, W) or, a frame per
            timestep, (N, T, C, H, W); labels are whole numbers from 0, (N,)
        classes : name of each label; None for those of the torch ``Dataset``, or the numbers
        name : for messages and the names of runs
        value_range : what the lowest and the highest value may be; None is (0, 1) for floats and
            (0, 255) for whole numbers. Frames of whole numbers are event counts unless it is given

        Raises
        ------
        DataError
            If samples, labels and classes do not belong together, or a value is out of its range.
        """
        made = tensors.gather(train, test, classes, value_range)
        contents = (digest.of_pixels(made.train.pixels), digest.of_pixels(made.test.pixels))
        return cls(name, made.classes, made.input, made.train, made.test, contents, made.notes)

    @classmethod
    def read(cls, directory: str | Path) -> Dataset:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DataError
            If the file is missing or damaged.
        """
        made = tensors.read(Path(directory) / tensors.FILE)
        contents = (digest.of_pixels(made.train.pixels), digest.of_pixels(made.test.pixels))
        return cls(made.name, made.classes, made.input, made.train, made.test, contents)

    def save(self, directory: str | Path) -> None:
        """Write the samples to ``data.safetensors`` in a folder.

        Training takes them as the data set ``tensors`` of that folder.

        Raises
        ------
        DataError
            If the samples are in image files, or the file cannot be written.
        """
        if not isinstance(self.train, TensorSplit) or not isinstance(self.test, TensorSplit):
            raise DataError(
                f"data set '{self.name}': its samples are in image files already; name its folder"
            )
        made = tensors.Gathered(self.classes, self.input, self.train, self.test, name=self.name)
        tensors.write(Path(directory) / tensors.FILE, made)

    def augmented(self, augmentation: Augmentation) -> Dataset:
        """Return the same samples, of which training takes variants."""
        height, width = self.input.shape[1:]
        padding = augmentation.padding(height, width)
        return replace(self, train=replace(self.train, padding=padding, flip=augmentation.flip))

    def __repr__(self) -> str:
        size = "x".join(map(str, self.input.shape))
        kind = "frames" if self.input.framed else "images"
        return (
            f"Dataset({self.name!r}, {len(self.train):,} + {len(self.test):,} {kind} of {size}, "
            f"{len(self.classes)} classes)"
        )
