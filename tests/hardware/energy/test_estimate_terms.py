"""Terms of an energy: those that there are add up, those that there are not stay away."""

from __future__ import annotations

import pytest

from dsr_deploy.hardware.energy.constants import Constant, load_constants
from dsr_deploy.hardware.energy.estimate import Energy, EnergyEstimate, EnergyRow
from dsr_deploy.hardware.errors import ProfileError


def test_a_total_is_the_sum_of_the_terms_that_there_are() -> None:
    assert Energy(1.0, 2.0).total == 3.0
    assert Energy(1.0, 2.0, traffic=4.0).total == 7.0
    assert Energy(1.0, 2.0, memory=8.0).total == 11.0
    assert Energy(1.0, 2.0, 4.0, 8.0).total == 15.0


def test_no_term_is_no_energy() -> None:
    assert Energy() == Energy(synapse=0.0, neuron=0.0, traffic=None, memory=None)
    assert Energy().total == 0.0


def test_rows_add_up_term_by_term() -> None:
    def whole(*energies: Energy) -> Energy:
        rows = tuple(EnergyRow(str(i), energy) for i, energy in enumerate(energies))
        return EnergyEstimate(load_constants("loihi1-sanafe"), "n", 1.0, rows).energy

    assert whole(Energy(1, 2, 3, 4), Energy(10, 20, 30, 40)) == Energy(11, 22, 33, 44)
    assert whole(Energy(1, 2, None, 4), Energy(10, 20, 30, None)) == Energy(11, 22, 30, 4)
    assert whole(Energy(1, 2), Energy(10, 20)) == Energy(11, 22, None, None)
    assert whole(Energy(0, 0, 0.0)) == Energy(0, 0, 0.0, None)


@pytest.mark.parametrize("pj", [0, 0.0, 23.6])
def test_an_energy_is_at_least_0(pj: float) -> None:
    assert Constant(pj, "primary").pj == pj
    with pytest.raises(ProfileError, match=r"^pj must be a number of at least 0, not -0.1$"):
        Constant(-0.1, "primary")
