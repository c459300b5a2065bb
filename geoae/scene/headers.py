"""Reading the headers of a scene: what each modality is, how it comes onto the grid, what is wrong."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyproj
from affine import Affine

from geoae.catalog import Catalog, Modality
from geoae.errors import SceneError
from geoae.grid import Bounds, Grid, crs_equal
from geoae.raster import RasterHeader, read_header
from geoae.scene.finding import Scene

__all__ = ["Provided", "SceneHeader", "fit_together", "read_scene"]

Provided = Literal["copied", "warped", "matched by size", "extracted", "missing"]
"""How a modality comes onto the grid: its pixels are taken bit for bit, resampled by their place on
the ground, resampled by the ratio of two sizes, made from another image, or not there."""


MAX_RATIO = 64
"""Largest ratio of two sizes that is taken for meant: a 30 m elevation model under images of 0.5 m."""

MAX_FINER = 4096
"""Largest ratio of pixel sizes that is warped: beyond, one pixel would take the mean of 16 million."""

_MAX_SHIFT = 0.5
"""Pixels by which two transforms without a CRS may disagree with the ratio of the sizes."""


@dataclass(frozen=True)
class SceneHeader:
    """What the headers of a scene's files say together.

    Parameters
    ----------
    scene
        The scene.
    headers
        Header of each file that can be used.
    reference
        Modality that gives the grid; empty if none can.
    grid
        The reference's grid; None if there is none.
    status
        ``ok``, or why the scene cannot be used, in one line.
    notes
        What is worth knowing and no fault, one line each.
    provided
        How each modality of the catalog comes onto the grid.
    grids
        Where the pixels of each file lie. That is the file's own grid, but for modalities matched by
        size: theirs is made from the reference's, with the first pixels of both at the same corner.
    """

    scene: Scene
    headers: Mapping[str, RasterHeader]
    reference: str
    grid: Grid | None
    status: str
    notes: tuple[str, ...] = ()
    provided: Mapping[str, Provided] = field(default_factory=dict)
    grids: Mapping[str, Grid] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the scene can be used."""
        return self.status == "ok"


def read_scene(scene: Scene, catalog: Catalog) -> SceneHeader:
    """Read the headers of a scene's files and check that they fit the catalog and each other.

    Parameters
    ----------
    scene
        From `find_scenes`.
    catalog
        What the modalities should be.

    Returns
    -------
    SceneHeader
        With a status other than ``ok`` where the scene cannot be used: faults of files do not raise,
        so that all scenes of a folder can be reported at once.
    """
    problems = list(scene.problems)
    notes = list(scene.notes)
    headers: dict[str, RasterHeader] = {}
    for key, source in scene.sources.items():
        modality = catalog.modalities[key]
        try:
            bands = len(modality.bands) if modality.bands and not modality.band_indices else None
            header = read_header(source.path, layout=modality.layout, bands=bands)
            _check_modality(modality, header)
        except SceneError as error:
            problems.append(f"{key}: {error}")
        else:
            headers[key] = header
            notes += _notes(key, modality, header)
    reference = _reference(catalog, headers)
    provided: dict[str, Provided] = dict.fromkeys(catalog.modalities, "missing")
    grids: dict[str, Grid] = {}
    for key, header in headers.items():
        try:
            provided[key], grids[key], said = _place(key, header.grid, reference, headers[reference].grid)
            notes += said
        except SceneError as error:
            problems.append(str(error))
    for key, modality in catalog.modalities.items():
        if key not in scene.sources and modality.extract and modality.extract.modality in headers:
            provided[key] = "extracted"
            names = ", ".join(modality.extract.bands)
            notes.append(f"{key} is extracted from {modality.extract.modality} ({names})")
    return SceneHeader(
        scene=scene,
        headers=headers,
        reference=reference,
        grid=headers[reference].grid if reference else None,
        status="; ".join(problems) or "ok",
        notes=tuple(notes),
        provided=provided,
        grids=grids,
    )


# --- one file against the catalog -----------------------------------------------------------------


def _check_modality(modality: Modality, header: RasterHeader) -> None:
    name = header.path.name
    if modality.band_indices is not None:
        if (last := max(modality.band_indices)) > header.count:
            raise SceneError(f"{name} has {_bands(header.count)}, the catalog takes band {last}")
    elif modality.role != "image":
        if header.count != 1:
            raise SceneError(
                f"{name} has {_bands(header.count)}, a {modality.role} has one",
                hint="band_indices in the catalog chooses one",
            )
    elif modality.bands is not None and header.count != len(modality.bands):
        names = ", ".join(band.name for band in modality.bands)
        raise SceneError(
            f"{name} has {_bands(header.count)}, the catalog expects {len(modality.bands)} ({names})",
            hint="band_indices in the catalog chooses among them",
        )
    if modality.dtype is not None and header.dtype != modality.dtype:
        raise SceneError(
            f"{name} is {header.dtype}, the catalog expects {modality.dtype}",
            hint="another catalog may describe this file",
        )
    if modality.role == "label" and np.dtype(header.dtype).kind not in "iu":
        raise SceneError(f"{name} is {header.dtype}, label codes are integers from 0 to 255")
    if modality.role == "image" and np.dtype(header.dtype).itemsize > 4 and header.dtype != "float64":
        raise SceneError(f"{name} is {header.dtype}, images have at most 32 bits")
    _check_band_order(modality, header)


def _check_band_order(modality: Modality, header: RasterHeader) -> None:
    """Refuse a file that names the catalog's bands in another order."""
    if modality.bands is None or modality.band_indices is not None:
        return
    expected = [band.name.casefold() for band in modality.bands]
    found = [name.casefold() for name in header.band_names]
    if found != expected and sorted(found) == sorted(expected):
        raise SceneError(
            f"{header.path.name} has its bands in another order than the catalog: "
            f"{', '.join(header.band_names)}",
            hint="order the catalog's bands as in the file",
        )


def _notes(key: str, modality: Modality, header: RasterHeader) -> list[str]:
    notes = []
    if header.layout == "hwc":
        notes.append(f"{key} is stored as height x width x band and read by tifffile")
    photograph = modality.role == "image" and header.dtype == "uint8"
    if photograph and modality.nodata == "auto" and header.nodata == 255:
        notes.append(f"{key} has the nodata tag 255, which is also white: it is not taken for void")
    if any(scale != 1 for scale in header.scales) or any(header.offsets):
        scale = f"scale {header.scales[0]:g}, offset {header.offsets[0]:g}"
        use = "applied" if modality.role == "height" else "kept as stored"
        notes.append(f"{key} has {scale} in its header: {use}")
    return notes


def _bands(count: int) -> str:
    return "1 band" if count == 1 else f"{count} bands"


# --- one file against the reference ---------------------------------------------------------------


def fit_together(first: RasterHeader, second: RasterHeader) -> bool:
    """Say whether two rasters could be of one scene: they have places that overlap, or sizes that match."""
    try:
        _place("second", second.grid, "first", first.grid)
    except SceneError:
        return False
    return True


def _reference(catalog: Catalog, headers: Mapping[str, RasterHeader]) -> str:
    for key in catalog.reference:
        if key in headers:
            return key
    order = list(catalog.modalities)

    def fineness(key: str) -> tuple[float, int, int]:
        size_x, size_y = headers[key].grid.pixel_size_metres()
        area = size_x * size_y
        height, width = headers[key].grid.shape
        return (math.inf if math.isnan(area) else area, -height * width, order.index(key))

    return min(headers, key=fineness, default="")


def _place(key: str, grid: Grid, reference: str, target: Grid) -> tuple[Provided, Grid, list[str]]:
    if key == reference or target.same_as(grid):
        return "copied", target, []
    if grid.crs is None or target.crs is None:
        placed, note = _match_by_size(key, grid, reference, target)
        return "matched by size", placed, [note]
    return "warped", grid, _check_overlap(key, grid, reference, target)


def _match_by_size(key: str, grid: Grid, reference: str, target: Grid) -> tuple[Grid, str]:
    """Place a raster that nothing but its size places. Returns its grid and a note."""
    sizes = f"{reference} is {_shape(target)}, {key} {_shape(grid)}"
    if (grid.crs is None) != (target.crs is None) and grid.shape != target.shape:
        bare = key if grid.crs is None else reference
        raise SceneError(
            f"{sizes}, and {bare} has no CRS: nothing says where it lies", hint="georeference it"
        )
    scale = 1.0 if grid.shape == target.shape else _size_ratio(target.shape, grid.shape)
    if scale is None:
        raise SceneError(
            f"{sizes}, without a CRS: neither equal nor an integer ratio, so the pixels cannot be matched",
            hint="georeference both, or bring them to one size",
        )
    placed = Grid(target.crs, target.transform @ Affine.scale(scale), grid.shape)
    own, others = grid.transform, target.transform
    if grid.crs is None and target.crs is None and not (own.is_identity or others.is_identity):
        # Both have places, in the same unnamed coordinates; these must say what the sizes say.
        shift = placed.offset_in_pixels(grid)
        if shift > _MAX_SHIFT:
            raise SceneError(
                f"{sizes}, without a CRS, and their transforms differ by {shift:.3g} pixels",
                hint="give both their CRS: geoae then warps one onto the other",
            )
    if scale == 1:
        return placed, f"{key} is taken for the grid of {reference} by its equal size"
    ratio = f"{scale:g} pixels" if scale > 1 else f"1/{1 / scale:g} pixel"
    return placed, f"{key} is matched by size: one of its pixels is {ratio} of {reference}"


def _size_ratio(target: tuple[int, int], shape: tuple[int, int]) -> float | None:
    """Return how many pixels of the target one pixel is wide, if that is an integer or one part of it.

    A ratio k fits if k coarse pixels cover the fine raster but for less than one of them, on both
    axes: 1024 and 512, but also 1023 and 512.

    Examples
    --------
    >>> _size_ratio((1024, 1024), (512, 512)), _size_ratio((1023, 1024), (512, 512))
    (2.0, 2.0)
    >>> _size_ratio((256, 256), (1024, 1024)), _size_ratio((1024, 1024), (1023, 1023))
    (0.25, None)
    >>> _size_ratio((10, 12), (5, 5)) is None
    True
    """
    coarser = shape[0] < target[0] or shape[1] < target[1]
    fine, coarse = (target, shape) if coarser else (shape, target)
    misfit: dict[int, int] = {}
    for ratio in {math.floor(fine[0] / coarse[0]), math.ceil(fine[0] / coarse[0])}:
        gaps = [abs(many - ratio * few) for many, few in zip(fine, coarse, strict=True)]
        if 2 <= ratio <= MAX_RATIO and max(gaps) <= ratio - 1:
            misfit[ratio] = sum(gaps)
    if not misfit:
        return None
    best = min(misfit, key=lambda ratio: (misfit[ratio], ratio))
    return float(best) if coarser else 1 / best


def _check_overlap(key: str, grid: Grid, reference: str, target: Grid) -> list[str]:
    """Check that a raster with a CRS of its own lies on the reference. Returns notes."""
    notes = []
    bounds = grid.bounds
    if not crs_equal(grid.crs, target.crs):
        notes.append(f"{key} has another CRS than {reference}")
        try:
            # Not rasterio's function of that name, whose errors are GDAL's own and on stderr, too.
            transformer = pyproj.Transformer.from_crs(grid.crs, target.crs, always_xy=True)
            bounds = Bounds(*transformer.transform_bounds(*grid.bounds))
        except pyproj.exceptions.ProjError as error:
            raise SceneError(
                f"the CRS of {key} cannot be transformed to that of {reference}: {_first_line(error)}",
                hint="check the CRS of both with: gdalinfo",
            ) from None
    there = target.bounds
    if not all(map(math.isfinite, bounds)) or not bounds.intersects(there):
        raise SceneError(
            f"{key} lies elsewhere than {reference}: {_corners(bounds)} and {_corners(there)}, no overlap",
            hint="check the CRS of both with: gdalinfo",
        )
    finer = max(
        wide / own for wide, own in zip(target.pixel_size_metres(), grid.pixel_size_metres(), strict=True)
    )
    if finer > MAX_FINER:
        raise SceneError(
            f"{key} has pixels {finer:.0f} times finer than {reference}",
            hint="put the finer one first in the catalog's reference",
        )
    width = min(bounds.xmax, there.xmax) - max(bounds.xmin, there.xmin)
    height = min(bounds.ymax, there.ymax) - max(bounds.ymin, there.ymin)
    part = width * height / ((there.xmax - there.xmin) * (there.ymax - there.ymin))
    if part < 0.995:
        notes.append(f"{key} covers {part:.0%} of {reference}")
    return notes


def _first_line(error: Exception) -> str:
    """Return what PROJ says before it writes out both definitions."""
    return str(error).split(": ")[0].split("(")[0].strip() or type(error).__name__


def _shape(grid: Grid) -> str:
    return f"{grid.height} x {grid.width}"


def _corners(bounds: Bounds) -> str:
    return "({:.6g}, {:.6g}, {:.6g}, {:.6g})".format(*bounds)
