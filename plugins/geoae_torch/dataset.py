"""The patches of a cube as a dataset of torch, for a training loop of one's own.

::

    from torch.utils.data import DataLoader
    from geoae_torch import CubeDataset

    train = CubeDataset("us3d.zarr", part="train", input="rgb", batch_size=128)
    for epoch in range(10):
        train.set_epoch(epoch)
        for batch in DataLoader(train, batch_size=None):
            loss = network(batch["image"])
"""

import os
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from geoae.batches import CubePatches, Normalisation, fit_normalisation, parse_input, usable_rows
from geoae.cube import Cube
from geoae.encoder import Channel, PatchBatch
from geoae.errors import InputError, UsageError
from geoae.schema import SPLIT_NAMES
from geoae.splits import DEFAULT, TRAIN, ensure_split, rows_of

__all__ = ["CubeDataset"]

Part = Literal["train", "validation", "test"]


class CubeDataset(IterableDataset[dict[str, Tensor]]):
    """Batches of patches of a cube, in random order, read ahead, in bounded memory.

    A batch is a dict: ``image`` ``(n, channel, y, x)`` float32, zero where it is not valid; ``valid``, bool,
    of the same shape; ``index``, rows of the cube; with another target than the input also ``target`` and
    ``target_valid``. Give it to a ``DataLoader`` with ``batch_size=None``. Workers, started by ``spawn``,
    divide the patches among them by stored chunks; on few cores none are needed: threads decode anyway.

    Parameters
    ----------
    cube
        The cube, or its path.
    part
        Part of the split, or None for all patches.
    split
        Name of the split; the default one is made if there is none.
    input, target
        Channels, as for ``geoae fit``: ``rgb``, ``msi,agl``, ``msi.red,msi.nir1``.
    normalisation
        ``unit``, ``standard``, see `geoae.encoder.Encoder`, measured on the training part; or None for the
        cube's own values.
    batch_size
        Patches of a batch; the last one, of each worker, may be smaller.
    shuffle
        Whether the order is random; `set_epoch` gives another one.
    seed
        Of the order.
    min_valid
        Leave out patches with a smaller share of valid pixels; the cube's own limit if None.

    Raises
    ------
    UsageError
        If channels or split are wrong.
    InputError
        If no patch is left.
    """

    def __init__(
        self,
        cube: Cube | str | os.PathLike[str],
        *,
        part: Part | None = "train",
        split: str = DEFAULT,
        input: str | None = None,
        target: str | None = None,
        normalisation: Literal["unit", "standard"] | None = "unit",
        batch_size: int = 32,
        shuffle: bool = True,
        seed: int = 0,
        min_valid: float | None = None,
    ) -> None:
        self._opened: Cube | None = Cube.open(cube)
        opened = self._opened
        self._path = opened.path
        if batch_size < 1:
            raise ValueError(f"a batch has at least one patch, not {batch_size}")
        if part is not None and part not in SPLIT_NAMES:
            raise UsageError(f"a split has no part {part!r}", hint="train, validation or test")
        self.channels: tuple[Channel, ...] = parse_input(opened, input)
        self.target_channels = self.channels if target is None else parse_input(opened, target, "target")
        used = tuple(dict.fromkeys(self.channels + self.target_channels))
        usable = rows = usable_rows(opened, used, min_valid)
        if part is not None or normalisation is not None:
            path = ensure_split(opened, split)
            train = np.intersect1d(usable, rows_of(opened, path, TRAIN))
            if part is not None:
                rows = np.intersect1d(usable, rows_of(opened, path, SPLIT_NAMES.index(part)))
        if not len(rows):
            raise InputError(
                f"no patch of the part {part} has enough valid pixels", hint="a smaller min_valid"
            )
        self.rows: npt.NDArray[np.int64] = rows
        self._scales: tuple[Normalisation | None, Normalisation | None] = (None, None)
        if normalisation is not None:
            scale = fit_normalisation(opened, self.channels, train, normalisation)
            other = fit_normalisation(opened, self.target_channels, train, normalisation) if target else scale
            self._scales = (scale, other)
        self._batch_size, self._shuffle, self._seed, self._epoch = batch_size, shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; call it before each one."""
        self._epoch = epoch

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open cube behind: a worker opens its own."""
        return {**self.__dict__, "_opened": None}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        if self._opened is None:
            self._opened = Cube.open(self._path)
        rows = self.rows
        worker = get_worker_info()
        if worker is not None:
            # Whole chunks, so that none is decoded twice.
            chunk = self._opened.array(self.channels[0].modality).chunks[0]
            order = np.unique(rows // chunk, return_inverse=True)[1]
            rows = rows[order % worker.num_workers == worker.id]
        source = CubePatches(
            self._opened,
            self.channels,
            self._scales[0],
            rows=rows,
            target_channels=self.target_channels,
            target_normalisation=self._scales[1],
        )
        order_seed = None
        if self._shuffle:
            order_seed = int(np.random.SeedSequence([self._seed, self._epoch]).generate_state(1)[0])
        for batch in source.batches(self._batch_size, order_seed):
            yield _tensors(batch)


def _tensors(batch: PatchBatch) -> dict[str, Tensor]:
    found: dict[str, npt.NDArray[Any]] = {"index": batch.index, "image": batch.image, "valid": batch.valid}
    if batch.target is not None and batch.target_valid is not None:
        found |= {"target": batch.target, "target_valid": batch.target_valid}
    # Masks that all channels share are read-only views, which torch does not take.
    return {n: torch.from_numpy(a if a.flags.writeable else a.copy()) for n, a in found.items()}
