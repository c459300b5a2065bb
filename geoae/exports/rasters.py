"""Rasters of clusters and summaries: for each scene with a CRS, one pixel a patch.

A pixel is the ground of its patch. Where patches overlap, a pixel is as large as the step between them and
lies in the middle of its patch: so every patch has a pixel of its own, and pixels neither overlap nor leave
gaps. Patches that leave gaps are refused, since a raster would claim the ground between them.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine

from geoae.cube import Cube
from geoae.errors import InputError, StoreExistsError, UsageError
from geoae.exports.cog import Band, Raster, side_files, write_cog
from geoae.exports.columns import export_table
from geoae.exports.maps import crs_title
from geoae.exports.selection import choose_layers
from geoae.exports.table import Category, ExportTable
from geoae.exports.target import aside, sweep
from geoae.grid import Grid

__all__ = ["KINDS", "RasterFile", "RastersReport", "export_rasters", "patch_grid"]

KINDS = ("clusters", "classes", "summary", "fractions")
"""What can be written: clusters, dominant classes, measures of the summary, the share of each class."""

_MEASURES = {"purity": "", "mean_height_m": "m", "height_valid": "", "error": ""}
"""Columns of the bands of a summary, with their units."""

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class RasterFile:
    """One raster.

    Parameters
    ----------
    path
        The file.
    scene, kind
        Scene, and what the raster shows.
    crs
        ``EPSG:n`` or the CRS's name.
    shape
        Bands, rows, columns.
    n_bytes
        Size of the file; of its pixels and texts after a dry run.
    """

    path: str
    scene: str
    kind: str
    crs: str
    shape: tuple[int, int, int]
    n_bytes: int


@dataclass(frozen=True)
class RastersReport:
    """What an export of rasters wrote.

    Parameters
    ----------
    path
        The folder.
    files
        The rasters, by scene.
    left_out
        Scenes without a raster, and why.
    warnings
        One line each.
    dry_run
        Whether nothing was written.
    """

    path: str
    files: tuple[RasterFile, ...]
    left_out: Mapping[str, str]
    warnings: tuple[str, ...]
    dry_run: bool = False


def patch_grid(grid: Grid, patch: int, stride: int, shape: tuple[int, int]) -> Grid:
    """Return the grid in which each patch of a scene is a pixel.

    Parameters
    ----------
    grid
        The scene's own grid; north-up, south-up, mirrored or rotated.
    patch, stride
        Side of a patch and step between patches, in pixels of the scene.
    shape
        Rows and columns of patches.

    Raises
    ------
    UsageError
        If the patches leave gaps.

    Examples
    --------
    >>> scene = Grid("EPSG:32617", Affine(0.5, 0, 100, 0, -0.5, 200), (64, 96))
    >>> tuple(patch_grid(scene, 32, 32, (2, 3)).transform)[:6]
    (16.0, 0.0, 100.0, 0.0, -16.0, 200.0)
    >>> tuple(patch_grid(scene, 32, 16, (3, 5)).transform)[:6]
    (8.0, 0.0, 104.0, 0.0, -8.0, 196.0)
    """
    if stride > patch:
        raise UsageError(
            f"patches of {patch} pixels every {stride} leave gaps, which a raster would claim to know",
            hint="geoae export FILE writes them as polygons",
        )
    offset = (patch - stride) / 2
    transform = grid.transform @ Affine.translation(offset, offset) @ Affine.scale(stride)
    return Grid(grid.crs, transform, shape)


def export_rasters(
    cube: str | os.PathLike[str] | Cube,
    path: str | os.PathLike[str],
    *,
    kinds: Sequence[str] = (),
    clusters: str | None = None,
    table: str | None = None,
    cities: Sequence[str] = (),
    scenes: Sequence[str] = (),
    split: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> RastersReport:
    """Export clusters and summaries as cloud optimized GeoTIFFs, for each scene with a CRS.

    Equal exports have equal bytes. Each file is moved to its place when it is whole.

    Parameters
    ----------
    cube
        The cube, or its path or URL.
    path
        Folder for the files, ``<scene>_<kind>_<layer>.tif``; it is made if it is not there.
    kinds
        What to write, of `KINDS`; all that the cube has if empty.
    clusters, table, cities, scenes, split
        As for `geoae.export_geopackage`. Patches that are not selected are void.
    overwrite
        Replace rasters that an earlier export wrote; other files never are.
    dry_run
        Say what would be written, and write nothing.

    Returns
    -------
    RastersReport
        The files, and the scenes without any: no CRS, or no value.

    Raises
    ------
    UsageError
        If a layer, kind, city, scene or split is not there, or patches leave gaps.
    StoreExistsError
        If a file exists and `overwrite` is false, or is no raster of ours.
    InputError
        If nothing is left to write, or the folder cannot be written to.
    """
    handle, folder = Cube.open(cube), Path(path)
    if handle.location.is_local and folder.resolve().is_relative_to(handle.location.path.resolve()):
        raise UsageError(f"{folder} lies in the cube", hint="name a folder outside of it")
    if folder.exists() and not folder.is_dir():
        raise StoreExistsError(f"{folder} is a file", hint="name a folder")
    if unknown := set(kinds) - set(KINDS):
        raise UsageError(f"there is no kind {min(unknown)!r}", hint=f"kinds are {', '.join(KINDS)}")
    exported = export_table(
        handle, clusters=clusters, table=table, cities=cities, scenes=scenes, split=split, projection=None
    )
    chosen = choose_layers(handle, clusters, table, None, split)
    summary = None if chosen.summary is None else chosen.summary.name
    classes = summary if exported.classes else None  # heights alone make a summary, too
    names = {
        "clusters": None if chosen.clusters is None else chosen.clusters.name,
        **{"classes": classes, "summary": summary, "fractions": classes},
    }
    missing = [kind for kind in kinds if names[kind] is None]
    wanted = [kind for kind in KINDS if names[kind] is not None and kind in (kinds or KINDS)]
    if missing or not wanted:
        command = "geoae cluster" if missing == ["clusters"] else "geoae summarize"
        raise UsageError(
            f"{handle.location.name} has no {(missing or ['clusters or summaries'])[0]}", hint=command
        )
    fractions = None
    if "fractions" in wanted and chosen.summary is not None:
        fractions = handle.layer(chosen.summary.path)["class_fraction"].to_numpy()
    left_out: dict[str, str] = {}
    rasters: dict[Path, tuple[str, str, Raster]] = {}
    for scene, number, kind, raster in _rasters(handle, exported, wanted, fractions):
        if not isinstance(raster, Raster):
            left_out[scene] = raster
            continue
        name = f"{_file_name(scene)}_{kind}_{names[kind]}.tif"
        if folder / name in rasters:  # two scenes whose names differ in what no file name may hold
            name = f"{_file_name(scene)}_{number}_{kind}_{names[kind]}.tif"
        rasters[folder / name] = (scene, kind, raster)
    if not rasters:
        raise InputError(
            f"{handle.location.name}: no scene to write, {_reasons(left_out)}",
            hint="geoae export FILE writes scenes without a CRS in pixels",
        )
    _refuse(list(rasters), overwrite)
    warnings: tuple[str, ...] = ()
    if not dry_run:
        warnings = _write(rasters, folder, exported)
    texts = 4096 + sum(map(len, exported.metadata.values())) + len(exported.description)
    files = tuple(
        RasterFile(
            str(file), scene, kind, crs_title(str(raster.grid.crs)), raster.values.shape,
            _estimate(raster) + texts if dry_run else file.stat().st_size,
        )
        for file, (scene, kind, raster) in rasters.items()
    )  # fmt: skip
    return RastersReport(str(folder), files, left_out, (*exported.warnings, *warnings), dry_run)


def _estimate(raster: Raster) -> int:
    """Return about the most that pixels take: tiles are always whole, and their void part compresses well."""
    bands, height, width = raster.values.shape
    tiles = -(-height // 512) * -(-width // 512)
    size: int = raster.values.nbytes * 4 // 3 + tiles * bands * raster.values.itemsize * 328
    return size


def _reasons(left_out: Mapping[str, str]) -> str:
    counts: dict[str, int] = {}
    for reason in left_out.values():
        counts[reason] = counts.get(reason, 0) + 1
    return ", ".join(f"{count} with {reason}" for reason, count in sorted(counts.items()))


def _file_name(scene: str) -> str:
    """Turn a scene's name into a part of a file name that is safe anywhere.

    Examples
    --------
    >>> _file_name("JAX_004_006"), _file_name("../a b/c")
    ('JAX_004_006', '_a_b_c')
    """
    return re.sub(r"[^\w.-]+", "_", scene).lstrip(".-") or "scene"


def _rasters(
    cube: Cube, exported: ExportTable, kinds: Sequence[str], fractions: Values | None
) -> Iterator[tuple[str, int, str, Raster | str]]:
    """Make the rasters of each scene; a text says why a scene has none."""
    columns = {column.name: column for column in exported.columns}
    place = {name: np.asarray(cube.array(name)[...]) for name in ("scene_number", "row", "col")}
    ids = columns["patch_id"].values.to_numpy()
    titles = np.asarray(cube.array("scene_name")[...]).astype(object)
    for number, grid in exported.grids.items():
        scene = str(titles[number])
        if grid.crs is None:
            yield scene, number, "", "no CRS"
            continue
        whole = place["scene_number"] == number
        shape = (int(place["row"][whole].max()) + 1, int(place["col"][whole].max()) + 1)
        rows = np.flatnonzero(exported.scene_number == number)
        pixels = patch_grid(grid, exported.patch, cube.stride, shape)
        where = (place["row"][ids[rows]], place["col"][ids[rows]])
        made = []
        for kind in kinds:
            if kind == "fractions" and fractions is not None:
                found = {
                    category.label: fractions[ids[rows], i] for i, category in enumerate(exported.classes)
                }
                bands = tuple(Band(name, f"Share of {name} (0 to 1)") for name in found)
                raster = _measures(pixels, where, bands, list(found.values()))
            elif kind == "summary":
                there = [columns[name] for name in _MEASURES if name in columns]
                there = [column for column in there if column.values.null_count < len(exported)]
                bands = tuple(Band(column.name, column.title, _MEASURES[column.name]) for column in there)
                raster = _measures(
                    pixels, where, bands,
                    [column.values.to_numpy(zero_copy_only=False)[rows] for column in there],
                )  # fmt: skip
            else:
                column = columns["cluster" if kind == "clusters" else "dominant_class"]
                legend = exported.clusters if kind == "clusters" else exported.classes
                band = Band(column.name, column.title)
                raster = _classes(pixels, where, band, legend, column.values.to_pandas().to_numpy()[rows])
            if raster is not None and raster.known.any():
                made.append((kind, replace(raster, title=f"{scene}: {kind}")))
        if not made:
            yield scene, number, "", "no value"
        yield from ((scene, number, kind, raster) for kind, raster in made)


def _measures(
    grid: Grid, where: tuple[Values, Values], bands: tuple[Band, ...], values: Sequence[Values]
) -> Raster | None:
    if not bands:
        return None
    pixels = np.full((len(bands), *grid.shape), np.nan, dtype=np.float32)
    for layer, one in zip(pixels, values, strict=True):
        layer[where] = one
    return Raster(grid, pixels, float("nan"), bands)


def _classes(
    grid: Grid, where: tuple[Values, Values], band: Band, legend: tuple[Category, ...], values: Values
) -> Raster | None:
    """Write classes in the smallest type that holds them and a value for void."""
    codes = [category.value for category in legend]
    if not codes:
        return None
    small = min(codes) >= 0 and max(codes) < 255
    dtype: npt.DTypeLike = np.uint8 if small else np.int32
    nodata = 255 if small else int(np.iinfo(np.int32).min)
    pixels = np.full((1, *grid.shape), nodata, dtype=dtype)
    wide = values.astype(np.float64)  # NaN for null
    pixels[0][where] = np.where(np.isnan(wide), nodata, wide).astype(dtype)
    return Raster(grid, pixels, nodata, (band,), legend)


def _refuse(files: Sequence[Path], overwrite: bool) -> None:
    """Raise unless all files may be written."""
    for file in files:
        for one in (file, *side_files(file)):
            if not one.exists() and not one.is_symlink():
                continue
            if not overwrite:
                raise StoreExistsError(f"{one} exists", hint="--overwrite replaces it")
        if (file.exists() or file.is_symlink()) and not _ours(file):
            raise StoreExistsError(
                f"{file} is not a raster of geoae and is never replaced", hint="name another folder"
            )


def _ours(file: Path) -> bool:
    try:
        with rasterio.open(file, driver="GTiff") as found:
            return "geoae_version" in found.tags()
    except rasterio.errors.RasterioError:
        return False


def _write(
    rasters: Mapping[Path, tuple[str, str, Raster]], folder: Path, exported: ExportTable
) -> tuple[str, ...]:
    """Write all rasters aside, then move them to their places; return warnings."""
    warnings: list[str] = []
    try:
        folder.mkdir(exist_ok=True)
        sweep(folder)
        with aside(folder, folder) as temporary:
            for file, (scene, kind, raster) in rasters.items():
                tags = {
                    **exported.metadata,
                    "scene": scene,
                    "kind": kind,
                    "TIFFTAG_SOFTWARE": f"geoae {exported.metadata.get('geoae_version', '')}".rstrip(),
                    "TIFFTAG_IMAGEDESCRIPTION": f"{raster.title}. {exported.description}",
                    "TIFFTAG_COPYRIGHT": exported.metadata.get("licence", ""),
                }
                warnings += write_cog(raster, temporary / file.name, tags)
            for file in rasters:
                # Names and colours of other classes are worse than none: they go first, and come last.
                for one in side_files(file):
                    one.unlink(missing_ok=True)
                new = temporary / file.name
                for one in (new, *side_files(new)):
                    if one.exists():
                        one.replace(folder / one.name)
    except FileNotFoundError as error:
        raise InputError(f"{folder}: the folder above does not exist", hint=f"mkdir -p {folder}") from error
    except OSError as error:
        raise InputError(f"{folder} could not be written: {error.strerror or error}") from error
    return tuple(warnings)
