import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import sample_run

from dsr_deploy.errors import UserError
from dsr_deploy.report import report
from dsr_deploy.simulate import simulate


class _Page(HTMLParser):
    """Collects text, images and everything that a browser would fetch."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words: list[str] = []
        self.sources: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_report_shows_every_stage_in_one_offline_file(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    found = simulate(run, 20)
    page = _Page(report(run))
    for text in (
        "Test accuracy 12.50% on 360 samples, at a firing rate of 10.00%. The network is that of "
        "epoch 1 of 1, chosen by its accuracy on 142 held-out training samples, 18.75%. The test "
        "set was read for this number alone.",
        "4 bits IF 3 12.50% 6.25% 12.50% epoch 2 of 5",
        "The network of 4 bits on 20 test samples, event by event, on integers alone: accuracy "
        f"{found.accuracy:.2%}, and every prediction equals the quantized network's.",
        f"conv 256 {found.sparsity.layers[0].firing_rate:.2%}",
        "loihi1-davies2018 spiking",
        "loihi2: 2 of 120 cores; by what can be known, the network fits.",
        "conv 1 1,936 ~3.1% ~0.0% ? ? ? neurons",
        "Loihi 2: no energy per operation",
    ):
        assert text in page.text
    assert len(page.sources) == 2
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)


def test_report_names_what_is_of_an_earlier_network(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    simulate(run, 20)
    assert "earlier" not in _Page(report(run)).text
    sample_run.put_quantized(run, sample_run.network(seed=1))
    text = _Page(report(run)).text
    for line in (
        "export/loihi is of an earlier network; `dsr-deploy export --target loihi --bits 4 --chip "
        f"loihi2 --run {run.path}` renews it.",
        f"reports/simulate.json is of an earlier network; `dsr-deploy simulate --run {run.path}` "
        "renews it.",
    ):
        assert line in text
    assert "quantized-4 is of" not in text


def test_report_of_a_run_that_has_just_begun_names_the_next_commands(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    run.metrics.unlink()
    for place in ("quantized-4", "export/loihi"):
        shutil.rmtree(run.path / place)
    text = _Page(report(run)).text
    for command in ("train --resume", "quantize --bits 4", "export --target loihi", "simulate"):
        assert f"Not there yet: dsr-deploy {command} --run {run.path} adds it." in text


def test_report_shows_names_as_text(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "<b>&run")
    assert "<b>&run" in _Page(report(run)).text


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    run.metrics.write_text('{"epoch": 1}\n')
    message = (
        f"{run.path}: a file of the run is missing or damaged (KeyError('train_accuracy')); "
        "run its stage again"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        report(run)
    assert not run.reports.exists()
