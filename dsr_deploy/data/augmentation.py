"""How training samples are varied, and what each data set begins with.

Nothing here imports torch: the command line shows these values without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CUT: Final = ("imagenet", "imagefolder")
"""Data sets whose images may have many sizes, and are then cut to one."""


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


DEFAULTS: Final = {
    "digits": Augmentation(shift=1 / 8),
    # the paper's: 4 of 32 pixels
    "cifar10": Augmentation(flip=True, shift=1 / 8),
    "cifar100": Augmentation(flip=True, shift=1 / 8),
    "imagenet": Augmentation(flip=True, crop=0.08),
    # Not mirrored: in a user's images left and right may be what tells two classes apart.
    "imagefolder": Augmentation(shift=1 / 8, crop=0.08),
    # 4 of 48 pixels
    "cifar10-dvs": Augmentation(shift=1 / 12),
}
"""By data set."""
