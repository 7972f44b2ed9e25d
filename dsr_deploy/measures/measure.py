"""What a measure is: a count or an estimate from a simulation, with its table and its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from dsr_deploy.hardware.chip import Chip
from dsr_deploy.hardware.core_load import CoreLoad
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.measures.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Record = TypeVar("Record")


@dataclass(frozen=True, eq=False)
class Subject:
    """A simulated network and the chip that it is for.

    Attributes
    ----------
    bits : width that its weights were quantized to
    load : what each core of the chip did, for some of the samples
    accuracy : share of the samples whose class was found; None without labels
    """

    network: IntegerNetwork
    bits: int
    chip: Chip
    simulation: Simulation
    load: CoreLoad
    accuracy: float | None = None

    @property
    def title(self) -> str:
        """Of a plot."""
        network = self.network
        return f"{network.name}, T = {network.timesteps}, {self.bits}-bit weights"


@dataclass(frozen=True)
class Section:
    """A measure as people read it, on a terminal, on the page and in a notebook.

    Attributes
    ----------
    text : stands above the table; may be empty
    notes : lines below the table
    """

    heading: str
    text: str
    table: Table
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the text, the table and the notes, for a terminal."""
        notes = "\n".join(f"  {note}" for note in self.notes)
        return "\n\n".join(part for part in (self.text, str(self.table), notes) if part)


@dataclass(frozen=True)
class Plot:
    """A picture of a measure, for the page.

    Attributes
    ----------
    figure : begun in :func:`dsr_deploy.measures.plots.own_style`; without a title
    """

    caption: str
    figure: Figure


def _no_plots(record: object) -> tuple[Plot, ...]:
    return ()


def _no_files(record: object, subject: Subject) -> dict[str, bytes]:
    return {}


@dataclass(frozen=True)
class Measure(Generic[Record]):
    """How a record is computed and presented.

    Attributes
    ----------
    compute : returns what simulate.json keeps: a dataclass, or a tuple of them
    section : presents it
    files : returns further files of the reports, by name
    plots : draws it for the page
    """

    compute: Callable[[Subject], Record]
    section: Callable[[Record], Section]
    files: Callable[[Record, Subject], dict[str, bytes]] = _no_files
    plots: Callable[[Record], tuple[Plot, ...]] = _no_plots
