"""What the export for a chip writes, says and refuses."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import sample_run
from chips import profile

from dsr_deploy.console import cli
from dsr_deploy.errors import UserError
from dsr_deploy.hardware.chip import known_chips, load_chip
from dsr_deploy.hardware.format import network_file
from dsr_deploy.hardware.lava import plan_file
from dsr_deploy.hardware.lava.plan import make_plan
from dsr_deploy.hardware.network import Connection, Input, IntegerNetwork, Population
from dsr_deploy.hardware.schedule import schedule
from dsr_deploy.run import provenance
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.stages.export import export
from dsr_deploy.stages.simulate import simulate


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return sample_run.write(tmp_path / "run")


def quantized(run: RunDirectory, network: IntegerNetwork) -> None:
    """Put ``network`` in the place of the quantized one, and remove the export."""
    sample_run.put_quantized(run, network)
    shutil.rmtree(run.export("loihi"))


def test_the_export_writes_the_scheduled_network_its_processes_and_what_they_are(
    run: RunDirectory,
) -> None:
    made = export(run, "loihi")
    folder = run.export("loihi")
    names = {"network.safetensors", "lava.json", "manifest.json"}
    assert {path.name for path in folder.iterdir()} == names
    network = schedule(sample_run.network())
    data = (folder / "network.safetensors").read_bytes()
    assert data == network_file.to_bytes(network)
    digest = hashlib.sha256(data).hexdigest()
    assert plan_file.read(folder / "lava.json") == make_plan(network, digest)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"] == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("network.safetensors", "lava.json")
    }
    assert manifest["source"] == "quantized-4/network.safetensors"
    assert [layer["start"] for layer in manifest["layers"]] == [1, 2]
    assert made.chip is not None
    assert manifest["chip"]["chip"] == made.chip.chip == "loihi2"


def test_the_same_network_gives_the_same_bytes(run: RunDirectory) -> None:
    before = {path.name: path.read_bytes() for path in run.export("loihi").iterdir()}
    export(run, "loihi", chip="loihi2")
    assert {path.name: path.read_bytes() for path in run.export("loihi").iterdir()} == before


def test_the_export_counts_what_the_network_takes_of_the_chip(run: RunDirectory) -> None:
    use = export(run, "loihi").chip
    assert use is not None
    assert (use.fits, use.cores, use.cores_available) == (True, 2, 120)
    conv, output = use.layers
    assert (conv.neurons, conv.synapses, conv.cores, conv.fits) == (256, 4 * 22 * 22, 1, True)
    assert {usage.limit: usage.used for usage in output.usage} == {
        "neurons_per_core": 10,
        "synaptic_memory_per_core": 10 * 256 * 4,
    }
    assert output.binding == "synaptic_memory_per_core"
    assert "synaptic_memory_per_core" in use.uncertain
    assert "in_axons_per_core" in use.not_public


def test_the_summary_names_the_chip_and_marks_what_is_uncertain(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["export", "--run", str(run.path), "--chip", "loihi2"]) == 0
    text = capsys.readouterr().out
    assert "2 layers, 266 neurons and 2,596 weights for loihi2.\n" in text
    assert (
        "On loihi2 it takes 2 of 120 cores; by what can be known, it fits. In percent of the "
        "fullest core:\n\n"
        "  layer   cores  synapses  neurons  memory  in-axons  out-axons  thresholds     most\n"
        "  conv        1     1,936    ~3.1%   ~0.0%         ?          ?           ?  neurons\n"
        "  output      1     2,560    ~0.1%   ~1.0%         ?          ?           ?   memory\n"
    ) in text
    assert "\n  ~ a limit that no primary source confirms: payload_bits, " in text
    assert "\n  ? not public, so not checked: max_exponent, " in text


def test_a_network_that_does_not_fit_is_exported_and_said_not_to_fit(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    """One neuron with 2**19 synapses of 4 bits takes twice the memory of a core."""
    one = np.ones(1, np.int32)
    network = IntegerNetwork(
        name="wide",
        timesteps=1,
        input=Input((1, 512, 1024), (0.0,), (1.0,), 1.0, 1.0),
        populations=(Population("output", (1, 1, 1), one, one, one),),
        connections=(Connection("input", "output", "linear", np.zeros((1, 1 << 19), np.int8), 4),),
        readout=(1,),
    )
    quantized(run, network)
    assert cli.run(["export", "--run", str(run.path)]) == 0
    text = capsys.readouterr().out
    assert "by what can be known, it does not fit: too much for any core in output." in text
    assert re.search(r"\n  output +1 +524,288 +~0.0% +~200% .* memory, too much\n", text)
    manifest = json.loads((run.export("loihi") / "manifest.json").read_text())
    assert manifest["chip"]["fits"] is False


def test_what_the_chip_cannot_do_is_refused_and_nothing_is_written(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    quantized(run, sample_run.network())
    assert cli.run(["export", "--run", str(run.path), "--chip", "loihi1"]) == 1
    assert capsys.readouterr().err == (
        "error: network: its neurons reset by subtraction, loihi1 resets to 0 only; use a chip "
        "with programmable neurons, such as loihi2\n"
    )
    assert not run.export("loihi").exists()


def test_an_exchange_format_has_no_chip(run: RunDirectory) -> None:
    message = "chip 'loihi2' for target 'nir'; only the target loihi has chips"
    with pytest.raises(UserError, match=f"^{message}$"):
        export(run, "nir", chip="loihi2")
    assert not run.export("nir").exists()
    assert export(run, "nir").chip is None


def own_chip(folder: Path, **limits: int) -> Path:
    """Write the profile of a chip like loihi2, named mine, with other limits."""

    def edit(content: dict[str, Any]) -> None:
        content["name"] = "mine"
        for name, value in limits.items():
            content[name]["value"] = value

    return profile(folder / "mine.yaml", edit, "loihi2")


def test_a_chip_of_ones_own_is_kept_in_the_export(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own_chip(tmp_path, neurons_per_core=1)
    assert cli.run(["export", "--run", str(run.path), "--chip", str(path)]) == 0
    shapes = [population.shape for population in sample_run.network().populations]
    cores = sum(channels * rows for channels, rows, _ in shapes)  # a row stays on one core
    assert f"On mine it takes {cores}" in capsys.readouterr().out
    manifest = json.loads((run.export("loihi") / "manifest.json").read_text())
    assert manifest["profile"] == asdict(load_chip(str(path)))
    path.unlink()
    report = simulate(run, 5)
    assert (report.chip.chip, report.chip.cores) == ("mine", cores)
    run.best_checkpoint.parent.mkdir(exist_ok=True)
    sample_run.put(run, "export/loihi", {}, made_from="another")
    command = f"dsr-deploy export --target loihi --bits 4 --chip {path} --run {run.path}"
    assert provenance.stale(run)["export/loihi"].command == command


def test_a_limit_of_ones_own_chip_is_refused_by_its_name(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = own_chip(tmp_path, weight_bits=2)
    assert cli.run(["export", "--run", str(run.path), "--chip", str(path)]) == 1
    assert re.fullmatch(
        r"error: connection '.*': weights of \d bits, mine allows 2; quantize to fewer bits"
        r"( \[not certain: .*\])?\n",
        capsys.readouterr().err,
    )


def test_a_chip_in_the_home_is_found(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    own_chip(tmp_path)
    assert cli.run(["export", "--run", str(run.path), "--chip", "~/mine.yaml"]) == 0
    manifest = json.loads((run.export("loihi") / "manifest.json").read_text())
    assert manifest["profile_file"] == str(tmp_path / "mine.yaml")


def test_an_unknown_chip_ends_in_one_line(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["export", "--run", str(run.path), "--chip", "loihi3"]) == 1
    assert capsys.readouterr().err == (
        "error: chip 'loihi3': choose one of loihi1, loihi2, or name a file that ends in .yaml\n"
    )


def test_the_help_names_every_chip() -> None:
    option = next(p for p in cli.cli.commands["export"].params if p.name == "chip")
    assert isinstance(option, click.Option)
    assert option.help is not None
    assert all(name in option.help for name in known_chips())


def test_a_damaged_configuration_is_named_before_anything_is_written(run: RunDirectory) -> None:
    run.config.write_bytes(b"z" + run.config.read_bytes()[1:])
    before = (run.export("loihi") / "manifest.json").read_bytes()
    with pytest.raises(UserError, match=f"^{re.escape(str(run.config))}: not a run's config"):
        export(run, "loihi")
    assert (run.export("loihi") / "manifest.json").read_bytes() == before
