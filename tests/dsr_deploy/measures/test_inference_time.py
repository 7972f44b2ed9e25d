"""The least times of a simulation: the bounds of every set that has times, in microseconds."""

from __future__ import annotations

import pytest
import sample_run

from dsr_deploy.hardware.chip import load_chip
from dsr_deploy.hardware.energy.constants import load_constants
from dsr_deploy.hardware.time_bound import time_bound
from dsr_deploy.measures import core_load, inference_time
from dsr_deploy.measures.inference_time import LeastTime
from dsr_deploy.progress import Silent

TIME = LeastTime("set", "t", "s", ("n",), 1000, 25, 1e4, 2.25, 0.5, 10002.75)


def test_each_set_that_has_times_gives_a_bound_in_microseconds() -> None:
    network, payloads = sample_run.network(), sample_run.payloads()[:3]
    load = core_load.record(network, load_chip("loihi2"), [payloads], 3, 1, Silent())
    found = inference_time.least_times(network, load)
    assert [time.constants for time in found] == ["loihi1-davies2018", "loihi1-sanafe"]
    for time in found:
        constants = load_constants(time.constants)
        assert constants.times is not None
        bound = time_bound(network, load, constants.times)
        assert (time.title, time.source) == (constants.title, constants.source)
        assert time.notes == constants.times.notes != ()
        assert (time.samples, time.steps) == (3, bound.steps)
        assert time.synapses == bound.synapses * 1e6 > 0
        assert time.updates == bound.updates * 1e6
        assert time.barrier == bound.barrier * 1e6
        assert time.microseconds == pytest.approx(time.synapses + time.updates + time.barrier)


def test_the_section_calls_them_lower_bounds() -> None:
    section = inference_time.section((TIME,))
    assert section.heading == "Least time per inference"
    assert section.text.startswith("Lower bounds of the time of one inference, in means over ")
    assert section.notes[:2] == ("set: t; s", "  n")
    assert section.table.rows == [
        ("set", "1,000", "25", "10,000.0 us", "2.2 us", "0.5 us", "10,002.8 us")
    ]
    assert section.table.headings[-1] == "at least"
