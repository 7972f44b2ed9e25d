"""The format page is enough: a reader written from it alone gives the same spikes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import page_reader
import pytest
from golden_networks import FOLDER, KINDS, Kind, golden_network, golden_payloads
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import integer_networks, payloads_for

from dsr_deploy.hardware import reference
from dsr_deploy.hardware.encoding import payload_table
from dsr_deploy.hardware.format.network_file import to_bytes
from dsr_deploy.hardware.network import INPUT, Connection, Input, IntegerNetwork, Population

PAGE = Path(__file__).parents[3] / "docs" / "network-format.md"


def assert_as_the_page_says(network: IntegerNetwork, data: bytes, payloads: np.ndarray) -> None:
    found = reference.run(network, payloads, record=True)
    assert found.spikes is not None
    for n, sample in enumerate(payloads):
        spikes, scores, predicted = page_reader.run(data, sample)
        assert spikes.keys() == found.spikes.keys()
        for name, train in spikes.items():
            np.testing.assert_array_equal(found.spikes[name][n], train, err_msg=name, strict=True)
        assert found.scores[n].tolist() == scores
        assert found.predictions[n] == predicted


@pytest.mark.parametrize("kind", KINDS)
def test_the_golden_files_are_read_as_the_page_says(kind: Kind) -> None:
    network = golden_network(kind)
    data = (FOLDER / f"{kind}.safetensors").read_bytes()
    assert_as_the_page_says(network, data, golden_payloads(network))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_networks_are_run_as_the_page_says(data: st.DataObject) -> None:
    network = data.draw(integer_networks())
    payloads = data.draw(payloads_for(network, max_samples=2))
    assert_as_the_page_says(network, to_bytes(network), payloads)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-2, 2), st.floats(0.01, 4), st.sampled_from([1 / 255, 1 / 16, 1.0]),
    st.sampled_from([1 / 127, 1 / 32, 0.5, 1.0]), st.integers(-128, 0), st.integers(0, 127),
)  # fmt: skip
def test_pixels_are_encoded_as_the_page_says(
    mean: float, std: float, scale: float, step: float, low: int, high: int
) -> None:
    shown = Input((2, 1, 1), (mean, -mean), (std, 1.0), scale, step, low, high)
    fields = {"mean": shown.mean, "std": shown.std, "pixel_scale": scale, "step": step}
    expected = page_reader.payload_table(fields | {"low": low, "high": high})
    np.testing.assert_array_equal(payload_table(shown), expected)


def test_the_example_of_the_page_is_what_happens() -> None:
    def one(value: int) -> np.ndarray:
        return np.array([value], np.int32)

    network = IntegerNetwork(
        name="by hand",
        timesteps=4,
        input=Input((1, 1, 1), (0.0,), (1.0,), 1.0, 1.0),
        populations=(Population("out", (1, 1, 1), one(-1), one(10), one(16), decay=1024),),
        connections=(Connection(INPUT, "out", "linear", np.array([[3]], np.int8), 8, 1),),
        readout=(1, 2, 3, 4),
    )
    payloads = np.full((1, 1, 1, 1), 2, np.int8)
    assert_as_the_page_says(network, to_bytes(network), payloads)
    run = reference.run(network, payloads, record=True)
    assert run.spikes is not None
    assert run.spikes["out"].ravel().tolist() == [True, False, True, True]
    assert run.scores.tolist() == [[8]]
    text = PAGE.read_text()
    assert "| 1 | trunc(−3.75) = −3 | 8 | 0 | 8 |" in text
    assert "The score is 1 + 3 + 4 = 8." in text


def test_the_reader_of_the_page_knows_nothing_of_ours() -> None:
    text = Path(page_reader.__file__).read_text()
    assert "import dsr_deploy" not in text
    assert "from dsr_deploy" not in text
