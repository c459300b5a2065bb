"""Statistics of patches as pure functions: classes from label codes, figures from heights.

Labels are counted by their raw codes first, 256 numbers a patch; a class table is then a sum of
columns of that histogram, so every code is accounted for, also one that no table names. Heights are
in metres and void where they are not finite.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geoae.catalog import ClassTable
from geoae.schema import UNUSED

__all__ = [
    "PERCENTILES",
    "HeightStatistics",
    "class_counts",
    "class_fractions",
    "count_codes",
    "dominant_classes",
    "height_statistics",
]

_FEW_CODES = 8
"""Up to so many codes are counted one by one; more take longer than counting all at once."""

PERCENTILES = (5.0, 25.0, 50.0, 75.0, 95.0)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def count_codes(labels: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_] | None = None) -> IntArray:
    """Count how often each raw code occurs in each patch.

    Parameters
    ----------
    labels
        ``(patch, y, x)`` uint8 raw codes.
    valid
        ``(patch, y, x)`` bool, pixels that count; None for all.

    Returns
    -------
    numpy.ndarray
        ``(patch, 256)`` int64.

    Examples
    --------
    >>> count_codes(np.array([[[2, 2], [5, 65]]], dtype=np.uint8))[0, [2, 5, 65]]
    array([2, 1, 1])
    """
    counts = np.zeros((len(labels), 256), dtype=np.int64)
    equal = np.empty(labels.shape[1:], dtype=bool)
    known: list[int] = []  # codes of the patches before, the most frequent first
    so_far = np.zeros(256, dtype=np.int64)
    for i, patch in enumerate(labels):
        mask = None if valid is None or valid[i].all() else valid[i]
        left = patch.size if mask is None else int(np.count_nonzero(mask))
        # To compare with one code takes an eighteenth of the time of bincount, which widens every pixel,
        # and most data have few codes.
        for code in known:
            np.equal(patch, code, out=equal)
            if mask is not None:
                np.logical_and(equal, mask, out=equal)
            counts[i, code] = np.count_nonzero(equal)
            left -= counts[i, code]
            if not left:
                break
        if left:
            counts[i] = np.bincount(patch.ravel() if mask is None else patch[mask], minlength=256)
            so_far += counts[i]
            number = np.count_nonzero(so_far)
            known = np.argsort(-so_far, kind="stable")[:number].tolist() if number <= _FEW_CODES else []
    return counts


def class_counts(codes: IntArray, table: ClassTable) -> IntArray:
    """Add up the counts of raw codes by class.

    Parameters
    ----------
    codes
        ``(patch, 256)`` counts by raw code.
    table
        What the codes mean. Codes that it does not name are void and count nowhere.

    Returns
    -------
    numpy.ndarray
        ``(patch, class)`` int64, classes in the table's order.
    """
    lookup = table.lookup()
    counts = np.zeros((len(codes), len(table.classes)), dtype=np.int64)
    for position in range(len(table.classes)):
        counts[:, position] = codes[:, lookup == position].sum(axis=1)
    return counts


def dominant_classes(counts: IntArray, codes: Sequence[int]) -> npt.NDArray[np.int16]:
    """Find each patch's most frequent class.

    Parameters
    ----------
    counts
        ``(patch, class)`` pixels.
    codes
        Code of each class.

    Returns
    -------
    numpy.ndarray
        ``(patch,)`` int16 class codes; ties go to the lowest code; -1 where no pixel has a class.

    Examples
    --------
    >>> dominant_classes(np.array([[1, 7, 7], [0, 0, 0]]), [9, 6, 5])
    array([ 5, -1], dtype=int16)
    """
    # argmax takes the first of equals, so the columns go in the order of their codes.
    order = np.argsort(np.asarray(codes))
    best = np.asarray(codes, dtype=np.int16)[order][counts[:, order].argmax(axis=1)]
    return np.where(counts.any(axis=1), best, np.int16(UNUSED)).astype(np.int16)


def class_fractions(counts: IntArray) -> FloatArray:
    """Divide the counts of classes by the labelled pixels of each patch.

    Returns
    -------
    numpy.ndarray
        ``(patch, class)`` float64 that sum to one; NaN where no pixel has a class.

    Examples
    --------
    >>> class_fractions(np.array([[3, 1], [0, 0]]))
    array([[0.75, 0.25],
           [ nan,  nan]])
    """
    total = counts.sum(axis=1, keepdims=True)
    fractions = np.full(counts.shape, np.nan)
    np.divide(counts, total, out=fractions, where=total > 0)
    return fractions


@dataclass(frozen=True)
class HeightStatistics:
    """Heights of patches; NaN where a patch has no valid height.

    Parameters
    ----------
    mean, std
        ``(patch,)`` float64, metres; the deviation is that of the population.
    percentile
        ``(patch, percentile)`` float64, metres.
    valid
        ``(patch,)`` float64, fraction of pixels with a height.
    """

    mean: FloatArray
    std: FloatArray
    percentile: FloatArray
    valid: FloatArray


def height_statistics(
    heights: npt.NDArray[Any], percentiles: Sequence[float] = PERCENTILES
) -> HeightStatistics:
    """Compute mean, deviation and percentiles of the heights of each patch.

    Parameters
    ----------
    heights
        ``(patch, y, x)`` metres; NaN and infinities are void.
    percentiles
        Which percentiles, 0 to 100, interpolated linearly. They need the heights sorted, which takes
        about three times as long as the rest.

    Examples
    --------
    >>> found = height_statistics(np.array([[[1.0, 2.0], [3.0, np.nan]]]), [50])
    >>> found.mean, found.percentile, found.valid
    (array([2.]), array([[2.]]), array([0.75]))
    """
    n, q = len(heights), np.asarray(percentiles, dtype=np.float64) / 100
    number, anchor = np.zeros(n), np.zeros(n)
    total, square = np.full(n, np.nan), np.full(n, np.nan)
    percentile = np.full((n, len(q)), np.nan)
    # In float64: surfaces of 2,000 m in float32 would lose millimetres. Voids are set to 0, since to gather
    # the other pixels takes longer than the sums.
    finite = np.empty(heights.shape[1:], dtype=bool)
    void = np.empty_like(finite)
    offsets = np.empty(heights.shape[1:])
    for i, patch in enumerate(heights):
        np.isfinite(patch, out=finite)
        number[i] = known = np.count_nonzero(finite)
        if not known:
            continue
        # From a height of the patch: what is left has small squares, and one pass finds both sums.
        anchor[i] = patch.flat[finite.argmax()]
        np.copyto(offsets, patch)
        np.subtract(offsets, anchor[i], out=offsets)
        if known < patch.size:
            np.logical_not(finite, out=void)
            np.copyto(offsets, 0, where=void)
        total[i] = np.einsum("yx->", offsets)
        # Row by row: one product of the whole would go to threads, and the last bits depend on their number.
        square[i] = np.vecdot(offsets, offsets).sum()
        if len(q):
            percentile[i] = _percentiles(
                np.sort(patch if known == patch.size else patch[finite], axis=None), q
            )
    with np.errstate(invalid="ignore"):
        offset = total / number
        std = np.sqrt(np.maximum(square / number - offset**2, 0))
    mean, valid = anchor + offset, number / max(void.size, 1)
    return HeightStatistics(mean, std, percentile, valid)


def _percentiles(ordered: npt.NDArray[Any], q: FloatArray) -> FloatArray:
    position = q * (ordered.size - 1)
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, ordered.size - 1)
    below = ordered[low].astype(np.float64)
    return below + (ordered[high] - below) * (position - low)
