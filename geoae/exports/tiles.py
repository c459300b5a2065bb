"""Tiles on the map: patches of scenes without a CRS, counted where the footprints of their tiles lie."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyproj
import shapely

from geoae.cube import Cube, LayerInfo
from geoae.exports.maps import crs_title, slug
from geoae.exports.table import Category, Column, TileLayer
from geoae.grid import crs_equal

__all__ = ["tile_layers"]

MAX_COUNTS = 64
"""Most clusters, and most classes, that have a column of counts each."""

_DESCRIPTION = "approximate: counts of patches on the footprints of their tiles, which say nothing of pixels"

Integers = npt.NDArray[np.int64]


def tile_layers(
    cube: Cube,
    info: LayerInfo,
    rows: npt.NDArray[np.int64],
    columns: Sequence[Column],
    clusters: Sequence[Category],
    classes: Sequence[Category],
) -> tuple[tuple[TileLayer, ...], tuple[str, ...]]:
    """Count exported patches by tile.

    Parameters
    ----------
    cube
        The cube.
    info
        Its layer of footprints.
    rows
        ``(patch,)`` rows of the cube that are exported.
    columns
        The columns of these patches: ``cluster``, ``dominant_class``, ``mean_height_m``, ``scene_id``.
    clusters, classes
        Legends; empty where there are none.

    Returns
    -------
    layers : tuple of TileLayer
        Centres of all tiles in EPSG:4326, then polygons for each CRS; none if no patch has a footprint.
    warnings : tuple of str
        Tiles that are not in the overview.
    """
    table = cube.layer(info.path).load()
    number = table["footprint"].to_numpy()[rows].astype(np.int64)
    tiles = np.unique(number[number >= 0])
    if not tiles.size:
        return (), ()
    values = {column.name: column.values for column in columns}
    position = np.searchsorted(tiles, number)  # of each patch among the tiles; void where number < 0
    counted = list(_counts(table, tiles, number, position, values, clusters, classes))
    outlines = shapely.from_wkt(table["footprint_outline"].to_numpy()[tiles].astype(object))
    systems = table["footprint_crs"].to_numpy()[tiles].astype(object)
    layers, centres, warnings = [], [], []
    used: set[str] = set()
    for crs, members in _by_crs(systems):
        title = crs_title(crs)
        name = f"tiles_{slug(title)}"
        while name in used:
            name += "_other"
        used.add(name)
        layers.append(_layer(name, f"Tiles ({title})", crs, "Polygon", outlines[members], counted, members))
        centre = _on_the_globe(shapely.centroid(outlines[members]), crs)
        if centre is None:
            warnings.append(f"{len(members)} tiles in the CRS {title} are not in the overview")
        else:
            centres.append((members, centre))
    if centres:
        members = np.concatenate([which for which, _ in centres])
        points = np.concatenate([points for _, points in centres])
        summary = [column for column in counted if not column.name.startswith("patches_")]
        layer = _layer("overview_tiles", "Tiles (centres)", "EPSG:4326", "Point", points, summary, members)
        layers.insert(0, layer)
    return tuple(layers), tuple(warnings)


def _layer(
    name: str,
    title: str,
    crs: str,
    kind: str,
    geometry: npt.NDArray[Any],
    columns: Sequence[Column],
    members: Integers,
) -> TileLayer:
    order = np.argsort(members, kind="stable")
    chosen = pa.array(members[order])
    return TileLayer(
        name=name,
        title=title,
        crs=crs,
        description=_DESCRIPTION,
        geometry_type=kind,
        columns=tuple(Column(c.name, c.values.take(chosen), c.title) for c in columns),
        geometry=pa.array(shapely.to_wkb(geometry[order], byte_order=1).tolist(), pa.binary()),
    )


def _by_crs(systems: npt.NDArray[Any]) -> Iterator[tuple[str, Integers]]:
    groups: dict[str, list[int]] = {}
    for position, crs in enumerate(systems):
        key = crs if crs in groups else next((known for known in groups if crs_equal(known, crs)), crs)
        groups.setdefault(key, []).append(position)
    for crs, members in groups.items():
        yield crs, np.array(members, dtype=np.int64)


def _on_the_globe(points: npt.NDArray[Any], crs: str) -> npt.NDArray[Any] | None:
    try:
        transformer = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    except pyproj.exceptions.ProjError:
        return None
    longitude, latitude = transformer.transform(shapely.get_x(points), shapely.get_y(points))
    if not (np.isfinite(longitude).all() and np.isfinite(latitude).all()):
        return None
    made: npt.NDArray[Any] = np.asarray(shapely.points(longitude, latitude))
    return made


def _counts(
    table: Any,
    tiles: Integers,
    number: Integers,
    position: Integers,
    values: dict[str, pa.Array],
    clusters: Sequence[Category],
    classes: Sequence[Category],
) -> Iterator[Column]:
    """Make the columns of the tiles."""
    there = number >= 0
    yield Column("city", pa.array(table["footprint_city"].to_numpy()[tiles].tolist(), pa.string()), "City")
    yield Column("tile", pa.array(table["footprint_tile"].to_numpy()[tiles].tolist(), pa.string()), "Tile")
    yield Column("approximate", pa.array([True] * len(tiles)), "Approximate: the tile's place, not a pixel's")
    yield Column("patches", _integers(np.bincount(position[there], minlength=len(tiles))), "Patches")
    scenes = values["scene_id"].to_pandas().to_numpy()
    views = [len(set(scenes[number == tile])) for tile in tiles]
    yield Column("views", _integers(np.array(views)), "Scenes (views)")
    for column, legend, what in (("cluster", clusters, "cluster"), ("dominant_class", classes, "class")):
        label = values[column].fill_null(-1).to_numpy()
        codes = np.array([category.value for category in legend], dtype=np.int64)
        count = np.zeros((len(tiles), len(codes)), dtype=np.int64)
        for place, code in enumerate(codes):
            count[:, place] = np.bincount(position[there & (label == code)], minlength=len(tiles))
        order = np.argsort(codes)  # ties go to the lowest
        best = order[count[:, order].argmax(axis=1)] if len(codes) else np.zeros(len(tiles), np.int64)
        none = count.sum(axis=1) == 0
        most = codes[best] if len(codes) else best
        yield Column(
            column,
            pa.array(most.astype(np.int32), mask=none),
            f"Most frequent {what} ({'code' if what == 'class' else 'number'})",
        )
        if what == "class":
            names = pa.array([category.label for category in legend], pa.string())
            yield Column(
                "class_name",
                names.take(pa.array(best, mask=none)) if len(codes) else pa.nulls(len(tiles), pa.string()),
                "Most frequent class",
            )
        part = count.max(axis=1, initial=0) / np.maximum(count.sum(axis=1), 1)
        yield Column(
            f"{what}_part", pa.array(part, mask=none), f"Part of the patches in that {what} (0 to 1)"
        )
        if len(codes) <= MAX_COUNTS:
            for place, category in enumerate(legend):
                name = f"patches_{what}_{category.value}"
                said = category.label if what == "class" else category.value
                yield Column(name, _integers(count[:, place]), f"Patches in {what} {said}")
    height = values["mean_height_m"].to_numpy(zero_copy_only=False).astype(np.float64)
    known = there & np.isfinite(height)
    total = np.bincount(position[known], weights=height[known], minlength=len(tiles))
    count = np.bincount(position[known], minlength=len(tiles))
    mean = total / np.maximum(count, 1)
    yield Column("mean_height_m", pa.array(mean, mask=count == 0), "Mean of the patches' mean heights (m)")


def _integers(values: npt.NDArray[Any]) -> pa.Array:
    return pa.array(values.astype(np.int32))
