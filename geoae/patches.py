"""Which patches a set of scenes has: a plan made from shapes alone, before any pixel is read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Literal

import numpy as np
import numpy.typing as npt

from geoae.grid import Window

__all__ = ["INNER_CHUNK", "SHARD_PATCHES", "Edge", "PatchPlan", "inner_chunk", "plan_patches", "plan_runs"]

Edge = Literal["drop", "pad"]

SHARD_PATCHES = 64
"""Patches in a shard unless the scenes' own count suits better: a US3D view has 64."""

INNER_CHUNK = 16
"""Patches decoded together: one random patch costs 9 ms, and shards stay well compressed."""

_LAST_RUNS = 6
"""Each run takes at most this part of the shards that are left: at the end of the work the others wait for a
run that is small."""

_SHARD_BYTES = 256 * 2**20
"""Most bytes of pixels in one shard, all modalities together."""


@dataclass(frozen=True)
class PatchPlan:
    """Where each patch lies: scenes in key order, then rows, then columns.

    Parameters
    ----------
    patch, stride
        Side of a patch and step between patches, in pixels of the reference grid.
    edge
        ``drop`` leaves out what does not fill a patch; ``pad`` keeps it, void outside the scene.
    counts
        ``(scene,)`` int64: patches of each scene.
    shapes
        ``(scene, 2)`` int64: rows and columns of patches in each scene.
    dropped_pixels
        ``(scene,)`` int64: pixels that lie in no patch.
    """

    patch: int
    stride: int
    edge: Edge
    counts: npt.NDArray[np.int64]
    shapes: npt.NDArray[np.int64]
    dropped_pixels: npt.NDArray[np.int64]

    @property
    def n_patches(self) -> int:
        """Number of patches."""
        return int(self.counts.sum())

    @property
    def scene_number(self) -> npt.NDArray[np.int32]:
        """``(patch,)``: the scene of each patch."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)

    @property
    def row_col(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """``(patch,)`` twice: row and column of each patch in its scene's table of patches."""
        first = np.cumsum(self.counts) - self.counts
        inside = np.arange(self.n_patches) - np.repeat(first, self.counts)
        columns = np.repeat(self.shapes[:, 1], self.counts)
        row, col = np.divmod(inside, np.maximum(columns, 1))
        return row.astype(np.int32), col.astype(np.int32)

    @property
    def y_x_start(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """``(patch,)`` twice: first pixel row and column of each patch in its scene."""
        row, col = self.row_col
        return row * np.int32(self.stride), col * np.int32(self.stride)

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        """``(scene,)``: number of the first patch behind each scene."""
        return np.cumsum(self.counts)

    def places(self, start: int, stop: int) -> tuple[npt.NDArray[np.int64], ...]:
        """Return scene, row and column, each ``(patch,)``, of the patches `start` to `stop` alone.

        Examples
        --------
        >>> plan = plan_patches([(128, 128), (64, 64), (128, 64)], patch=64)
        >>> [part.tolist() for part in plan.places(3, 6)]
        [[0, 1, 2], [1, 0, 0], [1, 0, 0]]
        """
        patch = np.arange(start, min(stop, self.n_patches))
        scene = np.searchsorted(self._ends, patch, side="right")
        inside = patch - (self._ends - self.counts)[scene]
        row, col = np.divmod(inside, self.shapes[scene, 1])
        return scene, row, col

    def shard_length(self, bytes_per_patch: int) -> int:
        """Choose how many patches one shard holds.

        The scenes' common count when all agree (so that a shard is a scene), as many such scenes as
        fit in 64 patches; else 64; never more than a budget of bytes.

        Examples
        --------
        >>> plan_patches([(1024, 1024)] * 3, patch=128).shard_length(400_000)
        64
        >>> plan_patches([(512, 512)] * 3, patch=128).shard_length(400_000)
        64
        >>> plan_patches([(768, 640)] * 3, patch=128).shard_length(400_000)
        60
        """
        used = self.counts[self.counts > 0]
        length = SHARD_PATCHES
        if used.size and (used == used[0]).all() and used[0] <= SHARD_PATCHES:
            whole = int(used[0]) * (SHARD_PATCHES // int(used[0]))
            # A prime count of patches would leave inner chunks of one patch.
            length = whole if whole <= INNER_CHUNK or inner_chunk(whole) >= INNER_CHUNK // 2 else length
        while length > 1 and length * bytes_per_patch > _SHARD_BYTES:
            length //= 2
        return length

    def windows(self, start: int, stop: int) -> Iterator[tuple[int, Window]]:
        """Iterate over ``(scene, window)`` of the patches `start` to `stop`."""
        y, x = self.y_x_start
        scene = self.scene_number
        for i in range(start, stop):
            yield int(scene[i]), Window(int(y[i]), int(x[i]), self.patch, self.patch)


def inner_chunk(shard_length: int) -> int:
    """Return the largest divisor of a shard's length that is at most `INNER_CHUNK`.

    Examples
    --------
    >>> inner_chunk(64), inner_chunk(60), inner_chunk(34)
    (16, 15, 2)
    """
    return next(size for size in range(min(INNER_CHUNK, shard_length), 0, -1) if shard_length % size == 0)


def _along(length: int, patch: int, stride: int, edge: Edge) -> tuple[int, int]:
    """Return how many patches lie along a side, and how many of its pixels lie in none."""
    if edge == "pad":
        # The second limit counts where the stride is wider than a patch: none begins beyond the scene.
        number = 1 + max(min(ceil((length - patch) / stride), (length - 1) // stride), 0)
    else:
        number = 0 if length < patch else 1 + (length - patch) // stride
    if not number:
        return 0, length
    last = (number - 1) * stride + patch
    gaps = (number - 1) * max(stride - patch, 0)
    return number, max(length - last, 0) + gaps


def plan_patches(
    shapes: Sequence[tuple[int, int] | None],
    *,
    patch: int = 128,
    stride: int | None = None,
    edge: Edge = "drop",
) -> PatchPlan:
    """Cut scenes into patches.

    Parameters
    ----------
    shapes
        ``(height, width)`` of each scene's reference grid in pixels; None for a scene without one,
        which has no patches.
    patch
        Side of a patch in pixels.
    stride
        Step between patches in pixels; the patch size if None.
    edge
        ``drop`` or ``pad``.

    Raises
    ------
    ValueError
        If the patch or the stride is not positive, or the edge policy is unknown.

    Examples
    --------
    >>> plan = plan_patches([(252, 252), (100, 64)], patch=64)
    >>> plan.counts.tolist(), plan.dropped_pixels.tolist()
    ([9, 1], [26640, 2304])
    """
    stride = patch if stride is None else stride
    if patch < 1 or stride < 1:
        raise ValueError(f"patch and stride must be at least 1 pixel, not {patch} and {stride}")
    if edge not in ("drop", "pad"):
        raise ValueError(f"edge must be 'drop' or 'pad', not {edge!r}")
    numbers = np.zeros((len(shapes), 2), np.int64)
    dropped = np.zeros(len(shapes), np.int64)
    for i, shape in enumerate(shapes):
        if shape is None:
            continue
        (rows, lost_y), (cols, lost_x) = (_along(side, patch, stride, edge) for side in shape)
        covered = (shape[0] - lost_y) * (shape[1] - lost_x) if rows and cols else 0
        numbers[i] = (rows, cols) if rows and cols else (0, 0)
        dropped[i] = shape[0] * shape[1] - covered
    return PatchPlan(patch, stride, edge, numbers.prod(axis=1), numbers, dropped)


def plan_runs(n_shards: int, shard_bytes: int, run_bytes: int) -> list[range]:
    """Group shards into tasks: runs of consecutive whole shards of about `run_bytes`, the last ones smaller.

    A task reads the scenes of its shards once, so only the scenes at a run's ends are read twice.

    Examples
    --------
    >>> [len(run) for run in plan_runs(30, 10, 40)]
    [4, 4, 3, 3, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    """
    longest = max(run_bytes // max(shard_bytes, 1), 1)
    runs: list[range] = []
    start = 0
    while start < n_shards:
        stop = start + max(min(longest, (n_shards - start) // _LAST_RUNS), 1)
        runs.append(range(start, stop))
        start = stop
    return runs
