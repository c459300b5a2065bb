"""Grids: where the pixels of a raster lie. Pure maths, no files.

A `Grid` is a coordinate reference system (or none), an affine transform and a shape, as in
odc-geo's GeoBox. Bounds are ``(xmin, ymin, xmax, ymax)``, shapes ``(height, width)``, windows
``(y, x, height, width)`` in pixels.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import pyproj
from affine import Affine

__all__ = ["Bounds", "Grid", "Window", "crs_equal", "metres_per_unit"]

_SUBPIXEL = 1e-3
"""Two grids are the same if no corner moves by more than this part of a pixel.

Pixel sizes come as 0.19999999999963 as well as 0.2; over a 10,000-pixel raster that is 2e-8 pixels,
while the smallest shift that anyone means is a tenth of a pixel.
"""

# The metre equivalents of EPSG units 9001, 9002 and 9003.
_METRES = {"metre": 1.0, "foot": 0.3048, "us-survey-foot": 1200 / 3937, "centimetre": 0.01, "decimetre": 0.1}


class Bounds(NamedTuple):
    """Bounding box ``(xmin, ymin, xmax, ymax)`` in the units of a CRS, or in pixels without one."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float

    def intersects(self, other: "Bounds") -> bool:
        """Say whether two boxes share area.

        Examples
        --------
        >>> Bounds(0, 0, 2, 2).intersects(Bounds(1, 1, 3, 3))
        True
        >>> Bounds(0, 0, 2, 2).intersects(Bounds(2, 0, 3, 2))
        False
        """
        return (
            self.xmin < other.xmax
            and other.xmin < self.xmax
            and self.ymin < other.ymax
            and other.ymin < self.ymax
        )


class Window(NamedTuple):
    """A rectangle of pixels: first row `y`, first column `x`, `height`, `width`."""

    y: int
    x: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def clipped(self, shape: tuple[int, int]) -> "Window":
        """Cut the window to a raster's shape; the result may be empty.

        Examples
        --------
        >>> Window(-2, 3, 5, 5).clipped((4, 6))
        Window(y=0, x=3, height=3, width=3)
        """
        y0, x0 = max(self.y, 0), max(self.x, 0)
        y1, x1 = min(self.y + self.height, shape[0]), min(self.x + self.width, shape[1])
        return Window(y0, x0, max(y1 - y0, 0), max(x1 - x0, 0))


@lru_cache(maxsize=512)
def _crs(definition: str) -> pyproj.CRS:
    return pyproj.CRS.from_user_input(definition)


def crs_equal(first: str | None, second: str | None) -> bool:
    """Say whether two CRS definitions mean the same.

    Judged on the definitions themselves (pyproj), never on a guessed EPSG code: a guess turned two
    datums into one. Axis order is ignored because rasters always store x before y.

    Parameters
    ----------
    first, second
        WKT, ``EPSG:n``, or None for no CRS.

    Examples
    --------
    >>> crs_equal("EPSG:32617", "EPSG:32617"), crs_equal("EPSG:32617", "EPSG:32615")
    (True, False)
    >>> crs_equal(None, "EPSG:32617")
    False
    """
    if first is None or second is None:
        return first is second
    return first == second or _crs(first).equals(_crs(second), ignore_axis_order=True)


def metres_per_unit(unit: str) -> float:
    """Return the length of a unit in metres.

    Parameters
    ----------
    unit
        ``metre``, ``foot``, ``us-survey-foot``, ``decimetre`` or ``centimetre``.

    Raises
    ------
    ValueError
        For any other name.

    Examples
    --------
    >>> metres_per_unit("foot")
    0.3048
    """
    try:
        return _METRES[unit]
    except KeyError:
        raise ValueError(f"unknown unit {unit!r}; known: {', '.join(_METRES)}") from None


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie.

    Parameters
    ----------
    crs
        Coordinate reference system as WKT or ``EPSG:n``; None if the raster has none.
    transform
        From pixel ``(column, row)`` to ``(x, y)``; the identity for rasters without a CRS.
    shape
        ``(height, width)`` in pixels.
    """

    crs: str | None
    transform: Affine
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ValueError(f"a grid has at least one pixel, not {self.shape}")
        if self.transform.is_degenerate:
            raise ValueError(f"a transform must be invertible, not {tuple(self.transform)[:6]}")

    @property
    def height(self) -> int:
        """Rows."""
        return self.shape[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.shape[1]

    @property
    def window(self) -> Window:
        """The whole raster as a window."""
        return Window(0, 0, *self.shape)

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Length of a pixel's side along its row and its column (x, y), in CRS units, also if rotated."""
        t = self.transform
        return math.hypot(t.a, t.d), math.hypot(t.b, t.e)

    def pixel_size_metres(self) -> tuple[float, float]:
        """Return the pixel's side lengths (x, y) on the ground.

        Returns
        -------
        tuple of float
            Metres; NaN where the grid has no CRS. Degrees are converted at the grid's centre, along
            the ellipsoid.
        """
        if self.crs is None:
            return math.nan, math.nan
        crs = _crs(self.crs)
        if crs.is_geographic:
            return self._geodesic_pixel_size(crs)
        factor = crs.axis_info[0].unit_conversion_factor or 1.0
        x, y = self.pixel_size
        return x * factor, y * factor

    def _geodesic_pixel_size(self, crs: pyproj.CRS) -> tuple[float, float]:
        geod = crs.get_geod() or pyproj.Geod(ellps="WGS84")
        row, column = self.height / 2, self.width / 2
        (x0, y0), (x1, y1), (x2, y2) = (
            self.transform @ point for point in ((column, row), (column + 1, row), (column, row + 1))
        )
        return geod.inv(x0, y0, x1, y1)[2], geod.inv(x0, y0, x2, y2)[2]

    @property
    def bounds(self) -> Bounds:
        """Bounding box of the whole grid."""
        return self.window_bounds(self.window)

    def corners(self, window: Window) -> tuple[tuple[float, float], ...]:
        """Return the window's four corners ``(x, y)``: first row first, clockwise in the raster."""
        y0, x0, y1, x1 = window.y, window.x, window.y + window.height, window.x + window.width
        return tuple(
            (float(x), float(y))
            for x, y in (self.transform @ corner for corner in ((x0, y0), (x1, y0), (x1, y1), (x0, y1)))
        )

    def window_bounds(self, window: Window) -> Bounds:
        """Bounding box of a window.

        Examples
        --------
        >>> Grid("EPSG:32617", Affine(0.5, 0, 100, 0, -0.5, 200), (8, 8)).window_bounds(Window(2, 4, 2, 4))
        Bounds(xmin=102.0, ymin=198.0, xmax=104.0, ymax=199.0)
        """
        corners = self.corners(window)
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        return Bounds(min(xs), min(ys), max(xs), max(ys))

    def sub(self, window: Window) -> "Grid":
        """Return the grid of a window."""
        return Grid(
            self.crs, self.transform @ Affine.translation(window.x, window.y), (window.height, window.width)
        )

    def rescaled(self, shape: tuple[int, int]) -> "Grid":
        """Return the grid that covers the same ground with another number of pixels.

        Examples
        --------
        >>> Grid(None, Affine.identity(), (4, 4)).rescaled((2, 2)).pixel_size
        (2.0, 2.0)
        """
        scale = Affine.scale(self.width / shape[1], self.height / shape[0])
        return Grid(self.crs, self.transform @ scale, shape)

    def same_as(self, other: "Grid") -> bool:
        """Say whether pixels of both grids are the same ground: equal shape, CRS and place (1e-3 pixels)."""
        return (
            self.shape == other.shape
            and crs_equal(self.crs, other.crs)
            and self.offset_in_pixels(other) < _SUBPIXEL
        )

    def offset_in_pixels(self, other: "Grid") -> float:
        """Return the largest distance of the two grids' corners, in pixels of this grid."""
        inverse = ~self.transform
        return max(
            math.dist(inverse @ (other.transform @ corner), corner)
            for corner in ((0, 0), (self.width, 0), (0, self.height), (self.width, self.height))
        )
