"""Which layers a map file has: patches by CRS, an overview of the globe, a sheet of loose scenes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyproj
from affine import Affine

from geoae.exports.footprints import (
    Corners,
    ground_corners,
    pixel_corners,
    sheet_offsets,
    to_longitude_latitude,
)
from geoae.exports.table import Column, ExportTable
from geoae.grid import crs_equal

__all__ = ["MapLayer", "crs_title", "map_layers", "slug"]

_PIXELS, _NO_CRS = "pixels", "no_crs"


@dataclass(frozen=True)
class MapLayer:
    """A layer to be written.

    Parameters
    ----------
    name, title, description
        Its name in the file, and what people read.
    crs
        WKT or ``EPSG:n``; None for pixels.
    rows
        ``(n,)`` int64: rows of the table.
    corners
        ``(n, 4, 2)`` float64 in `crs`.
    extra
        Columns of this layer alone.
    """

    name: str
    title: str
    crs: str | None
    rows: npt.NDArray[np.int64]
    corners: Corners
    description: str = ""
    extra: tuple[Column, ...] = ()


def map_layers(table: ExportTable) -> tuple[list[MapLayer], list[str]]:
    """Choose the layers of a table of patches.

    Parameters
    ----------
    table
        At least one patch.

    Returns
    -------
    layers : list of MapLayer
        Overviews first.
    warnings : list of str
        Patches that could not be placed in the overview.
    """
    prefix = "clusters" if table.clusters else "patches"
    layers: list[MapLayer] = []
    overview: list[tuple[npt.NDArray[np.int64], Corners]] = []
    warnings: list[str] = []
    used: set[str] = set()
    for crs, scenes in _by_crs(table):
        rows = np.flatnonzero(np.isin(table.scene_number, scenes))
        place = (table.scene_number[rows], table.y_start[rows], table.x_start[rows])
        if crs in (_PIXELS, _NO_CRS):
            name, where, crs_out = _without_crs(prefix, crs)
            corners = (
                pixel_corners(*place[1:], table.patch)
                if crs == _PIXELS
                else ground_corners(table.grids, *place, table.patch)
            )
            layers.append(MapLayer(name, f"{table.title} ({where})", crs_out, rows, corners, where))
            continue
        title = crs_title(crs)
        part = slug(title)
        while part in used:  # different CRS may have one name
            part += "_other"
        used.add(part)
        corners = ground_corners(table.grids, *place, table.patch)
        layers.append(MapLayer(f"{prefix}_{part}", f"{table.title} ({title})", crs, rows, corners))
        globe = to_longitude_latitude(corners, crs)
        if globe is None:
            warnings.append(
                f"{len(rows)} patches in the CRS {title} are not in the overview: "
                "PROJ cannot place it on the globe"
            )
        else:
            overview.append((rows, globe))
    if overview:
        layers.insert(0, _overview(table, overview))
    loose = np.array([number for number, grid in table.grids.items() if grid.crs is None])
    if loose.size:
        layers.insert(0, _sheet(table, loose))
    return layers, warnings


def _without_crs(prefix: str, key: str) -> tuple[str, str, None]:
    where = "pixels, y negated" if key == _PIXELS else "coordinates of files without a CRS"
    return f"{prefix}_{key}", where, None


def _by_crs(table: ExportTable) -> Iterator[tuple[str, list[int]]]:
    """Group scenes by what their CRS means, however it is written."""
    groups: dict[str, list[int]] = {}
    for number, grid in table.grids.items():
        if grid.crs is None:
            key = _PIXELS if grid.transform == Affine.identity() else _NO_CRS
        elif grid.crs in groups:
            key = grid.crs
        else:
            known = (crs for crs in groups if crs not in (_PIXELS, _NO_CRS) and crs_equal(crs, grid.crs))
            key = next(known, grid.crs)
        groups.setdefault(key, []).append(number)
    yield from sorted(groups.items(), key=lambda item: (item[0] in (_PIXELS, _NO_CRS), item[1][0]))


def crs_title(definition: str) -> str:
    """Name a CRS for people: its own code if it states one, never a guessed one; else its name.

    Examples
    --------
    >>> crs_title("EPSG:32617"), crs_title("+proj=utm +zone=17 +type=crs")
    ('EPSG:32617', 'unknown')
    """
    crs = pyproj.CRS.from_user_input(definition)
    code = crs.to_json_dict().get("id")
    return f"{code['authority']}:{code['code']}" if code else str(crs.name)


def slug(title: str) -> str:
    """Turn a title into a part of a layer's name.

    Examples
    --------
    >>> slug("EPSG:32617"), slug("UTM Zone 25, Southern Hemisphere")
    ('epsg_32617', 'utm_zone_25_southern_hemisphere')
    """
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:48].rstrip("_") or "custom"


def _overview(table: ExportTable, parts: list[tuple[npt.NDArray[np.int64], Corners]]) -> MapLayer:
    rows = np.concatenate([rows for rows, _ in parts])
    order = np.argsort(rows, kind="stable")
    corners = np.concatenate([corners for _, corners in parts])[order]
    return MapLayer(
        "overview",
        f"{table.title} (all scenes with a CRS)",
        "EPSG:4326",
        rows[order],
        corners,
        "all patches of scenes with a CRS, in longitude and latitude",
    )


def _sheet(table: ExportTable, scenes: npt.NDArray[np.int64]) -> MapLayer:
    scenes = np.sort(scenes)
    offsets, (width, height) = sheet_offsets(
        [table.places[int(number)] for number in scenes],
        [table.grids[int(number)].shape for number in scenes],
    )
    rows = np.flatnonzero(np.isin(table.scene_number, scenes))
    shift = offsets[np.searchsorted(scenes, table.scene_number[rows])]  # (patch, 2)
    corners = pixel_corners(table.y_start[rows], table.x_start[rows], table.patch) + shift[:, np.newaxis]
    return MapLayer(
        "overview_pixels",
        f"{table.title} (scenes side by side)",
        None,
        rows,
        corners,
        f"all scenes without a CRS side by side in cells of {width} x {height} pixels, "
        "the views of a tile on one line; "
        "x - x_offset and y_offset - y are pixel column and row in the scene",
        (
            Column("x_offset", pa.array(shift[:, 0]), "Shift of the scene in x (px)"),
            Column("y_offset", pa.array(shift[:, 1]), "Shift of the scene in y (px)"),
        ),
    )
