"""Views of synthetic tiles in memory: which there are, and their rasters with the flaws of the real ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geoae.testing.camera import Acquisition, acquisition, photograph, stretch
from geoae.testing.canvas import CODES, BoolArray, FloatArray, generator, noise
from geoae.testing.plans import tile_rank
from geoae.testing.town import Town, build_town

__all__ = ["SyntheticView", "expose", "make_view", "tile_views"]


@dataclass(frozen=True)
class SyntheticView:
    """One view of one tile, in memory.

    Attributes
    ----------
    name : str
        ``<CITY>_<tile>_<view>``.
    rgb : ndarray, shape (3, y, x), uint8
        Contrast-stretched picture.
    msi : ndarray, shape (8, y, x), uint16
        Raw numbers of WorldView-3's bands, 11 bits.
    agl : ndarray, shape (y, x), float32
        Height above ground, m; NaN: void.
    label : ndarray, shape (y, x), uint8
        LAS codes.
    dsm : ndarray, shape (y, x), float32
        Terrain and what stands on it, m; NaN: void.
    """

    name: str
    rgb: NDArray[np.uint8]
    msi: NDArray[np.uint16]
    agl: FloatArray
    label: NDArray[np.uint8]
    dsm: FloatArray


def tile_views(city: str, tile: int, views: int, seed: int = 0) -> list[int]:
    """Return the view numbers of a tile: 1 to `views` of them, drawn from the passes over the city.

    Tiles share the passes, and the first tile of a city has as many views as there may be.

    Examples
    --------
    >>> len(tile_views("JAX", 4, views=3))
    3
    """
    rng = generator(seed, "views", city, tile)
    rank = tile_rank(city, tile)
    count = views if rank == 0 else 1 + (int(rng.integers(views)) + rank) % views
    passes = np.arange(1, max(6, views + views // 2) + 1)
    return sorted(rng.permutation(passes)[:count].tolist())


def make_view(
    city: str, tile: int, view: int, *, size: int = 512, seed: int = 0, quirks: bool = True
) -> SyntheticView:
    """Make one view of one tile without writing it.

    Parameters
    ----------
    city : {"JAX", "OMA"}
    tile, view : int
        Numbers as in the file names.
    size : int, optional
        Side, pixels of 0.32 m.
    seed : int, optional
        Another seed, another data set.
    quirks : bool, optional
        Flaw the truth as the real one is: voids, unlabelled cells, noisy labels and heights, black pixels.

    Returns
    -------
    SyntheticView
    """
    return expose(build_town(city, tile, size, seed), view, seed, quirks)


def _name(city: str, tile: int, view: int) -> str:
    return f"{city}_{tile:03d}_{view:03d}"


def expose(town: Town, view: int, seed: int, quirks: bool, pass_: Acquisition | None = None) -> SyntheticView:
    """Photograph a town and flaw the truth."""
    key = (seed, town.city, town.number, view)
    rng = generator("view", *key)
    if pass_ is None:
        pass_ = acquisition(town.city, view, seed)
        shift = (int(rng.integers(-14, 15)), int(rng.integers(-14, 15)))
    else:
        shift = (0, 0)
    exposure = photograph(town, pass_, seed=key, shift=shift)
    msi, agl, label = exposure.msi, exposure.agl, exposure.code
    rgb = stretch(msi, pass_)
    if quirks:
        agl, label = _flaw(agl, label, exposure.wall, rng)
        black = rng.random(label.shape) < 3e-5
        black[:, : int(rng.integers(0, 3))] = True  # a sliver outside the swath
        rgb[:, black] = 0
        msi[:, black] = 0
    return SyntheticView(_name(town.city, town.number, view), rgb, msi, agl, label, agl + exposure.terrain)


def _flaw(
    agl: FloatArray, code: NDArray[np.uint8], wall: BoolArray, rng: np.random.Generator
) -> tuple[FloatArray, NDArray[np.uint8]]:
    """Return heights and labels with the flaws of real ones.

    Noise of 0.1 m, so that flat ground has small negatives; voids where the lidar saw nothing (walls, some
    water, spots); ragged outlines; 5 % of the tree cells without height; unlabelled cells.
    """
    shape = (agl.shape[0], agl.shape[1])
    ripple = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 1.0) * np.float32(
        3.54 * 0.1
    )
    agl = agl + ripple
    # Outlines one cell off here and there: every cell looks up its label at a neighbour.
    dy = np.clip(np.rint(noise(rng, shape, 5) * 0.8), -1, 1).astype(int)
    dx = np.clip(np.rint(noise(rng, shape, 5) * 0.8), -1, 1).astype(int)
    rows = np.clip(np.arange(shape[0])[:, None] + dy, 0, shape[0] - 1)
    cols = np.clip(np.arange(shape[1]) + dx, 0, shape[1] - 1)
    label = code[rows, cols]
    bare = (label == CODES["trees"]) & (noise(rng, shape, 6) > 2.0)
    agl[bare] = ripple[bare]
    unlabelled = (noise(rng, shape, 22) > 2.75) | (wall & (noise(rng, shape, 6) > 1.1))
    label[unlabelled] = CODES["unlabelled"]
    void = (wall & (noise(rng, shape, 6) > 0.1)) | (noise(rng, shape, 18) > 2.9)
    void |= (label == CODES["water"]) & (noise(rng, shape, 30) > 1.3)
    agl[void] = np.nan
    return agl.astype(np.float32), label
