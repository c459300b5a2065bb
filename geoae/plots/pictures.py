"""Pictures of scenes and patches to look at: colour images, relief of heights, colours of classes.

A cube holds patches; a scene is put together from them again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from geoae.catalog import ClassTable
from geoae.cube import Cube
from geoae.errors import InputError
from geoae.grid import Grid, Window
from geoae.schema import valid_name

__all__ = [
    "Display",
    "ScenePicture",
    "choose_bands",
    "choose_display",
    "hillshade",
    "mosaic",
    "read_rows",
    "render",
    "scene_picture",
    "stretch_limits",
]

LARGEST = 1800
"""Longest side of a scene's picture in pixels; larger scenes are thinned out. A panel has some 1000."""

NO_DATA = (235, 235, 235)
"""Colour of pixels that were not measured."""

_NEAR_INFRARED = ("nir1", "nir", "near_infrared", "nir2")

BoolArray = npt.NDArray[np.bool_]
UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Display:
    """How pixels become a picture.

    Parameters
    ----------
    modality
        What is shown.
    kind
        ``rgb``: bytes of a photograph as they are; ``stretch``: each band between its 2nd and 98th
        percentile; ``relief``: heights with shadow; ``label``: colours of classes.
    bands
        Positions of the bands that become red, green and blue, or one band for grey.
    title
        What captions say.
    """

    modality: str
    kind: Literal["rgb", "stretch", "relief", "label"]
    bands: tuple[int, ...] = ()
    title: str = ""


def choose_bands(names: Sequence[str]) -> tuple[tuple[int, ...], str]:
    """Choose the bands of a picture by their names.

    Returns
    -------
    bands : tuple of int
        Positions of what becomes red, green and blue; one band for grey.
    title : str
        What the picture is.

    Examples
    --------
    >>> choose_bands(["coastal", "blue", "green", "yellow", "red"])
    ((4, 2, 1), 'true colour')
    >>> choose_bands(["green", "red", "nir"])
    ((2, 1, 0), 'false colour (nir, red, green)')
    >>> choose_bands(["band_1", "band_2"])
    ((0,), 'band_1')
    """
    place = {name.lower(): i for i, name in enumerate(names)}
    if {"red", "green", "blue"} <= set(place):
        return (place["red"], place["green"], place["blue"]), "true colour"
    infrared = next((name for name in _NEAR_INFRARED if name in place), None)
    if infrared and {"red", "green"} <= set(place):
        return (place[infrared], place["red"], place["green"]), f"false colour ({infrared}, red, green)"
    if len(names) >= 3:
        return (0, 1, 2), f"false colour ({', '.join(names[:3])})"
    return (0,), names[0]


def choose_display(cube: Cube, rows: npt.NDArray[np.int64]) -> Display:
    """Choose what to show of some patches: a colour image, another image, heights, labels.

    Parameters
    ----------
    cube
        The cube.
    rows
        ``(n,)`` patches to show; what none of them has is not chosen.

    Raises
    ------
    InputError
        If none of them has a valid pixel.
    """
    table = cube.table().iloc[rows]
    there = [m for m in cube.modalities if (table[f"{m}_valid_fraction"] > 0).any()]
    found: list[tuple[int, Display]] = []
    for modality in there:
        role, title = cube.role(modality), cube.catalog.modalities[modality].title or modality
        if role == "image":
            bands, kind = choose_bands(cube.bands(modality))
            # Photographs come as they are meant to look; raw bands of bytes, as Landsat's, are dull.
            as_is = cube.array(modality).dtype == np.uint8 and len(cube.bands(modality)) == 3
            rank = {"true colour": 0}.get(kind, 1 if len(bands) == 3 else 2) * 2 + (not as_is)
            named = f"{title}, {kind}"
            found.append((rank, Display(modality, "rgb" if as_is else "stretch", bands, named)))
        elif role == "height":
            surface = cube.catalog.modalities[modality].quantity != "above-ground"
            found.append((6 + surface, Display(modality, "relief", title=f"{title}, relief")))
        else:
            found.append((8, Display(modality, "label", title=title)))
    if not found:
        raise InputError(f"{cube.path} has no valid pixel in these patches: nothing to show")
    return min(found, key=lambda item: item[0])[1]


def hillshade(height: npt.NDArray[Any], exaggeration: float = 1.0, pixel: float = 1.0) -> npt.NDArray[Any]:
    """Light heights from the upper left at 45 degrees.

    Parameters
    ----------
    height
        ``(y, x)`` metres, NaN where void.
    exaggeration
        Factor on heights.
    pixel
        Pixel size in metres.

    Returns
    -------
    numpy.ndarray
        ``(y, x)`` 0..1, NaN beside voids; a level plane has ``sin(45 degrees)``.

    Examples
    --------
    >>> hillshade(np.zeros((3, 3)))[1, 1].round(4)
    np.float64(0.7071)
    """
    if min(height.shape) < 2:
        return np.full(height.shape, np.sqrt(0.5))
    dy, dx = np.gradient(height.astype(np.float64) * (exaggeration / pixel))
    # Light from the upper left: a slope that falls to the lower right is dark.
    shade = (1 + (dx + dy) / np.sqrt(2)) / np.sqrt(2) / np.sqrt(1 + dx**2 + dy**2)
    return np.asarray(np.clip(shade, 0, 1))


def render(
    display: Display,
    pixels: npt.NDArray[Any],
    valid: BoolArray,
    *,
    table: ClassTable | None = None,
    pixel: float = 1.0,
    limits: npt.NDArray[np.float64] | None = None,
) -> UInt8Array:
    """Make a picture.

    Parameters
    ----------
    display
        How.
    pixels
        ``(band, ..., y, x)`` the chosen bands; ``(..., y, x)`` for heights and labels.
    valid
        ``(..., y, x)`` bool.
    table
        Classes of labels.
    pixel
        Pixel size in metres, for relief.
    limits
        Of the stretch, see `stretch_limits`; None for those of these pixels.

    Returns
    -------
    numpy.ndarray
        ``(..., y, x, 3)`` uint8. Stretches are common to all pixels that are given.
    """
    if limits is None:
        limits = stretch_limits(display, pixels, valid)
    if display.kind == "rgb":
        grey = pixels if len(pixels) == 3 else np.repeat(pixels[:1], 3, axis=0)
        picture = np.moveaxis(grey, 0, -1).copy()
    elif display.kind == "stretch":
        bands = [_stretched(band, limit) for band, limit in zip(pixels, limits, strict=True)]
        picture = np.stack(bands if len(bands) == 3 else bands[:1] * 3, axis=-1)
    elif display.kind == "relief":
        picture = _relief(pixels, limits[0], pixel)
    else:
        picture = _label_colors(table)[pixels]
    picture[~valid] = NO_DATA
    return np.ascontiguousarray(picture, dtype=np.uint8)


def stretch_limits(display: Display, pixels: npt.NDArray[Any], valid: BoolArray) -> npt.NDArray[np.float64]:
    """Return what becomes black and what becomes white: the 2nd and 98th percentile of valid pixels.

    Parameters
    ----------
    display, pixels, valid
        As for `render`.

    Returns
    -------
    numpy.ndarray
        ``(band, 2)``; one row for heights, none for pictures that are not stretched.
    """
    if display.kind not in ("stretch", "relief"):
        return np.empty((0, 2))
    known = [band[valid] for band in (pixels if display.kind == "stretch" else pixels[None])]
    return np.array([np.percentile(band, [2, 98]) if band.size else (0.0, 1.0) for band in known])


def _stretched(band: npt.NDArray[Any], limit: npt.NDArray[np.float64]) -> UInt8Array:
    low, high = limit
    scaled = (band.astype(np.float32) - np.float32(low)) / np.float32(max(high - low, 1e-12))
    return np.asarray(np.clip(np.nan_to_num(scaled) * 255, 0, 255).round(), dtype=np.uint8)


def _relief(height: npt.NDArray[Any], limit: npt.NDArray[np.float64], pixel: float) -> UInt8Array:
    tone = _stretched(height, limit).astype(np.float64) / 255
    flat = height.reshape(-1, *height.shape[-2:])
    shade = np.stack([hillshade(h, 1.0, pixel) for h in flat]).reshape(height.shape)
    shade = np.where(np.isfinite(shade), shade, np.sqrt(0.5))
    # Half height, half light: either alone hides roofs or terrain.
    grey = np.clip(0.15 + 0.45 * tone + 0.4 * shade, 0, 1) * 255
    return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=-1)


def _label_colors(table: ClassTable | None) -> UInt8Array:
    colors = np.full((256, 3), 200, dtype=np.uint8)
    if table is not None:
        lookup = table.lookup()
        for position, entry in enumerate(table.classes):
            colors[lookup == position] = tuple(bytes.fromhex(entry.color.removeprefix("#")))
    return colors


def read_rows(
    cube: Cube, display: Display, rows: slice | npt.NDArray[np.int64], step: int = 1
) -> tuple[npt.NDArray[Any], BoolArray]:
    """Read what is shown of some patches.

    Returns
    -------
    pixels : numpy.ndarray
        ``(band, n, y, x)``; ``(n, y, x)`` for heights and labels; every `step`-th pixel.
    valid : numpy.ndarray
        ``(n, y, x)`` bool.
    """
    array = cube.array(display.modality)
    values = np.asarray(array[rows] if isinstance(rows, slice) else array.oindex[rows])
    if cube.role(display.modality) == "height":
        values = values[..., ::step, ::step]
        return values, np.isfinite(values)
    mask = cube.array(valid_name(display.modality))
    valid = np.asarray(mask[rows] if isinstance(rows, slice) else mask.oindex[rows])[..., ::step, ::step]
    values = values[..., ::step, ::step]
    if display.bands:
        values = np.moveaxis(values[:, list(display.bands)], 1, 0)
    return values, valid


def mosaic(
    patches: npt.NDArray[Any],
    y: npt.NDArray[np.int64],
    x: npt.NDArray[np.int64],
    shape: tuple[int, int],
    fill: Any,
) -> npt.NDArray[Any]:
    """Put patches together again.

    Parameters
    ----------
    patches
        ``(n, y, x)``; later ones lie over earlier ones.
    y, x
        ``(n,)`` first pixel of each.
    shape
        Of the result; what stands out is cut off.
    fill
        Value where there is no patch.

    Returns
    -------
    numpy.ndarray
        ``(y, x)``.

    Examples
    --------
    >>> mosaic(np.array([[[1, 1]], [[2, 2]]]), np.array([0, 0]), np.array([0, 1]), (1, 4), 0)
    array([[1, 2, 2, 0]])
    """
    canvas = np.full(shape, fill, dtype=patches.dtype)
    for patch, top, left in zip(patches, y, x, strict=True):
        place = canvas[top : top + patch.shape[0], left : left + patch.shape[1]]
        place[...] = patch[: place.shape[0], : place.shape[1]]
    return canvas


@dataclass(frozen=True)
class ScenePicture:
    """The picture of one scene.

    Parameters
    ----------
    image
        ``(y, x, 3)`` uint8, thinned out by `step`.
    window
        The part of the scene that has patches, in pixels of its grid.
    grid
        Of the whole scene.
    display
        How it was made.
    """

    image: UInt8Array
    window: Window
    grid: Grid
    display: Display


def scene_picture(
    cube: Cube, scene: int, *, display: Display | None = None, table: ClassTable | None = None
) -> ScenePicture:
    """Make the picture of a scene from its patches.

    Parameters
    ----------
    cube
        The cube.
    scene
        Its number.
    display
        What to show; None for what suits best.
    table
        Classes of labels, where labels are all that there is.
    """
    patches = cube.table()
    rows = np.flatnonzero((patches["scene_number"] == scene).to_numpy())
    display = display or choose_display(cube, rows)
    y, x = (patches[name].to_numpy()[rows].astype(np.int64) for name in ("y_start", "x_start"))
    grid, size = cube.grid(scene), cube.patch_size
    window = Window(
        int(y.min()), int(x.min()), int(y.max() - y.min()) + size, int(x.max() - x.min()) + size
    ).clipped(grid.shape)
    # A step that divides size and stride keeps the thinned pixels of all patches on one raster.
    common = int(np.gcd(size, cube.stride))
    wanted = max(window.height, window.width) / LARGEST
    step = next((s for s in range(1, common + 1) if common % s == 0 and s >= wanted), common)
    shape = (-(-window.height // step), -(-window.width // step))
    place = ((y - window.y) // step, (x - window.x) // step)
    # A scene's rows follow each other in the cube.
    pixels, valid = read_rows(cube, display, slice(int(rows[0]), int(rows[-1]) + 1), step)
    bands = pixels if display.bands else pixels[None]
    fill = np.nan if bands.dtype.kind == "f" else 0
    joined = np.stack([mosaic(band, *place, shape, fill) for band in bands])
    mask = mosaic(valid, *place, shape, False)
    metres = grid.pixel_size_metres()[0] * step
    image = render(
        display,
        joined if display.bands else joined[0],
        mask,
        table=table,
        pixel=metres if np.isfinite(metres) else 0.5 * step,
    )
    return ScenePicture(image, window, grid, display)
