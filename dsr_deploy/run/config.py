"""Everything that decides a training run, and the paper's presets (Tables S2 and S3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from dsr_deploy import files
from dsr_deploy.data.augmentation import Augmentation
from dsr_deploy.data.datasets import DATASETS
from dsr_deploy.data.source import OptimizerName
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.format import json_text
from dsr_deploy.models.architectures import ARCHITECTURES
from dsr_deploy.run import topologies
from dsr_deploy.run.seal import KEY, checksum

NeuronName = Literal["if", "lif"]
PrecisionName = Literal["auto", "fp32", "bf16", "fixed16"]

FLOAT32: Final = (1e-37, 1e38)
"""Range of float32, in which networks are trained, rounded to powers of ten."""

VALIDATION: Final = 0.1
"""Share of the training samples held out by default; presets, like the paper, hold out none."""

FEW_TIMESTEPS: Final = 5
"""Up to this many timesteps, C.4 begins with a lower learning rate."""

STEP: Final = (1 / 4096, 8)
"""Range of dt / tau that the chip's 12-bit decay can express: exp(-8) of 4096 is 1."""

RANGES: Final[dict[str, tuple[float, float]]] = {
    "image_size": (8, 1024),
    "timesteps": (1, 1024),
    "v_threshold_min": FLOAT32,
    "v_threshold": FLOAT32,
    "tau": FLOAT32,
    "dt": FLOAT32,
    "lr": FLOAT32,
    "epochs": (1, 100_000),
    "warmup_epochs": (0, 100_000),
    "batch_size": (2, 1 << 20),
    "validation": (0, 0.5),
    "shift": (0, 0.5),
    "crop": (0.01, 1),
    "seed": (0, 2**31 - 1),
}
"""Smallest and largest value of a setting."""

FREE: Final = ("data_dir", "device", "epochs", "precision")
"""Settings that a user may change in a run's config.json, for data that moved, another machine or
more epochs. Checksums and checkpoints cover all other settings."""


@dataclass(frozen=True)
class Config:
    """The resolved configuration of a training run.

    Attributes
    ----------
    dataset : see :data:`dsr_deploy.data.datasets.DATASETS`
    data_dir : the directory that the data set is in, or is downloaded to
    image_size : side in pixels; None for the data set's own
    flip, shift, crop : see :class:`dsr_deploy.data.augmentation.Augmentation`
    arch : one of :data:`dsr_deploy.models.architectures.ARCHITECTURES`, or a user's own, see
        :mod:`dsr_deploy.run.topologies`
    neuron, timesteps : kind of all neurons, and T
    v_threshold : initial Vth; None chooses each layer's from at most 64 samples
    v_threshold_min, alpha, tau, dt : see :class:`dsr_deploy.models.neuron.Neuron`
    validation : share of the training samples that is held out to choose the best epoch; with 0
        the last epoch is taken
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
            check_type(name, getattr(self, name), kind)
        _check_choice("dataset", self.dataset, DATASETS)
        if not topologies.is_arch(self.arch):
            _check_choice("arch", self.arch, (*ARCHITECTURES, "FILE.py:FUNCTION"))
        for name, (low, high) in RANGES.items():
            _check_range(name, getattr(self, name), low, high)
        if not 0 < self.alpha <= 1:
            raise UserError(f"alpha must be above 0 and at most 1, not {self.alpha}")
        for name in ("momentum", "weight_decay"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UserError(f"{name} must be at least 0 and below 1, not {value}")
        if self.v_threshold is not None and self.v_threshold < self.v_threshold_min:
            raise UserError(
                f"v_threshold must be at least v_threshold_min, {self.v_threshold_min}, not "
                f"{self.v_threshold}; raise v_threshold or lower v_threshold_min"
            )
        step, (shortest, longest) = self.dt / self.tau, STEP
        if self.neuron == "lif" and not shortest <= step <= longest:
            raise UserError(
                f"dt / tau must be 1/4096 to 8, not {step:.6g} (outside, the "
                "chip's 12-bit decay rounds to no leak or to no memory)"
            )
        self._check_augmentation()

    @property
    def network(self) -> str:
        """The architecture's name, for people and for names of files."""
        return topologies.short_name(self.arch)

    @property
    def augmentation(self) -> Augmentation:
        """How training samples are varied."""
        return Augmentation(self.flip, self.shift, self.crop)

    def _check_augmentation(self) -> None:
        sizes = DATASETS[self.dataset].sizes
        if sizes == "fixed" and self.crop != 1:
            raise UserError(
                f"crop {self.crop}: the samples of {self.dataset} keep their size; leave crop out, "
                "or use shift"
            )
        if sizes == "cut" and self.shift:
            raise UserError(
                f"shift {self.shift}: the images of {self.dataset} are cut to size; leave shift "
                "out, or use crop"
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
    """Return the configuration: ``chosen`` over the preset over the data set's defaults.

    A value of None in ``chosen`` counts as not given.

    Raises
    ------
    UserError
        If the preset is unknown, or a value is out of range.
    """
    given = {name: value for name, value in chosen.items() if value is not None}
    for name in ("timesteps", "epochs"):  # computed with before Config checks all
        if name in given:
            check_type(name, given[name], int)
    if preset is not None:
        _check_choice("preset", preset, presets())
        trained_on, neuron, steps = preset.rsplit("-", 2)
        given = {"dataset": trained_on, "neuron": neuron, "timesteps": int(steps[1:])} | given
    dataset = given.get("dataset", "digits")
    _check_choice("dataset", dataset, DATASETS)
    # A preset keeps its training on another data set, such as the same images in folders.
    row = dataset if preset is None else trained_on
    neuron = given.get("neuron", "if")
    timesteps = int(given.get("timesteps", DATASETS[dataset].timesteps))
    for name in ("tau", "dt"):
        if neuron == "if" and name in given:
            raise UserError(
                f"{name} {given[name]}: IF neurons do not leak; leave {name} out, or use neuron lif"
            )
    values = (
        {"dataset": dataset, "neuron": neuron, "timesteps": timesteps}
        | {"validation": VALIDATION if preset is None else 0.0}
        | _training_defaults(row, timesteps)
        | _neuron_defaults(neuron, timesteps, paper=preset is not None)
        # The data set's, not the preset's: which changes keep a sample in its class depends on it.
        | dataclasses.asdict(DATASETS[dataset].augmentation)
        | given
    )
    if "warmup_epochs" not in given:
        values["warmup_epochs"] = min(values["warmup_epochs"], values["epochs"] - 1)
    settings = Config(**values)
    if settings.warmup_epochs >= settings.epochs:
        raise UserError(
            f"warmup_epochs must be below epochs, {settings.epochs}, not "
            f"{settings.warmup_epochs}; lower warmup_epochs or raise epochs"
        )
    return settings


def refuse_changes(
    settings: Config, preset: str | None, chosen: Mapping[str, Any], where: str
) -> None:
    """Make sure that a run to resume is not asked to become another.

    Parameters
    ----------
    settings : of the run
    preset, chosen : as :func:`resolve` takes them
    where : the run, for the error

    Raises
    ------
    UserError
        If a setting was chosen that the run does not have.
    """
    asked = dataclasses.asdict(resolve(preset, **chosen)) if preset else chosen
    for name, value in asked.items():
        if value is not None and value != getattr(settings, name):
            raise UserError(
                f"{where}: the run was started with {name} {getattr(settings, name)}, not "
                f"{value}; leave the option out, or start a new run without --resume"
            )


def from_dict(values: dict[str, Any]) -> Config:
    """Return the configuration with these values, the inverse of :func:`dataclasses.asdict`."""
    values = complete(values)
    known = {field.name for field in dataclasses.fields(Config)}
    if set(values) != known:
        odd = sorted(set(values) ^ known)
        raise UserError(f"the configuration has missing or unknown entries: {', '.join(odd)}")
    return Config(**values)


def complete(values: dict[str, Any]) -> dict[str, Any]:
    """Return ``values`` with the settings that config.json did not hold in earlier versions."""
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
    """Read the configuration in a run's config.json.

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
            f"{path}: changed since training wrote it (its checksum does not match); restore it: "
            f"only {', '.join(FREE)} may be changed"
        )
    return settings


def checksum_of(stored: dict[str, Any]) -> str:
    """Return the checksum of a run's config.json, without the entries that may change."""
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
    """Return the values of C.4.

    Without a row in Table S2 they are those of the nearest row, and Vth is chosen from the data.
    """
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


def check_type(name: str, value: Any, kind: Any) -> None:
    """Raise UserError if ``value`` is not of ``kind``; an int is a number, a bool is not."""
    if kind is bool:
        if not isinstance(value, bool):
            raise UserError(f"{name} must be true or false, not {value!r}")
        return
    if get_origin(kind) is Literal:
        _check_choice(name, value, get_args(kind))
        return
    kinds = get_args(kind) or (kind,)
    allowed = (*kinds, int) if float in kinds else kinds
    if isinstance(value, bool) or not isinstance(value, allowed):
        words = {int: "a whole number", float: "a number", str: "text", type(None): "null"}
        allowed_words = " or ".join(words[k] for k in kinds)
        raise UserError(f"{name} must be {allowed_words}, not {value!r}")


def _check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    if value not in choices:
        raise UserError(f"{name} {value!r}: choose one of {', '.join(choices)}")


def _check_range(name: str, value: float | None, low: float, high: float) -> None:
    """Raise UserError if ``value`` is a number outside ``low`` to ``high``, or not a number."""
    if value is not None and not low <= value <= high:
        limits = " to ".join(str(x) if isinstance(x, int) else f"{x:g}" for x in (low, high))
        raise UserError(f"{name} must be {limits}, not {value}")
