"""Which training samples are held out to choose a network by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsr_deploy.data.loading import load
from dsr_deploy.data.samples import FolderSplit, TensorSplit
from dsr_deploy.data.validation import hold_out


def split(labels: list[int]) -> TensorSplit:
    """Return samples whose single pixel is their place."""
    places = torch.arange(len(labels), dtype=torch.uint8)
    return TensorSplit(places.reshape(-1, 1, 1, 1), torch.tensor(labels))


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=200),
    st.floats(0.01, 0.5),
    st.integers(0, 2**31 - 1),
)
def test_each_class_gives_its_share_and_keeps_a_sample(
    labels: list[int], share: float, seed: int
) -> None:
    kept, held = hold_out(split(labels), share, seed)
    parts = [kept] if held is None else [kept, held]
    places = [int(place) for part in parts for place in part.pixels.flatten()]  # type: ignore[union-attr]
    assert sorted(places) == list(range(len(labels)))  # nothing lost, nothing twice
    for part in parts:
        assert isinstance(part, TensorSplit)
        order = part.pixels.flatten().tolist()
        assert order == sorted(order)
        assert part.labels.tolist() == [labels[place] for place in order]
    for label in set(labels):
        count = labels.count(label)
        taken = 0 if held is None else int((held.labels == label).sum())
        assert taken == min(max(1, round(share * count)), count - 1)


def test_the_parts_follow_from_the_seed() -> None:
    samples = split([0, 1] * 50)
    first, again, other = (hold_out(samples, 0.2, seed)[1] for seed in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first.pixels, again.pixels)  # type: ignore[union-attr]
    assert not torch.equal(first.pixels, other.pixels)  # type: ignore[union-attr]


def test_a_share_of_nothing_holds_out_nothing() -> None:
    samples = split([0, 0, 1, 1])
    assert hold_out(samples, 0.0, 0) == (samples, None)


def test_classes_of_one_sample_hold_out_nothing() -> None:
    samples = split([0, 1, 2])
    assert hold_out(samples, 0.5, 0) == (samples, None)


def test_image_files_are_parted_with_their_labels() -> None:
    files = tuple(f"{place}.png" for place in range(20))
    labels = torch.tensor([0, 1] * 10)
    kept, held = hold_out(FolderSplit(files, labels, (3, 8, 8)), 0.1, 3)
    assert isinstance(kept, FolderSplit)
    assert isinstance(held, FolderSplit)
    assert set(kept.files) | set(held.files) == set(files)
    assert len(held.files) == 2
    for part in (kept, held):
        assert part.labels.tolist() == [int(file.removesuffix(".png")) % 2 for file in part.files]


@pytest.mark.parametrize("seed", range(3))
def test_the_test_images_of_the_digits_are_never_held_out(seed: int) -> None:
    digits = load("digits", timesteps=8)
    kept, held = hold_out(digits.train, 0.1, seed)
    assert held is not None
    assert (len(kept), len(held), len(digits.test)) == (1295, 142, 360)
    counts = np.bincount(held.labels.numpy(), minlength=10)
    assert counts.min() >= 13
