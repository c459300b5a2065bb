"""Reading footprints: text files of corners, CSV tables, GeoPackages."""

import csv
import io
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pyproj
import shapely
import shapely.geometry.polygon

from geoae.catalog import Catalog
from geoae.errors import InputError

__all__ = ["Footprint", "read_footprints", "spoken"]

MAX_TEXT = 4096
"""Longest text file of a tile's corner, in bytes: it holds four numbers."""

MAX_TABLE = 1 << 28
"""Largest table of footprints in bytes."""

_BOUNDS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Footprint:
    """The ground of a tile.

    Parameters
    ----------
    city, tile
        Which tile; the city may be empty where tiles are not numbered by city.
    crs
        CRS of the outline as ``EPSG:n`` or WKT.
    outline
        Polygon, ``x`` before ``y``.
    """

    city: str
    tile: str
    crs: str
    outline: shapely.Polygon


def read_footprints(source: str | Path, catalog: Catalog, *, crs: str | None = None) -> tuple[Footprint, ...]:
    """Read the footprints of tiles.

    Parameters
    ----------
    source
        One of three. A folder with a text file for each tile, beside the tile's raster and named alike
        (``JAX_004_DSM.txt``), that holds easting and northing of the lower-left corner, number of pixels
        and pixel size. A CSV table with the columns ``tile``, ``city`` (if tiles are numbered by city),
        ``xmin, ymin, xmax, ymax`` or ``wkt``, and ``crs`` (if there are several). A GeoPackage whose first
        layer has polygons and the columns ``tile`` and ``city``.
    catalog
        How names of text files are read, and the CRS of its cities.
    crs
        CRS where neither the source nor the catalog names one.

    Returns
    -------
    tuple of Footprint
        By city and tile.

    Raises
    ------
    InputError
        If something is wrong in the source; says in which file or line.
    """
    path = Path(source)
    if path.is_dir():
        found = list(_from_texts(path, catalog, crs))
        if not found:
            raise InputError(
                f"{path} holds no text file of a tile's corner",
                hint="such as JAX_004_DSM.txt: four numbers, easting, northing, pixels, pixel size",
            )
    elif not path.is_file():
        raise InputError(f"there is no file or folder {path}")
    elif path.stat().st_size > MAX_TABLE:
        raise InputError(f"{path} is larger than {MAX_TABLE} bytes: no table of footprints")
    elif path.suffix.lower() == ".gpkg":
        found = list(_from_geopackage(path, catalog, crs))
    elif path.suffix.lower() == ".csv":
        found = list(_from_csv(path, catalog, crs))
    else:
        raise InputError(f"footprints are a folder, a .csv or a .gpkg, not {path.name}")
    by_tile: dict[tuple[str, str], Footprint] = {}
    for footprint in found:
        key = (footprint.city, footprint.tile)
        other = by_tile.setdefault(key, footprint)
        if (other.crs, other.outline) != (footprint.crs, footprint.outline):
            raise InputError(f"{path.name} has two different footprints of tile {spoken(*key)}")
    return tuple(by_tile[key] for key in sorted(by_tile))


def spoken(city: str, tile: str) -> str:
    """Name a tile for people.

    Examples
    --------
    >>> spoken("JAX", "004"), spoken("", "7")
    ('JAX 004', '7')
    """
    return f"{city} {tile}".strip()


def _from_texts(folder: Path, catalog: Catalog, crs: str | None) -> Iterator[Footprint]:
    for base, _, files in os.walk(folder):
        for file in sorted(files):
            if not file.lower().endswith(".txt"):
                continue
            name = catalog.parse(f"{file[:-4]}.tif")
            if name is None or not name.fields.get("tile"):
                continue
            x, y, pixels, size = _numbers(Path(base) / file)
            city = name.fields.get("city") or ""
            side = pixels * size
            yield _footprint(
                file,
                city,
                str(name.fields["tile"]),
                shapely.box(x, y, x + side, y + side),
                _city_crs(catalog, city) or crs,
            )


def _numbers(path: Path) -> tuple[float, float, float, float]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_TEXT + 1).decode("ascii")
        if len(text) > MAX_TEXT:
            raise ValueError("too long")
        x, y, pixels, size = (float(part) for part in text.replace(",", " ").split())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it does not hold four numbers"
        raise InputError(
            f"{path.name}: {reason}", hint="easting and northing of the lower-left corner, pixels, pixel size"
        ) from None
    if not all(map(math.isfinite, (x, y, pixels, size))) or pixels < 1 or size <= 0 or pixels != int(pixels):
        raise InputError(f"{path.name}: {pixels:g} pixels of {size:g} m make no tile")
    return x, y, pixels, size


def _from_csv(path: Path, catalog: Catalog, crs: str | None) -> Iterator[Footprint]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} cannot be read as UTF-8 text: {error}") from None
    rows = csv.DictReader(io.StringIO(text))
    names = {str(name).strip().casefold() for name in rows.fieldnames or ()}
    if "tile" not in names or not ("wkt" in names or names.issuperset(_BOUNDS)):
        raise InputError(
            f"{path.name} has the columns {', '.join(sorted(names)) or 'none'}",
            hint="it needs tile and xmin, ymin, xmax, ymax (or wkt); city and crs may be there",
        )
    try:
        for row in rows:
            where = f"{path.name}, line {rows.line_num}"
            cells = {str(k).strip().casefold(): v.strip() for k, v in row.items() if isinstance(v, str)}
            city = cells.get("city", "")
            system = cells.get("crs") or crs or _city_crs(catalog, city)
            yield _footprint(where, city, cells.get("tile", ""), _outline(where, cells), system)
    except csv.Error as error:
        raise InputError(f"{path.name}, line {rows.line_num}: {error}") from None


def _outline(where: str, cells: Mapping[str, str]) -> Any:
    try:
        if cells.get("wkt"):
            return shapely.from_wkt(cells["wkt"])
        bounds = [float(cells[name]) for name in _BOUNDS]
    except (KeyError, ValueError, shapely.errors.ShapelyError) as error:
        raise InputError(f"{where}: no outline: {error}") from None
    if not all(map(math.isfinite, bounds)) or bounds[0] >= bounds[2] or bounds[1] >= bounds[3]:
        raise InputError(f"{where}: bounds {bounds} are empty", hint="xmin < xmax and ymin < ymax")
    return shapely.box(*bounds)


def _from_geopackage(path: Path, catalog: Catalog, crs: str | None) -> Iterator[Footprint]:
    with path.open("rb") as file:
        # Other formats under this name might open further files.
        if file.read(16) != b"SQLite format 3\x00":
            raise InputError(f"{path.name} is no GeoPackage")
    try:
        frame = pyogrio.read_dataframe(path)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, ValueError) as error:
        raise InputError(f"{path.name} cannot be read: {error}") from None
    columns = {str(name).casefold(): name for name in frame.columns}
    if not isinstance(frame, geopandas.GeoDataFrame) or "tile" not in columns:
        raise InputError(f"{path.name} has no column tile with polygons", hint=f"it has {_names(frame)}")
    own = None if frame.crs is None else frame.crs.to_wkt()
    for number, (_, row) in enumerate(frame.iterrows(), start=1):
        city = _text(row[columns["city"]]) if "city" in columns else ""
        tile = _text(row[columns["tile"]])
        where = f"{path.name}, polygon {number}"
        yield _footprint(where, city, tile, row.geometry, own or crs or _city_crs(catalog, city))


def _names(frame: pd.DataFrame) -> str:
    return ", ".join(map(str, frame.columns)) or "no columns"


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float | np.floating) and value == int(value) else str(value)


def _city_crs(catalog: Catalog, city: str) -> str | None:
    return catalog.cities[city].crs if city in catalog.cities else None


def _footprint(where: str, city: str, tile: str, outline: Any, crs: str | None) -> Footprint:
    """Check one footprint.

    Raises
    ------
    InputError
        Naming where it stands.
    """
    if not tile:
        raise InputError(f"{where}: the tile has no name")
    if crs is None:
        raise InputError(
            f"{where}: nothing says which CRS it is in", hint="--crs EPSG:32617, or a column crs"
        )
    try:
        pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError:
        raise InputError(f"{where}: {crs!r} is no CRS that PROJ knows", hint="such as EPSG:32617") from None
    if isinstance(outline, shapely.MultiPolygon) and len(outline.geoms) == 1:
        outline = outline.geoms[0]
    if not isinstance(outline, shapely.Polygon) or outline.is_empty:
        raise InputError(f"{where}: a footprint is one polygon")
    flat = shapely.force_2d(outline)
    if not flat.is_valid or not np.isfinite(shapely.get_coordinates(flat)).all():
        raise InputError(f"{where}: the polygon is not valid", hint="its rings must not cross themselves")
    return Footprint(city, tile, crs, shapely.geometry.polygon.orient(flat))
