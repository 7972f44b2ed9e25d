import contextlib
import csv
import dataclasses
import hashlib
import json
import re
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sample_run
import torch

from dsr_deploy.console import cli
from dsr_deploy.data.dataset import Dataset
from dsr_deploy.data.loading import load
from dsr_deploy.data.samples import FolderSplit, TensorSplit
from dsr_deploy.data.subset import evenly, take
from dsr_deploy.engines import lava
from dsr_deploy.errors import UserError
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.energy import estimate
from dsr_deploy.hardware.energy.constants import load_constants
from dsr_deploy.hardware.event.simulation import Simulation
from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.parallel.rank import Rank
from dsr_deploy.progress import Silent
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.samples import check_data, of_test_set
from dsr_deploy.run.samples import test_payloads as read_payloads
from dsr_deploy.stages.counting import Method, count
from dsr_deploy.stages.simulate import simulate


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return sample_run.write(tmp_path / "run")


def _refused(message: str) -> pytest.RaisesExc[UserError]:
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


def test_simulate_finds_what_the_reference_finds(run: RunDirectory) -> None:
    report = simulate(run, 50)
    chosen = np.arange(50) * 360 // 50
    digits = load("digits", timesteps=3)
    expected = reference.run(sample_run.network(), sample_run.payloads()[chosen], record=True)
    labels = digits.test.labels.numpy()[chosen]
    assert report.accuracy == float((expected.predictions == labels).mean())
    assert report.neurobench.classification_accuracy == report.accuracy
    assert expected.spikes is not None
    rates = {name: float(spikes.mean()) for name, spikes in expected.spikes.items()}
    assert {layer.name: layer.firing_rate for layer in report.sparsity.layers} == rates
    assert (report.samples, report.timesteps, report.bits) == (50, 3, 4)
    for layer in report.ranges:
        assert layer.proven_low <= layer.seen_low <= layer.seen_high <= layer.proven_high
        assert 0 < layer.register_used < 1


def test_simulate_gives_the_same_whatever_the_number_of_threads(run: RunDirectory) -> None:
    assert simulate(run, 40, threads=1) == simulate(run, 40, threads=3)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_first_compilation_is_announced(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Simulator, "is_compiled", compiled)
    notes: list[str] = []
    monkeypatch.setattr(Silent, "note", lambda self, text: notes.append(text))
    Method().counter(sample_run.network(), Silent())
    announced = ["compiling the simulator for this machine, once: about 20 seconds"]
    assert notes == ([] if compiled else announced)


def test_one_batch_is_held_at_a_time_whatever_the_number_of_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[weakref.ref[np.ndarray]] = []
    held: list[int] = []
    simulate_batch = Simulator.run

    def watched(simulator: Simulator, payloads: np.ndarray, **options: object) -> Simulation:
        held.append(sum(array() is not None for array in made))
        part = simulate_batch(simulator, payloads, **options)
        arrays = [part.run.scores, *(counts.spikes for counts in part.populations.values())]
        made.extend(map(weakref.ref, arrays))
        return part

    monkeypatch.setattr(Simulator, "run", watched)
    network, digits = sample_run.network(), load("digits", timesteps=3)
    samples = of_test_set(network, digits, None).part(np.arange(300))
    tally = count(network, Method(threads=1).counter(network, Silent()), samples, Silent())
    whole, predictions = tally.simulation, tally.predictions
    assert len(made) == 3 * (1 + 10)  # scores and two populations of no sample and ten batches
    assert max(held) <= 3
    assert (whole.samples, whole.run.scores.shape) == (300, (0, 10))
    monkeypatch.undo()
    at_once = Simulator(network).run(sample_run.payloads()[:300])
    np.testing.assert_array_equal(predictions, at_once.run.predictions)
    assert whole.connections == at_once.connections
    for name, counts in at_once.populations.items():
        found = whole.populations[name]
        np.testing.assert_array_equal(found.spikes, counts.spikes)
        np.testing.assert_array_equal(found.per_timestep, counts.per_timestep)


def test_simulate_estimates_energy_with_every_set_of_constants(run: RunDirectory) -> None:
    network = sample_run.network()
    payloads = sample_run.payloads()[np.arange(10) * 36]
    counted = Simulator(network).run(payloads)
    totals = {(line.constants, line.network): line.total for line in simulate(run, 10).energy}
    for (name, kind), total in totals.items():
        constants = load_constants(name)
        if kind == "spiking":
            estimated = estimate.estimate(counted, network, constants)
        else:
            estimated = estimate.estimate_ann(network, constants)
        assert total == estimated.energy.total
    assert len({name for name, _ in totals}) >= 2


def test_simulate_writes_the_reports(run: RunDirectory) -> None:
    report = simulate(run, 10)
    written = {path.name for path in run.reports.iterdir()}
    assert written == {
        "simulate.json",
        "sparsity.csv",
        "sparsity.json",
        "sparsity.png",
        "sparsity.svg",
        "energy.csv",
        "energy.json",
        "manifest.json",
    }
    stored = json.loads((run.reports / "simulate.json").read_text())
    exported = (run.export("loihi") / "network.safetensors").read_bytes()
    assert report.made_from == hashlib.sha256(exported).hexdigest()
    assert stored == json.loads(json.dumps(dataclasses.asdict(report)))
    with (run.reports / "energy.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["part"] for line in lines[:5]] == [
        "input->conv", "conv", "conv->output", "output", "total",
    ]  # fmt: skip
    assert float(lines[4]["total"]) == report.energy[0].total


def test_a_prediction_that_differs_is_named(run: RunDirectory) -> None:
    path = run.quantized(4) / "predictions.json"
    predictions = json.loads(path.read_text())
    found = predictions[36]
    predictions[36] = 9 - found
    predictions[37] = 9 - predictions[37]  # not among the samples that are simulated
    sample_run.put(run, "quantized-4", {path.name: json.dumps(predictions).encode()})
    message = (
        f"test sample 36: the simulator predicts class {found}, the quantized network predicted "
        f"{9 - found}; 1 of 10 predictions differ: export again if the network was quantized "
        f"since, and let `dsr-deploy verify --run {run.path}` name the first spike that differs"
    )
    with _refused(message):
        simulate(run, 10)
    assert not run.reports.exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "quantized-4/predictions.json",
            None,
            "{file}: not there; run `dsr-deploy quantize --bits 4 --run {run}` again",
        ),
        (
            "quantized-4/predictions.json",
            "[1, 2]",
            "{file}: damaged, or not written together with manifest.json; run "
            "`dsr-deploy quantize --bits 4 --run {run}` again",
        ),
        (
            "export/loihi/network.safetensors",
            None,
            "{file}: not there; run `dsr-deploy export --target loihi --run {run}` again",
        ),
        (
            "export/loihi/manifest.json",
            "{}",
            "{file}: it has no checksum; run `dsr-deploy export --target loihi --run {run}` again",
        ),
        (
            "export/loihi/manifest.json",
            None,
            "{file}: not there; run `dsr-deploy export --target loihi --run {run}` again",
        ),
        (
            "config.json",
            "[]",
            "{file}: not a run's configuration (it has no entry 'config'); train again, and "
            "name another directory with --run DIR",
        ),
    ],
)
def test_missing_and_damaged_files_are_named(
    run: RunDirectory, file: str, content: str | None, message: str
) -> None:
    path = run.path / file
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with _refused(message.format(file=path, run=run.path)):
        simulate(run)
    assert not run.reports.exists()


def test_predictions_of_another_test_set_are_refused(run: RunDirectory) -> None:
    sample_run.put(run, "quantized-4", {"predictions.json": b"[1, 2]"})
    with _refused(
        f"{run.quantized(4)}/predictions.json: 2 predictions for a test set of 360 samples; run "
        f"`dsr-deploy quantize --bits 4 --run {run.path}` and `dsr-deploy export --run {run.path}` "
        "again"
    ):
        simulate(run)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"bits": None}, "it names no bits"),
        ({"profile": None}, "profile: must be a mapping, not None"),
        ({"profile": {"name": "x"}}, "profile: field 'soft_reset' is missing"),
    ],
)
def test_a_manifest_that_does_not_say_enough_is_refused(
    run: RunDirectory, record: dict[str, object], reason: str
) -> None:
    sample_run.put(run, "export/loihi", {}, **record)
    with _refused(
        f"{run.export('loihi') / 'manifest.json'}: {reason}; run "
        f"`dsr-deploy export --target loihi --run {run.path}` again"
    ):
        simulate(run)


@pytest.mark.parametrize("samples", [0, -1, 361])
def test_a_number_of_samples_that_is_not_there_is_refused(run: RunDirectory, samples: int) -> None:
    with _refused(f"samples must be 1 to 360, not {samples}"):
        simulate(run, samples)


def test_a_number_of_threads_that_is_none_is_refused(run: RunDirectory) -> None:
    with _refused("threads must be at least 1, not 0"):
        simulate(run, threads=0)


RESTORE = (
    "restore the data that the network was trained on, name their place with --data-dir, or train "
    "again"
)


def _digits(**changes: object) -> Dataset:
    return dataclasses.replace(load("digits", timesteps=3), **changes)


def test_more_classes_in_the_data_than_in_the_network_are_refused() -> None:
    names = tuple("0123456789a")
    with _refused(f"data set 'digits': it has 11 classes, the network 10; {RESTORE}"):
        check_data(sample_run.network(), _digits(classes=names))


@pytest.mark.parametrize(
    ("names", "found"), [(tuple("01234567x9"), "class 8 is 'x'"), (("0",), "class 1 is 'none'")]
)
def test_other_classes_are_refused(names: tuple[str, ...], found: str) -> None:
    index = found[6]
    with _refused(f"data set 'digits': {found}, the network's is '{index}'; {RESTORE}"):
        check_data(sample_run.network(), _digits(classes=names))


def test_images_of_another_size_are_refused() -> None:
    shape = dataclasses.replace(_digits().input, shape=(3, 9, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
    with _refused(
        "data set 'digits': images of 9x8 with 3 channels, the network takes images of 8x8 with "
        f"1 channel; {RESTORE}"
    ):
        check_data(sample_run.network(), _digits(input=shape))


def test_samples_are_taken_from_everywhere() -> None:
    labels = torch.arange(10)
    whole = TensorSplit(torch.zeros(10, 1, 2, 2, dtype=torch.uint8), labels)
    chosen = evenly(10, 4)
    assert chosen.tolist() == take(whole, chosen).labels.tolist() == [0, 2, 5, 7]
    few = take(FolderSplit(tuple(map(str, range(10))), labels, (1, 2, 2)), chosen)
    assert isinstance(few, FolderSplit)
    assert few.files == ("0", "2", "5", "7")
    assert evenly(10, None).tolist() == labels.tolist() == evenly(10, None, 11).tolist()
    assert evenly(10, None, 4).tolist() == chosen.tolist()


def test_payloads_are_those_of_the_chosen_samples(run: RunDirectory) -> None:
    found = read_payloads(run, sample_run.network(), 40, 20, Silent(), None)
    np.testing.assert_array_equal(found, sample_run.payloads()[np.arange(40) * 9])


@pytest.mark.parametrize(("most", "taken"), [(40, 40), (1000, 360)])
def test_without_a_number_verify_takes_what_there_is_and_no_more_than_its_own(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, most: int, taken: int
) -> None:
    monkeypatch.setattr("dsr_deploy.stages.verify.SAMPLES", most)
    found = read_payloads(run, sample_run.network(), None, most, Silent(), None)
    assert len(found) == taken
    assert cli.run(["verify", "--run", str(run.path), "--engines", "event"]) == 0


def test_lava_confirms_what_there_is_and_no_more_than_its_own_number(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirmed: list[int] = []
    there = replace(lava.ENGINE, obstacle=lambda: None)
    monkeypatch.setattr(lava, "ENGINE", there)
    monkeypatch.setattr(
        "dsr_deploy.stages.procedure.Procedure._confirm",
        lambda procedure, share, progress: confirmed.append(len(share)),
    )
    for most in (5, 1000):
        monkeypatch.setattr("dsr_deploy.stages.counting.LAVA_SAMPLES", most)
        assert simulate(run, engine="lava").samples == min(most, 360)
    assert confirmed == [5, 360]


def test_torch_counts_the_same_on_a_device(run: RunDirectory) -> None:
    own = simulate(run, 70)
    written = {path.name: path.read_bytes() for path in run.reports.iterdir()}
    assert simulate(run, 70, device="cpu") == own
    assert {path.name: path.read_bytes() for path in run.reports.iterdir()} == written
    with _refused("device 'tpu': choose one of auto, cpu, cuda, cuda:N"):
        simulate(run, device="tpu")


@pytest.mark.parametrize(("options", "name"), [({"resume": True}, "--resume"),
                                               ({"device": "cpu"}, "--device")])  # fmt: skip
def test_what_is_for_one_process_is_refused_in_several(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], name: str
) -> None:
    group = contextlib.nullcontext(Rank(0, 2, 0, 2))
    monkeypatch.setattr("dsr_deploy.parallel.distributed.process_group", lambda device: group)
    with _refused(f"{name} is for one process; start it without torchrun"):
        simulate(run, **options)
