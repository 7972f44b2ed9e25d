"""How training samples are varied.

Nothing here imports torch: the command line shows these values without it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """What training does to a sample, at random; testing does none of it.

    Attributes
    ----------
    flip : whether every second sample is mirrored, left to right
    shift : for samples that keep their size: the farthest they move, as a share of their longer
        side; whole pixels, rounded down, with background 0 moving in
    crop : for images that are cut to size: the smallest part that is cut, as a share of the
        image's area; 1 takes the centre, as testing does
    """

    flip: bool = False
    shift: float = 0.0
    crop: float = 1.0

    def padding(self, height: int, width: int) -> int:
        """Return the farthest shift in pixels."""
        return int(self.shift * max(height, width) + 1e-9)
