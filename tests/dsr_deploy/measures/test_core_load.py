"""The busiest core of given loads, worked by hand, and how it is recorded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sample_run

from dsr_deploy.hardware.chip import load_chip
from dsr_deploy.hardware.core_load import CoreLoad
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.measures import core_load
from dsr_deploy.measures.core_load import BusiestCore, LayerLoad, TermLoad
from dsr_deploy.progress import Silent

CHIP = load_chip("loihi2")


def counts(*rows: list[list[int]]) -> Any:
    """Return counts of one sample: a row of cores per timestep, in one channel group."""
    return np.array(rows, np.int64)[:, :, None, :]


def network(*targets: str) -> Any:
    return SimpleNamespace(connections=[SimpleNamespace(target=name) for name in targets])


def two_layers() -> tuple[Any, CoreLoad]:
    """Layer a on two cores with two connections, layer b on one; two samples of two timesteps."""
    synops = (
        counts([[10, 0], [4, 6]], [[1, 2], [0, 0]]),
        counts([[2, 1], [0, 30]], [[0, 0], [0, 0]]),
        counts([[9], [40]], [[3], [0]]),
    )
    reads = (
        counts([[1, 0], [1, 1]], [[1, 1], [0, 0]]),
        counts([[1, 1], [0, 2]], [[0, 0], [0, 0]]),
        counts([[1], [2]], [[50], [0]]),
    )
    neurons = {"a": np.array([[5, 3]]), "b": np.array([[4]])}
    return network("a", "a", "b"), CoreLoad(synops, reads, neurons)


def test_the_busiest_core_is_taken_per_sample_and_timestep_then_averaged() -> None:
    made, load = two_layers()
    # Layer a, both connections: 12 1 / 4 36 and 1 2 / 0 0; layer b: 9 / 40 and 3 / 0.
    found = core_load.busiest_core(made, CHIP, load)
    # Synops 12 (a), 40 (b); reads 50 (b); updates 5 (a).
    assert (found.chip, found.samples, found.cores) == ("loihi2", 2, 3)
    assert found.largest == (12 + 40 + 50 + 5) / 4
    assert (found.binding, found.binding_layer) == ("synops", "a")
    assert found.terms == (
        TermLoad("synops", (12 + 40 + 3 + 0) / 4, 108 / 12, 55 / 4 / 9, "a", 0.5),
        TermLoad("updates", 5.0, 4.0, 1.25, "a", 0.25),
        TermLoad("reads", (2 + 3 + 50 + 0) / 4, 62 / 12, 55 / 4 / (62 / 12), "a", 0.25),
    )
    assert found.layers == (
        LayerLoad("a", 2, (12 + 36 + 2 + 0) / 4, 5.0, (2 + 3 + 1 + 0) / 4, 12.5 / (56 / 8), 0.5),
        LayerLoad("b", 1, 52 / 4, 4.0, 53 / 4, 1.0, 0.5),
    )


def test_layers_without_an_event_have_no_unevenness() -> None:
    silent = CoreLoad((counts([[0, 0]]),), (counts([[0, 0]]),), {"a": np.array([[1, 1]])})
    found = core_load.busiest_core(network("a"), CHIP, silent)
    assert found.layers[0].unevenness is None
    assert [term.unevenness for term in found.terms] == [None, 1.0, None]
    assert (found.binding, found.largest) == ("updates", 1.0)
    assert core_load.table(found).rows == [
        ("a", "2", "0.0", "1.0", "0.0", "-", "100.0%"),
        ("all", "2", "0.0", "1.0", "0.0", "-", ""),
    ]


def test_the_section_says_what_binds_and_where() -> None:
    made, load = two_layers()
    section = core_load.section(core_load.busiest_core(made, CHIP, load))
    assert section.heading == "Busiest core"
    assert section.text == (
        "The cores of loihi2 wait for the busiest one after every timestep. Its counts per "
        "timestep, in means over 2 samples whose spikes were recorded; synaptic operations in a "
        "bind most often:"
    )
    assert section.notes[:2] == (
        "the largest of the three counts, by share of the timesteps: synaptic operations 50.0%, "
        "neuron updates 25.0%, memory reads 25.0%; one operation is taken to last as long as "
        "another",
        "the busiest core of each is most often of: synaptic operations in a, neuron updates in "
        "a, memory reads in a",
    )
    assert section.table.headings[0] == "busiest core"
    assert section.table.rows == [
        ("a", "2", "12.5", "5.0", "1.5", "1.79x", "50.0%"),
        ("b", "1", "13.0", "4.0", "13.2", "1.00x", "50.0%"),
        ("all", "3", "13.8", "5.0", "13.8", "1.53x", ""),
    ]


@pytest.mark.parametrize("cuts", [[20], [9, 11], [1] * 20, []])
def test_samples_are_recorded_a_few_at_a_time_whatever_the_batches(
    monkeypatch: pytest.MonkeyPatch, cuts: list[int]
) -> None:
    made, payloads = sample_run.network(), sample_run.payloads()[: sum(cuts)]
    run, sizes = Simulator.run, []

    def watched(simulator: Simulator, some: Any, **options: Any) -> Any:
        sizes.append(len(some))
        return run(simulator, some, **options)

    monkeypatch.setattr(Simulator, "run", watched)
    batches = np.split(payloads, np.cumsum(cuts)[:-1]) if cuts else []
    load = core_load.record(made, CHIP, batches, len(payloads), 1, Silent())
    assert max(sizes) <= core_load.AT_ONCE
    assert load.samples == sum(sizes) == len(payloads)
    monkeypatch.undo()
    counted = Simulator(made).run(payloads)
    assert [int(x.sum()) for x in load.synops] == [c.synops for c in counted.connections]


def test_a_record_of_no_sample_joins_one_of_some() -> None:
    made = sample_run.network()
    none, some = (
        core_load.record(made, CHIP, [sample_run.payloads()[:n]], n, 1, Silent()) for n in (0, 2)
    )
    found: BusiestCore = core_load.busiest_core(made, CHIP, none.merge(some))
    assert found == core_load.busiest_core(made, CHIP, some)
