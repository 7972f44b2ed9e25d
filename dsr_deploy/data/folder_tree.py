"""Image files in a folder per class, for training and for testing: found and checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dsr_deploy.data import digest
from dsr_deploy.data.samples import DataError
from dsr_deploy.hardware.format.json_text import LONGEST_TEXT


@dataclass(frozen=True, eq=False)
class Part:
    """The files of one split, and their labels, int64 (N,)."""

    files: tuple[str, ...]
    labels: Tensor


@dataclass(frozen=True, eq=False)
class FolderTree:
    """What was found; the last two as in :class:`dsr_deploy.data.Dataset`."""

    classes: tuple[str, ...]
    train: Part
    test: Part
    contents: tuple[str, str]
    notes: tuple[str, ...]


def find(directory: Path, tests: tuple[str, str]) -> FolderTree:
    """Return the files in ``train/`` and in the first of ``tests`` that has folders of classes.

    What has a name that starts with a dot is left out: such are ``.DS_Store`` and
    ``.ipynb_checkpoints``, the latter with copies of images.

    Raises
    ------
    DataError
        If folders are missing, empty or do not match, or there is but one class.
    """
    try:
        return _find(directory, tests)
    except OSError as error:
        raise DataError(f"{error.filename}: it cannot be read ({error.strerror})") from None


def _find(directory: Path, tests: tuple[str, str]) -> FolderTree:
    if not directory.is_dir():
        raise DataError(
            f"{directory}: there is no such directory; name the data set's with data_dir"
        )
    train = directory / "train"
    if not train.is_dir():
        raise DataError(
            f"{directory}: there is no folder train/ with a folder per class in it"
            + _what_is_there(directory)
        )
    test, notes = _choose_test(directory, tests)
    classes = _classes(train)
    if len(classes) == 1:
        raise DataError(
            f"{train}: one class alone, '{classes[0]}', from which nothing can be told apart"
            + (_level_too_many(train, classes) or "; add a folder for each other class")
        )
    test_classes = _classes(test)
    if classes != test_classes:
        differing = sorted(set(classes) ^ set(test_classes))
        raise DataError(
            f"{directory}: train/ and {test.name}/ have different classes; "
            f"only one has {_few(differing)}{_level_too_many(test, test_classes)}"
        )
    parts = (_list_files(train, classes), _list_files(test, classes))
    contents = (digest.of_files(train, parts[0].files), digest.of_files(test, parts[1].files))
    inner = [tuple(_subfolders(train / name)) for name in classes]
    if len(inner[0]) > 1 and len(set(inner)) == 1:
        notes += (
            f"{train}: every class holds the same folders, {_few(list(inner[0]))}; if these are "
            "the classes, move them up",
        )
    for folder in (train, test):
        loose = _loose_files(folder)
        if loose:
            notes += (f"{folder}: files beside the folders of classes, not read: {loose}",)
    return FolderTree(classes, *parts, contents, notes)


def _what_is_there(directory: Path) -> str:
    names = _subfolders(directory)
    if len(names) == 1 and (directory / names[0] / "train").is_dir():
        return f"; name {directory / names[0]}, which has one, with data_dir"
    return f"; it holds {_few(names)}" if names else ""


def _choose_test(directory: Path, tests: tuple[str, str]) -> tuple[Path, tuple[str, ...]]:
    """Return the test folder, and a note if another might have been meant."""
    there = [directory / name for name in tests if (directory / name).is_dir()]
    if not there:
        raise DataError(f"{directory}: there is neither test/ nor val/ beside train/")
    sorted_ones = [folder for folder in there if _subfolders(folder)]
    chosen = (sorted_ones or there)[0]
    if chosen != there[0]:
        return chosen, (
            f"{directory}: {chosen.name}/ is the test set, as {there[0].name}/ has no folder per "
            "class",
        )
    if len(sorted_ones) > 1:
        return chosen, (
            f"{directory}: {chosen.name}/ is the test set, {sorted_ones[1].name}/ is not read",
        )
    return chosen, ()


def _classes(folder: Path) -> tuple[str, ...]:
    names = _subfolders(folder)
    if not names:
        loose = _loose_files(folder)
        if loose:
            raise DataError(
                f"{folder}: files: {loose}, but no folder per class; move each into a folder that "
                "is named after its class"
            )
        raise DataError(f"{folder}: it is empty; a folder per class belongs here")
    for name in names:
        if len(name) > LONGEST_TEXT or not name.isprintable():
            raise DataError(
                f"{folder}: a folder named {ascii(name)[:60]}; a class is named with at most "
                f"{LONGEST_TEXT} printable characters: rename it"
            )
    return tuple(names)


def _level_too_many(folder: Path, classes: tuple[str, ...]) -> str:
    """Return what to do about an archive's extra level, if this looks like one."""
    inner = _subfolders(folder / classes[0]) if len(classes) == 1 else []
    if len(inner) < 2:
        return ""
    return f"; {classes[0]}/ holds {_few(inner)}: if these are the classes, move them up"


def _list_files(folder: Path, names: tuple[str, ...]) -> Part:
    from torchvision.datasets.folder import make_dataset

    _check_links(folder)
    # Not by extension: a file that is no image is an error later, not left out in silence.
    samples = make_dataset(
        folder,
        {name: label for label, name in enumerate(names)},
        is_valid_file=lambda path: f"{os.sep}." not in path[len(str(folder)) :],
        allow_empty=True,
    )
    labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
    counts = torch.bincount(labels, minlength=len(names))
    empty = [name for name, count in zip(names, counts.tolist(), strict=True) if not count]
    if empty:
        raise DataError(f"{folder}: there is no image of {_few(empty)}")
    return Part(tuple(path for path, _ in samples), labels)


def _check_links(folder: Path) -> None:
    """Refuse links that lead to images which are found without them, or in circles.

    And folders that may not be entered, which would be left out in silence.
    """
    seen: dict[str, str] = {}
    for path, _, _ in os.walk(folder, onerror=_raise, followlinks=True):
        place = os.path.realpath(path)
        if place in seen:
            raise DataError(f"{path}: the same folder as {seen[place]}; remove one of the two")
        seen[place] = path


def _raise(error: OSError) -> None:
    raise error


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def _loose_files(folder: Path) -> int:
    return sum(not path.is_dir() and path.name[0] != "." for path in folder.iterdir())


def _few(names: list[str]) -> str:
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(f"'{name}'" for name in names[:5]) + rest
