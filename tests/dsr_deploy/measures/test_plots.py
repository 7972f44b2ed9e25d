"""Pictures of a run."""

from __future__ import annotations

from typing import Literal

import matplotlib
import pytest
import sample_run

from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.measures import plots, sparsity
from dsr_deploy.measures.sparsity import Sparsity


@pytest.fixture(scope="module")
def measured() -> Sparsity:
    network = sample_run.network()
    return sparsity.measure(network, Simulator(network).run(sample_run.payloads()[:5]))


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_drawing_gives_the_same_bytes_whatever_style_is_set(
    measured: Sparsity, kind: Literal["png", "svg"], start: bytes
) -> None:
    images = [plots.draw(sparsity.plot(measured, "title"), kind)]
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 10}):
        images.append(plots.draw(sparsity.plot(measured, "title"), kind))
        assert matplotlib.rcParams["font.size"] == 30  # the user's are left as they were
    assert images[0].startswith(start)
    assert images[0] == images[1]
