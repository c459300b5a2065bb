"""Sections of patches, held in memory: what sweeps train and measure on.

A sweep compares many trainings, so all of them must see the same pixels, and reading them once is enough.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from geoae.batches import CubePatches, Normalisation, fit_normalisation, usable_rows
from geoae.cube import Cube
from geoae.encoder import Channel, FloatArray, PatchBatch
from geoae.errors import InputError, UsageError
from geoae.schema import valid_name
from geoae.splits import TRAIN, VALIDATION, ensure_split, rows_of
from geoae.summaries import choose_label
from geoae.summaries.statistics import class_counts, count_codes

__all__ = ["Sections", "cut_sections", "places", "purity_of", "resized"]

_STEPS = 4
"""Sections of a patch begin at multiples of this part of their side."""

_FEWEST_GROUPS = 5
_READ = 32

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sections:
    """Some sections of patches: a `geoae.encoder.PatchSource` in memory.

    Parameters
    ----------
    channels
        Channels of the image.
    image
        ``(n, channel, y, x)`` float32, 0 to 1 by the range of each channel; zero where it is not valid.
    valid
        ``(n, channel, y, x)`` bool.
    index
        ``(n,)`` int64: the patch of the cube that each was cut from.
    group
        ``(n,)`` int64: what must be drawn together when chance is judged, a tile or a block of patches.
    purity
        ``(n,)`` share of the most frequent class among the pixels that have one; NaN without labels.
    """

    channels: tuple[Channel, ...]
    image: FloatArray
    valid: npt.NDArray[np.bool_]
    index: IntArray
    group: IntArray
    purity: npt.NDArray[np.float64]

    @property
    def target_channels(self) -> tuple[Channel, ...]:
        """Those of the image."""
        return self.channels

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Pixels of a section ``(y, x)``."""
        return self.image.shape[2], self.image.shape[3]

    def __len__(self) -> int:
        return len(self.index)

    def batches(self, size: int, shuffle_seed: int | None = None) -> Iterator[PatchBatch]:
        """Iterate over all sections once; see `geoae.encoder.PatchSource`."""
        if size < 1:
            raise ValueError(f"a batch has at least one patch, not {size}")
        order = np.arange(len(self))
        if shuffle_seed is not None:
            order = np.random.default_rng(shuffle_seed).permutation(order)
        for start in range(0, len(self), size):
            rows = order[start : start + size]
            chosen = slice(start, start + len(rows)) if shuffle_seed is None else rows
            # A copy: a batch is its receiver's.
            yield PatchBatch(self.index[rows], self.image[chosen].copy(), self.valid[chosen])

    def only(self, rows: "IntArray | slice") -> "Sections":
        """Return some of them."""
        return replace(
            self,
            image=self.image[rows],
            valid=self.valid[rows],
            index=self.index[rows],
            group=self.group[rows],
            purity=self.purity[rows],
        )


def places(patch: int, size: int) -> list[tuple[int, int]]:
    """Return where sections of a patch begin, ``(y, x)``: at every fourth part of their side.

    Examples
    --------
    >>> places(128, 128), len(places(256, 128)), places(10, 8)
    ([(0, 0)], 25, [(0, 0), (0, 2), (2, 0), (2, 2)])
    """
    step = max(size // _STEPS, 1)
    starts = range(0, patch - size + 1, step)
    return [(y, x) for y in starts for x in starts]


def cut_sections(
    cube: Cube,
    channels: Sequence[Channel],
    *,
    split: str,
    size: int | None = None,
    counts: tuple[int, int] = (3000, 200),
    seed: int = 0,
) -> tuple[Sections, Sections, tuple[str, ...]]:
    """Draw sections of the training and of the validation patches of a cube.

    Parameters
    ----------
    cube, channels
        What is read.
    split
        Name of the split.
    size
        Side of a section in pixels; whole patches if None. Smaller ones may overlap by three quarters.
    counts
        How many of either part.
    seed
        Of the draw; the same for every training that is to be compared.

    Returns
    -------
    tuple
        Training sections, validation sections, and a sentence for each part that has fewer than asked for.

    Raises
    ------
    UsageError
        If sections would be larger than patches.
    InputError
        If a part has no usable patch.
    """
    size = cube.patch_size if size is None else size
    if size > cube.patch_size:
        raise UsageError(
            f"sections of {size} pixels cannot be cut from patches of {cube.patch_size}",
            hint=f"smaller sections, or a cube of `geoae ingest --patch {size}`",
        )
    path = ensure_split(cube, split)
    usable = usable_rows(cube, channels)
    groups = _groups(cube)
    parts: list[Sections] = []
    notes: list[str] = []
    norm: Normalisation | None = None
    for part, wanted, word in ((TRAIN, counts[0], "training"), (VALIDATION, counts[1], "validation")):
        rows = np.intersect1d(usable, rows_of(cube, path, part))
        if not len(rows):
            raise InputError(
                f"no {word} patch of the split {split!r} can be used",
                hint="more scenes, or smaller patches: a sweep needs both parts",
            )
        if norm is None:
            norm = fit_normalisation(cube, channels, rows, "unit")
        rng = np.random.default_rng([seed, part])
        everywhere = [(int(row), y, x) for row in rows for y, x in places(cube.patch_size, size)]
        drawn = sorted(rng.permutation(len(everywhere))[:wanted].tolist())
        found = _cut(cube, channels, norm, [everywhere[i] for i in drawn], size, groups)
        if len(found) < wanted:
            notes.append(f"{len(found)} {word} sections, not {wanted}: there are no more")
        if not len(found):
            raise InputError(f"no {word} section has enough valid pixels", hint="larger sections")
        parts.append(found)
    return parts[0], parts[1], tuple(notes)


def _cut(
    cube: Cube,
    channels: Sequence[Channel],
    norm: Normalisation,
    wanted: list[tuple[int, int, int]],
    size: int,
    groups: IntArray,
) -> Sections:
    """Read sections at ``(row, y, x)``, ascending; those with too few valid pixels are left out."""
    by_row: dict[int, list[tuple[int, int]]] = {}
    for row, y, x in wanted:
        by_row.setdefault(row, []).append((y, x))
    label = choose_label(cube)
    n = len(wanted)
    image = np.empty((n, len(channels), size, size), np.float32)
    valid = np.empty(image.shape, bool)
    index, purity = np.empty(n, np.int64), np.full(n, np.nan)
    count = 0
    source = CubePatches(cube, channels, norm, rows=np.array(list(by_row), np.int64))
    for batch in source.batches(_READ):
        shares = None if label is None else _labels(cube, label, batch.index)
        for i, row in enumerate(batch.index.tolist()):
            for y, x in by_row[row]:
                window = np.s_[y : y + size, x : x + size]
                known = batch.valid[i][:, *window]
                if known.all(axis=0).mean() < cube.min_valid or not known.any():
                    continue
                image[count], valid[count] = batch.image[i][:, *window], known
                index[count] = row
                if shares is not None:
                    codes, labelled = shares
                    purity[count] = purity_of(cube, codes[i][window], labelled[i][window])
                count += 1
    kept = Sections(tuple(channels), image, valid, index, groups[index[:count]], purity)
    kept = replace(kept, image=image[:count], valid=valid[:count], index=index[:count], purity=purity[:count])
    if kept.valid.all():  # a mask that says nothing needs no memory
        return replace(kept, valid=np.broadcast_to(np.True_, kept.image.shape))
    return kept


def _labels(cube: Cube, label: str, rows: IntArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    low, high = int(rows.min()), int(rows.max()) + 1
    codes = np.asarray(cube.array(label)[low:high])
    known = np.asarray(cube.array(valid_name(label))[low:high])
    return codes[rows - low], known[rows - low]


def purity_of(cube: Cube, codes: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_]) -> float:
    """Return the share of the most frequent class among the pixels that have one; NaN if none has.

    Parameters
    ----------
    cube
        Whose catalog says what the codes mean; without a class table every code is a class.
    codes, valid
        ``(y, x)`` raw label codes, and where they are known.
    """
    counts = count_codes(codes[None], valid[None])
    catalog = cube.catalog
    if catalog.default_class_table is not None:
        counts = class_counts(counts, catalog.class_tables[catalog.default_class_table])
    total = int(counts.sum())
    return float(counts.max() / total) if total else float("nan")


def _groups(cube: Cube) -> IntArray:
    """Give each patch the number of its group: the catalog's, or a block of 2 x 2 where those are few."""
    table = cube.table()
    field = cube.catalog.group
    named = table["scene_id"].astype(str)
    if field in table.columns:
        told = table["city"].astype(str) + "/" + table[field].astype(str)
        named = told.where(table[field] != "", named)
    if named.nunique() < _FEWEST_GROUPS:
        block = (table["row"] // 2).astype(str) + "." + (table["col"] // 2).astype(str)
        named = named + "/" + block
    return np.unique(named.to_numpy().astype(str), return_inverse=True)[1].astype(np.int64)


def resized(sections: Sections, size: int) -> Sections:
    """Make larger sections smaller: each new pixel is the mean of the valid ones below it.

    Parameters
    ----------
    sections
        Their side is a multiple of `size`.
    size
        New side in pixels.

    Raises
    ------
    UsageError
        If the side is no multiple of it.
    """
    n, channels, side, _ = sections.image.shape
    if side % size:
        raise UsageError(f"sections of {side} pixels cannot be made {size}: choose a divisor")
    factor = side // size
    if factor == 1:
        return sections
    shape = (n, channels, size, factor, size, factor)
    # The image is zero where it is not valid, so that sums need no mask.
    sums = sections.image.reshape(shape).sum(axis=(3, 5), dtype=np.float32)
    known = sections.valid.reshape(shape).sum(axis=(3, 5))
    image = (sums / np.maximum(known, 1)).astype(np.float32)
    return replace(sections, image=image, valid=known > 0)
