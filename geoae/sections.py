"""Sections: neighbouring patches of a cube that one thread reads by itself.

`CubePatches.batches` decodes with threads of its own and gives arrays away. An encoder that multiplies
matrices on every core rather has each core read, normalise and use patches of its own: then no thread waits
for another, and what was just decoded is still in the processor's cache.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from geoae.chunks import RowReader
from geoae.encoder import Channel, PatchBatch
from geoae.mixing import in_chunks
from geoae.normalisation import ChannelGroup, normalise_rows

__all__ = ["Image", "Section", "as_batch", "empty_image"]

Image = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]
"""``(n, channel, y, x)`` and its mask, which may have one channel for all."""


def empty_image(picture: tuple[ChannelGroup, ...], count: int, patch_shape: tuple[int, int]) -> Image:
    """Return memory for some rows; one modality has one mask, which all its channels show."""
    channels = sum(part.count for part in picture)
    image = np.empty((count, channels, *patch_shape), np.float32)
    return image, np.empty((count, 1 if len(picture) == 1 else channels, *patch_shape), bool)


def as_batch(rows: npt.NDArray[np.int64], images: Sequence[Image]) -> PatchBatch:
    """Make a batch of an image, and of a target if there is another image."""
    both = [(image, np.broadcast_to(valid, image.shape)) for image, valid in images]
    target, target_valid = both[1] if len(both) > 1 else (None, None)
    return PatchBatch(rows, *both[0], target, target_valid)


@dataclass(frozen=True)
class Section:
    """Some patches of a cube, in its order: a `geoae.encoder.PatchSource` for one thread.

    Parameters
    ----------
    channels, target_channels, patch_shape
        As in `geoae.encoder.PatchSource`.
    readers
        By name, what to read; sections may share them.
    pictures
        The modalities of the image, and of the target if that is something else.
    rows
        Ascending numbers of the patches.
    spare
        Memory that is used again, by the size of batches, since fresh memory costs time; sections may
        share it.
    """

    channels: tuple[Channel, ...]
    target_channels: tuple[Channel, ...]
    patch_shape: tuple[int, int]
    readers: Mapping[str, RowReader]
    pictures: Sequence[tuple[ChannelGroup, ...]]
    rows: npt.NDArray[np.int64]
    spare: dict[int, list[Sequence[Image]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self) -> PatchBatch:
        """Read all patches as one batch, whose arrays nobody fills again."""
        images = self._empty(len(self))
        for _ in self._fill(images, len(self)):
            pass
        return self._batch(self.rows, images)

    def batches(self, size: int, shuffle_seed: int | None = None) -> Iterator[PatchBatch]:
        """Iterate over the patches once, all in the thread that asks.

        Parameters
        ----------
        size
            Patches in a batch; the last one may be smaller.
        shuffle_seed
            None; a section has one order.

        Yields
        ------
        PatchBatch
            Its arrays are filled again when the next batch is asked for.
        """
        if size < 1:
            raise ValueError(f"a batch has at least one patch, not {size}")
        if shuffle_seed is not None:
            raise ValueError("a section is read in the order of the cube")
        spare = self.spare.setdefault(size, [])
        try:
            images = spare.pop()
        except IndexError:
            images = self._empty(size)
        try:
            yield from self._fill(images, size)
        finally:
            spare.append(images)

    def _empty(self, count: int) -> Sequence[Image]:
        return [empty_image(picture, count, self.patch_shape) for picture in self.pictures]

    def _fill(self, images: Sequence[Image], size: int) -> Iterator[PatchBatch]:
        chunk = next(iter(self.readers.values())).chunk
        begun = np.empty(0, np.int64)  # rows that are in the images
        for piece in in_chunks(self.readers, self.rows, chunk):
            taken = 0
            while taken < len(piece.rows):
                positions = piece.positions[taken : taken + size - len(begun)]
                here = slice(len(begun), len(begun) + len(positions))
                for picture, (image, valid) in zip(self.pictures, images, strict=True):
                    normalise_rows(picture, image[here], valid[here], piece, positions)
                begun = np.concatenate([begun, piece.rows[positions]])
                taken += len(positions)
                if len(begun) == size:
                    yield self._batch(begun, images)
                    begun = begun[:0]
        if len(begun):
            yield self._batch(begun, images)

    def _batch(self, rows: npt.NDArray[np.int64], images: Sequence[Image]) -> PatchBatch:
        return as_batch(rows, [(image[: len(rows)], valid[: len(rows)]) for image, valid in images])
