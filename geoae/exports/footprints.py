"""Footprints: the four corners of each patch, on the ground or in pixels. Arrays only, no files.

Corners are ``(patch, 4, 2)`` float64, ``x`` before ``y``. They run counter-clockwise as seen on a
map, which is how Simple Features and GeoParquet want an outer ring.
"""

from collections.abc import Mapping, Sequence
from math import ceil, sqrt

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyproj

from geoae.grid import Grid

__all__ = [
    "Corners",
    "ground_corners",
    "pixel_corners",
    "sheet_offsets",
    "to_longitude_latitude",
    "wkb_polygons",
]

Corners = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32] | npt.NDArray[np.int64]

# Down the left side first: counter-clockwise where y points up and rows run down.
_CORNERS = np.array([(0, 0), (0, 1), (1, 1), (1, 0)], dtype=np.float64)

# A polygon of one ring of five points in well-known binary, little endian; packed, 93 bytes.
_WKB = np.dtype(
    [("order", "u1"), ("type", "<u4"), ("rings", "<u4"), ("points", "<u4"), ("xy", "<f8", (5, 2))]
)


def ground_corners(
    grids: Mapping[int, Grid], scene_number: Integers, y_start: Integers, x_start: Integers, patch: int
) -> Corners:
    """Return the corners of patches in the CRS of their scene.

    Right for any affine grid: north-up, south-up, mirrored or rotated.

    Parameters
    ----------
    grids
        Grid of each scene by its number.
    scene_number, y_start, x_start
        ``(patch,)`` integers: the scene of each patch, its first pixel row and column there.
    patch
        Side of a patch in pixels.

    Returns
    -------
    ndarray
        ``(patch, 4, 2)`` float64 in the units of each scene's CRS.

    Examples
    --------
    >>> from affine import Affine
    >>> grid = Grid("EPSG:32617", Affine(0.5, 0, 100, 0, -0.5, 200), (8, 8))
    >>> ground_corners({0: grid}, np.array([0]), np.array([4]), np.array([0]), 4)[0].tolist()
    [[100.0, 198.0], [100.0, 196.0], [102.0, 196.0], [102.0, 198.0]]
    """
    numbers, inverse = np.unique(scene_number, return_inverse=True)
    transforms = [grids[int(number)].transform for number in numbers]
    # By name: to iterate over an Affine takes longer than all the rest.
    affine = np.array([(t.a, t.b, t.c, t.d, t.e, t.f) for t in transforms], dtype=np.float64)
    a, b, c, d, e, f = affine.reshape(-1, 6).T[:, inverse]  # each (patch,)
    corners: Corners = np.empty((len(inverse), 4, 2))
    for i, (right, down) in enumerate(_CORNERS):
        column, row = x_start + right * patch, y_start + down * patch
        corners[:, i, 0] = a * column + b * row + c
        corners[:, i, 1] = d * column + e * row + f
    mirrored = a * e - b * d > 0
    corners[mirrored] = corners[mirrored, ::-1]
    return corners


def pixel_corners(y_start: Integers, x_start: Integers, patch: int) -> Corners:
    """Return the corners of patches in pixels of their scene, with y negated.

    Map viewers draw y upwards and show a raster without georeference from (0, 0) down to negative y;
    with y negated the polygons lie upright on that picture.

    Parameters
    ----------
    y_start, x_start
        ``(patch,)`` integers: first pixel row and column.
    patch
        Side of a patch in pixels.

    Returns
    -------
    ndarray
        ``(patch, 4, 2)`` float64: pixel column, minus pixel row.

    Examples
    --------
    >>> pixel_corners(np.array([128]), np.array([0]), 128)[0].tolist()
    [[0.0, -128.0], [0.0, -256.0], [128.0, -256.0], [128.0, -128.0]]
    """
    column = x_start[:, np.newaxis] + _CORNERS[:, 0] * patch
    row = y_start[:, np.newaxis] + _CORNERS[:, 1] * patch
    return np.stack([column, 0.0 - row], axis=-1)


def to_longitude_latitude(corners: Corners, crs: str) -> Corners | None:
    """Transform corners to longitude and latitude on WGS 84 (EPSG:4326, x before y).

    Corners alone suffice: the side of a patch of 128 pixels bends away from the straight line by
    about ``128**2 * gsd / (8 * R)`` pixels, which is 0.01 for pixels of 30 m. Neighbours share their
    corners, so there are no gaps either way.

    Parameters
    ----------
    corners
        ``(patch, 4, 2)`` float64 in `crs`.
    crs
        WKT or ``EPSG:n``.

    Returns
    -------
    ndarray or None
        ``(patch, 4, 2)`` float64 degrees; a patch across the antimeridian has longitudes above 180.
        None where the CRS has no relation to the globe that PROJ knows.
    """
    try:
        transformer = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    except pyproj.exceptions.ProjError:
        return None
    longitude, latitude = transformer.transform(corners[..., 0], corners[..., 1])
    if not (np.isfinite(longitude).all() and np.isfinite(latitude).all()):
        return None
    across = np.ptp(longitude, axis=1) > 180
    longitude[across] = np.where(longitude[across] < 0, longitude[across] + 360, longitude[across])
    return np.stack([longitude, latitude], axis=-1)


def sheet_offsets(
    groups: Sequence[tuple[str, str]], shapes: Sequence[tuple[int, int]]
) -> tuple[npt.NDArray[np.int64], tuple[int, int]]:
    """Lay scenes out side by side, as on a contact sheet.

    Scenes without georeference would all lie on each other at the origin. Here each gets a cell of
    one size: the largest scene and a gap of an eighth. The scenes (views) of a tile stay together on a
    line, as many tiles share a line as fit in a near square, and a city begins a line.

    Parameters
    ----------
    groups
        City and tile of each scene, in the order in which scenes are to be laid.
    shapes
        Height and width of each scene in pixels.

    Returns
    -------
    offsets : ndarray
        ``(scene, 2)`` int64: what to add to ``x`` and ``y`` (y upwards, hence zero or negative).
    step : tuple of int
        Width and height of a cell in pixels.

    Examples
    --------
    >>> offsets, step = sheet_offsets([("A", "1"), ("A", "1"), ("A", "2"), ("B", "1")], [(8, 8)] * 4)
    >>> step, offsets.tolist()
    ((9, 9), [[0, 0], [9, 0], [0, -9], [0, -18]])
    """
    height, width = (ceil(max(side) * 1.125) for side in zip(*shapes, strict=True))
    if len(set(groups)) == 1:  # one tile: its views fill the square themselves
        groups = [(groups[0][0], str(number)) for number in range(len(groups))]
    views: dict[tuple[str, str], int] = {}
    for group in groups:
        views[group] = views.get(group, 0) + 1
    length = max([*views.values(), ceil(sqrt(len(groups)))])
    first: dict[tuple[str, str], tuple[int, int]] = {}
    line, cell, city = 0, 0, ""
    for group, count in views.items():
        if cell and (group[0] != city or cell + count > length):
            line, cell = line + 1, 0
        first[group] = (cell, line)
        cell, city = cell + count, group[0]
    offsets, laid = [], dict.fromkeys(views, 0)
    for group in groups:
        column, line = first[group]
        offsets.append((width * (column + laid[group]), -height * line))
        laid[group] += 1
    return np.array(offsets, dtype=np.int64), (width, height)


def wkb_polygons(corners: Corners) -> pa.Array:
    """Write corners as polygons in well-known binary, without a Python object a polygon.

    Parameters
    ----------
    corners
        ``(patch, 4, 2)`` float64.

    Returns
    -------
    pyarrow.Array
        ``(patch,)`` binary.

    Examples
    --------
    >>> import shapely
    >>> shapely.from_wkb(wkb_polygons(pixel_corners(np.array([0]), np.array([0]), 2))[0].as_py()).wkt
    'POLYGON ((0 0, 0 -2, 2 -2, 2 0, 0 0))'
    """
    number = len(corners)
    records = np.empty(number, dtype=_WKB)
    records["order"], records["type"], records["rings"], records["points"] = 1, 3, 1, 5
    records["xy"][:, :4] = corners
    records["xy"][:, 4] = corners[:, 0]  # a ring ends where it begins
    ends = np.arange(number + 1, dtype=np.int64) * _WKB.itemsize
    return pa.Array.from_buffers(pa.large_binary(), number, [None, pa.py_buffer(ends), pa.py_buffer(records)])
