"""Tree crowns of the synthetic town: clumped domes, raised one by one."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from geoae.testing.canvas import CODES, GSD, BoolArray, Canvas, FloatArray, generator, noise
from geoae.testing.materials import Material

__all__ = ["draw_tree", "grow", "plant"]

_STAMPS = 20
_HALF = 24  # cells from the middle of a stamp to its rim


@lru_cache(maxsize=1)
def _crowns() -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return crown shapes: height (0..1 of the dome), its slopes and its shade, each (stamp, y, x)."""
    side = 2 * _HALF + 5
    y, x = np.mgrid[:side, :side].astype(np.float32) - np.float32(side // 2)
    heights = []
    shades = []
    for stamp in range(_STAMPS):
        rng = generator("crown", stamp)
        bearing = np.arctan2(y, x)
        rim = np.full_like(x, _HALF)
        for wave in range(2, 6):
            rim *= 1 + np.float32(rng.uniform(0, 0.16) / wave**0.5) * np.sin(
                wave * bearing + np.float32(rng.uniform(0, 6.28))
            )
        reach = np.hypot(x, y) / rim
        dome = np.sqrt(np.maximum(0, 1 - reach * reach)) * np.float32(0.72)
        for _ in range(int(rng.integers(14, 26))):  # clumps of foliage
            away, turn, size = (
                rng.uniform(0, 0.8) * _HALF,
                rng.uniform(0, 6.28),
                rng.uniform(0.2, 0.4) * _HALF,
            )
            near = np.hypot(x - away * np.cos(turn), y - away * np.sin(turn)) / size
            level = 0.74 * np.sqrt(max(0.0, 1 - (away / _HALF) ** 2))
            clump = level + 0.3 * np.sqrt(np.maximum(0, 1 - near * near))
            dome = np.where((near < 1) & (reach < 1.02), np.maximum(dome, clump), dome)
        heights.append(np.where(dome > 0.05, dome, 0).astype(np.float32))
        shades.append(noise(rng, (side, side), 4.0))
    height, shade = np.stack(heights), np.stack(shades)
    slope_y, slope_x = np.gradient(height * np.float32(_HALF), axis=(1, 2))
    # Foliage scatters: the sides of a clump are never as steep to light as they are to geometry.
    return height, np.clip(slope_x, -0.9, 0.9), np.clip(slope_y, -0.9, 0.9), shade


def draw_tree(
    canvas: Canvas,
    x: float,
    y: float,
    radius: float,
    height: float,
    rng: np.random.Generator,
    *,
    evergreen: bool,
) -> None:
    """Raise a tree over whatever is lower, never over water's middle.

    Parameters
    ----------
    canvas : Canvas
    x, y : float
        Trunk, m.
    radius : float
        Radius of the crown, m.
    height : float
        Height of the crown's top, m.
    rng : numpy.random.Generator
    evergreen : bool
        Keep the leaves in winter.
    """
    domes, slopes_x, slopes_y, shades = _crowns()
    stamp = int(rng.integers(_STAMPS))
    mix, gain = float(rng.uniform(0.0, 1.0)), float(rng.uniform(0.82, 1.12))
    cells = int(radius / GSD * 1.15) + 1
    row, col = int(y / GSD), int(x / GSD)
    top, bottom = max(0, row - cells), min(canvas.side, row + cells + 1)
    left, right = max(0, col - cells), min(canvas.side, col + cells + 1)
    if bottom <= top or right <= left:
        return
    scale, middle = _HALF * GSD / radius, domes.shape[1] // 2
    rows = np.rint((np.arange(top, bottom) - row) * scale).astype(int) + middle
    cols = np.rint((np.arange(left, right) - col) * scale).astype(int) + middle
    rows, cols = np.clip(rows, 0, 2 * middle), np.clip(cols, 0, 2 * middle)
    if rng.random() < 0.5:
        cols = 2 * middle - cols
        flip = np.float32(-1)
    else:
        flip = np.float32(1)
    index = np.ix_(rows, cols)
    dome = domes[stamp][index]
    tall = np.float32(height * 0.3) + dome * np.float32(height * 0.7 / 0.95)
    window = (slice(top, bottom), slice(left, right))
    mask: BoolArray = (dome > 0) & (tall > canvas.height[window] + 0.3)
    canvas.height[window][mask] = tall[mask]
    canvas.material[window][mask] = Material.EVERGREEN if evergreen else Material.BROADLEAF
    speckle = rng.standard_normal(dome.shape, dtype=np.float32) * np.float32(0.10)
    canvas.mix[window][mask] = np.clip(mix + shades[stamp][index] * np.float32(0.12), 0, 1)[mask]
    canvas.gain[window][mask] = (np.float32(gain) * (np.float32(0.84) + np.float32(0.24) * dome) + speckle)[
        mask
    ]
    canvas.slope_x[window][mask] = (flip * slopes_x[stamp][index])[mask]
    canvas.slope_y[window][mask] = slopes_y[stamp][index][mask]
    canvas.code[window][mask] = CODES["trees"]


def grow(
    canvas: Canvas,
    x: float,
    y: float,
    radius: float,
    evergreen: float,
    rng: np.random.Generator,
    height: float | None = None,
) -> None:
    """Plant one tree, evergreen with that chance, unless something is built where its trunk would be."""
    row, col = int(y / GSD), int(x / GSD)
    if 0 <= row < canvas.side and 0 <= col < canvas.side and not canvas.taken[row, col]:
        tall = height if height is not None else float(np.clip(1.9 * radius + rng.uniform(1, 5), 3, 18))
        draw_tree(canvas, x, y, radius, tall, rng, evergreen=rng.random() < evergreen)


def plant(
    canvas: Canvas,
    where: FloatArray,
    spacing: float,
    rng: np.random.Generator,
    *,
    evergreen: float,
    size: float = 1.0,
) -> int:
    """Plant trees at random where nothing is built; return how many.

    Parameters
    ----------
    canvas : Canvas
    where : ndarray, shape (side, side), float32
        Chance (0..1) that a candidate grows.
    spacing : float
        Mean distance of the candidates, m.
    rng : numpy.random.Generator
    evergreen : float
        Share of evergreen trees.
    size : float
        Factor on the size of the crowns.
    """
    count = int((canvas.extent / spacing) ** 2)
    spots = rng.random((count, 2)) * canvas.extent
    chances, radii, kinds = rng.random(count), rng.gamma(5.0, 0.62, count) * size, rng.random(count)
    planted = 0
    for (x, y), chance, radius, kind in zip(
        spots.tolist(), chances.tolist(), radii.tolist(), kinds.tolist(), strict=True
    ):
        row, col = int(y / GSD), int(x / GSD)
        if canvas.taken[row, col] or chance >= where[row, col]:
            continue
        crown = min(max(radius, 1.1), 6.5)
        height = min(18.0, 1.9 * crown + 1.6 + 4 * chance)
        draw_tree(canvas, x, y, crown, max(height, 3.0), rng, evergreen=kind < evergreen)
        planted += 1
    return planted
