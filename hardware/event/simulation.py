"""What the event-driven simulator returns: the spikes' outcome and what was counted on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsr_deploy.hardware.run import Run

Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PopulationCounts:
    """What one population did, over all samples and timesteps.

    Attributes
    ----------
    spikes : int64 (C, H, W), spikes of each neuron
    per_timestep : int64 (T,), spikes of the population at each timestep
    updates : neuron updates, one per neuron, timestep and sample
    u_min, u_max : extremes of the membrane potential before the reset, and of its initial 0
    """

    spikes: Int64
    per_timestep: Int64
    updates: int
    u_min: int
    u_max: int

    def merge(self, other: PopulationCounts) -> PopulationCounts:
        """Return the counts of both."""
        return PopulationCounts(
            spikes=self.spikes + other.spikes,
            per_timestep=self.per_timestep + other.per_timestep,
            updates=self.updates + other.updates,
            u_min=min(self.u_min, other.u_min),
            u_max=max(self.u_max, other.u_max),
        )


@dataclass(frozen=True)
class ConnectionCounts:
    """What one connection carried, over all samples and timesteps.

    Attributes
    ----------
    events : spikes, or nonzero payloads, that it carried: those of source neurons that have a
        target in it. Between the strides of a 1x1 window, and beyond the last one, some have none
    synops : synaptic operations: (event, target neuron) pairs that exist. Targets outside the
        borders do not count, weights of zero do
    """

    events: int
    synops: int

    def merge(self, other: ConnectionCounts) -> ConnectionCounts:
        """Return the counts of both."""
        return ConnectionCounts(self.events + other.events, self.synops + other.synops)


@dataclass(frozen=True, eq=False)
class Simulation:
    """An event-driven run of an integer network on N samples.

    Attributes
    ----------
    samples : N
    run : scores, and the spikes if they were recorded; of no sample in what
        :meth:`without_scores` returns
    populations : counts by name, in order of evaluation
    connections : counts in the order of the network's connections
    input_events : nonzero payloads that entered; an image that is shown at every timestep
        enters, and is delivered, at every timestep
    timesteps : T
    """

    samples: int
    run: Run
    populations: dict[str, PopulationCounts]
    connections: tuple[ConnectionCounts, ...]
    input_events: int
    timesteps: int

    def without_scores(self) -> Simulation:
        """Return the counts alone; their size does not depend on the number of samples."""
        return replace(self, run=Run(self.run.scores[:0].copy()))

    def merge(self, other: Simulation) -> Simulation:
        """Return one simulation of the samples of both, those of ``other`` last.

        A data set that does not fit in memory is simulated batch by batch, in constant memory::

            parts = (simulator.run(batch).without_scores() for batch in batches)
            functools.reduce(Simulation.merge, parts)

        Both must be of the same network; spikes are kept if both recorded them.
        """
        spikes = None
        if self.run.spikes is not None and other.run.spikes is not None:
            spikes = {
                name: np.concatenate([mine, other.run.spikes[name]])
                for name, mine in self.run.spikes.items()
            }
        return Simulation(
            samples=self.samples + other.samples,
            run=Run(np.concatenate([self.run.scores, other.run.scores]), spikes),
            populations={
                name: mine.merge(other.populations[name]) for name, mine in self.populations.items()
            },
            connections=tuple(
                mine.merge(theirs)
                for mine, theirs in zip(self.connections, other.connections, strict=True)
            ),
            input_events=self.input_events + other.input_events,
            timesteps=self.timesteps,
        )
