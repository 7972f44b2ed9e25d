import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import sample_run
import torch
from page import Page

from dsr_deploy.errors import UserError
from dsr_deploy.run import checkpoint, config, provenance, seal
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.history import read_history
from dsr_deploy.stages.recording import Recording
from dsr_deploy.stages.report import report
from dsr_deploy.stages.simulate import simulate


def test_report_shows_every_stage_in_one_offline_file(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    found = simulate(run, 20)
    page = Page(report(run))
    for text in (
        "Test accuracy 12.50% on 360 samples, at a firing rate of 10.00%. The network is that of "
        "epoch 1 of 1, chosen by its accuracy on 142 held-out training samples, 18.75%. The test "
        "set was read for this number alone.",
        "4 bits IF 3 12.50% 6.25% 12.50% epoch 2 of 5",
        "The network of 4 bits on 20 test samples, event by event, on integers alone: accuracy "
        f"{found.accuracy:.2%}, and every prediction equals the quantized network's.",
        f"conv 256 {found.sparsity.layers[0].firing_rate:.2%}",
        "loihi1-davies2018 spiking",
        "On loihi2 it takes 2 of 120 cores; by what can be known, it fits.",
        "conv 1 1,936 ~3.1% ~0.0% ? ? ? neurons",
        "Loihi 2: no energy per operation",
    ):
        assert text in page.text
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert page.tags.count("svg") == 3  # of the training, and two of the firing rates
    assert set(page.anchors) <= set(page.ids)


def test_report_names_what_is_of_an_earlier_network(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    simulate(run, 20)
    assert "earlier" not in Page(report(run)).text
    sample_run.put_quantized(run, sample_run.network(seed=1))
    text = Page(report(run)).text
    for line in (
        "export/loihi is from an earlier network; "
        "`dsr-deploy export --target loihi --bits 4 --chip "
        f"loihi2 --run {run.path}` renews it.",
        f"reports/simulate.json is from an earlier network; `dsr-deploy simulate --run {run.path}` "
        "renews it.",
    ):
        assert line in text
    assert "quantized-4 is of" not in text


def test_report_of_a_run_that_has_just_begun_names_the_next_commands(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    run.metrics.unlink()
    for place in ("quantized-4", "export/loihi"):
        shutil.rmtree(run.path / place)
    text = Page(report(run)).text
    for command in ("train --resume", "quantize --bits 4", "export --target loihi", "simulate"):
        assert f"Not there yet: dsr-deploy {command} --run {run.path} adds it." in text


def test_report_shows_names_as_text(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "<b>&run")
    assert "<b>&run" in Page(report(run)).text


def _refused(run: RunDirectory, message: str) -> None:
    with pytest.raises(UserError) as refused:
        report(run)
    assert str(refused.value) == f"{run.path}/{message}"
    assert not (run.reports / "report.html").exists()


def test_a_line_of_metrics_without_a_field_is_refused(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    line = run.metrics.read_text()
    for other, message in (
        ('{"epoch": 1}', "epoch 1: field 'lr' is missing; remove it"),
        (line.replace("0.25", "2.5"), "epoch 1: field 'train_accuracy' is 2.5, not a number, 0 to "
         "1; remove it"),
        (line.replace('"epoch": 1', '"epoch": 7'), None),
    ):  # fmt: skip
        run.metrics.write_text(f"{other.strip()}\n")
        _refused(
            run,
            "metrics.jsonl must have every epoch from 1 on; remove it"
            if message is None
            else f"metrics.jsonl, {message}",
        )
    run.metrics.write_text("")  # killed in its first epoch
    assert "Not there yet: dsr-deploy train --resume" in Page(report(run)).text


ABOUT = [
    ({"samples": {"train": 1}}, "field 'samples.test' is missing"),
    ({"versions": []}, "field 'versions' is a list, not an object"),
    ({"classes": [1]}, "field 'classes[0]' is 1, not text"),
]


@pytest.mark.parametrize(("change", "message"), ABOUT)
def test_a_field_of_the_configuration_is_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    run = sample_run.write(tmp_path / "run")
    _change_config(run, change)
    _refused(run, f"config.json: {message}; train again in another directory")


def test_zero_is_not_false(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    shown = json.loads(run.config.read_text())["input"]
    _change_config(run, {"input": shown | {"framed": 0}})
    _refused(
        run,
        "config.json: field 'input.framed' is 0, not true or false; train again in another "
        "directory",
    )


def _change_config(run: RunDirectory, change: dict[str, Any]) -> None:
    """Change entries as a user would who knows how the checksum is made."""
    about = json.loads(run.config.read_text()) | change
    run.config.write_text(json.dumps(about | {seal.KEY: config.checksum_of(about)}))


def _json(run: RunDirectory, place: str) -> Any:
    return json.loads((run.path / place).read_text())


def test_fields_of_stages_are_named(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    row = _json(run, "quantized-4/row.json")
    sample_run.put(run, "quantized-4", {"row.json": json.dumps(row | {"samples": -1}).encode()})
    _refused(
        run,
        "quantized-4/row.json: field 'samples' is -1, not a whole number, 1 to 9007199254740991; "
        "run its stage again",
    )
    row |= {"epoch": 0, "epochs": 0, "validation_accuracy": None, "validation_samples": 0}
    sample_run.put(run, "quantized-4", {"row.json": json.dumps(row).encode()})  # only rounded
    chip = _json(run, "export/loihi/manifest.json")["chip"]
    sample_run.put(run, "export/loihi", {}, chip={k: v for k, v in chip.items() if k != "cores"})
    _refused(
        run,
        "export/loihi/manifest.json: field 'chip.cores' is missing; run its stage again",
    )
    sample_run.put(run, "export/loihi", {}, chip=None)
    _refused(
        run,
        "export/loihi/manifest.json: field 'chip' is None, not an object; run its stage again",
    )
    sample_run.put(run, "export/loihi", {}, chip=chip)
    report(run)
    (run.reports / "report.html").unlink()
    simulate(run, 5)
    found = _json(run, "reports/simulate.json")
    found["energy"][0]["total"] = "x"
    sample_run.put(run, "reports", {"simulate.json": json.dumps(found).encode()})
    _refused(
        run,
        "reports/simulate.json: field 'energy[0].total' is 'x', not a number; run its stage again",
    )


def test_what_a_foreign_run_says_becomes_no_command(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    chip = _json(run, "export/loihi/manifest.json")["chip"] | {"chip": "loihi2; touch PWNED #"}
    sample_run.put(run, "export/loihi", {}, chip=chip, made_from="another")
    shutil.copytree(run.path / "export/loihi", run.path / "export" / "nir; touch PWNED")
    assert str(provenance.stale(run)["export/loihi"]) == (
        "export/loihi is from an earlier network; `dsr-deploy export --target loihi --bits 4 --run "
        f"{run.path}` renews it"
    )
    assert "PWNED" not in "".join(map(str, provenance.stale(run).values()))


def test_the_page_shows_control_characters(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    _change_config(run, {"command": "dsr-deploy \x1b[31m\x00<i>\ud800"})
    text = Page(report(run)).text
    assert r"Command: dsr-deploy \x1b[31m\x00<i>\ud800" in text


def test_epochs_are_read_from_the_checkpoint_which_has_a_checksum(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    history = read_history(run)
    network = torch.nn.Linear(1, 1)
    settings = config.read(run.config)
    run.metrics.write_text("damaged")
    checkpoint.save(
        run.latest_checkpoint,
        network,
        settings,
        None,
        {"history": [dataclasses.asdict(epoch) for epoch in history]},
    )
    assert read_history(run) == history
    report(run)
    damaged = run.latest_checkpoint.read_bytes()
    run.latest_checkpoint.write_bytes(damaged[:-1] + bytes([damaged[-1] ^ 1]))
    with pytest.raises(UserError, match=r"latest\.safetensors: damaged \(its checksum does not"):
        report(run)


def test_a_damaged_result_is_refused(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    run.result.write_text(run.result.read_text().replace("0.1875", "0.9875"))
    message = (
        f"{run.result}: damaged (its checksum does not match); `dsr-deploy train "
        f"--resume --run {run.path}` writes it again"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        report(run)


def test_recorded_spikes_and_potentials_are_drawn(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    simulate(run, 20)
    again = f"dsr-deploy simulate --record traces.npz --potentials --run {run.path}"
    page = Page(report(run))
    assert f"Not recorded: {again} adds a raster plot and membrane potentials." in page.text
    drawn = page.tags.count("svg")
    recording = Recording(potentials=True, samples=2, path=tmp_path / "t.npz")
    simulate(run, 20, recording=recording)
    page = Page(report(run))
    assert page.tags.count("svg") == drawn + 2
    assert "Sample 0: class '" in page.text
    assert "before the reset; the dashed line is where it fires" in page.text
    found = _json(run, "reports/simulate.json") | {"made_from": "another"}  # its thresholds
    sample_run.put(run, "reports", {"simulate.json": json.dumps(found).encode()})
    assert "in some of the layers, after the reset" in Page(report(run)).text


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_what_is_no_traces_is_refused(tmp_path: Path, damage: bytes) -> None:
    run = sample_run.write(tmp_path / "run")
    simulate(run, 5)
    sample_run.put(run, "reports", {"traces.npz": damage})
    with pytest.raises(UserError) as refused:
        report(run)
    assert re.fullmatch(
        re.escape(f"{run.reports}/traces.npz: no traces (") + r".*\); run `dsr-deploy simulate "
        rf"--record traces.npz --run {re.escape(str(run.path))}` again",
        str(refused.value),
    )
