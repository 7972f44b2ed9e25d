"""A small network and edited profiles for the tests of chips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from dsr_deploy.hardware import chip as chip_module
from dsr_deploy.hardware.network import Connection, Input, IntegerNetwork, Population

PROFILES = Path(chip_module.__file__).parent / "chips"


def small_network(
    *, low=0, high=1, bias=(0, 0), v_fire=(65, 129), decay=0, weight_bits=8, exponent=0, delay=0
):
    out = Population(
        "out",
        (2, 1, 1),
        np.array(bias, np.int32),
        np.array(v_fire, np.int32),
        np.array((64, 64), np.int32),
        decay,
    )
    connection = Connection(
        "input",
        "out",
        "linear",
        np.array([[1, -1], [1, 1]], np.int8),
        weight_bits,
        exponent=exponent,
        delay=delay,
    )
    source = Input((2, 1, 1), (0.0, 0.0), (1.0, 1.0), 1.0, 1.0, low, high)
    return IntegerNetwork("small", 2, source, (out,), (connection,), (1, 1))


def changed(chip, **values):
    """Return ``chip`` with other numbers."""
    return replace(
        chip, **{name: replace(getattr(chip, name), value=v) for name, v in values.items()}
    )


def profile(path, edit, name="loihi1"):
    """Write an edited copy of a chip's profile."""
    content = yaml.safe_load((PROFILES / f"{name}.yaml").read_text())
    edit(content)
    path.write_text(yaml.safe_dump(content))
    return path
