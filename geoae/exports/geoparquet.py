"""GeoParquet 1.1: the same table for data frames and databases.

One file. Its geometry column is ``geometry``, in EPSG:4326 (longitude before latitude), null for
patches of scenes without a CRS. If there are such patches, the column ``pixel_geometry`` has the
place of every patch in its scene in pixels, y negated, with no CRS; if no scene has a CRS, these are
``geometry`` itself.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj

from geoae.errors import InputError
from geoae.exports.footprints import Corners, pixel_corners, wkb_polygons
from geoae.exports.maps import MapLayer, map_layers
from geoae.exports.table import ExportedLayer, ExportTable

__all__ = ["LateColumn", "write_geoparquet"]

_ROW_GROUP = 65_536
"""Rows that a reader fetches together; their box in the metadata lets it skip the others."""


_LATE_ROW_GROUP = 4_096
"""The same with columns that are made while the file is written: so many rows are held in memory."""


@dataclass(frozen=True)
class LateColumn:
    """A column that is too large to be held whole.

    Parameters
    ----------
    name, kind, title
        Name and type, and what a person reads.
    read
        Returns the values of some rows of the table.
    """

    name: str
    kind: pa.DataType
    title: str
    read: Callable[[slice], pa.Array]


def plan_geoparquet(table: ExportTable) -> tuple[tuple[ExportedLayer, ...], tuple[str, ...], int]:
    """Return what `write_geoparquet` would return, and about the most bytes that the file takes."""
    layers, warnings = map_layers(table)
    globe = next((layer for layer in layers if layer.name == "overview"), None)
    described = _described(globe, len(table))
    rows = sum(column.values.nbytes for column in table.columns)
    texts = sum(map(len, table.metadata.values())) + len(table.description)
    polygon = 93 + 8  # well-known binary and its offset
    return described, tuple(warnings), 10_000 + texts + rows + polygon * len(table) * len(described)


def _described(globe: MapLayer | None, number: int) -> tuple[ExportedLayer, ...]:
    """Return the geometry columns of a table of so many patches."""
    if globe is None:
        return (ExportedLayer("geometry", None, number),)
    placed = ExportedLayer("geometry", "EPSG:4326", len(globe.rows))
    return (placed, ExportedLayer("pixel_geometry", None, number)) if len(globe.rows) < number else (placed,)


def write_geoparquet(
    table: ExportTable, path: Path, *, late: Sequence[LateColumn] = ()
) -> tuple[tuple[ExportedLayer, ...], tuple[str, ...]]:
    """Write a table of patches to a new GeoParquet file.

    Parameters
    ----------
    table
        At least one patch.
    path
        A file that does not exist yet.
    late
        Further columns, made a group of rows at a time.

    Returns
    -------
    layers : tuple of ExportedLayer
        The geometry columns.
    warnings : tuple of str
        What could not be done.

    Raises
    ------
    InputError
        If the disk is full.
    """
    layers, warnings = map_layers(table)
    globe = next((layer for layer in layers if layer.name == "overview"), None)
    columns = [(column.name, column.values) for column in table.columns]
    geometry: dict[str, dict[str, object]] = {}
    pixels = pixel_corners(table.y_start, table.x_start, table.patch)
    if globe is None:
        columns.append(("geometry", wkb_polygons(pixels)))
        geometry["geometry"] = _describe(pixels, None)
    else:
        columns.append(("geometry", _spread(wkb_polygons(globe.corners), globe.rows, len(table))))
        geometry["geometry"] = _describe(globe.corners, "EPSG:4326")
        if len(globe.rows) < len(table):
            columns.append(("pixel_geometry", wkb_polygons(pixels)))
            geometry["pixel_geometry"] = _describe(pixels, None)
    titles = {column.name: column.title for column in table.columns}
    fields = [
        pa.field(name, values.type, metadata={"title": titles[name]} if name in titles else None)
        for name, values in columns
    ]
    schema = pa.schema(
        [*fields, *(pa.field(column.name, column.kind, metadata={"title": column.title}) for column in late)],
        metadata={
            "geo": json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": geometry}),
            "title": table.title,
            "description": table.description,
            **table.metadata,
        },
    )
    try:
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            group = _LATE_ROW_GROUP if late else _ROW_GROUP
            for start in range(0, len(table), group):
                part = slice(start, min(start + group, len(table)))
                arrays = [values.slice(start, part.stop - start) for _, values in columns]
                arrays += [column.read(part) for column in late]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=group)
    except OSError as error:
        raise InputError(f"{path.name} could not be written: {error.strerror or error}") from error
    return _described(globe, len(table)), tuple(warnings)


def _spread(values: pa.Array, rows: "np.ndarray[tuple[int], np.dtype[np.int64]]", length: int) -> pa.Array:
    """Put values at their rows, null elsewhere."""
    if len(rows) == length:
        return values
    where = np.zeros(length, dtype=np.int64)
    where[rows] = np.arange(len(rows))
    absent = np.ones(length, dtype=bool)
    absent[rows] = False
    return values.take(pa.array(where, mask=absent))


def _describe(corners: Corners, crs: str | None) -> dict[str, object]:
    """Return the metadata of a geometry column, as GeoParquet wants it."""
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    return {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "orientation": "counterclockwise",
        "edges": "planar",
        "crs": None if crs is None else pyproj.CRS.from_user_input(crs).to_json_dict(),
        "bbox": [*low.tolist(), *high.tolist()],
    }
