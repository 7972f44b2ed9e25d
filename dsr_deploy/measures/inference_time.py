"""The least time of one inference, under every published set of constants that has times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dsr_deploy.hardware.core_load import CoreLoad
from dsr_deploy.hardware.energy.constants import CONSTANT_SETS, load_constants
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.time_bound import time_bound
from dsr_deploy.measures.measure import Measure, Section
from dsr_deploy.measures.tables import Table


@dataclass(frozen=True)
class LeastTime:
    """A lower bound of the time of one inference, in the mean over samples.

    Attributes
    ----------
    constants, title, source, notes : of the set of constants; the notes are those of its times
    samples : whose spikes were recorded for it
    steps : clock steps of one inference on a pipelined chip
    synapses, updates, barrier : microseconds of the steps that the busiest core's synaptic
        operations decide, of those that its neuron updates decide, and of the barriers
    microseconds : their sum
    """

    constants: str
    title: str
    source: str
    notes: tuple[str, ...]
    samples: int
    steps: int
    synapses: float
    updates: float
    barrier: float
    microseconds: float


def least_times(network: IntegerNetwork, load: CoreLoad) -> tuple[LeastTime, ...]:
    """Return a bound for each set of constants that has times; ``load`` has a sample."""
    found = []
    for constants in map(load_constants, CONSTANT_SETS):
        if constants.times is None:
            continue
        bound = time_bound(network, load, constants.times)
        found.append(
            LeastTime(
                constants=constants.name,
                title=constants.title,
                source=constants.source,
                notes=constants.times.notes,
                samples=load.samples,
                steps=bound.steps,
                synapses=bound.synapses * 1e6,
                updates=bound.updates * 1e6,
                barrier=bound.barrier * 1e6,
                microseconds=bound.total * 1e6,
            )
        )
    return tuple(found)


def table(times: Sequence[LeastTime]) -> Table:
    """Tabulate the least times in microseconds."""
    return Table(
        ("constants", "samples", "clock steps", "synapses", "updates", "barriers", "at least"),
        [
            (
                time.constants,
                f"{time.samples:,}",
                f"{time.steps:,}",
                *(f"{us:,.1f} us" for us in (time.synapses, time.updates, time.barrier)),
                f"{time.microseconds:,.1f} us",
            )
            for time in times
        ],
    )


def section(times: tuple[LeastTime, ...]) -> Section:
    """Return the lower bounds, and what they leave out."""
    notes: list[str] = []
    for time in times:
        cited = f"{time.constants}: {time.title}; {time.source}"
        notes += [cited, *(f"  {note}" for note in time.notes)]
    return Section(
        "Least time per inference",
        "Lower bounds of the time of one inference, in means over the samples whose spikes were "
        "recorded. A chip whose operations take the published times needs at least this long; how "
        "much longer is not known:",
        table(times),
        (
            *notes,
            "the cores are those of the mapping, whichever chip that is for",
            "a step counts as long as the busiest core's synaptic operations or neuron updates, "
            "whichever are longer; memory, messages, spikes' own time, input and output are left "
            "out",
        ),
    )


MEASURE: Final = Measure(lambda subject: least_times(subject.network, subject.load), section)
