"""What a data set is before any sample is read: its name, its defaults and how it is loaded.

Nothing here imports torch: the command line shows these values without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dsr_deploy.data.augmentation import Augmentation

if TYPE_CHECKING:
    from dsr_deploy.data.dataset import Dataset
    from dsr_deploy.data.samples import Progress

OptimizerName = Literal["sgd", "adam"]
Sizes = Literal["fixed", "mixed", "cut"]


@dataclass(frozen=True)
class TrainingRow:
    """The training that a data set begins with; a row of Table S3 where the paper has one.

    Attributes
    ----------
    lr_of_few : initial learning rate at up to 5 timesteps (C.4); None for ``lr``
    """

    arch: str
    optimizer: OptimizerName
    epochs: int
    lr: float
    batch_size: int
    warmup_epochs: int = 0
    lr_of_few: float | None = None


@dataclass(frozen=True)
class Request:
    """What is asked of a data set.

    Attributes
    ----------
    directory : of its files; the current one for a data set that needs none
    timesteps : number of frames per sample, where a sample has frames
    image_size : side of the square that images become; None for the data set's own
    augmentation : what batches for training may do to a sample
    download : whether missing files may be fetched
    progress : called while many files are read
    """

    directory: Path
    timesteps: int
    image_size: int | None
    augmentation: Augmentation
    download: bool
    progress: Progress | None


@dataclass(frozen=True)
class Source:
    """A data set by name.

    Attributes
    ----------
    name : of the data set
    load : reads the samples; it imports what it needs, such as torch, when it is called.
        Raises DataError if files are missing, damaged or of the wrong kind.
    training : what a training begins with
    augmentation : how training samples are varied where nobody says otherwise
    timesteps : T where nobody says otherwise
    table_timesteps : T of the paper's settings, each a preset; none if the paper has no such data
    sizes : "fixed" for samples that all have one size; "cut" for images of many sizes that are cut
        to one; "mixed" where small ones are taken as they are and large ones are cut
    needs_files : whether the user says where its files are, or go when they are downloaded
    """

    name: str
    load: Callable[[Request], Dataset]
    training: TrainingRow
    augmentation: Augmentation = field(default_factory=Augmentation)
    timesteps: int = 4
    table_timesteps: tuple[int, ...] = ()
    sizes: Sizes = "fixed"
    needs_files: bool = True
