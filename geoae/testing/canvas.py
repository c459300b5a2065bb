"""The drawing board of the synthetic town: rasters of one tile and the strokes that fill them.

Distances are metres, x to the right (east) and y down (south); angles turn from x towards y, in radians.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geoae.testing.materials import Material

__all__ = ["CODES", "GSD", "MARGIN", "Canvas", "Footprint", "along", "generator", "noise"]

#: Pixel size of the synthetic images, metres.
GSD = 0.32

#: Border of the drawing board around the picture, pixels: room for leaning towers and shadows from outside.
MARGIN = 112

#: LAS codes that the truth uses.
CODES = {"ground": 2, "trees": 5, "building": 6, "water": 9, "bridge": 17, "unlabelled": 65}

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


def generator(*keys: object) -> np.random.Generator:
    """Return the random generator that belongs to `keys`, whatever was drawn before.

    Examples
    --------
    >>> int(generator(0, "JAX", 4).integers(100)) == int(generator(0, "JAX", 4).integers(100))
    True
    """
    digest = hashlib.sha256("|".join(str(key) for key in keys).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> FloatArray:
    """Return smooth noise: a random lattice of pitch `scale` cells, interpolated.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : tuple of int
        Rows and columns.
    scale : float
        Size of the blobs, cells.

    Returns
    -------
    ndarray, shape (y, x), float32
        Zero mean, standard deviation near 1.
    """
    rows, cols = shape
    lattice = rng.standard_normal((int(rows / scale) + 3, int(cols / scale) + 3), dtype=np.float32)
    offset = rng.random(2)

    def axis(length: int, start: float) -> tuple[NDArray[np.intp], FloatArray]:
        at = np.arange(length) / scale + start
        low = at.astype(np.intp)
        part = (at - low).astype(np.float32)
        return low, part * part * (3 - 2 * part)

    row, row_part = axis(rows, offset[0])
    col, col_part = axis(cols, offset[1])
    bands = lattice[row] + row_part[:, None] * (lattice[row + 1] - lattice[row])
    field_ = bands[:, col] + col_part * (bands[:, col + 1] - bands[:, col])
    return (field_ * np.float32(1.35)).astype(np.float32)


def along(x: float, y: float, angle: float, p: float, q: float) -> tuple[float, float]:
    """Return the point at p along and q across a direction, seen from x, y.

    Examples
    --------
    >>> along(10.0, 5.0, 0.0, 2.0, 1.0)
    (12.0, 6.0)
    """
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return x + cos * p - sin * q, y + sin * p + cos * q


@dataclass(frozen=True)
class Footprint:
    """A window of the board in the axes of an oriented object: `p` along it, `q` across it, metres."""

    rows: slice
    cols: slice
    p: FloatArray
    q: FloatArray
    cos: float
    sin: float

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the board."""
        return self.rows, self.cols

    def box(self, length: float, width: float) -> BoolArray:
        """Return the cells inside a rectangle of `length` x `width` metres around the centre."""
        return (np.abs(self.p) <= length / 2) & (np.abs(self.q) <= width / 2)


@dataclass
class Canvas:
    """Rasters of one tile, all of shape (side, side).

    Attributes
    ----------
    material, wall : ndarray of uint8
        `Material` of the top surface, and of the wall under its edge.
    mix, gain : ndarray of float32
        Place between the two spectra of the material (0..1), and brightness (about 1).
    height : ndarray of float32
        Height above ground, m.
    slope_x, slope_y : ndarray of float32
        Slope of roofs and crowns, m per m.
    code : ndarray of uint8
        LAS code.
    taken : ndarray of bool
        Roads, water and buildings: what later strokes leave alone.
    car, car_phase
        `Material` of a car standing there (0: none), and when it is there (0..1).
    """

    side: int
    material: NDArray[np.uint8] = field(init=False)
    wall: NDArray[np.uint8] = field(init=False)
    mix: FloatArray = field(init=False)
    gain: FloatArray = field(init=False)
    height: FloatArray = field(init=False)
    slope_x: FloatArray = field(init=False)
    slope_y: FloatArray = field(init=False)
    code: NDArray[np.uint8] = field(init=False)
    taken: BoolArray = field(init=False)
    car: NDArray[np.uint8] = field(init=False)
    car_phase: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.side, self.side)
        self.material = np.full(shape, Material.GRASS, np.uint8)
        self.wall = np.full(shape, Material.STUCCO, np.uint8)
        for name in ("mix", "height", "slope_x", "slope_y", "car_phase"):
            setattr(self, name, np.zeros(shape, np.float32))
        self.gain = np.ones(shape, np.float32)
        self.code = np.full(shape, CODES["ground"], np.uint8)
        self.taken = np.zeros(shape, np.bool_)
        self.car = np.zeros(shape, np.uint8)

    @property
    def extent(self) -> float:
        """Length of a side, m."""
        return self.side * GSD

    def axes(self) -> tuple[FloatArray, FloatArray]:
        """Return x (1, side) and y (side, 1) of the cell centres, m."""
        at = ((np.arange(self.side) + 0.5) * GSD).astype(np.float32)
        return at[None, :], at[:, None]

    def area(self, x: float, y: float, angle: float, length: float, width: float) -> Footprint | None:
        """Return the window around an oriented box, or None where it lies outside."""
        cos, sin = float(np.cos(angle)), float(np.sin(angle))
        half_x = (abs(cos) * length + abs(sin) * width) / 2 + GSD
        half_y = (abs(sin) * length + abs(cos) * width) / 2 + GSD
        left, right = (max(0, int((x - half_x) / GSD)), min(self.side, int((x + half_x) / GSD) + 1))
        top, bottom = (max(0, int((y - half_y) / GSD)), min(self.side, int((y + half_y) / GSD) + 1))
        if right <= left or bottom <= top:
            return None
        dx = ((np.arange(left, right) + 0.5) * GSD - x).astype(np.float32)[None, :]
        dy = ((np.arange(top, bottom) + 0.5) * GSD - y).astype(np.float32)[:, None]
        return Footprint(
            slice(top, bottom), slice(left, right), cos * dx + sin * dy, cos * dy - sin * dx, cos, sin
        )

    def cell(self, spot: tuple[float, float]) -> tuple[int, int]:
        """Return row and column of the point x, y, held inside the board."""
        last = self.side - 1
        return min(max(int(spot[1] / GSD), 0), last), min(max(int(spot[0] / GSD), 0), last)

    def is_free(self, area: Footprint, mask: BoolArray, tolerance: float = 0.02) -> bool:
        """Tell whether at most `tolerance` of the masked cells are taken, and there are any."""
        count = int(mask.sum())
        return count > 0 and int((self.taken[area.window] & mask).sum()) <= tolerance * count

    def paint(
        self,
        area: Footprint,
        mask: BoolArray,
        material: Material,
        mix: float | FloatArray = 0.5,
        gain: float | FloatArray = 1.0,
        *,
        over: bool = False,
    ) -> None:
        """Paint flat ground where nothing is taken (or, with `over`, everywhere in the mask)."""
        window = area.window
        cells = mask if over else mask & ~self.taken[window]
        self.material[window][cells] = material
        self.mix[window][cells] = mix[cells] if isinstance(mix, np.ndarray) else mix
        self.gain[window][cells] = gain[cells] if isinstance(gain, np.ndarray) else gain

    def paint_box(
        self, x: float, y: float, angle: float, length: float, width: float, material: Material, mix: float
    ) -> None:
        """Paint an oriented rectangle of ground with a little wear."""
        area = self.area(x, y, angle, length, width)
        if area is not None:
            rows, cols = area.p.shape
            tone = mix + noise(generator("wear", rows, cols), (rows, cols), 9) * np.float32(0.08)
            self.paint(area, area.box(length, width), material, np.clip(tone, 0, 1).astype(np.float32))

    def build(
        self,
        area: Footprint,
        mask: BoolArray,
        height: FloatArray | float,
        material: Material,
        *,
        wall: Material = Material.STUCCO,
        mix: float = 0.5,
        gain: FloatArray | float = 1.0,
        slope: tuple[FloatArray, FloatArray] | None = None,
        code: int = CODES["building"],
    ) -> None:
        """Raise a solid where it is higher than what is there; `slope` is along (p, q)."""
        window = area.window
        tall = np.broadcast_to(np.asarray(height, np.float32), mask.shape)
        cells = mask & (tall > self.height[window])
        self.material[window][cells] = material
        self.wall[window][cells] = wall
        self.mix[window][cells] = mix
        self.gain[window][cells] = gain[cells] if isinstance(gain, np.ndarray) else gain
        self.height[window][cells] = tall[cells]
        self.code[window][cells] = code
        self.taken[window] |= cells
        along, across = slope if slope is not None else (np.zeros_like(area.p), np.zeros_like(area.p))
        self.slope_x[window][cells] = (area.cos * along - area.sin * across)[cells]
        self.slope_y[window][cells] = (area.sin * along + area.cos * across)[cells]
