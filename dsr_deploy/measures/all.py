"""All measures of a simulation; a new one is a module and a line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

from dsr_deploy.measures import (
    chip_use,
    core_load,
    energy,
    inference_time,
    neurobench,
    ranges,
    sparsity,
)
from dsr_deploy.measures.chip_use import ChipUse
from dsr_deploy.measures.core_load import BusiestCore
from dsr_deploy.measures.energy import EnergyLine
from dsr_deploy.measures.inference_time import LeastTime
from dsr_deploy.measures.measure import Measure, Plot, Section, Subject
from dsr_deploy.measures.neurobench import NeuroBench
from dsr_deploy.measures.ranges import LayerRange
from dsr_deploy.measures.sparsity import Sparsity


@dataclass(frozen=True)
class Measures:
    """What the measures keep of a simulation; each field is annotated with its measure.

    Attributes
    ----------
    energy : of the spiking network under each set of constants, and of a conventional one
    ranges : of the membrane potentials of each layer
    chip : what the network takes of the chip that it was exported for
    load : of the busiest core of that chip
    time : that one inference takes at least, by each set of constants that has times
    neurobench : the same simulation in NeuroBench's metrics
    """

    sparsity: Annotated[Sparsity, sparsity.MEASURE]
    energy: Annotated[tuple[EnergyLine, ...], energy.MEASURE]
    ranges: Annotated[tuple[LayerRange, ...], ranges.MEASURE]
    chip: Annotated[ChipUse, chip_use.MEASURE]
    load: Annotated[BusiestCore, core_load.MEASURE]
    time: Annotated[tuple[LeastTime, ...], inference_time.MEASURE]
    neurobench: Annotated[NeuroBench, neurobench.MEASURE]


def _measures() -> dict[str, Measure[Any]]:
    hints = get_type_hints(Measures, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items()}


MEASURES = _measures()
"""By the name of the field, which ``simulate --report`` takes too."""


def compute(subject: Subject) -> dict[str, Any]:
    """Return the fields of :class:`Measures` for a simulated network."""
    return {name: measure.compute(subject) for name, measure in MEASURES.items()}


def sections(measures: Measures) -> dict[str, Section]:
    """Return every measure as people read it, by name."""
    return {name: m.section(getattr(measures, name)) for name, m in MEASURES.items()}


def plots(measures: Measures) -> dict[str, tuple[Plot, ...]]:
    """Return the pictures of every measure for the page, by name."""
    return {name: m.plots(getattr(measures, name)) for name, m in MEASURES.items()}


def report_files(measures: Measures, subject: Subject) -> dict[str, bytes]:
    """Return the files that the measures write, by name."""
    return {
        name: content
        for field, measure in MEASURES.items()
        for name, content in measure.files(getattr(measures, field), subject).items()
    }
