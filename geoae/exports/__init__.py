"""Export: patches as polygons for GIS, as GeoPackage and GeoParquet; as pixels of GeoTIFFs.

GDAL reads Zarr of this format from version 3.13 on only, so GIS programs are served by files of their
own.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from geoae.cube import Cube
from geoae.errors import UsageError
from geoae.exports.additions import add_layers, check_prefix, plan_addition
from geoae.exports.columns import export_table
from geoae.exports.geopackage import described, estimate_geopackage, layers_of, write_geopackage
from geoae.exports.geoparquet import plan_geoparquet, write_geoparquet
from geoae.exports.latents import LatentsReport, export_latents
from geoae.exports.rasters import RasterFile, RastersReport, export_rasters
from geoae.exports.table import ExportedLayer, ExportReport, ExportTable
from geoae.exports.target import check_target, is_geopackage, is_parquet, replacing

__all__ = [
    "ExportReport",
    "ExportedLayer",
    "LatentsReport",
    "RasterFile",
    "RastersReport",
    "export_geopackage",
    "export_geoparquet",
    "export_latents",
    "export_rasters",
]

_Written = tuple[tuple[ExportedLayer, ...], tuple[str, ...], tuple[str, ...]]
"""What a writer returns: layers, warnings, layers that were there and stay."""

_Planned = tuple[tuple[ExportedLayer, ...], tuple[str, ...], tuple[str, ...], int]
"""What a dry run returns: the same, and about the most bytes of the file."""


def export_geopackage(
    cube: str | os.PathLike[str] | Cube,
    path: str | os.PathLike[str],
    *,
    clusters: str | None = None,
    table: str | None = None,
    projection: str | None = None,
    cities: Sequence[str] = (),
    scenes: Sequence[str] = (),
    split: str | None = None,
    overwrite: bool = False,
    add: bool = False,
    prefix: str = "",
    dry_run: bool = False,
) -> ExportReport:
    """Export patches as a GeoPackage that QGIS opens with colours, legend and column titles.

    A layer for each CRS, an overview in EPSG:4326, and scenes without a CRS in pixels; see
    `geoae.exports.geopackage` for the layers. Equal exports have equal bytes.

    Parameters
    ----------
    cube
        The cube, or its path or URL.
    path
        The file, ``*.gpkg``. It is written beside its place and moved there when it is whole.
    clusters, table, projection
        Names of the layers of clusters, summaries (a class table) and projections. Without a name:
        the only one; of the class tables the catalog's default; of the projections the only one of
        the latents that were clustered. What the cube does not have is null.
    cities, scenes
        Keep only patches of these cities, these scenes.
    split
        Keep only one part of a split: ``train``, or ``name:test``.
    overwrite
        Replace an existing GeoPackage; with `add`, only its layers of the same names, whoever made them.
    add
        Add to an existing GeoPackage. Its other layers, their styles and column titles stay. Layers that
        an earlier export of the same clusters of the same cube wrote under the same names are replaced.
    prefix
        Put before the name of every layer, so that several exports fit into one file.
    dry_run
        Say what would be written, and write nothing.

    Returns
    -------
    ExportReport
        What was written, what was there and stays, and warnings: stale layers, patches that are not in the
        overview.

    Raises
    ------
    UsageError
        If a layer, city, scene or split is not there, or several layers are and none is named; if the
        path has another ending or lies in the cube; if the prefix cannot begin a name.
    StoreExistsError
        If the file exists and neither `overwrite` nor `add` is given, or it is no GeoPackage; if a layer
        in it that is not ours has a name that is needed.
    InputError
        If no patch is left, the folder is missing or cannot be written to, or the GeoPackage is damaged.
    LockedError
        If another program is writing to the file, or has done so in the meantime.
    """
    check_prefix(prefix)

    def write(exported: ExportTable, new: Path) -> _Written:
        if new.exists():
            return add_layers(exported, new, prefix=prefix, overwrite=overwrite, shown=Path(path))
        return (*write_geopackage(exported, new, prefix=prefix), ())

    def plan(exported: ExportTable) -> _Planned:
        target = Path(path)
        if not (add and target.exists()):
            layers, warnings = layers_of(exported, prefix)
            return described(layers), tuple(warnings), (), estimate_geopackage(exported, layers)
        # A copy here, too: the file itself is never opened beside another program.
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(shutil.copy(target, Path(folder) / "copy.gpkg"))
            found = plan_addition(exported, copy, prefix=prefix, overwrite=overwrite, shown=target)
        n_bytes = target.stat().st_size + estimate_geopackage(exported, found.layers)
        return described(found.layers), found.warnings, found.kept, n_bytes

    return _export(
        cube,
        path,
        lambda handle: export_table(
            handle,
            clusters=clusters,
            table=table,
            projection=projection,
            cities=cities,
            scenes=scenes,
            split=split,
        ),
        write,
        plan,
        suffix=".gpkg",
        kind="GeoPackage",
        is_kind=is_geopackage,
        overwrite=overwrite,
        add=add,
        dry_run=dry_run,
    )


def export_geoparquet(
    cube: str | os.PathLike[str] | Cube,
    path: str | os.PathLike[str],
    *,
    clusters: str | None = None,
    table: str | None = None,
    projection: str | None = None,
    cities: Sequence[str] = (),
    scenes: Sequence[str] = (),
    split: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> ExportReport:
    """Export patches as one GeoParquet file, for data frames and databases.

    The column ``geometry`` is in EPSG:4326, null for scenes without a CRS; these have
    ``pixel_geometry``. See `geoae.exports.geoparquet`.

    Parameters
    ----------
    cube, clusters, table, projection, cities, scenes, split, overwrite, dry_run
        As for `export_geopackage`.
    path
        The file, ``*.parquet``.

    Returns
    -------
    ExportReport
        The geometry columns of the file, and warnings.

    Raises
    ------
    UsageError, StoreExistsError, InputError
        As for `export_geopackage`.
    """
    return _export(
        cube,
        path,
        lambda handle: export_table(
            handle,
            clusters=clusters,
            table=table,
            projection=projection,
            cities=cities,
            scenes=scenes,
            split=split,
        ),
        lambda exported, new: (*write_geoparquet(exported, new), ()),
        _plan_geoparquet,
        suffix=".parquet",
        kind="Parquet file",
        is_kind=is_parquet,
        overwrite=overwrite,
        dry_run=dry_run,
    )


def _plan_geoparquet(exported: ExportTable) -> _Planned:
    layers, warnings, n_bytes = plan_geoparquet(exported)
    return layers, warnings, (), n_bytes


def _export(
    cube: str | os.PathLike[str] | Cube,
    path: str | os.PathLike[str],
    gather: Callable[[Cube], ExportTable],
    write: Callable[[ExportTable, Path], _Written],
    plan: Callable[[ExportTable], _Planned],
    *,
    suffix: str,
    kind: str,
    is_kind: Callable[[Path], bool],
    overwrite: bool,
    add: bool = False,
    dry_run: bool = False,
) -> ExportReport:
    target, handle = Path(path), Cube.open(cube)
    if handle.location.is_local and target.resolve().is_relative_to(handle.location.path.resolve()):
        raise UsageError(f"{target} lies in the cube", hint="name a file outside of it")
    if dry_run:
        check_target(target, suffix=suffix, kind=kind, is_kind=is_kind, overwrite=overwrite or add)
        exported = gather(handle)
        layers, warnings, kept, n_bytes = plan(exported)
        warnings = (*exported.warnings, *warnings)
        return ExportReport(str(target), len(exported), layers, warnings, kept, n_bytes, dry_run)
    with replacing(target, suffix=suffix, kind=kind, is_kind=is_kind, overwrite=overwrite, add=add) as new:
        # Gathered after the target was checked: a refusal should not cost the reading.
        exported = gather(handle)
        layers, warnings, kept = write(exported, new)
    warnings = (*exported.warnings, *warnings)
    return ExportReport(str(target), len(exported), layers, warnings, kept, target.stat().st_size)
