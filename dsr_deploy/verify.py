"""Run every engine on the same samples, and compare them spike for spike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from dsr_deploy.engines import lava as lava_engine
from dsr_deploy.engines.opening import ENGINES, Engine, Exported, Payloads, open_engine
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.run import Run
from dsr_deploy.progress import Progress, Silent
from dsr_deploy.run import provenance
from dsr_deploy.run.directory import RunDirectory

BASELINE: Final = "reference"
SAMPLES = 20
"""How many are compared unless told otherwise, or all if there are fewer."""
BATCH = 10

LAVA_SECONDS: Final = 120.0
"""Up to this estimate Lava is among the engines without being named."""


@dataclass(frozen=True)
class Difference:
    """The first spike in which an engine departs from the baseline."""

    engine: str
    baseline: str
    layer: str
    timestep: int
    sample: int
    neuron: tuple[int, int, int]
    found: int
    expected: int

    def __str__(self) -> str:
        return (
            f"engine '{self.engine}' differs from '{self.baseline}': layer '{self.layer}', "
            f"timestep {self.timestep}, neuron {self.neuron} (channel, row, column), sample "
            f"{self.sample}: {self.found} instead of {self.expected}"
        )


@dataclass(frozen=True)
class Verification:
    """What a comparison found.

    Attributes
    ----------
    samples : how many were compared
    baseline : the engine that the others were compared with
    spikes : number of spikes by layer, of the baseline
    differing : number of spikes that differ, by engine and layer
    scores_differ : number of samples whose scores differ, by engine
    difference : the first one in the order of evaluation, or None
    left_out : why an engine was not among them, by engine
    """

    samples: int
    baseline: str
    spikes: dict[str, int]
    differing: dict[str, dict[str, int]]
    scores_differ: dict[str, int]
    difference: Difference | None
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def agreed(self) -> bool:
        return self.difference is None and not any(self.scores_differ.values())

    @property
    def disagreement(self) -> str:
        """The first difference, in words; there must be one."""
        if self.difference is not None:
            return str(self.difference)
        name, count = next((n, count) for n, count in self.scores_differ.items() if count)
        return (
            f"engine '{name}' differs from '{self.baseline}': the same spikes, but other scores in "
            f"{count} samples"
        )


def verify(
    run: RunDirectory,
    engines: tuple[str, ...] | None = None,
    samples: int | None = None,
    *,
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Compare ``engines`` on samples of the test set, each on the file that was exported for it.

    Parameters
    ----------
    engines : None for all whose files are there and that can run here, Lava if it takes no more
        than two minutes; a single one is compared with the reference
    samples : None for 20, or all if there are fewer
    data_dir : where the data lie now, if they were moved

    Raises
    ------
    UserError
        If nothing was exported, a file is damaged or of another network, an engine is unknown or
        not to be had, or the data do not fit.
    """
    from dsr_deploy.simulate import exported, test_payloads

    for name in engines or ():
        if name not in ENGINES:
            raise UserError(f"engine {name!r}; known are {', '.join(ENGINES)}")
    if engines is not None and set(engines) == {BASELINE}:
        raise UserError(f"engine '{BASELINE}' alone; name one to compare with it")
    said = progress or Silent()
    whole = exported(run)
    provenance.tell(run, "export/loihi", said)
    left_out = {} if engines is not None else _not_by_default(whole, samples or SAMPLES)
    names = engines or [name for name in ENGINES if name not in left_out]
    if len(set(names)) == 1:
        names = (BASELINE, *names)
    opened = {name: open_engine(name, whole) for name in names}
    payloads = test_payloads(run, whole.network, samples, said, data_dir)
    return replace(compare(whole.network, payloads, opened, progress=said), left_out=left_out)


def _not_by_default(exported: Exported, samples: int) -> dict[str, str]:
    """Return the engines whose file is not there, that cannot run here or that take too long.

    Each with what to do about it.
    """
    found = {name: missing for name in ENGINES if (missing := exported.missing(name))}
    if lava_engine.find_python310() is None:
        return found | {
            "lava": "no Python 3.10 with lava-nc and dsr-deploy found; run `make lava` in the "
            f"project's folder, or set {lava_engine.PYTHON_VARIABLE} to such an interpreter"
        }
    seconds = lava_engine.estimate_seconds(exported.network, samples)
    if seconds > LAVA_SECONDS:
        line = exported.run.command("verify --engines reference,lava --samples 1")
        return found | {
            "lava": f"it would take about {seconds / 60:,.0f} minutes; `{line}` runs it"
        }
    return found


def compare(
    network: IntegerNetwork,
    payloads: Payloads,
    engines: Mapping[str, Engine],
    *,
    progress: Progress | None = None,
) -> Verification:
    """Compare engines on given payloads.

    Parameters
    ----------
    network : names the populations, of which every engine records the spikes
    engines : by name; the baseline is the reference if it is among them, else the first
    """
    said = progress or Silent()
    names = list(engines)
    baseline = BASELINE if BASELINE in names else names[0]
    others = [name for name in names if name != baseline]
    layers = [population.name for population in network.populations]
    spikes = dict.fromkeys(layers, 0)
    differing = {name: dict.fromkeys(layers, 0) for name in others}
    scores_differ = dict.fromkeys(others, 0)
    first: Difference | None = None
    # Lava takes seconds to start: it gets all samples at once.
    size = len(payloads) if "lava" in names else BATCH
    starts = range(0, len(payloads), size)
    if "lava" in names:
        seconds = lava_engine.estimate_seconds(network, len(payloads))
        if seconds > LAVA_SECONDS:
            said.note(f"Lava takes about {seconds / 60:,.0f} minutes for these samples")
    with said.task("verifying", len(starts) * len(names)) as task:
        for start in starts:
            batch = payloads[start : start + size]
            expected = _run(baseline, engines[baseline], batch)
            task.advance(text=baseline)
            for name, train in (expected.spikes or {}).items():
                spikes[name] += int(train.sum())
            for name in others:
                found = _run(name, engines[name], batch)
                task.advance(text=name)
                where = _compare(name, baseline, found, expected, layers, start, differing[name])
                scores_differ[name] += int((found.scores != expected.scores).any(axis=1).sum())
                first = first or where
    return Verification(len(payloads), baseline, spikes, differing, scores_differ, first)


def _run(name: str, engine: Engine, payloads: Payloads) -> Run:
    try:
        return engine(payloads)
    except HardwareError as error:
        raise UserError(f"engine '{name}': {error}") from None


def _compare(
    name: str,
    baseline: str,
    found: Run,
    expected: Run,
    layers: list[str],
    start: int,
    differing: dict[str, int],
) -> Difference | None:
    """Count differing spikes per layer; return the first: layer by layer, then by timestep."""
    assert found.spikes is not None
    assert expected.spikes is not None
    first: Difference | None = None
    for layer in layers:
        mine, theirs = found.spikes[layer], expected.spikes[layer]
        unequal = mine != theirs
        count = int(unequal.sum())
        differing[layer] += count
        if count and first is None:
            by_time = np.argwhere(unequal.swapaxes(0, 1))
            timestep, sample, channel, row, column = by_time[0].tolist()
            at = (sample, timestep, channel, row, column)
            first = Difference(
                engine=name,
                baseline=baseline,
                layer=layer,
                timestep=timestep,
                sample=start + sample,
                neuron=(channel, row, column),
                found=int(mine[at]),
                expected=int(theirs[at]),
            )
    return first
