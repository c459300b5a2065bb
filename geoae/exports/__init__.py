"""Export: patches as polygons for GIS, as GeoPackage and GeoParquet; as pixels of GeoTIFFs.

GDAL reads Zarr of this format from version 3.13 on only, so GIS programs are served by files of their
own.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from geoae.cube import Cube
from geoae.errors import UsageError
from geoae.exports.additions import add_layers, check_prefix
from geoae.exports.columns import export_table
from geoae.exports.geopackage import write_geopackage
from geoae.exports.geoparquet import write_geoparquet
from geoae.exports.latents import LatentsReport, export_latents
from geoae.exports.rasters import RasterFile, RastersReport, export_rasters
from geoae.exports.table import ExportedLayer, ExportReport, ExportTable
from geoae.exports.target import is_geopackage, is_parquet, replacing

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
        suffix=".gpkg",
        kind="GeoPackage",
        is_kind=is_geopackage,
        overwrite=overwrite,
        add=add,
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
) -> ExportReport:
    """Export patches as one GeoParquet file, for data frames and databases.

    The column ``geometry`` is in EPSG:4326, null for scenes without a CRS; these have
    ``pixel_geometry``. See `geoae.exports.geoparquet`.

    Parameters
    ----------
    cube, clusters, table, projection, cities, scenes, split, overwrite
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
        suffix=".parquet",
        kind="Parquet file",
        is_kind=is_parquet,
        overwrite=overwrite,
    )


def _export(
    cube: str | os.PathLike[str] | Cube,
    path: str | os.PathLike[str],
    gather: Callable[[Cube], ExportTable],
    write: Callable[[ExportTable, Path], _Written],
    *,
    suffix: str,
    kind: str,
    is_kind: Callable[[Path], bool],
    overwrite: bool,
    add: bool = False,
) -> ExportReport:
    target, handle = Path(path), Cube.open(cube)
    if handle.location.is_local and target.resolve().is_relative_to(handle.location.path.resolve()):
        raise UsageError(f"{target} lies in the cube", hint="name a file outside of it")
    with replacing(target, suffix=suffix, kind=kind, is_kind=is_kind, overwrite=overwrite, add=add) as new:
        # Gathered after the target was checked: a refusal should not cost the reading.
        exported = gather(handle)
        layers, warnings, kept = write(exported, new)
    return ExportReport(str(target), len(exported), layers, (*exported.warnings, *warnings), kept)
