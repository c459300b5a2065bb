"""Warping: one block of a target grid from the source pixels it needs.

Warping a whole raster and warping it by windows differ in most cells under GDAL's defaults, which
approximate the transformation and choose the kernel's width chunk by chunk. Here the block, its source
window, the scale and the tolerance are fixed, so a pixel's value does not depend on who asks for it.
"""

import math
from typing import Any

import numpy as np
import pyproj
import rasterio.warp
from affine import Affine
from rasterio.enums import Resampling

from geoae.grid import Grid, Window, crs_equal
from geoae.pixels import Pixels

__all__ = ["source_ratio", "source_window", "warp"]

_HALO = 4
"""Source pixels around a block: the radius of a cubic kernel is 2, and one more for each rounding."""

_TIE = 1e-4
"""Source pixels by which the nearest one is judged aside. Half a pixel's shift puts every centre on an
edge, where rounding would choose one neighbour in this block and the other in the next."""

_LOCAL_CRS = "EPSG:3857"
"""Stands for both sides where neither grid has a CRS: a warp needs one, and equal ones cancel."""


def _scales(source: Grid, target: Grid) -> tuple[float, float]:
    """Return target pixels per source pixel along x and y, one pair for a scene.

    GDAL would estimate them from each chunk, and the kernel's width with them.
    """
    if crs_equal(source.crs, target.crs):
        (sx, sy), (tx, ty) = source.pixel_size, target.pixel_size
    else:
        (sx, sy), (tx, ty) = source.pixel_size_metres(), target.pixel_size_metres()
    return sx / tx, sy / ty


def source_ratio(source: Grid, target: Grid) -> float:
    """Return how many source pixels lie along one pixel of the target, the larger way, and at least 1."""
    return max(1.0, *(1 / scale for scale in _scales(source, target)))


def source_window(target: Grid, source: Grid, *, scene_grid: Grid) -> Window | None:
    """Return the source pixels that a block needs, with a halo; None if there are none.

    Parameters
    ----------
    target
        Grid of the block.
    source
        Grid of the whole source.
    scene_grid
        The whole grid that the block is part of; it fixes the kernel's scale.
    """
    steps = np.linspace(0, 1, 17)
    edge = np.concatenate(
        [
            np.stack([steps * target.width, np.zeros_like(steps)]),
            np.stack([steps * target.width, np.full_like(steps, target.height)]),
            np.stack([np.zeros_like(steps), steps * target.height]),
            np.stack([np.full_like(steps, target.width), steps * target.height]),
        ],
        axis=1,
    )
    t = target.transform
    x, y = t.a * edge[0] + t.b * edge[1] + t.c, t.d * edge[0] + t.e * edge[1] + t.f
    if not crs_equal(source.crs, target.crs):
        transformer = pyproj.Transformer.from_crs(target.crs, source.crs, always_xy=True)
        x, y = transformer.transform(x, y)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    s = ~source.transform
    col, row = s.a * x + s.b * y + s.c, s.d * x + s.e * y + s.f
    scale_x, scale_y = (max(1.0, 1 / scale) for scale in _scales(source, scene_grid))
    halo_x, halo_y = math.ceil(_HALO * scale_x), math.ceil(_HALO * scale_y)
    y0, x0 = math.floor(row.min()) - halo_y, math.floor(col.min()) - halo_x
    y1, x1 = math.ceil(row.max()) + halo_y, math.ceil(col.max()) + halo_x
    window = Window(y0, x0, y1 - y0, x1 - x0).clipped(source.shape)
    return window if window.height and window.width else None


def warp(
    pixels: Pixels, source: Grid, target: Grid, *, scene_grid: Grid, source_grid: Grid, resampling: str
) -> Pixels:
    """Warp pixels from one grid to another.

    Parameters
    ----------
    pixels
        Values and mask on `source`; integer codes ``(y, x)`` of dtype uint8 stay codes.
    source, target
        Grids of the window that was read, and of the block that is wanted.
    scene_grid, source_grid
        The whole grids, which fix the scale of the kernel.
    resampling
        Name of the method.
    """
    scale_x, scale_y = _scales(source_grid, scene_grid)
    place = source.transform
    if resampling == "nearest":
        place = place @ Affine.translation(_TIE, _TIE)
    options: dict[str, Any] = {
        "src_transform": place,
        "src_crs": source.crs or _LOCAL_CRS,
        "dst_transform": target.transform,
        "dst_crs": target.crs or _LOCAL_CRS,
        "resampling": Resampling[resampling],
        "tolerance": 1e-6,
        "XSCALE": scale_x,
        "YSCALE": scale_y,
        "num_threads": 1,
    }
    if pixels.values.ndim == 2 and pixels.values.dtype == np.uint8:
        return _warp_codes(pixels, target.shape, options)
    return _warp_floats(pixels, target.shape, options)


def _warp_codes(pixels: Pixels, shape: tuple[int, int], options: dict[str, Any]) -> Pixels:
    """Warp label codes; void ones have no vote where many cells become one."""
    # No byte can say void beside 256 codes, hence the wider type for the way.
    source = np.where(pixels.valid, pixels.values, np.int16(-1)).astype(np.int16)
    warped = np.full(shape, -1, np.int16)
    rasterio.warp.reproject(source, warped, src_nodata=-1, dst_nodata=-1, **options)
    valid = warped >= 0
    return Pixels(np.where(valid, warped, 0).astype(np.uint8), valid)


def _warp_floats(pixels: Pixels, shape: tuple[int, int], options: dict[str, Any]) -> Pixels:
    """Warp heights or an image; void pixels do not bleed into their neighbours."""
    dtype = pixels.values.dtype
    source = pixels.values if pixels.values.ndim == 3 else pixels.values[None]
    # float64 holds every 32-bit integer; float32 is exact for 8- and 16-bit images.
    work = np.float64 if dtype.itemsize > 2 and dtype != np.float32 else np.float32
    floats = np.where(pixels.valid, source, np.nan).astype(work)
    warped = np.full((len(source), *shape), np.nan, work)
    rasterio.warp.reproject(floats, warped, src_nodata=math.nan, dst_nodata=math.nan, **options)
    valid = np.isfinite(warped).all(axis=0)
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        filled = np.where(valid, warped, 0)
        return Pixels(np.clip(np.rint(filled), limits.min, limits.max).astype(dtype), valid)
    if pixels.values.ndim == 2:
        return Pixels(np.where(valid, warped, np.nan)[0].astype(dtype), valid)
    return Pixels(np.where(valid, warped, 0).astype(dtype), valid)
