"""Patches from arrays in memory: a source for tests and for authors of encoders."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from geoae.encoder import Channel, FloatArray, PatchBatch

__all__ = ["ArrayPatches", "synthetic_patches"]


class ArrayPatches:
    """A `geoae.encoder.PatchSource` over arrays.

    Parameters
    ----------
    image
        ``(patch, channel, y, x)``; made float32, and zero where it is not valid.
    valid
        Bool of the same shape, or ``(patch, y, x)`` for all channels; all True if None.
    channels
        Names of the channels; ``image.band_1`` and so on if None.
    target, target_valid, target_channels
        What a decoder should produce, where that differs from the image.

    Raises
    ------
    ValueError
        If shapes do not fit, or a valid pixel is not finite.

    Examples
    --------
    >>> source = ArrayPatches(np.ones((5, 2, 4, 4)))
    >>> [len(batch) for batch in source.batches(2)]
    [2, 2, 1]
    """

    def __init__(
        self,
        image: npt.ArrayLike,
        valid: npt.ArrayLike | None = None,
        *,
        channels: Sequence[Channel] | None = None,
        target: npt.ArrayLike | None = None,
        target_valid: npt.ArrayLike | None = None,
        target_channels: Sequence[Channel] | None = None,
    ) -> None:
        self._image, self._valid = _masked(image, valid, "image")
        self._channels = _named(channels, self._image.shape[1], "image")
        self._target: FloatArray | None = None
        self._target_valid: npt.NDArray[np.bool_] | None = None
        self._target_channels = self._channels
        if target is not None:
            self._target, self._target_valid = _masked(target, target_valid, "target")
            if len(self._target) != len(self._image):
                raise ValueError(f"{len(self._image)} images and {len(self._target)} targets")
            self._target_channels = _named(target_channels, self._target.shape[1], "target")

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Channels of the image."""
        return self._channels

    @property
    def target_channels(self) -> tuple[Channel, ...]:
        """Channels of the target; those of the image where there is no other."""
        return self._target_channels

    @property
    def patch_shape(self) -> tuple[int, int]:
        """``(y, x)`` pixels of a patch."""
        return self._image.shape[2], self._image.shape[3]

    def __len__(self) -> int:
        return len(self._image)

    def batches(self, size: int, shuffle_seed: int | None = None) -> Iterator[PatchBatch]:
        """Iterate over all patches once; see `geoae.encoder.PatchSource`."""
        if size < 1:
            raise ValueError(f"a batch has at least one patch, not {size}")
        order = np.arange(len(self))
        if shuffle_seed is not None:
            order = np.random.default_rng(shuffle_seed).permutation(order)
        for start in range(0, len(self), size):
            yield self.batch(order[start : start + size])

    def batch(self, rows: npt.ArrayLike | None = None) -> PatchBatch:
        """Return some patches in the given order as one batch, all if None; copies, free to change."""
        index = np.arange(len(self)) if rows is None else np.asarray(rows, np.int64)
        return PatchBatch(
            index=index.astype(np.int64),
            image=self._image[index],
            valid=self._valid[index],
            target=None if self._target is None else self._target[index],
            target_valid=None if self._target_valid is None else self._target_valid[index],
        )


def _masked(
    image: npt.ArrayLike, valid: npt.ArrayLike | None, what: str
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    values = np.array(image, np.float32)
    if values.ndim != 4:
        raise ValueError(f"{what} has shape {values.shape}, expected (patch, channel, y, x)")
    mask = np.ones(values.shape, bool) if valid is None else np.asarray(valid, bool)
    if mask.ndim == 3:
        mask = mask[:, np.newaxis]
    mask = np.broadcast_to(mask, values.shape)
    values[~mask] = 0
    if not np.isfinite(values).all():
        raise ValueError(f"{what} is not finite in a valid pixel")
    return values, mask


def _named(channels: Sequence[Channel] | None, count: int, modality: str) -> tuple[Channel, ...]:
    names = [Channel(modality, f"band_{i + 1}") for i in range(count)] if channels is None else channels
    if len(names) != count:
        raise ValueError(f"{count} channels of {modality} and {len(names)} names")
    return tuple(names)


def synthetic_patches(count: int, shape: tuple[int, int, int], *, seed: int = 0) -> ArrayPatches:
    """Make patches with structure that an encoder can learn, and with everything that occurs in cubes.

    Smooth random gradients and blobs that channels share, and noise. From the third on, every fifth patch
    misses a corner. The first patch has no valid pixel, the second is constant.

    Parameters
    ----------
    count
        Number of patches.
    shape
        ``(channel, y, x)``.
    seed
        Equal seeds give equal patches.

    Returns
    -------
    ArrayPatches
        About standardised: mean 0, deviation 1.
    """
    channels, height, width = shape
    generator = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    slope, bend = generator.normal(size=(2, count, 1, 1, 1))
    place = generator.uniform(-1, 1, size=(2, count, 1, 1, 1))
    gain = generator.normal(1, 0.3, size=(1, channels, 1, 1))
    blob = 2 * np.exp(-4 * ((y - place[0]) ** 2 + (x - place[1]) ** 2))
    image = gain * (slope * x + bend * y + blob) + generator.normal(0, 0.2, size=(count, *shape))
    image = (image - image.mean()) / image.std() if count else image
    valid = np.ones((count, *shape), bool)
    valid[2::5, :, : height // 2, : width // 2] = False
    valid[:1] = False
    image[1:2] = 0.5
    return ArrayPatches(image, valid)
