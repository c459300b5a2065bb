"""Warping: one block of a target grid from the source pixels it needs.

Warping a whole raster and warping it by windows differ in most cells under GDAL's defaults, which
approximate the transformation and choose the kernel's width chunk by chunk. Here the block, its source
window, the scale and the strips in which it is warped are fixed, so a pixel's value does not depend on
who asks for it.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio.warp
from affine import Affine
from rasterio.enums import Resampling

from geoae.grid import Grid, Window, crs_equal
from geoae.pixels import Pixels

__all__ = ["source_ratio", "source_window", "strip_width", "warp"]

Floats = npt.NDArray[np.float64]

Reproject = Callable[[npt.NDArray[Any], float], npt.NDArray[Any]]
"""Warps values ``(..., y, x)`` in which a number stands for void."""

_HALO = 4
"""Source pixels around a block: the radius of a cubic kernel is 2, and one more for each rounding."""

_TIE = 1e-4
"""Source pixels by which the nearest one is judged aside. Half a pixel's shift puts every centre on an
edge, where rounding would choose one neighbour in this block and the other in the next."""

_PLACE_ERROR = 1e-3
"""Source pixels by which a place may be off between two CRS. GDAL transforms the ends and the middle of
a row and interpolates between them where that is right to an eighth of a pixel, whatever tolerance
rasterio 1.4 is given; on a short row it is right to far less."""

_LEAST_STRIP = 8
"""Target pixels: narrower strips cost more than exact places are worth."""

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
    col, row = _places(target, source, edge[0], edge[1])
    if not (np.isfinite(col).all() and np.isfinite(row).all()):
        return None
    scale_x, scale_y = (max(1.0, 1 / scale) for scale in _scales(source, scene_grid))
    halo_x, halo_y = math.ceil(_HALO * scale_x), math.ceil(_HALO * scale_y)
    y0, x0 = math.floor(row.min()) - halo_y, math.floor(col.min()) - halo_x
    y1, x1 = math.ceil(row.max()) + halo_y, math.ceil(col.max()) + halo_x
    window = Window(y0, x0, y1 - y0, x1 - x0).clipped(source.shape)
    return window if window.height and window.width else None


def _places(target: Grid, source: Grid, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
    """Return the columns and rows of a source under columns and rows of a target."""
    t = target.transform
    x, y = t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f
    if not crs_equal(source.crs, target.crs):
        transformer = pyproj.Transformer.from_crs(target.crs, source.crs, always_xy=True)
        x, y = transformer.transform(x, y)
    s = ~source.transform
    with np.errstate(invalid="ignore"):  # where a CRS does not reach, places are infinite
        return s.a * x + s.b * y + s.c, s.d * x + s.e * y + s.f


def strip_width(target: Grid, source: Grid) -> int:
    """Return how many columns of a block are warped at a time, so that places are right to 0.001 pixels.

    Linear interpolation along a row is off by an amount that grows with the square of its length. It is
    measured in the middle of some rows.

    Parameters
    ----------
    target, source
        Grid of the block; grid of the source, or of the part of it that was read.
    """
    if crs_equal(source.crs, target.crs):
        return target.width
    rows = np.linspace(0, target.height, 5)
    ends_and_middle = [np.full(5, target.width * share) for share in (0.0, 0.5, 1.0)]
    first, middle, last = (np.stack(_places(target, source, cols, rows)) for cols in ends_and_middle)
    off = np.abs(middle - (first + last) / 2).max()
    if not np.isfinite(off):
        return min(_LEAST_STRIP, target.width)
    width = target.width
    while off > _PLACE_ERROR and width > _LEAST_STRIP:
        width, off = -(-width // 2), off / 4
    return width


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
        "dst_crs": target.crs or _LOCAL_CRS,
        "resampling": Resampling[resampling],
        "tolerance": 1e-6,  # rasterio 1.4 does not heed it, hence the strips
        "XSCALE": scale_x,
        "YSCALE": scale_y,
        "num_threads": 1,
    }
    width = strip_width(target, source)

    def reproject(values: npt.NDArray[Any], void: float) -> npt.NDArray[Any]:
        warped = np.full((*values.shape[:-2], *target.shape), void, values.dtype)
        for left in range(0, target.width, width):
            strip = np.full_like(warped[..., left : left + width], void, order="C")
            place = target.transform @ Affine.translation(left, 0)
            nodata = {"src_nodata": void, "dst_nodata": void}
            rasterio.warp.reproject(values, strip, dst_transform=place, **nodata, **options)
            warped[..., left : left + width] = strip
        return warped

    if pixels.values.ndim == 2 and pixels.values.dtype == np.uint8:
        return _warp_codes(pixels, reproject)
    return _warp_floats(pixels, reproject)


def _warp_codes(pixels: Pixels, reproject: Reproject) -> Pixels:
    """Warp label codes; void ones have no vote where many cells become one."""
    # No byte can say void beside 256 codes, hence the wider type for the way.
    warped = reproject(np.where(pixels.valid, pixels.values, np.int16(-1)).astype(np.int16), -1)
    valid: npt.NDArray[np.bool_] = warped >= 0
    return Pixels(np.where(valid, warped, 0).astype(np.uint8), valid)


def _warp_floats(pixels: Pixels, reproject: Reproject) -> Pixels:
    """Warp heights or an image; void pixels do not bleed into their neighbours."""
    dtype = pixels.values.dtype
    source = pixels.values if pixels.values.ndim == 3 else pixels.values[None]
    # float64 holds every 32-bit integer; float32 is exact for 8- and 16-bit images.
    work = np.float64 if dtype.itemsize > 2 and dtype != np.float32 else np.float32
    warped = reproject(np.where(pixels.valid, source, np.nan).astype(work), math.nan)
    valid = np.asarray(np.isfinite(warped).all(axis=0))
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        filled = np.where(valid, warped, 0)
        return Pixels(np.clip(np.rint(filled), limits.min, limits.max).astype(dtype), valid)
    if pixels.values.ndim == 2:
        return Pixels(np.where(valid, warped, np.nan)[0].astype(dtype), valid)
    return Pixels(np.where(valid, warped, 0).astype(dtype), valid)
