"""Batches of patches from a cube: what encoders read.

`CubePatches` is the `PatchSource` of a cube. Chunks are decoded into buffers that are used again
(`geoae.mixing`), and rows are normalised while they are copied into a batch.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from geoae import schema
from geoae.chunks import RowReader
from geoae.cube import Cube
from geoae.encoder import Channel, PatchBatch
from geoae.errors import UsageError
from geoae.mixing import Piece, checked_rows, plan_blocks, read_rows, stream, threads
from geoae.normalisation import ChannelGroup, Normalisation, normalise_rows
from geoae.sections import Image, Section, as_batch, empty_image

__all__ = ["CubePatches", "Normalisation", "fit_normalisation", "parse_input", "usable_rows"]

MIX_ROWS = 1024
"""Patches that are mixed at a time: 64 chunks, of as many US3D views at random."""

_MOMENT_ROWS = 64
"""Patches whose moments are merged at a time; results depend on it in their last bits only."""

_BLOCK_BYTES = 192 * 2**20
"""Most bytes of such a block; there are two of them."""


def parse_input(cube: Cube, text: str | None, option: str = "--input") -> tuple[Channel, ...]:
    """Turn ``rgb``, ``msi,agl`` or ``msi.red,msi.nir1`` into channels.

    Parameters
    ----------
    cube
        The cube.
    text
        Modalities, or single bands as ``modality.band``; None for the picture: ``rgb`` if there is one,
        else the first image.
    option
        What the user typed it for.

    Raises
    ------
    UsageError
        If a modality or band is unknown, is a label, or there is no image and nothing else was named.
    """
    there = f"modalities of the cube: {', '.join(cube.modalities)}"
    if text is None:
        images = cube.by_role("image")
        if not images:
            heights = ", ".join(cube.by_role("height")) or "none"
            raise UsageError("the cube has no image to encode", hint=f"name heights with --input: {heights}")
        text = "rgb" if "rgb" in images else images[0]
    channels: list[Channel] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        modality, _, band = part.partition(".")
        if modality not in cube.modalities:
            raise UsageError(f"the cube has no {modality!r}", hint=there)
        if cube.role(modality) == "label":
            raise UsageError(f"{modality!r} holds labels, which no encoder may see", hint=there)
        bands = cube.bands(modality)
        if band and band not in bands:
            raise UsageError(f"{modality!r} has no band {band!r}", hint=f"bands: {', '.join(bands)}")
        units = "m" if cube.role(modality) == "height" else "1"
        channels += [Channel(modality, name, units) for name in ([band] if band else bands)]
    if not channels or len(set(channels)) != len(channels):
        raise UsageError(f"{option} {text!r} names no channel, or one twice", hint=there)
    return tuple(channels)


def usable_rows(
    cube: Cube, channels: Sequence[Channel], min_valid: float | None = None
) -> npt.NDArray[np.int64]:
    """Return the patches with enough valid pixels in every modality of the channels.

    A patch without a single valid pixel is never usable, whatever the limit.
    """
    limit = cube.min_valid if min_valid is None else min_valid
    fraction = cube.valid_fraction(tuple(dict.fromkeys(c.modality for c in channels)))
    return np.flatnonzero((fraction >= limit) & (fraction > 0))


class CubePatches:
    """Patches of a cube as an encoder sees them: a `geoae.encoder.PatchSource`.

    Parameters
    ----------
    cube
        The cube.
    channels
        What to read, see `parse_input`.
    normalisation
        How to scale; None leaves values as they are.
    rows
        Patches to read, each once; all usable ones if None.
    target_channels, target_normalisation
        What a decoder should produce; as the input if None.

    Notes
    -----
    Shuffled order permutes the chunks of the cube and the rows within blocks of about `MIX_ROWS` rows:
    every patch comes once, and a batch draws from many scenes without a random read for each patch.
    """

    _ahead = True

    def __init__(
        self,
        cube: Cube,
        channels: Sequence[Channel],
        normalisation: Normalisation | None = None,
        *,
        rows: npt.NDArray[np.int64] | None = None,
        target_channels: Sequence[Channel] | None = None,
        target_normalisation: Normalisation | None = None,
    ) -> None:
        self._cube = cube
        self._channels = tuple(channels)
        self._target_channels = self._channels if target_channels is None else tuple(target_channels)
        pictures = [(self._channels, normalisation)]
        if target_channels is not None and (self._target_channels, target_normalisation) != pictures[0]:
            pictures.append((self._target_channels, target_normalisation))
        used = tuple(dict.fromkeys(c for names, _ in pictures for c in names))
        self.rows = usable_rows(cube, used) if rows is None else checked_rows(rows, cube.n_patches)
        # What the encoder sees, and the target if that is something else.
        self._pictures = tuple(
            tuple(self._part(m, names, scale) for m in dict.fromkeys(c.modality for c in names))
            for names, scale in pictures
        )

    def _part(self, modality: str, channels: Sequence[Channel], norm: Normalisation | None) -> ChannelGroup:
        places = [i for i, c in enumerate(channels) if c.modality == modality]
        beside = places == list(range(places[0], places[0] + len(places)))
        bands: slice | list[int] | None = None
        mask = None
        if self._cube.role(modality) == "image":
            names = self._cube.bands(modality)
            chosen = [names.index(channels[i].band) for i in places]
            bands = slice(None) if chosen == list(range(len(names))) else chosen
            mask = schema.valid_name(modality)
        scale = None
        if norm is not None:
            factor = np.array([1 / norm.scale[i] for i in places], np.float32).reshape(-1, 1, 1)
            scale = factor, np.array([norm.offset[i] for i in places], np.float32).reshape(-1, 1, 1) * factor
        place = slice(places[0], places[-1] + 1) if beside else places
        return ChannelGroup(modality, place, bands, mask, scale)

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Channels of the image."""
        return self._channels

    @property
    def target_channels(self) -> tuple[Channel, ...]:
        """Channels of the target; those of the image where it is no other."""
        return self._target_channels

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Pixels of a patch ``(y, x)``."""
        return self._cube.patch_size, self._cube.patch_size

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, rows: npt.NDArray[np.int64]) -> Self:
        """Return the same source with other rows."""
        other = copy.copy(self)
        other.rows = checked_rows(rows, self._cube.n_patches)
        return other

    def in_turn(self) -> Self:
        """Return the same source; it decodes between batches only, for arithmetic that needs all cores."""
        other = copy.copy(self)
        other._ahead = False
        return other

    def sections(self, size: int) -> tuple[Section, ...]:
        """Divide the patches into sections of whole chunks, see `geoae.encoder.SectionedSource`."""
        if size < 1:
            raise ValueError(f"a section has at least one patch, not {size}")
        whole = self._section()
        blocks = plan_blocks(self.rows, self._chunk(whole.readers), size, None)
        return tuple(replace(whole, rows=np.concatenate(block.groups)) for block in blocks)

    def _section(self) -> Section:
        """Return all patches as one section."""
        return Section(
            self.channels, self.target_channels, self.patch_shape, self._readers(), self._pictures, self.rows
        )

    def batches(self, size: int, shuffle_seed: int | None = None) -> Iterator[PatchBatch]:
        """Iterate over all patches once, in bounded memory.

        Parameters
        ----------
        size
            Patches in a batch; the last one may be smaller.
        shuffle_seed
            None for the order of the cube; else equal seeds give equal orders.
        """
        if size < 1:
            raise ValueError(f"a batch has at least one patch, not {size}")
        readers = self._readers()
        row_bytes = sum(r.dtype.itemsize * int(np.prod(r.shape[1:])) for r in readers.values())
        # Two batches, of which one is decoded ahead; one where that is not wanted.
        rows = MIX_ROWS if shuffle_seed is not None else size * (2 if self._ahead else 1)
        mixed = min(rows, _BLOCK_BYTES // max(row_bytes, 1))
        blocks = plan_blocks(self.rows, self._chunk(readers), max(mixed, size), shuffle_seed)
        with ThreadPoolExecutor(threads()) as pool:
            for pieces in stream(readers, blocks, size, ahead=self._ahead):
                yield self._batch(pieces, pool)

    def read(self, rows: npt.NDArray[np.int64]) -> PatchBatch:
        """Read some patches, in the given order, as one batch."""
        readers = self._readers()
        piece = read_rows(readers, np.asarray(rows, np.int64), self._chunk(readers))
        with ThreadPoolExecutor(threads()) as pool:
            return self._batch([piece], pool)

    def here(self) -> Callable[[npt.NDArray[np.int64]], PatchBatch]:
        """Return a function that reads patches as one batch, by the thread that calls it and no other.

        It takes their rows, ascending, and several threads may call it at a time.
        """
        whole = self._section()

        def read(rows: npt.NDArray[np.int64]) -> PatchBatch:
            return replace(whole, rows=rows).read()

        return read

    @property
    def chunk(self) -> int:
        """Patches that are read together."""
        return self._chunk(self._readers())

    def _readers(self) -> dict[str, RowReader]:
        parts = [part for picture in self._pictures for part in picture]
        names = dict.fromkeys(part.modality for part in parts)
        names |= dict.fromkeys(part.mask for part in parts if part.mask is not None)
        return {name: RowReader(self._cube.location / name, self._cube.array(name)) for name in names}

    @staticmethod
    def _chunk(readers: Mapping[str, RowReader]) -> int:
        return next(iter(readers.values())).chunk

    def _batch(self, pieces: Sequence[Piece], pool: ThreadPoolExecutor) -> PatchBatch:
        rows = np.concatenate([piece.rows for piece in pieces])
        jobs: list[Future[None]] = []
        images = [self._begin(picture, pieces, len(rows), pool, jobs) for picture in self._pictures]
        for job in jobs:
            job.result()
        return as_batch(rows, images)

    def _begin(
        self,
        picture: tuple[ChannelGroup, ...],
        pieces: Sequence[Piece],
        count: int,
        pool: ThreadPoolExecutor,
        jobs: list[Future[None]],
    ) -> Image:
        """Return an image and its mask, which are complete when the jobs are done."""
        image, valid = empty_image(picture, count, self.patch_shape)
        start = 0
        for piece in pieces:
            for positions in np.array_split(piece.positions, threads()):
                stop = start + len(positions)
                jobs.append(
                    pool.submit(
                        normalise_rows, picture, image[start:stop], valid[start:stop], piece, positions
                    )
                )
                start = stop
        return image, valid


def fit_normalisation(
    cube: Cube, channels: Sequence[Channel], rows: npt.NDArray[np.int64], kind: Literal["standard", "unit"]
) -> Normalisation:
    """Measure the scale of channels on some patches.

    ``standard``: mean and deviation of the valid pixels, merged in shard order. ``unit``: the range that
    the catalog states, else the smallest and the largest valid value.

    Parameters
    ----------
    cube, channels
        What is read.
    rows
        The training patches.
    kind
        ``standard`` or ``unit``.

    References
    ----------
    Chan, Golub and LeVeque (1979), Updating formulae and a pairwise algorithm for computing sample
    variances, Stanford STAN-CS-79-773.
    """
    ranges = [_stated_range(cube, c) for c in channels] if kind == "unit" else [None] * len(channels)
    n, mean, m2 = np.zeros((3, len(channels)))
    low, high = np.full(len(channels), np.inf), np.full(len(channels), -np.inf)
    if kind == "standard" or any(r is None for r in ranges):
        for batch in CubePatches(cube, channels, rows=rows).batches(_MOMENT_ROWS):
            here = _moments(batch)
            total = np.maximum(n + here.n, 1)
            delta = here.mean - mean
            m2 += here.m2 + delta**2 * n * here.n / total
            mean += delta * here.n / total
            n += here.n
            low, high = np.minimum(low, here.low), np.maximum(high, here.high)
    if kind == "standard":
        deviation = np.sqrt(m2 / np.maximum(n, 1))
        # A constant channel stays constant instead of dividing by zero.
        scale = np.where(deviation > 0, deviation, 1)
        return Normalisation(kind=kind, offset=tuple(mean.tolist()), scale=tuple(scale.tolist()))
    limits = [
        stated or ((float(low[i]), float(high[i])) if n[i] else (0.0, 1.0)) for i, stated in enumerate(ranges)
    ]
    spans = tuple((b - a) or 1.0 for a, b in limits)
    return Normalisation(kind=kind, offset=tuple(a for a, _ in limits), scale=spans)


class _Moments(NamedTuple):
    """Per channel: number, mean, sum of squared deviations, smallest and largest value. All float64."""

    n: npt.NDArray[np.float64]
    mean: npt.NDArray[np.float64]
    m2: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


def _moments(batch: PatchBatch) -> _Moments:
    """Measure the valid pixels of a batch, patch by patch while it is in the processor's cache."""
    shape = batch.image.shape[:2]
    n, mean, m2 = np.zeros((3, *shape))
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    for row, (image, valid) in enumerate(zip(batch.image, batch.valid, strict=True)):
        complete = valid.all(axis=(1, 2))
        for i in range(shape[1]):
            values = image[i].ravel() if complete[i] else image[i][valid[i]]
            if not values.size:
                continue
            n[row, i] = values.size
            mean[row, i] = values.mean(dtype=np.float64)
            low[row, i], high[row, i] = values.min(), values.max()
            # Deviations from the rounded mean lose nothing in float32; the last term is for the rounding.
            # einsum rather than dot, whose threads would make the last bits depend on their number.
            near = np.float32(mean[row, i])
            values = values - near
            m2[row, i] = np.einsum("i,i->", values, values) - values.size * (mean[row, i] - near) ** 2
    total = np.maximum(n.sum(axis=0), 1)
    overall = (n * mean).sum(axis=0) / total
    squares = m2.sum(axis=0) + (n * (mean - overall) ** 2).sum(axis=0)
    return _Moments(n.sum(axis=0), overall, squares, low.min(axis=0), high.max(axis=0))


def _stated_range(cube: Cube, channel: Channel) -> tuple[float, float] | None:
    if cube.role(channel.modality) != "image":
        return None
    if (stated := cube.catalog.modalities[channel.modality].range) is not None:
        return stated
    return (0.0, 255.0) if cube.array(channel.modality).dtype == np.uint8 else None
