"""Traces: every spike and potential of chosen layers and samples, in the files of users."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import sample_run
from random_networks import Builder, random_network

import dsr_deploy as dd
from dsr_deploy.data.arrays import read_arrays
from dsr_deploy.errors import UserError
from dsr_deploy.formats import nir as nir_format
from dsr_deploy.formats.traces import Traces, of_arrays, to_npz
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.errors import RegisterError
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.progress import Silent
from dsr_deploy.run.own_samples import of_array
from dsr_deploy.run.samples import Samples
from dsr_deploy.stages import recording as recording_module
from dsr_deploy.stages.recording import Recording, record
from dsr_deploy.stages.simulate import simulate


def _samples(network: IntegerNetwork, payloads: np.ndarray) -> Samples:
    labels = np.arange(len(payloads)) % network.output.shape[0]
    return of_array(network, payloads, labels, None, "x")


def _record(build: Builder, count: int, recording: Recording) -> Traces:
    network = build.network()
    return record(network, _samples(network, build.payloads(count)), recording, 1, Silent())


def _refused(message: str) -> pytest.RaisesExc[UserError]:
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize("seed", range(5))
def test_spikes_and_potentials_obey_the_equation_of_the_neuron(seed: int) -> None:
    build = random_network(seed)
    network, payloads = build.network(), build.payloads(6)
    traces = record(network, _samples(network, payloads), Recording(potentials=True), 1, Silent())
    expected = reference.run(network, payloads, record=True)
    assert expected.spikes is not None
    assert list(traces.spikes) == [p.name for p in network.populations]
    assert traces.predictions.tolist() == expected.predictions.tolist()
    assert traces.samples.tolist() == list(range(6))
    assert traces.labels is not None
    for population in network.populations:
        name = population.name
        fired = expected.spikes[name]
        np.testing.assert_array_equal(traces.spikes[name], fired)
        # worked out here once more: what is left of v, and the currents of all sources
        v = np.zeros((6, *population.shape), np.int64)
        for t in range(network.timesteps):
            u = np.sign(v) * (np.abs(v) * (4096 - population.decay) // 4096)
            u += population.bias[:, None, None]
            for connection in network.incoming(population):
                frame = payloads[:, t] if network.input.framed else payloads
                sent = (
                    frame
                    if connection.source == "input"
                    else expected.spikes[connection.source][:, t]
                )
                u += reference.transmit(connection, sent.astype(np.int64)) << connection.exponent
            v = u - population.v_threshold[:, None, None] * fired[:, t]
            np.testing.assert_array_equal(traces.potentials[name][:, t], v)
            np.testing.assert_array_equal(u >= population.v_fire[:, None, None], fired[:, t])


def test_ten_samples_are_recorded_evenly_spread_unless_others_are_chosen() -> None:
    build = random_network(0)
    network, payloads = build.network(), build.payloads(25)
    samples = _samples(network, payloads)
    for chosen, numbers in (
        (None, [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]),
        (3, [0, 8, 16]),
        ((24, 3, 3), [3, 24]),
    ):
        traces = record(network, samples, Recording(samples=chosen), 1, Silent())
        assert traces.samples.tolist() == numbers
        expected = reference.run(network, payloads[numbers], record=True)
        assert expected.spikes is not None
        for name, fired in traces.spikes.items():
            np.testing.assert_array_equal(fired, expected.spikes[name])
        assert traces.labels is not None
        assert traces.labels.tolist() == [n % 5 for n in numbers]
        assert not traces.potentials
    assert len(_record(build, 4, Recording()).samples) == 4


def test_layers_stand_in_order_of_evaluation() -> None:
    traces = _record(random_network(1), 2, Recording(layers=["d", "a"], potentials=True))
    assert list(traces.spikes) == list(traces.potentials) == ["a", "d"]


@pytest.mark.parametrize("labelled", [True, False])
def test_an_npz_is_read_back_as_it_was(tmp_path: Path, labelled: bool) -> None:
    build = random_network(2)
    network = build.network()
    samples = of_array(network, build.payloads(3), [0, 1, 2] if labelled else None, None, "x")
    traces = record(network, samples, Recording(potentials=True), 1, Silent())
    path = tmp_path / "t.npz"
    Recording(path=path).write(traces, network)
    found = of_arrays(read_arrays(path))
    for mine, theirs in ((traces.spikes, found.spikes), (traces.potentials, found.potentials)):
        assert list(mine) == list(theirs)
        for name, array in mine.items():
            np.testing.assert_array_equal(theirs[name], array)
            assert theirs[name].dtype == array.dtype
    assert (found.labels is None) == (not labelled)
    assert path.read_bytes() == to_npz(found)  # the same traces, the same bytes
    names = set(np.load(io.BytesIO(path.read_bytes())).files)
    assert names == {
        *(f"{kind}/{p.name}" for kind in ("spikes", "potentials") for p in network.populations),
        "samples",
        "predictions",
        *(["labels"] if labelled else []),
    }


@pytest.mark.parametrize("timesteps", [1, 2, 7, 20, 49, 60])
@pytest.mark.parametrize("kind", ["nir", "nir-events"])
def test_nir_reads_back_every_spike_and_potential(
    tmp_path: Path, kind: str, timesteps: int
) -> None:
    # 49 * 1e-4 / 1e-4 is less than 49, and so is the time of timestep 49 of 60
    build = Builder(3, (2, 4, 5), timesteps, 0, framed=False)
    build.population("a/b", build.conv("input", 3, 3, padding=1))
    build.population("out", build.linear("a/b", 4))
    network = build.network()
    traces = record(
        network, _samples(network, build.payloads(3)), Recording(potentials=True), 1, Silent()
    )
    path = tmp_path / "t.nir"
    Recording(path=path, format=kind).write(traces, network)
    data = nir.read_data(str(path))
    graph = nir_format.to_nir(network)
    assert set(data.nodes) == {"a_b", "out"} <= set(graph.nodes)
    for name, node in (("a/b", "a_b"), ("out", "out")):
        observed = data.nodes[node].observables
        spikes = observed["spikes"]
        assert type(spikes).__name__ == ("TimeGriddedData" if kind == "nir" else "EventData")
        grid = spikes if kind == "nir" else spikes.to_time_gridded(nir_format.DT)
        wanted = traces.spikes[name].reshape(3, timesteps, -1)
        np.testing.assert_array_equal(grid.data, wanted)
        assert spikes.n_neurons == wanted.shape[2]
        potentials = traces.potentials[name].reshape(3, timesteps, -1)
        np.testing.assert_array_equal(observed["voltages"].data, potentials)
    assert traces.spikes["a/b"].any()


def test_a_run_keeps_its_traces_until_it_is_simulated_without(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    recording = Recording(path=tmp_path / "t.nir", layers=["conv"])
    simulate(run, 30, recording=recording)
    assert (tmp_path / "t.nir").exists()
    source = run.read("reports", "traces.npz")
    traces = of_arrays(np.load(io.BytesIO(source.content["traces.npz"])))
    assert list(traces.spikes) == ["conv"]
    numbers = np.arange(10) * 3 * 12
    assert traces.samples.tolist() == numbers.tolist()
    expected = reference.run(sample_run.network(), sample_run.payloads()[numbers], record=True)
    assert expected.spikes is not None
    np.testing.assert_array_equal(traces.spikes["conv"], expected.spikes["conv"])
    found = dd.simulate(str(run.path), samples=5, record=Recording(samples=2)).traces
    assert found is not None
    assert found.samples.tolist() == [0, 2 * 72]
    assert dd.simulate(str(run.path), samples=5).traces is None
    assert not (run.reports / "traces.npz").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["a", "x"]}, "layer 'x': choose among a, b, c, d, e, f, out"),
        ({"layers": []}, "layers must be at least 1, not 0"),
        ({"samples": 4}, "samples to record must be 1 to 3, not 4"),
        ({"samples": 0}, "samples to record must be 1 to 3, not 0"),
        ({"samples": (1, 3)}, "sample 3 to record: not among the 3 that are simulated, of numbers "
         "0 to 2"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(options: dict[str, Any], message: str) -> None:
    with _refused(message):
        _record(random_network(0), 3, Recording(**options))


def test_a_path_that_cannot_be_is_refused_before_the_work(tmp_path: Path) -> None:
    with _refused("format 'csv': choose one of npz, nir, nir-events"):
        Recording(format="csv")
    path = tmp_path / "x.csv"
    with _refused(f"{path}: let its name end in .npz or .nir, or choose --record-format"):
        Recording(path=path)
    assert Recording(path=path, format="npz")
    with _refused(f"{tmp_path}: it is a folder; name a file"):
        Recording(path=tmp_path, format="npz")
    path.write_text("mine")
    with _refused(f"{path}: cannot be written (Not a directory)"):
        Recording(path=path / "x.npz")


def test_traces_that_are_too_large_are_refused_before_they_are_allocated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording_module, "MOST_BYTES", 100)
    with pytest.raises(
        UserError, match=r"^traces of 0\.0 GB, at most 0\.0 GB are recorded; choose"
    ):
        _record(random_network(0), 3, Recording())


def test_a_file_of_other_arrays_is_refused() -> None:
    arrays: dict[str, Any] = {
        "spikes/a": np.zeros((2, 3, 1, 1, 1), bool),
        "samples": np.arange(2),
        "predictions": np.arange(2),
    }
    assert of_arrays(arrays).spikes["a"].shape == (2, 3, 1, 1, 1)
    with _refused("traces: 'samples' is missing; simulate with --record again"):
        of_arrays({k: v for k, v in arrays.items() if k != "samples"})
    with _refused("traces: 'predictions' is float64 of shape (2,), not int64 of shape (2,)"):
        of_arrays(arrays | {"predictions": np.zeros(2)})
    with _refused("traces: 'spikes/a' is bool of shape (1, 3, 1, 1, 1), not bool of shape (2, 3, "
                  "1, 1, 1)"):  # fmt: skip
        of_arrays(arrays | {"spikes/a": np.zeros((1, 3, 1, 1, 1), bool)})
    with _refused("traces: 'potentials/b' is int32 of shape (2, 3, 1, 1, 1), not int32 of shape "
                  "()"):  # fmt: skip
        of_arrays(arrays | {"potentials/b": np.zeros((2, 3, 1, 1, 1), np.int32)})


def test_a_potential_that_leaves_the_register_by_its_reset_is_no_wrong_number() -> None:
    build = Builder(0, (1, 1, 1), 1, 0, framed=False)
    build.population("out", build.linear("input", 2))
    network = build.network()
    out = network.output
    object.__setattr__(out, "v_threshold", np.full(2, 2**31 - 1, np.int32))
    object.__setattr__(out, "v_fire", np.full(2, -(2**20), np.int32))
    payloads = build.payloads(1)
    assert reference.run(network, payloads, record=True).spikes is not None
    with pytest.raises(RegisterError, match="leaves the 24-bit register"):
        reference.run(network, payloads, potentials=["out"])
