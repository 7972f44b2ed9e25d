"""spikingjelly's reader of CIFAR10-DVS, the oracle of ours.

Its package also imports torchaudio, for speech alone; torchaudio goes with few versions of torch.
"""

from __future__ import annotations

import sys
import types

_torchaudio = sys.modules.get("torchaudio")
sys.modules["torchaudio"] = types.ModuleType("torchaudio")
try:
    from spikingjelly.datasets.cifar10_dvs import CIFAR10DVS, CIFAR10DVS_CLASS_NAMES
    from spikingjelly.datasets.cifar10_dvs import _load_origin_data as load_events
    from spikingjelly.datasets.utils import (
        integrate_events_by_fixed_frames_number,
        split_to_train_test_set,
    )
finally:
    del sys.modules["torchaudio"]
    if _torchaudio is not None:
        sys.modules["torchaudio"] = _torchaudio

__all__ = [
    "CIFAR10DVS",
    "CIFAR10DVS_CLASS_NAMES",
    "integrate_events_by_fixed_frames_number",
    "load_events",
    "split_to_train_test_set",
]
