"""Ctrl-C in the middle of a simulation: a partial result, and the same end after a resume."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sample_run

from dsr_deploy.console import cli
from dsr_deploy.errors import UserError
from dsr_deploy.hardware import reference
from dsr_deploy.hardware.format import network_file
from dsr_deploy.progress import Silent
from dsr_deploy.run import stage, tally
from dsr_deploy.run.directory import RunDirectory
from dsr_deploy.run.own_samples import of_array
from dsr_deploy.stages import procedure, recording
from dsr_deploy.stages.compare import compare
from dsr_deploy.stages.counting import Method
from dsr_deploy.stages.procedure import Interrupted
from dsr_deploy.stages.report import report as write_page
from dsr_deploy.stages.simulate import simulate
from dsr_deploy.stages.simulate_network import Given, Places, simulate_file

PARTIAL = "partial.safetensors"


class Interrupt(Silent):
    """Progress at which Ctrl-C comes, as the console raises it, once so many samples are done."""

    def __init__(self, description: str, after: int) -> None:
        self.description, self.after = description, after

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Any]:
        done, after = 0, self.after if description == self.description else total + 1

        class Task:
            def advance(self, amount: int = 1, text: str = "") -> None:
                nonlocal done
                done += amount
                if done >= after:
                    raise KeyboardInterrupt

        yield Task()


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return sample_run.write(tmp_path / "run")


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _refused(message: str) -> pytest.RaisesExc[UserError]:
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


def _stop(run: RunDirectory, after: int, task: str = "simulating", **options: Any) -> Interrupted:
    with pytest.raises(Interrupted) as stopped:
        simulate(run, progress=Interrupt(task, after), **options)
    return stopped.value


@pytest.mark.parametrize("after", [1, 32, 33, 100, 150])
def test_a_resume_ends_in_the_very_files_of_an_uninterrupted_run(
    run: RunDirectory, tmp_path: Path, after: int
) -> None:
    whole = simulate(sample_run.write(tmp_path / "whole"), 150)
    expected = _files(tmp_path / "whole" / "reports")
    stop = _stop(run, after, samples=150)
    done = min(150, -(-after // 32) * 32)
    reached = f"{done} of 150 samples"
    if done == 150:
        reached = "all 150 samples, before its reports were finished"
    assert str(stop) == (
        f"stopped after {reached}; the same command with --resume goes on from there"
    )
    assert (run.reports / PARTIAL).exists()
    assert simulate(run, 150, resume=True) == whole
    assert _files(run.reports) == expected


def test_it_may_be_stopped_again_and_again(run: RunDirectory, tmp_path: Path) -> None:
    simulate(sample_run.write(tmp_path / "whole"))
    for after in (40, 100, 101, 360):
        assert _stop(run, after, resume=after > 40).simulated
    simulate(run, resume=True)
    assert _files(run.reports) == _files(tmp_path / "whole" / "reports")


def test_the_result_so_far_is_marked_as_partial(run: RunDirectory) -> None:
    stop = _stop(run, 64)
    assert stop.simulated is not None
    report = stop.simulated.report
    assert (report.partial, report.samples, report.planned) == (True, 64, 360)
    stored = json.loads((run.reports / "simulate.json").read_text())
    assert stored == json.loads(json.dumps(asdict(report)))
    expected = reference.run(sample_run.network(), sample_run.payloads()[:64], record=True)
    assert expected.spikes is not None
    assert {layer.name: layer.spikes for layer in report.sparsity.layers} == {
        name: int(train.sum()) for name, train in expected.spikes.items()
    }
    assert stop.simulated.predictions.tolist() == expected.predictions.tolist()
    text = " ".join(write_page(run).read_text().split())
    assert "Partial: the simulation was stopped after 64 of 360 samples" in text
    assert (run.reports / PARTIAL).exists()  # the page does not remove it
    page = compare([run, sample_run.write(run.path.with_name("other"))], run.path / "c.html").report
    assert (
        "run lacks the simulation&#39;s end (stopped after 64 of 360 samples);" in page.read_text()
    )
    done = simulate(run, resume=True)
    assert (done.partial, done.planned) == (False, None)
    assert "Partial:" not in write_page(run).read_text()
    assert not (run.reports / PARTIAL).exists()


def test_nothing_is_written_before_the_first_samples_are_done(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dsr_deploy.run.samples.encode", interrupt, raising=False)
    monkeypatch.setattr("dsr_deploy.data.batches.encode", interrupt)
    stop = _stop(run, 1000)
    assert (str(stop), stop.simulated) == ("stopped before the first samples were done", None)
    assert not run.reports.exists()


@pytest.mark.parametrize("task", ["loading cores", "recording"])
def test_what_was_counted_is_kept_at_any_later_moment(
    run: RunDirectory, tmp_path: Path, task: str
) -> None:
    traces = recording.Recording()
    simulate(sample_run.write(tmp_path / "whole"), 50, recording=traces)
    stop = _stop(run, 1, task, samples=50, recording=traces)
    reached = "stopped after all 50 samples, before its reports were finished"
    assert str(stop).startswith(f"{reached}; ")
    assert (run.reports / PARTIAL).exists()
    simulate(run, 50, recording=traces, resume=True)
    assert _files(run.reports) == _files(tmp_path / "whole" / "reports")


def test_a_second_interrupt_keeps_what_was_counted(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(procedure.Work, "stopped", interrupt)
        stop = _stop(run, 64)
    assert stop.simulated is None
    assert set(_files(run.reports)) == {PARTIAL}
    assert simulate(run, resume=True).samples == 360


def test_the_state_is_as_small_as_the_counts(run: RunDirectory) -> None:
    sizes = []
    for after in (32, 320):
        _stop(run, after)
        sizes.append((run.reports / PARTIAL).stat().st_size)
    assert sizes[1] - sizes[0] == 8 * 288  # the predictions
    assert sizes[0] < 8000


AFRESH = "simulate without --resume to begin again"


def test_samples_are_told_apart_by_what_they_are_and_which_of_the_whole() -> None:
    network, payloads = sample_run.network(), sample_run.payloads()[:5]

    def digest(values: np.ndarray, labels: list[int] | None, *places: int) -> str:
        samples = of_array(network, values, labels, None, "x")
        return samples.part(np.array(places, np.int64)).digest

    changed = payloads.copy()
    changed[4, 0, 7, 7] ^= 1
    digests = [
        digest(payloads, None, 0, 1),
        digest(payloads, None, 0, 2),
        digest(payloads, [0, 1, 2, 3, 4], 0, 1),
        digest(payloads, [0, 1, 2, 3, 5], 0, 1),
        digest(payloads[:4], None, 0, 1),
        digest(changed, None, 0, 1),
    ]
    assert len(set(digests)) == len(digests)
    assert digest(payloads.copy(), None, 0, 1) == digests[0]


def test_a_resume_of_something_else_is_refused(run: RunDirectory, tmp_path: Path) -> None:
    path = run.reports / PARTIAL
    with _refused(
        f"{path}: not there, so no simulation was stopped here; simulate without --resume"
    ):
        simulate(run, resume=True)
    _stop(run, 64, samples=100)
    before = _files(run.reports)
    with _refused(
        f"{path}: 100 samples were to be simulated, not 360; give --samples 100, or {AFRESH}"
    ):
        simulate(run, resume=True)
    other = sample_run.network()
    other = replace(other, name="another")
    sample_run.put_quantized(run, other)
    sample_run.export(run, "loihi")
    with _refused(f"{path}: it was counted for another network; {AFRESH}"):
        simulate(run, 100, resume=True)
    assert _files(run.reports) == before
    assert simulate(run, 100).samples == 100
    assert not path.exists()


def test_the_counts_of_another_version_are_refused(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tally._arrays
    monkeypatch.setattr(
        tally, "_arrays", lambda counts: (x for x in own(counts) if "updates" not in x[0])
    )
    _stop(run, 64, samples=100)
    path = run.reports / PARTIAL
    with _refused(f"{path}: 'population.0.updates' is missing, as in another version; {AFRESH}"):
        simulate(run, 100, resume=True)


def test_other_samples_of_the_same_number_are_refused(tmp_path: Path) -> None:
    network, payloads = sample_run.network(), sample_run.payloads()[:80]
    network_file.write(network, tmp_path / "n.safetensors")
    np.save(tmp_path / "x.npy", payloads)
    given, places = Given(inputs=tmp_path / "x.npy"), Places(tmp_path / "out")
    arguments = (tmp_path / "n.safetensors", given, Method())

    def go(**options: Any) -> Any:
        return simulate_file(*arguments, **{"places": places, **options})

    with pytest.raises(Interrupted, match=r"^stopped after 32 of 80 samples; the same command"):
        go(progress=Interrupt("simulating", 20))
    assert json.loads((tmp_path / "out" / "simulate.json").read_text())["partial"]
    changed = payloads.copy()
    changed[79, 0, 0, 0] ^= 1
    np.save(tmp_path / "x.npy", changed)
    path = tmp_path / "out" / PARTIAL
    with _refused(f"{path}: it was counted on other samples; {AFRESH}"):
        go(resume=True)
    np.save(tmp_path / "x.npy", payloads)
    resumed = go(resume=True)
    (tmp_path / "whole").mkdir()
    go(places=Places(tmp_path / "whole" / "out"))
    assert _files(tmp_path / "out") == _files(tmp_path / "whole" / "out")
    assert resumed.predictions.tolist() == reference.run(network, payloads).predictions.tolist()
    with _refused("--resume goes on in the folder of --out DIR; name it"):
        go(places=None, resume=True)
    with pytest.raises(
        Interrupted, match=r"^stopped after 32 of 80 samples; nothing of it is kept"
    ):
        go(places=None, progress=Interrupt("simulating", 20))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:100],
        lambda data: b"",
        lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
        lambda data: data.replace(b'\\"samples\\":', b'\\"sample5\\":'),
        lambda data: data.replace(b"population.0", b"population.9"),
    ],
)
def test_a_damaged_state_is_named(run: RunDirectory, damage: Callable[[bytes], bytes]) -> None:
    _stop(run, 64)
    path = run.reports / PARTIAL
    whole = path.read_bytes()
    assert damage(whole) != whole
    path.write_bytes(damage(whole))
    with pytest.raises(UserError, match=rf"^{re.escape(str(path))}: damaged \([^\n]*\); {AFRESH}$"):
        simulate(run, resume=True)


def test_a_prediction_that_differs_is_found_at_once(run: RunDirectory) -> None:
    path = run.quantized(4) / "predictions.json"
    predictions = json.loads(path.read_text())
    predictions[3] = 9 - predictions[3]
    sample_run.put(run, "quantized-4", {path.name: json.dumps(predictions).encode()})
    with pytest.raises(UserError, match=r"^test sample 3: the simulator predicts class"):
        simulate(run, progress=Interrupt("simulating", 64))


def test_the_command_prints_what_was_done_and_how_to_go_on(
    run: RunDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("dsr_deploy.console.terminal.Terminal", lambda: Interrupt("simulating", 64))
        for extra in ([], ["--json"]):
            assert cli.run(["simulate", "--run", str(run.path), *extra]) == cli.STOPPED
            out, err = capsys.readouterr()
            assert err.splitlines()[-1] == (
                "error: stopped after 64 of 360 samples; the same command with --resume goes on "
                "from there"
            )
            if extra:
                assert json.loads(out)["partial"] is True
            else:
                assert out.startswith(
                    "PARTIAL: stopped after 64 of 360 samples.\nSimulated 64 test samples"
                )
    assert cli.run(["simulate", "--run", str(run.path), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 360


def test_the_reports_manifest_is_of_the_partial_result_too(run: RunDirectory) -> None:
    _stop(run, 64)
    names = stage.read(run.path, "reports", "simulate.json", again="x").record["files"]
    assert PARTIAL not in names
    assert "sparsity.csv" in names
