"""Run several engines on the same payloads, and compare them spike for spike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dsr_deploy.engines import load_engine
from dsr_deploy.engines.engine import Payloads, Runner
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.errors import HardwareError
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.run import Run
from dsr_deploy.progress import Progress, Silent

BASELINE: Final = "reference"
BATCH: Final = 10

MAX_SECONDS: Final = 120.0
"""An engine that is estimated to take longer does not run unless it is named."""


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


def compare_all(
    network: IntegerNetwork, payloads: Payloads, runners: Mapping[str, Runner], progress: Progress
) -> Verification:
    """Compare engines as :func:`compare` does, in batches that suit them all.

    An engine that takes long is announced.
    """
    for name in runners:
        seconds = load_engine(name).seconds(network, len(payloads))
        if seconds > MAX_SECONDS:
            progress.note(
                f"{name.capitalize()} takes about {seconds / 60:,.0f} minutes for these samples"
            )
    at_once = any(load_engine(name).all_at_once for name in runners)
    batch = max(1, len(payloads)) if at_once else BATCH
    return compare(network, payloads, runners, batch=batch, progress=progress)


def compare(
    network: IntegerNetwork,
    payloads: Payloads,
    runners: Mapping[str, Runner],
    *,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Verification:
    """Compare engines on given payloads.

    Parameters
    ----------
    network : names the populations, of which every engine records the spikes
    runners : by name of their engine; the baseline is the reference, else the first
    batch : samples that an engine gets at a time
    """
    progress = progress or Silent()
    names = list(runners)
    baseline = BASELINE if BASELINE in names else names[0]
    others = [name for name in names if name != baseline]
    layers = [population.name for population in network.populations]
    spikes = dict.fromkeys(layers, 0)
    differing = {name: dict.fromkeys(layers, 0) for name in others}
    scores_differ = dict.fromkeys(others, 0)
    first: Difference | None = None
    starts = range(0, len(payloads), batch)
    with progress.task("verifying", len(starts) * len(names)) as task:
        for start in starts:
            part = payloads[start : start + batch]
            expected = _run(baseline, runners[baseline], part)
            task.advance(text=baseline)
            for name, train in (expected.spikes or {}).items():
                spikes[name] += int(train.sum())
            for name in others:
                actual = _run(name, runners[name], part)
                task.advance(text=name)
                where = _compare(name, baseline, actual, expected, layers, start, differing[name])
                scores_differ[name] += int((actual.scores != expected.scores).any(axis=1).sum())
                first = first or where
    return Verification(len(payloads), baseline, spikes, differing, scores_differ, first)


def _run(name: str, runner: Runner, payloads: Payloads) -> Run:
    try:
        return runner(payloads)
    except HardwareError as error:
        raise UserError(f"engine '{name}': {error}") from None


def _compare(
    name: str,
    baseline: str,
    actual: Run,
    expected: Run,
    layers: list[str],
    start: int,
    differing: dict[str, int],
) -> Difference | None:
    """Count differing spikes per layer; return the first: layer by layer, then by timestep."""
    assert actual.spikes is not None
    assert expected.spikes is not None
    first: Difference | None = None
    for layer in layers:
        ours, reference = actual.spikes[layer], expected.spikes[layer]
        unequal = ours != reference
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
                found=int(ours[at]),
                expected=int(reference[at]),
            )
    return first
