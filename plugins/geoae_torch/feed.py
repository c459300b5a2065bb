"""Feeding: patches on the device that computes, from memory where they fit, else as they are read."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geoae.encoder import PatchBatch, PatchSource
from geoae_torch.corruption import turn

__all__ = [
    "RESIDENT_BYTES",
    "Feed",
    "Patches",
    "ResidentFeed",
    "StreamFeed",
    "as_it_lies",
    "augment",
    "make_feed",
    "on_device",
]

RESIDENT_BYTES = 1 << 30
"""Most bytes that are kept in a computer's memory; a GPU keeps what fits it."""

_GPU_SHARE = 0.6
"""Of the free memory of a GPU; the rest is for the network and its activations."""

_READ = 256  # patches read at a time


@dataclass(frozen=True)
class Patches:
    """Patches on the device, all ``(n, channel, y, x)`` and channels last.

    Parameters
    ----------
    image
        float32, zero where it is not valid.
    valid
        Bool, ``(n, 1 or channel, y, x)``; None where all is.
    target, target_valid
        Likewise; those of the image where there is no other target.
    """

    image: Tensor
    valid: Tensor | None
    target: Tensor
    target_valid: Tensor | None

    def __len__(self) -> int:
        return len(self.image)


class Feed(Protocol):
    """Patches that can be had again and again."""

    def __len__(self) -> int: ...

    def batches(self, size: int, seed: int | None = None, start: int = 0) -> Iterator[Patches]:
        """Iterate over all patches once.

        Parameters
        ----------
        size
            Patches of a batch; the last one may be smaller.
        seed
            Of their order; None for the order of the source.
        start
            Number of the batch to begin with.
        """


def make_feed(source: PatchSource, device: torch.device, limit: int | None = None) -> Feed:
    """Keep patches in the device's memory if they fit, else read them as they are needed.

    Parameters
    ----------
    source
        The patches.
    device
        Where they go.
    limit
        Most bytes to keep; `RESIDENT_BYTES`, or what a GPU has free, by default.
    """
    if limit is None:
        limit = RESIDENT_BYTES
        if device.type == "cuda":
            limit = int(torch.cuda.mem_get_info(device)[0] * _GPU_SHARE)
    y, x = source.patch_shape
    pictures = [len(source.channels)]
    if source.target_channels != source.channels:
        pictures.append(len(source.target_channels))
    # Four bytes of a number, and one of its mask.
    if len(source) * sum(pictures) * y * x * 5 <= limit:
        return ResidentFeed(source, device)
    return StreamFeed(source, device)


def _shared(valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return a mask with one channel where all channels show the same one."""
    return valid[:, :1] if valid.strides[1] == 0 else valid


def as_it_lies(array: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """Bring an array to the device, with its axes in the order that they have in memory."""
    if not array.flags.writeable:
        array = array.copy()  # torch warns of arrays that must not be written
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def on_device(array: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """Bring ``(n, channel, y, x)`` to the device, channels last."""
    return as_it_lies(array, device).contiguous(memory_format=torch.channels_last)


def patches_of(batch: PatchBatch, device: torch.device) -> Patches:
    """Bring a batch to the device."""
    image = on_device(batch.image, device)
    valid = _known(batch.valid, device)
    if batch.target is None:
        return Patches(image, valid, image, valid)
    known = batch.valid if batch.target_valid is None else batch.target_valid
    return Patches(image, valid, on_device(batch.target, device), _known(known, device))


def _known(valid: npt.NDArray[np.bool_], device: torch.device) -> Tensor | None:
    """Bring a mask to the device, unless all is valid."""
    mask = _shared(valid)
    return None if mask.all() else on_device(mask, device)


class StreamFeed:
    """Patches as they are read: a batch ahead of a GPU, in turn with the work of the computer's own cores.

    Parameters
    ----------
    source
        Where they come from.
    device
        Where they go.
    """

    def __init__(self, source: PatchSource, device: torch.device) -> None:
        in_turn = getattr(source, "in_turn", None) if device.type == "cpu" else None
        self._source: PatchSource = source if in_turn is None else in_turn()
        self._device = device

    def __len__(self) -> int:
        return len(self._source)

    def batches(self, size: int, seed: int | None = None, start: int = 0) -> Iterator[Patches]:
        """Iterate over all patches once, see `Feed`."""
        if self._device.type == "cpu":
            with closing(_skipped(self._source, size, seed, start)) as found:
                for batch in found:
                    yield patches_of(batch, self._device)
        else:
            yield from self._ahead(size, seed, start)

    def _ahead(self, size: int, seed: int | None, start: int) -> Iterator[Patches]:
        def read(batches: Iterator[PatchBatch]) -> Patches | None:
            batch = next(batches, None)
            return None if batch is None else patches_of(batch, self._device)

        with ThreadPoolExecutor(1) as pool, closing(_skipped(self._source, size, seed, start)) as batches:
            ahead = pool.submit(read, batches)
            try:
                while (patches := ahead.result()) is not None:
                    ahead = pool.submit(read, batches)
                    yield patches
            finally:
                ahead.cancel() or ahead.exception()  # a generator that runs cannot be closed


def _skipped(
    source: PatchSource, size: int, seed: int | None, start: int
) -> Generator[PatchBatch, None, None]:
    for number, batch in enumerate(source.batches(size, seed)):
        if number >= start:
            yield batch


class ResidentFeed:
    """Patches kept on the device.

    Parameters
    ----------
    source
        Where they come from; read once.
    device
        Where they stay.
    """

    def __init__(self, source: PatchSource, device: torch.device) -> None:
        self._device = device
        self._count = len(source)
        stores: list[_Store | None] = [None, None]
        done = 0
        for batch in source.batches(min(_READ, max(self._count, 1))):
            parts = [(batch.image, batch.valid)]
            if batch.target is not None:
                known = batch.valid if batch.target_valid is None else batch.target_valid
                parts.append((batch.target, known))
            for number, (image, valid) in enumerate(parts):
                store = stores[number]
                if store is None:
                    store = stores[number] = _Store(self._count, image.shape, device)
                store.put(done, image, valid)
            done += len(batch)
        self._image, self._target = stores

    def __len__(self) -> int:
        return self._count

    def batches(self, size: int, seed: int | None = None, start: int = 0) -> Iterator[Patches]:
        """Iterate over all patches once, see `Feed`."""
        if self._image is None:
            return
        order = np.arange(self._count)
        if seed is not None:
            order = np.random.default_rng(seed).permutation(order)
        rows = torch.from_numpy(order).to(self._device)
        for begin in range(start * size, self._count, size):
            chosen = rows[begin : begin + size]
            image, valid = self._image.get(chosen)
            if self._target is None:
                yield Patches(image, valid, image, valid)
            else:
                yield Patches(image, valid, *self._target.get(chosen))


class _Store:
    """Images ``(n, y, x, channel)`` and their masks, on a device."""

    def __init__(self, count: int, shape: tuple[int, ...], device: torch.device) -> None:
        _, channels, y, x = shape
        self._images = torch.empty((count, y, x, channels), device=device)
        self._masks: Tensor | None = None

    def put(self, start: int, image: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> None:
        rows = slice(start, start + len(image))
        # To the device first: a GPU changes the order of axes faster.
        self._images[rows] = torch.from_numpy(image).to(self._images.device).permute(0, 2, 3, 1)
        if valid.all():
            return
        mask = _shared(valid)
        if self._masks is None:
            n, y, x, _ = self._images.shape
            self._masks = torch.ones((n, y, x, mask.shape[1]), dtype=torch.bool, device=self._images.device)
        if mask.shape[1] > self._masks.shape[3]:  # shared until now
            self._masks = self._masks.expand(*self._masks.shape[:3], mask.shape[1]).contiguous()
        self._masks[rows].copy_(torch.from_numpy(mask.copy()).permute(0, 2, 3, 1))

    def get(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        images = _chosen(self._images, rows).permute(0, 3, 1, 2)
        if self._masks is None:
            return images, None
        return images, _chosen(self._masks, rows).permute(0, 3, 1, 2)


def _chosen(stored: Tensor, rows: Tensor) -> Tensor:
    """Gather images ``(n, y, x, channel)``."""
    if stored.device.type != "cpu":
        return stored[rows]
    # Line by line: torch is slow with long pieces. Nor index_select, which begins a parallel region for each.
    n, height = stored.shape[:2]
    lines = (rows[:, None] * height + torch.arange(height)).flatten()
    return stored.view(n * height, -1)[lines].view(len(rows), *stored.shape[1:])


def augment(patches: Patches, variants: npt.NDArray[np.int64]) -> Patches:
    """Flip and turn patches.

    Parameters
    ----------
    patches
        The patches.
    variants
        ``(n,)`` from `geoae_torch.corruption.variants`, ascending.
    """
    edges = np.searchsorted(variants, np.arange(9))
    runs = [(k, int(a), int(b)) for k, (a, b) in enumerate(pairwise(edges)) if a < b]

    def turned(images: Tensor) -> Tensor:
        result = torch.empty_like(images)
        for variant, start, stop in runs:
            result[start:stop].copy_(turn(images[start:stop], variant))
        return result

    image = turned(patches.image)
    valid = None if patches.valid is None else turned(patches.valid)
    if patches.target is patches.image:
        return Patches(image, valid, image, valid)
    target_valid = None if patches.target_valid is None else turned(patches.target_valid)
    return Patches(image, valid, turned(patches.target), target_valid)
