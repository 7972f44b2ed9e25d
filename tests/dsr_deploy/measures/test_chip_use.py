"""A network on a chip: what the mapping says, and which numbers are in doubt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import sample_run

from dsr_deploy.hardware.chip import Limit, load_chip
from dsr_deploy.hardware.mapping import map_network
from dsr_deploy.measures.chip_use import LayerUse, chip_use


def test_layers_stand_as_they_are_mapped() -> None:
    network, chip = sample_run.network(), load_chip("loihi1")
    found, mapping = chip_use(network, chip), map_network(network, chip)
    assert (found.chip, found.fits) == ("loihi1", mapping.fits)
    assert (found.cores, found.cores_available) == (mapping.cores, 128)
    assert found.layers == tuple(
        LayerUse(p.name, p.neurons, p.synapses, p.cores, p.usage, p.binding.limit, p.fits)
        for p in mapping.populations
    )
    assert len(found.layers) == len(network.populations)


def test_numbers_in_doubt_are_told_from_limits_that_nobody_published() -> None:
    chip = load_chip("loihi1")
    sure = {
        name: replace(limit, certain=True)
        for name, limit in vars(chip).items()
        if isinstance(limit, Limit)
    }
    chip = replace(
        chip,
        **sure
        | {
            "cores": Limit(5, "rumour", certain=False),
            "max_delay": Limit(None, "not public", certain=False),
            "decay_bits": Limit(None, "no such limit", certain=True),
        },
    )
    found = chip_use(sample_run.network(), chip)
    assert found.uncertain == ("cores",)
    assert found.not_public == ("max_delay",)
    assert found.cores_available == 5


def test_a_network_beyond_the_chip_does_not_fit() -> None:
    chip = load_chip("loihi1")
    small = replace(chip, neurons_per_core=replace(chip.neurons_per_core, value=1))
    found = chip_use(sample_run.network(), replace(small, cores=replace(chip.cores, value=3)))
    assert not found.fits
    assert found.cores > 3
    assert np.all([layer.cores >= 1 for layer in found.layers])
