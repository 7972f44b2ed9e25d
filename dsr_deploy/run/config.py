"""Everything that decides a training run, and the paper's presets (Tables S2 and S3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from dsr_deploy import files
from dsr_deploy.data.augmentation import Augmentation
from dsr_deploy.data.datasets import DATASETS
from dsr_deploy.data.source import OptimizerName
from dsr_deploy.errors import UserError
from dsr_deploy.hardware import json_text
from dsr_deploy.models.architectures import ARCHITECTURES
from dsr_deploy.run import topologies
from dsr_deploy.run.seal import KEY, checksum

NeuronName = Literal["if", "lif"]
PrecisionName = Literal["auto", "fp32", "bf16", "fixed16"]

FLOAT32: Final = (1e-37, 1e38)
"""What float32 holds, in which networks are trained, rounded to powers of ten."""

VALIDATION: Final = 0.1
"""Share of the training samples that is held out where no preset asks for the paper's recipe."""

FEW_TIMESTEPS: Final = 5
"""Up to so many, C.4 begins with a lower learning rate."""

SHORTEST_STEP: Final = 1 / 4096
LONGEST_STEP: Final = 8
"""Of dt in units of tau: exp(-8) of 4096 is 1."""


FREE: Final = ("data_dir", "device", "epochs", "precision")
"""What a user may change in a run's config.json, where the data or the machine are others or more
epochs are wanted; its checksum is of the rest, and every checkpoint is of the rest."""


@dataclass(frozen=True)
class Config:
    """The resolved configuration of a training run.

    Attributes
    ----------
    dataset : see :data:`dsr_deploy.data.datasets.DATASETS`
    data_dir : where its files lie or are downloaded to
    image_size : side in pixels; None for the data set's own
    flip, shift, crop : see :class:`dsr_deploy.data.augmentation.Augmentation`
    arch : one of :data:`dsr_deploy.models.architectures.ARCHITECTURES`, or a user's own, see
        :mod:`dsr_deploy.run.topologies`
    neuron, timesteps : kind of all neurons, and T
    v_threshold : initial Vth; None chooses each layer's from at most 64 samples
    v_threshold_min, alpha, tau, dt : see :class:`dsr_deploy.models.neuron.Neuron`
    validation : share of the training samples that is held out, to choose a network by; with 0
        the last epoch's network is taken
    epochs, batch_size, optimizer, lr, momentum, weight_decay : the training;
        the learning rate rises linearly for ``warmup_epochs``, then falls as a cosine to 0
    precision : of the forward convolutions, see :data:`dsr_deploy.models.currents.Precision`;
        "auto" is the fastest that trains equally well
    """

    dataset: str
    arch: str
    neuron: NeuronName
    timesteps: int
    v_threshold: float | None
    v_threshold_min: float
    alpha: float
    tau: float
    dt: float
    epochs: int
    batch_size: int
    optimizer: OptimizerName
    lr: float
    momentum: float
    weight_decay: float
    warmup_epochs: int
    validation: float
    flip: bool
    shift: float
    crop: float
    data_dir: str | None = None
    image_size: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: PrecisionName = "auto"

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Config).items():
            _check_type(name, getattr(self, name), kind)
        _check_choice("dataset", self.dataset, DATASETS)
        if not topologies.is_arch(self.arch):
            _check_choice("arch", self.arch, (*ARCHITECTURES, "FILE.py:FUNCTION"))
        whole = {
            "timesteps": (1, 1024),
            "epochs": (1, 100_000),
            "batch_size": (2, 1 << 20),
            "warmup_epochs": (0, 100_000),
            "seed": (0, 2**31 - 1),
        }
        for name, (low, high) in whole.items():
            if not low <= getattr(self, name) <= high:
                raise UserError(f"{name} {getattr(self, name)}; {low} to {high} are possible")
        if self.image_size is not None and not 8 <= self.image_size <= 1024:
            raise UserError(f"image_size {self.image_size}; 8 to 1024 are possible")
        self._check_augmentation()
        for name in ("v_threshold_min", "tau", "dt", "lr"):
            _check_positive(name, getattr(self, name))
        if self.v_threshold is not None:
            _check_positive("v_threshold", self.v_threshold)
            if self.v_threshold < self.v_threshold_min:
                raise UserError(
                    f"v_threshold {self.v_threshold} lies below its lower bound "
                    f"v_threshold_min {self.v_threshold_min}; raise one or lower the other"
                )
        steps = self.dt / self.tau
        if self.neuron == "lif" and not SHORTEST_STEP <= steps <= LONGEST_STEP:
            raise UserError(
                f"dt {self.dt} and tau {self.tau}; dt is {SHORTEST_STEP:.5f} to {LONGEST_STEP} "
                "times tau, which the 12 bits of a chip's decay can tell from no leak and from no "
                "memory"
            )
        if not 0 < self.alpha <= 1:
            raise UserError(f"alpha {self.alpha}; it lies above 0 and is at most 1")
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum {self.momentum}; it is at least 0 and below 1")
        if not 0 <= self.validation <= 0.5:
            raise UserError(f"validation {self.validation}; it is at least 0 and at most 0.5")
        if not 0 <= self.weight_decay < 1:
            raise UserError(f"weight_decay {self.weight_decay}; it is at least 0 and below 1")

    @property
    def network(self) -> str:
        """The architecture's name, for people and for names of files."""
        return topologies.short_name(self.arch)

    @property
    def augmentation(self) -> Augmentation:
        """How training samples are varied."""
        return Augmentation(self.flip, self.shift, self.crop)

    def _check_augmentation(self) -> None:
        if not 0 <= self.shift <= 0.5:
            raise UserError(f"shift {self.shift}; 0 to 0.5 are possible")
        if not 0.01 <= self.crop <= 1:
            raise UserError(f"crop {self.crop}; 0.01 to 1 are possible")
        sizes = DATASETS[self.dataset].sizes
        if sizes == "fixed" and self.crop != 1:
            raise UserError(
                f"crop {self.crop}; the samples of {self.dataset} keep their size: leave it out, "
                "or use shift"
            )
        if sizes == "cut" and self.shift:
            raise UserError(
                f"shift {self.shift}; the images of {self.dataset} are cut to size: leave it out, "
                "or use crop"
            )


@dataclass(frozen=True)
class LifRow:
    """A row of Table S2."""

    v_threshold: float
    v_threshold_min: float
    dt: float
    alpha: float


# Table S2, by timesteps.
LIF_ROWS: Final = {
    20: LifRow(v_threshold=0.3, v_threshold_min=0.0005, dt=0.05, alpha=0.3),
    15: LifRow(v_threshold=0.3, v_threshold_min=0.0005, dt=0.05, alpha=0.4),
    10: LifRow(v_threshold=0.3, v_threshold_min=0.0005, dt=0.05, alpha=0.4),
    5: LifRow(v_threshold=0.6, v_threshold_min=0.001, dt=0.1, alpha=0.5),
}


def presets() -> tuple[str, ...]:
    """Return the names of the paper's settings, ``<dataset>-<neuron>-t<timesteps>``."""
    return tuple(
        f"{source.name}-{neuron}-t{timesteps}"
        for source in DATASETS.values()
        for neuron in get_args(NeuronName)
        for timesteps in source.table_timesteps
    )


def resolve(preset: str | None = None, **chosen: Any) -> Config:
    """Return the configuration that a preset, the data set's defaults and ``chosen`` give.

    Values that are None in ``chosen`` count as not given.

    Raises
    ------
    UserError
        If the preset is unknown, or a value is out of range.
    """
    given = {name: value for name, value in chosen.items() if value is not None}
    if preset is not None:
        _check_choice("preset", preset, presets())
        trained_on, neuron, steps = preset.rsplit("-", 2)
        given = {"dataset": trained_on, "neuron": neuron, "timesteps": int(steps[1:])} | given
    dataset = given.get("dataset", "digits")
    _check_choice("dataset", dataset, DATASETS)
    # A preset's training stays its own on other data, such as the same images in folders.
    row = dataset if preset is None else trained_on
    neuron = given.get("neuron", "if")
    timesteps = int(given.get("timesteps", DATASETS[dataset].timesteps))
    for name in ("tau", "dt"):
        if neuron == "if" and name in given:
            raise UserError(
                f"{name} {given[name]}; IF neurons do not leak: leave it out, or use neuron lif"
            )
    values = (
        {"dataset": dataset, "neuron": neuron, "timesteps": timesteps}
        | {"validation": VALIDATION if preset is None else 0.0}
        | _training_defaults(row, timesteps)
        | _neuron_defaults(neuron, timesteps, paper=preset is not None)
        # of the data, not of the preset: it decides which images are of one class
        | dataclasses.asdict(DATASETS[dataset].augmentation)
        | given
    )
    if "warmup_epochs" not in given:
        values["warmup_epochs"] = min(values["warmup_epochs"], values["epochs"] - 1)
    settings = Config(**values)
    if settings.warmup_epochs >= settings.epochs:
        raise UserError(
            f"warmup_epochs {settings.warmup_epochs} of {settings.epochs} epochs; at least one "
            "must follow: lower warmup_epochs or raise epochs"
        )
    return settings


def from_dict(values: dict[str, Any]) -> Config:
    """Return the configuration that :func:`dataclasses.asdict` made ``values`` of."""
    values = complete(values)
    known = {field.name for field in dataclasses.fields(Config)}
    if set(values) != known:
        odd = sorted(set(values) ^ known)
        raise UserError(f"the configuration has missing or unknown entries: {', '.join(odd)}")
    return Config(**values)


def complete(values: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with what a run was trained with before config.json said so."""
    return _earlier(values.get("dataset")) | values


def _earlier(dataset: Any) -> dict[str, Any]:
    chosen_on_test_set = {"validation": 0.0}
    if not isinstance(dataset, str) or dataset not in DATASETS:
        return chosen_on_test_set
    earlier = DATASETS[dataset].augmentation
    if dataset == "imagefolder":
        earlier = dataclasses.replace(earlier, flip=True)
    return dataclasses.asdict(earlier) | chosen_on_test_set


def read(path: Path) -> Config:
    """Return the configuration that a run's config.json holds.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    data = files.read_bytes(path, files.MAX_JSON)
    try:
        stored = json_text.parse(data)
        if not isinstance(stored, dict) or not isinstance(stored.get("config"), dict):
            raise UserError("it has no entry 'config'")
        settings = from_dict(stored["config"])
    except (UserError, ValueError) as error:
        raise UserError(
            f"{path}: not a run's configuration ({error}); train again, and name another "
            "directory with --run DIR"
        ) from None
    if KEY in stored and stored[KEY] != checksum_of(stored):
        raise UserError(
            f"{path}: not as the training wrote it, its checksum does not match; restore it: only "
            f"{', '.join(FREE)} may be changed"
        )
    return settings


def checksum_of(stored: dict[str, Any]) -> str:
    """Return the checksum of what a run's config.json holds, without what may change."""
    settings = {name: value for name, value in stored["config"].items() if name not in FREE}
    rest = {name: value for name, value in stored.items() if name != "command"}
    return checksum(rest | {"config": settings})


def _training_defaults(dataset: str, timesteps: int) -> dict[str, Any]:
    values = dataclasses.asdict(DATASETS[dataset].training)
    few = values.pop("lr_of_few")
    if few is not None and timesteps <= FEW_TIMESTEPS:
        values["lr"] = few
    # The supplement names neither momentum nor weight decay; these are the authors' code's.
    sgd = values["optimizer"] == "sgd"
    return values | {"momentum": 0.9, "weight_decay": 5e-4 if sgd else 0.0}


def _neuron_defaults(neuron: str, timesteps: int, *, paper: bool) -> dict[str, Any]:
    """Return C.4's values; where Table S2 has no row, those of the nearest, and Vth from data."""
    if neuron == "if":
        threshold = 6.0 if paper else None
        return {
            "v_threshold": threshold,
            "v_threshold_min": 0.01,
            "alpha": 0.5,
            "tau": 1.0,
            "dt": 1.0,
        }
    nearest = min(LIF_ROWS, key=lambda steps: abs(steps - timesteps))
    row = dataclasses.asdict(LIF_ROWS[nearest])
    return row | {"tau": 1.0} | ({} if paper else {"v_threshold": None})


def _check_type(name: str, value: Any, kind: Any) -> None:
    """Raise UserError if ``value`` is not of ``kind``; whole numbers are numbers, bools are not."""
    if kind is bool:
        if not isinstance(value, bool):
            raise UserError(f"{name} {value!r}; it must be true or false")
        return
    if get_origin(kind) is Literal:
        _check_choice(name, value, get_args(kind))
        return
    kinds = get_args(kind) or (kind,)
    allowed = (*kinds, int) if float in kinds else kinds
    if isinstance(value, bool) or not isinstance(value, allowed):
        words = {int: "a whole number", float: "a number", str: "text", type(None): "null"}
        raise UserError(f"{name} {value!r}; it must be {' or '.join(words[k] for k in kinds)}")


def _check_choice(name: str, value: Any, known: Collection[str]) -> None:
    if value not in known:
        raise UserError(f"{name} {value!r}; known are {', '.join(known)}")


def _check_positive(name: str, value: float) -> None:
    low, high = FLOAT32
    if not low <= value <= high:
        raise UserError(f"{name} {value}; {low:.0e} to {high:.0e} are possible")
