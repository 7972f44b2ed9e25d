"""The summary on top of a report."""

from __future__ import annotations

from pathlib import Path

import sample_run
from page import Page

from dsr_deploy.measures.energy import SPIKING
from dsr_deploy.stages.report import report
from dsr_deploy.stages.simulate import simulate


def test_the_summary_has_what_each_step_cost_and_the_numbers_to_remember(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    page = Page(report(run))
    for text in (
        "accuracy with 4-bit integers 12.50% +0.00 points to 32 bits, 360 samples",
        "firing rate 10.00% of the network in 32 bits",
        "cores of loihi2 2 of 120 it fits, by what can be known",
        "trained, 32 bits 12.50% 360",
        "only rounded to 4 bits 6.25% \N{MINUS SIGN}6.25 points 360",
        "quantized to 4 bits 12.50% +0.00 points 360",
    ):
        assert text in page.text
    assert "simulated, 4 bits" not in page.text
    assert "#firing" not in page.anchors
    found = simulate(run, 20)
    page = Page(report(run))
    energies = [line.total * 1e6 for line in found.energy if line.network == SPIKING]
    for text in (
        f"simulated, 4 bits {found.accuracy:.2%} as quantized 20",
        f"synaptic operations {found.synops:,.0f} per sample, counted",
        f"firing rate {found.sparsity.total.firing_rate:.2%} spikes per neuron and timestep",
        f"energy {min(energies):,.3g} to {max(energies):,.3g} \N{MICRO SIGN}J per sample, by "
        f"{len(energies)} sets",
    ):
        assert text in page.text
    contents = ("training", "simulation", "sparsity", "neurobench", "traces", "configuration")
    assert [anchor for anchor in page.anchors if anchor in contents] == list(contents)


def test_a_run_that_was_only_trained_shows_its_accuracy_in_32_bits(tmp_path: Path) -> None:
    run = sample_run.write(tmp_path / "run")
    for place in ("quantized-4", "export"):
        (run.path / place).rename(tmp_path / place)
    text = Page(report(run)).text
    assert "accuracy in 32 bits 12.50% 360 test samples" in text
    run.result.unlink()
    assert "accuracy in 32 bits" not in Page(report(run)).text
