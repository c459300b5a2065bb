"""The satellite over the synthetic town: sun, view and haze, the bands and the truth of one view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geoae.testing.canvas import CODES, GSD, MARGIN, BoolArray, FloatArray, generator
from geoae.testing.materials import BAND_NAMES, Material, reflectance
from geoae.testing.plans import CITIES
from geoae.testing.town import Town

__all__ = ["Acquisition", "Exposure", "acquisition", "photograph", "stretch"]

# Raw numbers of a surface that reflects everything under full sun, and of the air alone, by band: fitted so
# that the means over towns are near those of the real images (273, 378, 470, 335, 328, 354, 533, 350).
_GAIN = np.array([1280, 1875, 2415, 1850, 1905, 1705, 2115, 1365], np.float32)
_PATH = np.array([150, 172, 150, 82, 66, 48, 44, 26], np.float32)
# Share of the light that comes from the sky: blue, so shadows are.
_SKY = np.array([0.36, 0.31, 0.25, 0.215, 0.19, 0.165, 0.135, 0.115], np.float32)
# What the panchromatic band, which carries the detail, sees of each band.
_PAN = np.array([0.02, 0.14, 0.22, 0.2, 0.2, 0.15, 0.07, 0.0], np.float32)
# Raw numbers of bright neutral ground in bands 5, 3 and 2: the white point of the pictures.
_WHITE = np.array([620.0, 795.0, 640.0])


@dataclass(frozen=True)
class Acquisition:
    """How one pass of the satellite saw a city.

    Attributes
    ----------
    sun_azimuth, sun_elevation : float
        Direction of the sun, degrees clockwise from north and above the horizon.
    off_nadir, view_azimuth : float
        Angle of the view from the vertical and the direction of the satellite, degrees.
    haze : float
        Factor on the light scattered by the air (about 1).
    dormancy : float
        Season of the vegetation, 0 (summer) to 1 (winter).
    traffic : float
        Share of the parked cars that are there, 0 to 1.
    low, high, gamma : float
        Contrast stretch of the RGB picture: percentiles and exponent.
    """

    sun_azimuth: float
    sun_elevation: float
    off_nadir: float
    view_azimuth: float
    haze: float
    dormancy: float
    traffic: float
    low: float
    high: float
    gamma: float


@dataclass(frozen=True)
class Exposure:
    """One view of a tile, every raster of shape (size, size).

    Attributes
    ----------
    msi : ndarray, shape (8, y, x), uint16
        Raw numbers, 11 bits.
    agl : ndarray, shape (y, x), float32
        Height above ground, m, without voids.
    code : ndarray, shape (y, x), uint8
        LAS codes, without noise.
    terrain : ndarray, shape (y, x), float32
        Height of the bare ground, m.
    wall : ndarray, shape (y, x), bool
        Cells that show a wall: what a lidar from above never saw.
    """

    msi: NDArray[np.uint16]
    agl: FloatArray
    code: NDArray[np.uint8]
    terrain: FloatArray
    wall: BoolArray


def acquisition(city: str, view: int, seed: int = 0) -> Acquisition:
    """Return the pass that a view number stands for: the same over all tiles of a city.

    Examples
    --------
    >>> acquisition("JAX", 3) == acquisition("JAX", 3)
    True
    """
    rng = generator(seed, "acquisition", city, view)
    # 0 and 1: midwinter; 0.5: midsummer. The golden ratio spreads any few passes over the year.
    season = float((0.618034 * view + 0.12 * rng.random()) % 1)
    warmth = float(np.sin(np.pi * season))
    noon = 58.0 + 18.0 * (warmth - 0.5) if city == "JAX" else 48.0 + 30.0 * (warmth - 0.55)
    return Acquisition(
        sun_azimuth=float(rng.uniform(138, 176)) - 14 * warmth,
        sun_elevation=float(np.clip(noon + rng.normal(0, 3), 27, 70)),
        off_nadir=float(rng.uniform(4, 27)),
        view_azimuth=float(rng.uniform(0, 360)),
        haze=float(np.clip(rng.gamma(9, 0.11), 0.6, 1.45)),
        dormancy=float(np.clip(1.3 - 1.6 * warmth, 0, 1)) * CITIES[city].winter,
        traffic=float(rng.uniform(0.45, 0.95)),
        low=float(rng.uniform(0.2, 1.5)),
        high=float(rng.uniform(97.0, 99.7)),
        gamma=float(rng.uniform(0.55, 1.0)),
    )


def _shadow(height: FloatArray, pass_: Acquisition) -> FloatArray:
    """Return how much of the sun reaches every cell, 0 (shadow) to 1.

    The height of the shadow's upper edge is a running maximum along the sun's azimuth that falls with
    distance; doubling the step makes it logarithmic in the length of the longest shadow.
    """
    azimuth, elevation = np.deg2rad([pass_.sun_azimuth, pass_.sun_elevation])
    drop = np.float32(np.tan(elevation) * GSD)
    reach = int(min(float(height.max() / drop), 2.0 * MARGIN)) + 1
    edge, step = height.copy(), 1
    while step <= reach:
        dx, dy = round(float(np.sin(azimuth)) * step), round(float(-np.cos(azimuth)) * step)
        # lower(a[y, x]) = max(a[y, x], a[y + dy, x + dx] - drop)
        rows_to, rows_from = _overlap(height.shape[0], dy)
        cols_to, cols_from = _overlap(height.shape[1], dx)
        moved = edge[rows_from, cols_from] - drop * np.float32(np.hypot(dx, dy))
        raised = edge.copy()
        np.maximum(raised[rows_to, cols_to], moved, out=raised[rows_to, cols_to])
        edge, step = raised, step * 2
    lit = 1 - np.clip((edge - height - np.float32(0.15)) / np.float32(0.5), 0, 1)
    return np.asarray(lit, np.float32)


def _overlap(length: int, shift: int) -> tuple[slice, slice]:
    """Return the slices (to, from) with ``to + shift == from`` inside an axis."""
    return slice(max(0, -shift), min(length, length - shift)), slice(
        max(0, shift), min(length, length + shift)
    )


def _rays(
    height: FloatArray, size: int, pass_: Acquisition, shift: tuple[int, int]
) -> tuple[NDArray[np.intp], FloatArray, float]:
    """Return the flat index of the cell that every pixel sees, the height of that sight and its step, m."""
    nadir, azimuth = np.deg2rad([pass_.off_nadir, pass_.view_azimuth])
    rise = GSD / max(float(np.tan(nadir)), 1e-3)  # m of height per cell of lean
    top, left = MARGIN + shift[0], MARGIN + shift[1]
    steps = int(min(float(height.max()) / rise, MARGIN - 16)) + 1
    start = (np.arange(top, top + size) * height.shape[1])[:, None] + np.arange(left, left + size)
    hit = np.zeros((size, size), np.int32)
    level = np.zeros((size, size), np.float32)
    for step in range(1, steps + 1):
        dx, dy = round(float(np.sin(azimuth)) * step), round(float(-np.cos(azimuth)) * step)
        above = height[top + dy : top + dy + size, left + dx : left + dx + size] >= np.float32(step * rise)
        np.putmask(hit, above, dy * height.shape[1] + dx)
        np.putmask(level, above, np.float32(step * rise))
    return start + hit, level, rise


def photograph(
    town: Town, pass_: Acquisition, *, seed: tuple[object, ...] = (), shift: tuple[int, int] = (0, 0)
) -> Exposure:
    """Take a picture of a town: parallax, shadows, light, air, detector.

    Parameters
    ----------
    town : Town
    pass_ : Acquisition
        Sun, view, season and air.
    seed : tuple, optional
        What the noise is drawn from.
    shift : tuple of int, optional
        Rows and columns by which the picture is displaced (at most 14).

    Returns
    -------
    Exposure
    """
    canvas = town.canvas
    size = canvas.side - 2 * MARGIN
    rng = generator("photograph", *seed)
    table = reflectance(pass_.dormancy)
    parked = (canvas.car > 0) & (canvas.height < 0.5)
    parked &= ((canvas.car_phase + np.float32(rng.random())) % 1) < pass_.traffic
    height = np.where(parked, np.float32(1.45), canvas.height)
    # A leafless crown is mostly gaps: it throws a thin shadow and is lit evenly.
    bare = np.where(canvas.material == Material.BROADLEAF, np.float32(pass_.dormancy), np.float32(0))
    lit = _shadow(height * (1 - np.float32(0.7) * bare), pass_)
    index, level, rise = _rays(height, size, pass_, shift)

    seen = height.ravel()[index]
    code = canvas.code.ravel()[index]
    # A sight is a step lower than the roof it meets; more than that and it met the wall.
    wall = seen - level > max(1.4, 1.1 * rise + 0.8)
    car = parked.ravel()[index]
    material = np.where(car, canvas.car.ravel()[index], canvas.material.ravel()[index])
    facade = wall & (code == CODES["building"]) | wall & (code == CODES["bridge"])
    material = np.where(facade, canvas.wall.ravel()[index], material)
    mix = np.where(facade | car, np.float32(0.5), canvas.mix.ravel()[index])
    gain = np.where(car, np.float32(1), canvas.gain.ravel()[index])

    azimuth, elevation = np.deg2rad([pass_.sun_azimuth, pass_.sun_elevation])
    east = np.float32(np.sin(azimuth) / np.tan(elevation))
    south = np.float32(-np.cos(azimuth) / np.tan(elevation))
    leafy = 1 - np.float32(0.75) * bare.ravel()[index]
    slope_x, slope_y = canvas.slope_x.ravel()[index] * leafy, canvas.slope_y.ravel()[index] * leafy
    # Cosine of the angle of incidence over that on flat ground.
    incidence = np.maximum(0, 1 - slope_x * east - slope_y * south) / np.sqrt(1 + slope_x**2 + slope_y**2)
    direct = np.asarray(incidence * lit.ravel()[index], np.float32)
    if facade.any():
        direct, gain = _light_walls(height, index, level, facade, direct, gain, (float(east), float(south)))
    direct[wall & (code == CODES["trees"])] *= np.float32(0.55)
    if pass_.dormancy > 0:  # ground and twigs, cell by cell
        twigs = np.abs(rng.standard_normal(gain.shape, dtype=np.float32))
        gain = gain * (1 - (1 - leafy) * (np.float32(0.45) * twigs - np.float32(0.25)))

    light = _expose(table, material, mix, gain, direct, pass_)
    msi = _sharpen(light, rng)
    agl = np.where(car, 0, np.minimum(seen, np.where(wall, level, seen))).astype(np.float32)
    return Exposure(msi, agl, code, town.terrain.ravel()[index], wall)


def _light_walls(
    height: FloatArray,
    index: NDArray[np.intp],
    level: FloatArray,
    facade: BoolArray,
    direct: FloatArray,
    gain: FloatArray,
    sun: tuple[float, float],
) -> tuple[FloatArray, FloatArray]:
    """Return light and brightness with the walls in: lit by their direction, with rows of windows."""
    soft = ndimage.uniform_filter(height, 5)
    cells = index[facade]
    side = height.shape[1]
    flat = soft.ravel()
    normal_x = flat[cells - 1] - flat[cells + 1]
    normal_y = flat[cells - side] - flat[cells + side]
    length = np.maximum(np.hypot(normal_x, normal_y), 1e-3)
    facing = (normal_x * np.float32(sun[0]) + normal_y * np.float32(sun[1])) / length
    direct, gain = direct.copy(), gain.copy()
    direct[facade] = np.clip(facing, 0, 1.2)
    along = ((cells % side) * normal_y - (cells // side) * normal_x) / length * np.float32(GSD)
    up = level[facade]
    window = ((up % np.float32(3.4)) > 1.2) & ((along % np.float32(3.0)) > 1.1) & (flat[cells] > 7)
    gain[facade] = np.where(window, np.float32(0.5), np.float32(0.95))
    return direct, gain


def _expose(
    table: FloatArray,
    material: NDArray[np.uint8],
    mix: FloatArray,
    gain: FloatArray,
    direct: FloatArray,
    pass_: Acquisition,
) -> FloatArray:
    """Return the light at the detector, shape (8, y, x)."""
    out = np.empty((len(BAND_NAMES), *material.shape), np.float32)
    sun = np.float32(np.sin(np.deg2rad(pass_.sun_elevation)) / np.sin(np.deg2rad(52.0))) ** np.float32(0.8)
    clear = np.float32(1.08 - 0.08 * pass_.haze)
    from_, to = table[:, 0], table[:, 1] - table[:, 0]
    for band in range(len(BAND_NAMES)):
        sky = _SKY[band] * np.float32(pass_.haze**0.5)
        light = sky + (1 - _SKY[band]) * direct
        surface = from_[:, band][material] + to[:, band][material] * mix
        out[band] = surface * gain * light * (_GAIN[band] * sun * clear) + _PATH[band] * np.float32(
            pass_.haze
        )
    return out


def _sharpen(msi: FloatArray, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Pan-sharpen: colour from a coarse detector, detail from a fine one, and both detectors' noise."""
    pan = np.tensordot(_PAN, msi, axes=1).astype(np.float32)
    blurred = ndimage.gaussian_filter(pan, 0.7, truncate=3)
    coarse = ndimage.uniform_filter(blurred, 4)
    ratio = blurred / np.maximum(coarse, 1)
    out = np.empty(msi.shape, np.uint16)
    for band in range(msi.shape[0]):
        colour = ndimage.uniform_filter(msi[band], 4)
        fine = ndimage.gaussian_filter(msi[band], 0.7, truncate=3)
        sharp = np.float32(0.55) * fine + np.float32(0.45) * colour * ratio
        grain = rng.standard_normal(sharp.shape, dtype=np.float32)
        sharp += grain * (np.float32(1.5) + np.float32(0.06) * np.sqrt(np.maximum(sharp, 0)))
        out[band] = np.clip(np.rint(sharp), 1, 2047).astype(np.uint16)
    return out


def stretch(msi: NDArray[np.uint16], pass_: Acquisition) -> NDArray[np.uint8]:
    """Return the RGB picture of a view: bands 5, 3, 2, each stretched between two percentiles of this image.

    Parameters
    ----------
    msi : ndarray, shape (8, y, x), uint16
    pass_ : Acquisition
        Its `low`, `high` and `gamma` set the contrast.

    Returns
    -------
    ndarray, shape (3, y, x), uint8
    """
    sample = msi[[4, 2, 1], ::3, ::3].reshape(3, -1)
    low, middle, high = np.percentile(sample, [pass_.low, 50, pass_.high], axis=1)
    # White roofs may burn out, the streets must not drown; a field that fills the picture is not torn apart.
    high = np.maximum(np.minimum(high, 2.9 * middle), 0.62 * _WHITE)
    low = np.minimum(low, _PATH[[4, 2, 1]] * pass_.haze + 0.12 * _WHITE)
    # Mostly one exposure for the three bands: a stretch band by band alone turns whole pictures pink.
    ratio = high / _WHITE
    high = _WHITE * ratio**0.4 * np.exp(np.log(ratio).mean()) ** 0.6
    level = np.arange(2048, dtype=np.float32)
    out = np.empty((3, *msi.shape[1:]), np.uint8)
    for n, band in enumerate((4, 2, 1)):
        floor, ceiling = low[n] * 0.97, max(high[n] * 1.04, low[n] + 1)
        curve = np.clip((level - floor) / (ceiling - floor), 0, 1) ** pass_.gamma
        out[n] = np.rint(curve * 254 + 1).astype(np.uint8)[msi[band]]
    return out
