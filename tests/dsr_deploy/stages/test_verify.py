"""Which engines are compared, and what is said of them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import sample_run

from dsr_deploy.console import cli
from dsr_deploy.engines import lava as lava_engine
from dsr_deploy.engines.compare import BATCH, Verification, compare, compare_all
from dsr_deploy.errors import UserError
from dsr_deploy.formats import loihi
from dsr_deploy.formats.onnx import to_onnx
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.format.network_content import identity
from dsr_deploy.hardware.network import IntegerNetwork
from dsr_deploy.hardware.run import Run
from dsr_deploy.progress import Silent
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.stages import verify
from dsr_deploy.stages.export import export

needs_lava = pytest.mark.skipif(
    lava_engine.find_python310() is None, reason="no Python 3.10 with lava-nc"
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Return a run that was exported to everything."""
    made = sample_run.write(tmp_path / "run")
    export(made, "onnx")
    export(made, "nir")
    return made


@pytest.fixture
def no_lava(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lava_engine, "find_python310", lambda: None)


@pytest.fixture
def bare(tmp_path: Path) -> RunDirectory:
    """Return a run that was exported for Loihi alone."""
    return sample_run.write(tmp_path / "bare")


def in_the_reference(payloads: np.ndarray) -> Run:
    return reference.run(sample_run.network(), payloads, record=True)


def with_other_spikes(payloads: np.ndarray) -> Run:
    """Flip a spike of the last layer in the first batch, and two of the first in the second."""
    found = in_the_reference(payloads)
    assert found.spikes is not None
    if len(payloads) == BATCH:
        found.spikes["output"][3, 0, 5, 0, 0] ^= True
    else:
        found.spikes["conv"][2, 1, 3, 4, 5] ^= True
        found.spikes["conv"][2, 2, 0, 0, 0] ^= True
    return found


def test_without_lava_the_others_are_compared_and_one_line_says_how_to_get_it(
    run: RunDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lava_engine, "find_python310", lambda: None)
    assert cli.run(["verify", "--run", str(run.path), "--samples", "3"]) == 0
    assert capsys.readouterr().out.endswith(
        "\n\nlava was left out: no Python 3.10 with lava-nc and dsr-deploy found; run `make lava` "
        "in the project's folder, or set DSR_DEPLOY_LAVA_PYTHON to such an interpreter\n"
    )
    found = verify.verify(run, samples=3)
    assert list(found.differing) == ["torch", "event", "onnx", "nir"]
    assert list(found.left_out) == ["lava"]


@pytest.mark.parametrize("command", ["verify --engines event,lava", "simulate --engine lava"])
def test_lava_that_is_asked_for_and_not_there_is_an_error(
    run: RunDirectory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.setattr(lava_engine, "find_python310", lambda: None)
    assert cli.run([*command.split(), "--run", str(run.path)]) == 1
    assert capsys.readouterr().err == (
        "error: lava: no Python 3.10 with lava-nc and dsr-deploy found; run `make lava` in the "
        "project's folder, or set DSR_DEPLOY_LAVA_PYTHON to such an interpreter\n"
    )
    assert not run.reports.exists()


def test_lava_is_left_out_where_it_would_take_long(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lava_engine, "find_python310", lambda: Path("python3.10"))
    slow = replace(lava_engine.ENGINE, seconds=lambda network, samples: 60.0 * samples)
    monkeypatch.setattr(lava_engine, "ENGINE", slow)
    assert verify.verify(run, samples=3).left_out == {
        "lava": "it would take about 3 minutes; "
        f"`dsr-deploy verify --engines reference,lava --samples 1 --run {run.path}` runs it"
    }


@needs_lava
def test_lava_is_among_the_engines_where_it_can_run(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["verify", "--run", str(run.path), "--samples", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    nothing = {"conv": 0, "output": 0}
    assert found["differing"] == dict.fromkeys(("torch", "event", "onnx", "nir", "lava"), nothing)
    assert found["left_out"] == {}
    expected = in_the_reference(sample_run.payloads()[[0, 90, 180, 270]])
    assert expected.spikes is not None
    assert found["spikes"] == {name: int(s.sum()) for name, s in expected.spikes.items()}
    assert cli.run(["simulate", "--run", str(run.path), "--engine", "lava"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Simulated 20 test samples in integers only, 3 timesteps each; Lava")
    assert json.loads((run.reports / "simulate.json").read_text())["engine"] == "lava"


FILES = {
    "torch": "quantized-4/network.safetensors",
    "event": "export/loihi/network.safetensors",
    "reference": "export/loihi/network.safetensors",
    "onnx": "export/onnx/network.onnx",
    "nir": "export/nir/network.nir",
    "lava": "export/loihi/lava.json",
}


def refused(run: RunDirectory, *names: str) -> str:
    with pytest.raises(UserError) as caught:
        verify.verify(run, names or None, 2)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["onnx", "nir"])
@pytest.mark.usefixtures("no_lava")
def test_an_engine_without_its_file_is_left_out_unless_it_is_asked_for(
    bare: RunDirectory, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = (
        f"{bare.path}/{FILES[name]}: not there; run `dsr-deploy export --target {name} --bits 4 "
        f"--run {bare.path}`"
    )
    assert cli.run(["verify", "--run", str(bare.path), "--samples", "2"]) == 0
    assert f"\n{name} was left out: {line}\n" in capsys.readouterr().out
    assert refused(bare, name) == line


@pytest.mark.usefixtures("no_lava")
def test_without_the_quantized_network_torch_is_left_out(run: RunDirectory) -> None:
    path = run.path / FILES["torch"]
    path.unlink()
    line = f"{path}: not there; run `dsr-deploy quantize --bits 4 --run {run.path}`"
    assert verify.verify(run, samples=2).left_out["torch"] == line
    assert refused(run, "torch", "event") == line


@pytest.mark.parametrize("name", ["torch", "event", "onnx", "nir"])
@pytest.mark.usefixtures("no_lava")
@pytest.mark.parametrize("damage", ["garbage", "cut off", "emptied"])
def test_every_engine_opens_its_own_file_and_a_damaged_one_is_named(
    run: RunDirectory, name: str, damage: str
) -> None:
    path = run.path / FILES[name]
    whole = path.read_bytes()
    path.write_bytes({"garbage": b"garbage", "cut off": whole[:-999], "emptied": b""}[damage])
    asked = refused(run, "reference", name)
    assert asked.startswith(f"{path}: ")
    if name != "event":
        assert "; run `dsr-deploy " in asked
    assert refused(run) == asked  # also where it is not asked for


@needs_lava
def test_processes_of_another_network_are_refused_before_lava_starts(run: RunDirectory) -> None:
    path = run.path / FILES["lava"]
    path.write_text(path.read_text().replace('"network": "', '"network": "0')[:-2])
    assert refused(run, "lava").startswith(f"{path}: ")
    other = loihi.to_files(sample_run.network(1))["lava.json"]
    path.write_bytes(other)
    assert refused(run, "event", "lava") == (
        f"{path}: it does not describe the network beside it; run `dsr-deploy export "
        f"--target loihi --bits 4 --run {run.path}`"
    )


def exported_elsewhere(folder: Path, made: IntegerNetwork) -> RunDirectory:
    """Return another run, whose network is ``made``, exported to everything."""
    run = sample_run.write(folder, made)
    export(run, "onnx")
    export(run, "nir")
    return run


def narrower() -> IntegerNetwork:
    """Return the network with weights of 2 bits."""
    network = sample_run.network()
    return replace(
        network,
        connections=tuple(
            replace(c, weight=np.clip(c.weight, -1, 1), weight_bits=2) for c in network.connections
        ),
    )


@pytest.mark.usefixtures("no_lava")
@pytest.mark.parametrize("name", ["torch", "onnx", "nir"])
@pytest.mark.parametrize(
    ("made", "apart"),
    [(sample_run.network(1), "other numbers"), (narrower(), "weights of 2 bits, not 4")],
)
def test_a_file_of_another_network_or_width_is_named(
    run: RunDirectory, tmp_path: Path, name: str, made: IntegerNetwork, apart: str
) -> None:
    other = exported_elsewhere(tmp_path / "other", made)
    path = run.path / FILES[name]
    shutil.copy(other.path / FILES[name], path)
    target = {"torch": "loihi"}.get(name, name)
    what = f"not the exported network ({apart})"
    if name == "onnx":
        what = f"not the ONNX graph of this network ({apart})"
    line = f"{path}: {what}; run `dsr-deploy export --target {target} --bits 4 --run {run.path}`"
    assert refused(run, "event", name) == line
    assert refused(run) == line


def test_a_file_with_one_changed_bit_is_not_run(run: RunDirectory) -> None:
    """A weight of another sign: still a graph of this network, by what it says of itself."""
    path = run.path / FILES["onnx"]
    model = onnx.load(path)
    (weight,) = (t for t in model.graph.initializer if t.name == "1:conv->output.weight.4bit")
    weight.raw_data = bytes([weight.raw_data[0] ^ 8]) + weight.raw_data[1:]
    path.write_bytes(model.SerializeToString())
    assert refused(run, "event", "onnx") == (
        f"{path}: damaged, or not written together with manifest.json; run "
        f"`dsr-deploy export --target onnx --run {run.path}` again"
    )


def test_an_export_made_before_the_network_was_quantized_again_is_named(
    run: RunDirectory,
) -> None:
    """What a user gets who forgets one of the exports."""
    sample_run.put_quantized(run, sample_run.network(1))
    export(run, "onnx")
    assert refused(run, "event", "torch") == (
        f"{run.path / FILES['torch']}: not the exported network (other numbers); run "
        f"`dsr-deploy export --target loihi --bits 4 --run {run.path}`"
    )
    export(run, "loihi")
    assert verify.verify(run, ("torch", "event", "onnx"), 2).agreed
    assert refused(run, "nir").startswith(f"{run.path / FILES['nir']}: not the exported network (")
    export(run, "nir")
    assert verify.verify(run, ("reference", "nir"), 2).agreed


def test_every_engine_runs_its_file(run: RunDirectory) -> None:
    """Where all that tells the files apart says nothing, the spikes still do."""
    other = to_onnx(sample_run.network(1))
    noted = {entry.key: entry for entry in other.metadata_props}
    noted["network"].value = identity(sample_run.network())
    sample_run.put(run, "export/onnx", {"network.onnx": other.SerializeToString()})
    found = verify.verify(run, ("event", "onnx"), 3)
    assert not found.agreed
    assert found.differing["onnx"]["conv"] > 0


def test_a_single_engine_is_compared_with_the_reference(run: RunDirectory) -> None:
    found = verify.verify(run, ("event",), 3)
    assert (found.baseline, list(found.differing)) == ("reference", ["event"])
    message = "engine 'reference' alone; name one to compare with it"
    with pytest.raises(UserError, match=f"^{message}$"):
        verify.verify(run, ("reference",), 3)


def test_a_long_run_in_lava_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    class Notes(Silent):
        def __init__(self) -> None:
            self.notes: list[str] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    said = Notes()
    slow = replace(lava_engine.ENGINE, seconds=lambda network, samples: 70.0 * samples)
    monkeypatch.setattr(lava_engine, "ENGINE", slow)
    engines = {"reference": in_the_reference, "lava": in_the_reference}
    compare_all(sample_run.network(), sample_run.payloads()[:1], engines, said)
    assert said.notes == []
    compare_all(sample_run.network(), sample_run.payloads()[:6], engines, said)
    assert said.notes == ["Lava takes about 7 minutes for these samples"]


def test_differences_are_counted_by_engine_and_layer_and_the_first_is_named() -> None:
    network, payloads = sample_run.network(), sample_run.payloads()[: BATCH + 3]
    engines = {"reference": in_the_reference, "twin": in_the_reference, "other": with_other_spikes}
    found = compare(network, payloads, engines)
    assert found.differing == {
        "twin": {"conv": 0, "output": 0},
        "other": {"conv": 2, "output": 1},
    }
    assert not found.agreed
    train = in_the_reference(payloads).spikes
    assert train is not None
    before = int(train["output"][3, 0, 5, 0, 0])
    assert found.disagreement == (
        "engine 'other' differs from 'reference': layer 'output', timestep 0, neuron (5, 0, 0) "
        f"(channel, row, column), sample 3: {1 - before} instead of {before}"
    )


def test_the_table_has_a_row_per_layer_and_a_column_per_engine() -> None:
    from dsr_deploy.console import summaries

    found = Verification(
        samples=20,
        baseline="reference",
        spikes={"conv": 12345, "output": 67},
        differing={"event": {"conv": 0, "output": 0}, "lava": {"conv": 0, "output": 3}},
        scores_differ={"event": 0, "lava": 2},
        difference=None,
    )
    assert summaries.verified(found) == (
        "3 engines on 20 test samples: they differ.\n"
        "Spikes of 'reference', and how many differ in each other engine:\n"
        "\n"
        "  layer                    reference  event  lava\n"
        "  conv                        12,345      0     0\n"
        "  output                          67      0     3\n"
        "  in all                      12,412      0     3\n"
        "  samples of other scores                 0     2"
    )
    assert found.disagreement == (
        "engine 'lava' differs from 'reference': the same spikes, but other scores in 2 samples"
    )


def test_a_difference_is_an_error_below_the_table(
    run: RunDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = {"reference": in_the_reference, "event": with_other_spikes}
    monkeypatch.setattr(verify, "open_exported", lambda name, exported: engines[name])
    line = ["verify", "--run", str(run.path), "--samples", "3", "--engines", "reference,event"]
    assert cli.run(line) == 1
    said = capsys.readouterr()
    assert said.out.startswith("2 engines on 3 test samples: they differ.\n")
    assert re.fullmatch(
        r"error: engine 'event' differs from 'reference': layer 'conv', timestep 1, neuron "
        r"\(3, 4, 5\) \(channel, row, column\), sample 2: (0 instead of 1|1 instead of 0)\n",
        said.err,
    )


def test_an_engine_that_starts_slowly_gets_all_samples_in_one_call() -> None:
    sizes: list[int] = []

    def counted(payloads: np.ndarray) -> Run:
        sizes.append(len(payloads))
        return in_the_reference(payloads)

    payloads = sample_run.payloads()[: BATCH + 3]
    network = sample_run.network()
    compare_all(network, payloads, {"reference": in_the_reference, "event": counted}, Silent())
    assert sizes == [BATCH, 3]
    sizes.clear()
    compare_all(network, payloads, {"reference": in_the_reference, "lava": counted}, Silent())
    assert sizes == [BATCH + 3]
