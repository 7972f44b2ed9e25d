"""What every engine returns, and how it reads the scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Run:
    """The outcome of an integer network on N samples.

    Attributes
    ----------
    scores : int64 (N, classes), the readout-weighted spikes of the output population
    spikes : for each population by name, bool (N, T, C, H, W); None if not recorded
    potentials : for each population that was asked for, by name, int32 (N, T, C, H, W): the
        membrane potential at the end of each timestep, after the reset
    """

    scores: NDArray[np.int64]
    spikes: dict[str, NDArray[np.bool_]] | None = None
    potentials: dict[str, NDArray[np.int32]] = field(default_factory=dict)

    @property
    def predictions(self) -> NDArray[np.int64]:
        """Class of the largest score per sample, the lowest index among equals; (N,)."""
        best: NDArray[np.int64] = np.argmax(self.scores, axis=1)
        return best


def read_scores(readout: Sequence[int], spikes: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the scores of the classes: the sum over time of ``readout[t] * spike[t]``.

    Parameters
    ----------
    readout : T weights
    spikes : bool (N, T, classes, 1, 1), of the output population

    Returns
    -------
    int64 (N, classes)
    """
    weights = np.array(readout, np.int64)
    fired = spikes[:, :, :, 0, 0].astype(np.int64)
    scores: NDArray[np.int64] = np.einsum("t,ntc->nc", weights, fired)
    return scores
