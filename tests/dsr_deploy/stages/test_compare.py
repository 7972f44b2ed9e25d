"""Several runs on one page."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import sample_run
from page import Page

from dsr_deploy.errors import UserError
from dsr_deploy.run import config, seal
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.stages.compare import compare, read
from dsr_deploy.stages.simulate import simulate


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[RunDirectory]:
    folder = tmp_path_factory.mktemp("runs")
    runs = [sample_run.write(folder / name) for name in ("one", "two")]
    simulate(runs[0], 20)
    simulate(runs[1], 30)
    return runs


@pytest.fixture
def begun(tmp_path: Path) -> RunDirectory:
    """Return a run that was trained, and no more."""
    run = sample_run.write(tmp_path / "begun")
    for place in ("quantized-4", "export"):
        shutil.rmtree(run.path / place)
    return run


def test_the_page_has_the_numbers_of_every_run_and_fetches_nothing(
    made: list[RunDirectory], tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for run in made for path in run.path.rglob("*.*")}
    done = compare(made, tmp_path / "c.html")
    page = Page(done.report)
    assert not page.sources
    assert set(page.anchors) <= set(page.ids)
    assert page.tags.count("svg") == 2
    for run, found in zip(made, done.runs, strict=True):
        simulated = json.loads((run.reports / "simulate.json").read_text())
        accuracy, rate = simulated["accuracy"], simulated["sparsity"]["total"]["firing_rate"]
        assert (
            f"{run.path.name} IF 3 4 12.50% 12.50% {accuracy:.2%} {simulated['samples']} "
            f"{rate:.2%} {simulated['synops']:,.0f}"
        ) in page.text
        assert f"IF, T = 3, 4 bits ({run.path.name}): total {rate:.2%}" in page.text
        energies = {e["constants"]: e["total"] for e in simulated["energy"] if e["network"] ==
                    "spiking"}  # fmt: skip
        assert found.energy == energies
        for joules in energies.values():
            assert f"{joules * 1e9:,.1f} nJ" in page.text
    assert "on different numbers of test samples (20, 30)" in page.text
    after = {path: path.read_bytes() for run in made for path in run.path.rglob("*.*")}
    assert before == after


def test_plots_and_numbers_stand_beside_the_page(made: list[RunDirectory], tmp_path: Path) -> None:
    done = compare(made, tmp_path / "c.html")
    names = {"c.csv", "c-rates.png", "c-rates.svg", "c-front.png", "c-front.svg"}
    assert {path.name for path in done.files} == names
    assert {path.name for path in tmp_path.iterdir()} == {*names, "c.html"}
    lines = list(csv.DictReader((tmp_path / "c.csv").read_text().splitlines()))
    for line, run in zip(lines, done.runs, strict=True):
        assert line["name"] == run.name
        assert float(line["synops"]) == run.synops
        assert float(line["firing_rate_layer_2"]) == run.firing_rates["output"]
        assert float(line["energy_loihi1-davies2018"]) == run.energy["loihi1-davies2018"]


def test_a_run_that_lacks_stages_says_so_and_shows_what_it_has(
    made: list[RunDirectory], begun: RunDirectory, tmp_path: Path
) -> None:
    done = compare([made[0], begun], tmp_path / "c.html")
    text = Page(done.report).text
    assert (
        "begun lacks quantization, the network on the chip, simulation; next: dsr-deploy quantize "
        f"--bits 4 --run {begun.path}"
    ) in text
    assert "begun IF 3 - 12.50% - - - 10.00% -" in text
    assert "IF, T = 3, 32 bits: total 10.00%" in text
    assert "Lines at 32 bits are of the trained network" in text
    begun.result.unlink()
    text = Page(compare([made[0], begun], tmp_path / "c.html").report).text
    assert "begun lacks the test, quantization" in text
    assert "begun IF 3 - - - - - - -" in text


def test_runs_without_any_simulation_are_compared_too(begun: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(begun.path, tmp_path / "again")
    runs = [begun, RunDirectory(tmp_path / "again")]
    done = compare(runs, tmp_path / "c.html")
    assert "None of them was simulated yet" in Page(done.report).text
    assert {path.name for path in done.files} == {"c.csv", "c-rates.png", "c-rates.svg"}
    for run in runs:
        run.result.unlink()
    done = compare(runs, tmp_path / "d.html")
    assert "No run has a test of its network yet." in Page(done.report).text
    assert {path.name for path in done.files} == {"d.csv"}


def test_networks_of_other_layers_are_overlaid_by_position(
    made: list[RunDirectory], begun: RunDirectory, tmp_path: Path
) -> None:
    result = json.loads(begun.result.read_text())
    result["firing_rates"] = {"first": 0.3, "second": 0.2, "third": 0.1}
    begun.result.write_text(json.dumps(seal.seal(result)))
    page = Page(compare([made[0], begun], tmp_path / "c.html").report)
    rates = read(made[0]).firing_rates
    assert "The networks have different layers; they are overlaid by position" in page.text
    assert f"1 conv, first {rates['conv']:.2%} 30.00%" in page.text
    assert "3 third 10.00%" in page.text


def test_other_data_sets_and_earlier_networks_are_warned_of(
    made: list[RunDirectory], tmp_path: Path
) -> None:
    other = sample_run.write(tmp_path / "other")
    simulate(other, 20)
    sample_run.put_quantized(other, sample_run.network(seed=1))
    about = json.loads(other.config.read_text())
    about["config"] |= {"dataset": "cifar10", "data_dir": "data"}
    other.config.write_text(json.dumps(about | {seal.KEY: config.checksum_of(about)}))
    text = Page(compare([made[0], other], tmp_path / "c.html").report).text
    assert "The runs are of different data sets (cifar10, digits)" in text
    assert "other: export/loihi is from an earlier network" in text


def test_names_of_runs_are_text(made: list[RunDirectory], tmp_path: Path) -> None:
    name = "<b>$x_$ & \x1b[1m\u6f22"
    shutil.copytree(made[0].path, tmp_path / name)
    done = compare([made[0], RunDirectory(tmp_path / name)], tmp_path / "c.html")
    text = Page(done.report).text
    shown = "<b>$x_$ & \\x1b[1m\u6f22"
    assert f"{shown} IF 3 4" in text
    assert f"IF, T = 3, 4 bits ({shown}): total" in text
    assert "\x1b" not in done.report.read_text()


def _refused(runs: list[RunDirectory], output: Path, message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        compare(runs, output)


def test_what_cannot_be_compared_is_refused_and_nothing_is_written(
    made: list[RunDirectory], tmp_path: Path
) -> None:
    same = RunDirectory(tmp_path / "link")
    same.path.symlink_to(made[0].path)
    _refused([made[0], same], tmp_path / "c.html", f"{same.path}: named twice; name each run once")
    for name in ("c.pdf", ""):
        output = tmp_path / name
        _refused(made, output, f"output must be a file that ends in .html, not '{output}'")
    output = tmp_path / "no" / "such" / "c.html"
    _refused(made, output, f"{output.with_name('c.csv')}: cannot be written (No such file or "
             "directory)")  # fmt: skip
    damaged = RunDirectory(tmp_path / "damaged")
    shutil.copytree(made[0].path, damaged.path)
    (damaged.reports / "simulate.json").write_text("{}")
    _refused(
        [made[0], damaged], tmp_path / "c.html",
        f"{damaged.reports}/simulate.json: damaged, or not written together with manifest.json; "
        f"run `dsr-deploy simulate --run {damaged.path}` again",
    )  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"link", "damaged"}
