"""Pictures of a run."""

from __future__ import annotations

import re
from typing import Literal

import matplotlib
import pytest
import sample_run

from dsr_deploy.hardware.event.simulator import Simulator
from dsr_deploy.measures import plots, sparsity
from dsr_deploy.measures.sparsity import LayerSparsity, Sparsity


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


def test_a_picture_for_a_page_takes_the_colour_of_its_text(measured: Sparsity) -> None:
    drawn = plots.inline(sparsity.plot(measured), "first")
    assert drawn.startswith("<svg ")
    assert drawn.rstrip().endswith("</svg>")
    for colour in (plots.INK, "#ffffff", "#000000"):  # paper and ink are the page's
        assert colour not in drawn
    assert "fill: currentColor" in drawn
    assert ">conv</text>" in drawn  # text is text
    assert "http://purl.org" not in drawn


def test_two_pictures_of_a_page_share_no_identifier(measured: Sparsity) -> None:
    first, second = (
        set(re.findall(r'(?:\bid="|url\(#|href="#)([^")]+)', plots.inline(figure, name)))
        for name, figure in (("a", sparsity.plot(measured)), ("b", sparsity.plot(measured)))
    )
    assert first
    assert not first & second


def test_names_with_dollars_markup_and_other_scripts_are_drawn_as_they_are() -> None:
    name = "$\\frac{$ <b> \u6f22"
    layer = LayerSparsity(name, 1, 1, 0.5, 1.0, (1.0,), 0, 0, 0, 0)
    drawn = plots.inline(sparsity.plot(Sparsity(1, 1, (layer,), layer)), "a")
    assert ">$\\frac{$ &lt;b&gt; \u6f22</text>" in drawn
