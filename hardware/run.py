"""What every engine returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Run:
    """The outcome of an integer network on N samples.

    Attributes
    ----------
    scores : int64 (N, classes), the readout-weighted spikes of the output population
    spikes : for each population by name, bool (N, T, C, H, W); None if not recorded
    """

    scores: NDArray[np.int64]
    spikes: dict[str, NDArray[np.bool_]] | None = None

    @property
    def predictions(self) -> NDArray[np.int64]:
        """Class of the largest score per sample, the lowest index among equals; (N,)."""
        best: NDArray[np.int64] = np.argmax(self.scores, axis=1)
        return best
