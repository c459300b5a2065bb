"""GeoPackage: a layer for each CRS, overviews, QGIS styles, and the record of what it was made from.

Layers of a file:

``clusters_<crs>``
    Patches of the scenes with that CRS, in it. ``patches_<crs>`` if there are no clusters.
``overview``
    The same patches together, in EPSG:4326.
``clusters_pixels``
    Patches of scenes without a CRS, in pixels of their scene with y negated: they lie on the picture
    as a viewer shows it. All scenes begin at the origin; filter by ``scene_id`` to see one.
    ``clusters_no_crs`` has those whose files give a transform and no CRS, in its coordinates.
``overview_pixels``
    Patches of all scenes without a CRS, in pixels, the scenes side by side. ``x_offset`` and
    ``y_offset`` say by how much a scene was moved: subtract them to get the place in ``clusters_pixels``.
``tiles_<crs>``
    Where the cube has footprints of tiles: counts of the patches of scenes without a CRS on these, a tile a
    polygon, marked approximate. ``overview_tiles`` has the centres in EPSG:4326.
``layer_styles``
    What QGIS applies when it opens a layer.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyogrio

from geoae.errors import InputError, IntegrityError
from geoae.exports.footprints import wkb_polygons
from geoae.exports.maps import MapLayer, crs_title, map_layers
from geoae.exports.qml import PATCH_TIP, TILE_TIP, layer_style
from geoae.exports.table import Column, ExportedLayer, ExportTable, TileLayer
from geoae.grid import crs_equal

__all__ = [
    "Layer",
    "check_layers",
    "described",
    "estimate_geopackage",
    "layers_of",
    "style_rows",
    "write_geopackage",
    "write_layers",
    "write_styles",
]

Layer = MapLayer | TileLayer

_GEOMETRY = "geom"

# GDAL gives this one srs_id -1, "undefined Cartesian"; no CRS at all would be written as 99999.
_UNDEFINED_CARTESIAN = 'LOCAL_CS["Undefined Cartesian SRS"]'

# The date of last change goes into the file; the clock would make equal exports differ.
_NO_DATE = "1970-01-01T00:00:00.000Z"

_OPTIONS = {
    "OGR_CURRENT_DATE": _NO_DATE,
    # The file is temporary until it is flushed as a whole; SQLite need not wait for the disk.
    "OGR_SQLITE_SYNCHRONOUS": "OFF",
}

_DIGITS = 7
"""Decimal digits that a float32 holds."""

_TENS = np.array([float(f"1e{power}") for power in range(23)])
"""Powers of ten that a float64 holds exactly."""


def write_geopackage(
    table: ExportTable, path: Path, *, prefix: str = ""
) -> tuple[tuple[ExportedLayer, ...], tuple[str, ...]]:
    """Write a table of patches to a new GeoPackage of version 1.2.

    Equal tables give equal bytes with one build of GDAL.

    Parameters
    ----------
    table
        At least one patch.
    path
        A file that does not exist yet.
    prefix
        Put before the name of every layer.

    Returns
    -------
    layers : tuple of ExportedLayer
        What was written, styles not among them.
    warnings : tuple of str
        What could not be done.

    Raises
    ------
    InputError
        If GDAL cannot write the file.
    IntegrityError
        If the file does not read back as it was written.
    """
    layers, warnings = layers_of(table, prefix)
    write_layers(table, layers, path)
    write_styles(style_rows(table, layers), path)
    written, lost = check_layers(layers, path)
    return written, (*warnings, *lost)


def layers_of(table: ExportTable, prefix: str = "") -> tuple[list[Layer], list[str]]:
    """Return the layers that a table gives, patches before tiles, and warnings."""
    patches, warnings = map_layers(table)
    layers: list[Layer] = [*patches, *table.tiles]
    return [replace(layer, name=prefix + layer.name) for layer in layers], warnings


def described(layers: Sequence[Layer]) -> tuple[ExportedLayer, ...]:
    """Return name, CRS and number of polygons of some layers, written or not."""
    return tuple(
        ExportedLayer(
            layer.name,
            None if layer.crs is None else crs_title(layer.crs),
            len(layer.rows) if isinstance(layer, MapLayer) else len(layer.geometry),
        )
        for layer in layers
    )


def estimate_geopackage(table: ExportTable, layers: Sequence[Layer]) -> int:
    """Return about how many bytes a GeoPackage of some layers has."""
    texts = sum(map(len, table.metadata.values())) + len(table.description)
    row: float = sum(column.values.nbytes for column in table.columns) / len(table)
    features = sum(layer.features for layer in described(layers))
    # Measured: tables of the format itself; styles, titles and an index for each layer; a polygon beside
    # its columns, with its place in the index.
    return round(130_000 + len(layers) * (25_000 + texts) + features * (row + 200))


def write_layers(table: ExportTable, layers: Sequence[Layer], path: Path) -> None:
    """Write the layers of a table to a GeoPackage; to a new one of version 1.2 if there is none.

    A layer of the file that has the name of one of these is replaced.

    Raises
    ------
    InputError
        If GDAL cannot write the file.
    """
    columns = [replace(column, values=_tidy(column.values)) for column in table.columns]
    with _writing(path):
        for layer in layers:
            if isinstance(layer, MapLayer):
                _write_layer(table, columns, layer, path, first=not path.exists())
            else:
                _write_tiles(table, layer, path)


def _write_layer(
    table: ExportTable, columns: list[Column], layer: MapLayer, path: Path, *, first: bool
) -> None:
    rows = None if len(layer.rows) == len(table) else pa.array(layer.rows)
    arrays = [column.values if rows is None else column.values.take(rows) for column in columns]
    arrays += [column.values for column in layer.extra]
    fields = [_field(column) for column in (*columns, *layer.extra)]
    arrays.append(wkb_polygons(layer.corners))
    fields.append(pa.field(_GEOMETRY, arrays[-1].type))
    pyogrio.write_arrow(
        pa.Table.from_arrays(arrays, schema=pa.schema(fields)),
        path,
        layer=layer.name,
        driver="GPKG",
        geometry_name=_GEOMETRY,
        geometry_type="Polygon",
        crs=_UNDEFINED_CARTESIAN if layer.crs is None else layer.crs,
        dataset_options={"VERSION": "1.2"} if first else None,
        # With the layer: of a file's own metadata GDAL leaves a copy, .aux.xml, wherever it reads it.
        layer_metadata=dict(table.metadata),
        layer_options={
            "IDENTIFIER": layer.title,
            "DESCRIPTION": ". ".join(part for part in (layer.description, table.description) if part),
        },
    )


def _write_tiles(table: ExportTable, layer: TileLayer, path: Path) -> None:
    fields = [*map(_field, layer.columns), pa.field(_GEOMETRY, layer.geometry.type)]
    pyogrio.write_arrow(
        pa.Table.from_arrays(
            [*(column.values for column in layer.columns), layer.geometry], schema=pa.schema(fields)
        ),
        path,
        layer=layer.name,
        driver="GPKG",
        geometry_name=_GEOMETRY,
        geometry_type=layer.geometry_type,
        crs=layer.crs,
        layer_metadata=dict(table.metadata),
        layer_options={
            "IDENTIFIER": layer.title,
            "DESCRIPTION": ". ".join(part for part in (layer.description, table.description) if part),
        },
    )


def _field(column: Column) -> pa.Field:
    """Return the field with its title, which GDAL stores in ``gpkg_data_columns``."""
    return pa.field(column.name, column.values.type, metadata={"GDAL:OGR:alternative_name": column.title})


def _tidy(values: pa.Array) -> pa.Array:
    """Widen float32 to float64 as the decimal number that it stands for.

    Viewers print all digits of a float64: 0.88 stored as float32 would read 0.8799999952316284.

    Examples
    --------
    >>> _tidy(pa.array([0.88, None], pa.float32())).to_pylist()
    [0.88, None]
    """
    if values.type != pa.float32():
        return values
    wide = values.cast(pa.float64()).to_numpy(zero_copy_only=False)  # NaN for null
    with np.errstate(divide="ignore", invalid="ignore"):
        power = _DIGITS - 1 - np.floor(np.log10(np.abs(wide)))
    exact = (power >= 0) & (power < len(_TENS))
    scale = _TENS[np.where(exact, power, 0).astype(np.intp)]
    # Division of two exact numbers rounds once.
    rounded = np.where(exact, np.round(wide * scale) / scale, wide)
    return pa.array(rounded, mask=np.asarray(pc.is_null(values, nan_is_null=True)))


def style_rows(table: ExportTable, layers: Sequence[Layer]) -> dict[str, list[object]]:
    """Return the columns of ``layer_styles`` for some layers, in the order of QGIS."""
    rows: list[tuple[str, str, str, bool, str]] = []
    for layer in layers:
        if isinstance(layer, TileLayer) and layer.geometry_type != "Polygon":
            continue
        own = (*table.columns, *layer.extra) if isinstance(layer, MapLayer) else layer.columns
        tip = PATCH_TIP if isinstance(layer, MapLayer) else TILE_TIP
        titles = {column.name: column.title for column in own}
        styles = []
        if table.clusters:
            styles.append(
                ("Clusters", layer_style("cluster", table.clusters, titles, tip, none_label="no cluster"))
            )
        if table.classes:
            qml = layer_style("dominant_class", table.classes, titles, tip, none_label="no class")
            styles.append(("Classes", qml))
        styles = styles or [("Patches", layer_style(None, (), titles, tip))]
        rows += [(layer.name, style, qml, i == 0, layer.title) for i, (style, qml) in enumerate(styles)]
    names, named, qmls, defaults, descriptions = (list(column) for column in zip(*rows, strict=True))
    blank: list[object] = [""] * len(rows)  # QGIS looks for the empty text, not for null
    return {
        "f_table_catalog": blank,
        "f_table_schema": blank,
        "f_table_name": names,
        "f_geometry_column": [_GEOMETRY] * len(rows),
        "styleName": named,
        "styleQML": qmls,
        "styleSLD": blank,
        "useAsDefault": defaults,
        "description": descriptions,
        "owner": blank,
        "ui": [None] * len(rows),
        "update_time": [_NO_DATE] * len(rows),
    }


def write_styles(rows: Mapping[str, list[object]], path: Path) -> None:
    """Write the table in which QGIS looks for styles, through GDAL like the layers themselves."""
    kinds = {"useAsDefault": pa.bool_(), "update_time": pa.timestamp("ms", "UTC")}
    times = [datetime.fromisoformat(str(time)) for time in rows["update_time"]]
    columns = {
        name: pa.array(times if name == "update_time" else values, kinds.get(name, pa.string()))
        for name, values in rows.items()
    }
    with _writing(path):
        pyogrio.write_arrow(
            pa.table(columns),
            path,
            layer="layer_styles",
            driver="GPKG",
            layer_options={"FID": "id", "IDENTIFIER": "layer_styles", "DESCRIPTION": "Styles of QGIS"},
        )


def check_layers(layers: Sequence[Layer], path: Path) -> tuple[tuple[ExportedLayer, ...], tuple[str, ...]]:
    """Open the file anew and compare each layer's count with what was to be written.

    Returns
    -------
    layers : tuple of ExportedLayer
        What was written.
    warnings : tuple of str
        Which CRS a GeoPackage cannot hold as it is.

    Raises
    ------
    IntegrityError
        If the file does not read back as it was written.
    """
    expected, lost = described(layers), []
    for layer, wanted in zip(layers, expected, strict=True):
        try:
            info = pyogrio.read_info(path, layer=wanted.name, force_feature_count=True)
        except pyogrio.errors.DataSourceError as error:
            raise IntegrityError(f"{path.name}: layer {wanted.name} cannot be read back: {error}") from error
        if info["features"] != wanted.features:
            raise IntegrityError(
                f"{path.name}: layer {wanted.name} holds {info['features']} of {wanted.features} polygons",
                hint="is the disk full?",
            )
        if layer.crs is not None and not crs_equal(layer.crs, info["crs"]):
            lost.append(f"layer {layer.name}: the GeoPackage holds its CRS only nearly")
    return expected, tuple(lost)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Write with our options of GDAL; turn its errors into ours."""
    before = {name: pyogrio.get_gdal_config_option(name) for name in _OPTIONS}
    pyogrio.set_gdal_config_options(dict(_OPTIONS))
    try:
        yield
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise InputError(f"{path.name}: GDAL cannot write the GeoPackage: {error}") from error
    finally:
        pyogrio.set_gdal_config_options(before)
