"""Image files to pixels, in several threads of this process.

Decoding runs outside Python's lock, so threads do not wait for each other; they need no shared
memory, which containers are short of, and none of them can be killed alone. Measured on two cores
against the same work in two worker processes: docs/data.md.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dsr_deploy.data.samples import DataError, FolderSplit, Progress
from dsr_deploy.hardware.format.regular_file import open_regular

MODES: Final = {1: "L", 3: "RGB"}
JPEG: Final = b"\xff\xd8\xff"
READ_AT_ONCE: Final = 256
MAX_THREADS: Final = 8
FILES_PER_TASK: Final = 16
LISTS_AHEAD: Final = 2
"""How many lists of requests are decoded before they are asked for."""

LEAST_RATIO, GREATEST_RATIO = 3 / 4, 4 / 3
"""Of width to height of a random part, as usual on ImageNet."""

MAX_ELONGATION: Final = 16
"""How many times as long as the centre that is cut an image may be and still be scaled whole."""


Request = tuple[int, int | None]
"""Which file of a split to read, and the seed of a random cut; None for the centre."""

Pixels = NDArray[np.uint8]


def open_image(path: str | Path) -> Image.Image:
    """Return the decoded image of a file, turned as its EXIF orientation says.

    Cameras store what the sensor saw, with a note of how it was held.

    Raises
    ------
    DataError
        If the file is no image, or a damaged one.
    """
    try:
        with open_regular(path) as file, Image.open(file) as image:
            image.load()
            _turn_upright(image)
            return image
    except UnidentifiedImageError:
        raise DataError(f"{path}: this is not an image; remove it or replace it") from None
    except OSError as error:
        if error.strerror is None:  # PIL's own, of what it decodes
            raise DataError(f"{path}: the image is damaged ({error}); replace it") from None
        raise DataError(f"{path}: it cannot be read ({error.strerror})") from None
    except Exception as error:  # PIL's decoders raise almost anything on damaged files
        raise DataError(f"{path}: the image is damaged ({error}); replace it") from None


def _turn_upright(image: Image.Image) -> None:
    # a damaged note says nothing, as in viewers; PIL raises almost anything
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def stream(split: FolderSplit, requests: Iterable[list[Request]]) -> Iterator[Tensor]:
    """Yield the decoded files of each list of requests, uint8 (N, C, H, W), in order.

    Raises
    ------
    DataError
        If a file is damaged, or has another size or mode than the split.
    """
    Image.init()  # threads that do it at once may miss a format
    waiting: deque[tuple[Pixels, list[Future[None]]]] = deque()
    pool = ThreadPoolExecutor(_threads(), thread_name_prefix="decoding")
    try:
        for wanted in requests:
            pixels = np.empty((len(wanted), *split.shape), dtype=np.uint8)
            starts = range(0, len(wanted), FILES_PER_TASK)
            parts = [slice(start, start + FILES_PER_TASK) for start in starts]
            tasks = [pool.submit(_decode, split, wanted[p], pixels[p]) for p in parts]
            waiting.append((pixels, tasks))
            if len(waiting) > LISTS_AHEAD:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _threads() -> int:
    """Return how many threads decode: as many as there are cores."""
    # os.cpu_count counts the machine's cores, not those that a container grants
    granted = getattr(os, "sched_getaffinity", None)
    return min(len(granted(0)) if granted else os.cpu_count() or 1, MAX_THREADS)


def _decode(split: FolderSplit, requests: list[Request], pixels: Pixels) -> None:
    """Write the decoded files of ``requests`` to ``pixels``, uint8 (N, C, H, W)."""
    for place, (file, seed) in zip(pixels, requests, strict=True):
        place[...] = _pixels(split, split.files[file], seed)


def _finished(pixels: Pixels, tasks: list[Future[None]]) -> Tensor:
    for task in tasks:
        task.result()
    return torch.from_numpy(pixels)


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
            f"{width}x{height}; bring all to one size with image_size"
        )
    return np.array(image).reshape(height, width, channels).transpose(2, 0, 1)


def _small_jpeg(path: str, shape: tuple[int, int, int]) -> Pixels | None:
    """Return a JPEG of this very shape in half of PIL's time; what is unusual stays for PIL."""
    try:
        # deprecated from torchvision 0.29 on; where it is gone, PIL gives the same pixels
        from torchvision.io import decode_jpeg
    except ImportError:
        return None
    try:
        with open_regular(path) as file:
            data = file.read()
        if not data.startswith(JPEG):
            return None
        pixels = decode_jpeg(
            torch.frombuffer(bytearray(data), dtype=torch.uint8), apply_exif_orientation=True
        )
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
    if seed is not None:
        box = draw_box(np.random.default_rng(seed), image.width, image.height, smallest)
        return image.crop(box).resize((width, height), Image.Resampling.BILINEAR)
    from torchvision.transforms import functional as F

    image = _shorten(image, height, width)
    # the usual evaluation on ImageNet: 224 out of 256, whatever the size
    ratio = 256 / 224 * max(height / image.height, width / image.width)
    size = [round(image.height * ratio), round(image.width * ratio)]
    centre: Image.Image = F.center_crop(F.resize(image, size), [height, width])
    return centre


def draw_box(
    rng: np.random.Generator, width: int, height: int, smallest: float
) -> tuple[int, int, int, int]:
    """Draw a part of an image: left, top, right, bottom.

    As torchvision's RandomResizedCrop, which draws from the generator of the whole process: area
    from ``smallest`` to all of the image's, evenly; width by height from 3/4 to 4/3, evenly in the
    logarithm; of ten tries the first that fits, else the largest centre of such a form.
    """
    for _ in range(10):
        area = width * height * rng.uniform(smallest, 1)
        ratio = np.exp(rng.uniform(np.log(LEAST_RATIO), np.log(GREATEST_RATIO)))
        across, down = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = rng.integers(0, (width - across + 1, height - down + 1)).tolist()
            return left, top, left + across, top + down
    across = min(width, round(height * GREATEST_RATIO))
    down = min(height, round(width / LEAST_RATIO))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + max(across, 1), top + max(down, 1)


def _shorten(image: Image.Image, height: int, width: int) -> Image.Image:
    """Cut the ends off an image that is much more elongated than the centre that is wanted.

    To scale 20000x3 pixels as a whole to a height of 256 takes gigabytes.
    """
    across = max(0, image.width - MAX_ELONGATION * -(-image.height * width // height)) // 2
    down = max(0, image.height - MAX_ELONGATION * -(-image.width * height // width)) // 2
    if not across and not down:
        return image
    return image.crop((across, down, image.width - across, image.height - down))
