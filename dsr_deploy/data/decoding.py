"""Image files to pixels, in this process or in several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dsr_deploy.data.dataset import DataError, FolderSplit, Progress

MODES: Final = {1: "L", 3: "RGB"}
JPEG: Final = b"\xff\xd8\xff"
READ_AT_ONCE: Final = 256
MAX_ELONGATION: Final = 16
"""How many times as long as the centre that is cut an image may be and still be scaled whole."""


Request = tuple[int, int | None]
"""Which file of a split to read, and the seed of a random cut; None for the centre."""

Pixels = NDArray[np.uint8]


def open_image(path: str | Path) -> Image.Image:
    """Return the decoded image of a file.

    Raises
    ------
    DataError
        If the file is no image, or a damaged one.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except UnidentifiedImageError:
        raise DataError(f"{path}: this is not an image; remove it or replace it") from None
    except (FileNotFoundError, PermissionError) as error:
        raise DataError(f"{path}: it cannot be opened ({error.strerror})") from None
    except Exception as error:  # PIL's decoders raise almost anything on damaged files
        raise DataError(f"{path}: the image is damaged ({error}); replace it") from None


def stream(split: FolderSplit, requests: Iterable[list[Request]]) -> Iterator[Tensor]:
    """Yield the decoded files of each list of requests, uint8 (N, C, H, W), in order.

    Raises
    ------
    DataError
        If a file is damaged, or has another size or mode than the split.
    """
    loader = DataLoader(
        _Files(split),
        batch_sampler=requests,
        num_workers=split.workers,
        collate_fn=_stack,
        # without one, it draws from the global generator and changes the caller's randomness
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


def read(split: FolderSplit, files: Sequence[int], progress: Progress | None = None) -> Tensor:
    """Return the decoded files of these indices, uint8 (N, C, H, W).

    Raises
    ------
    DataError
        As :func:`stream`.
    """
    pixels = torch.empty((len(files), *split.shape), dtype=torch.uint8)
    starts = range(0, len(files), READ_AT_ONCE)
    requests: Iterator[list[Request]] = (
        [(file, None) for file in files[start : start + READ_AT_ONCE]] for start in starts
    )
    done = 0
    for batch in stream(split, requests):
        pixels[done : done + len(batch)] = batch
        done += len(batch)
        if progress is not None:
            progress(done, len(files))
    return pixels


class _Files(Dataset[Pixels | DataError]):
    """The files of a split, indexed by requests."""

    def __init__(self, split: FolderSplit) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split.files)

    def __getitem__(self, request: Request) -> Pixels | DataError:
        file, seed = request
        # A raised error would reach the user with the traceback of the worker in its message.
        try:
            return _pixels(self.split, self.split.files[file], seed)
        except DataError as error:
            return error


def _stack(samples: list[Pixels | DataError]) -> Tensor | DataError:
    arrays = []
    for sample in samples:
        if isinstance(sample, DataError):
            return sample
        arrays.append(sample)
    return torch.from_numpy(np.stack(arrays))


def _pixels(split: FolderSplit, path: str, seed: int | None) -> Pixels:
    """Return one sample, uint8 (C, H, W)."""
    if not split.resize and (pixels := _small_jpeg(path, split.shape)) is not None:
        return pixels
    channels, height, width = split.shape
    image = open_image(path)
    mode = MODES[channels]
    if image.mode != mode:
        if not split.convert:
            raise DataError(
                f"{path}: an image of mode {image.mode}, the first one has mode {mode}; "
                f"convert it to {mode}"
            )
        image = image.convert(mode)
    if split.resize:
        image = _cut(image, height, width, None if split.crop == 1 else seed, split.crop)
    elif image.size != (width, height):
        raise DataError(
            f"{path}: an image of {image.width}x{image.height} pixels, the first one has "
            f"{width}x{height}; bring all to one size with --image-size"
        )
    return np.array(image).reshape(height, width, channels).transpose(2, 0, 1)


def _small_jpeg(path: str, shape: tuple[int, int, int]) -> Pixels | None:
    """Return a JPEG of this very shape in half of PIL's time; what is unusual stays for PIL."""
    from torchvision.io import decode_jpeg

    try:
        with open(path, "rb") as file:
            data = file.read()
        if not data.startswith(JPEG):
            return None
        pixels = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    except (OSError, RuntimeError):
        return None
    array: Pixels = pixels.numpy()
    return array if array.shape == shape else None


def _cut(
    image: Image.Image, height: int, width: int, seed: int | None, smallest: float
) -> Image.Image:
    """Return a random part of an image, or its centre, in the given size.

    The part has at least ``smallest`` of the image's area.
    """
    from torchvision.transforms import RandomResizedCrop
    from torchvision.transforms import functional as F

    if seed is None:
        image = _shorten(image, height, width)
        # the usual evaluation on ImageNet: 224 out of 256, whatever the size
        ratio = 256 / 224 * max(height / image.height, width / image.width)
        size = [round(image.height * ratio), round(image.width * ratio)]
        centre: Image.Image = F.center_crop(F.resize(image, size), [height, width])
        return centre
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        box = RandomResizedCrop.get_params(image, scale=(smallest, 1.0), ratio=(3 / 4, 4 / 3))
    part: Image.Image = F.resized_crop(image, *box, size=[height, width])
    return part


def _shorten(image: Image.Image, height: int, width: int) -> Image.Image:
    """Cut the ends off an image that is much more elongated than the centre that is wanted.

    To scale 20000x3 pixels as a whole to a height of 256 takes gigabytes.
    """
    across = max(0, image.width - MAX_ELONGATION * -(-image.height * width // height)) // 2
    down = max(0, image.height - MAX_ELONGATION * -(-image.width * height // width)) // 2
    if not across and not down:
        return image
    return image.crop((across, down, image.width - across, image.height - down))
