"""Footprints: where the tiles of scenes without a CRS lie, approximately.

Images that were cut without their georeference are not placed by anybody's guess. But where the place of a
tile is known from elsewhere, its patches can be counted there: on the tile, not on a pixel.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from geoae.cube import Cube
from geoae.errors import InputError, UsageError
from geoae.footprints.reading import Footprint, read_footprints, spoken
from geoae.layers import write_layer
from geoae.provenance import Record, digest_of
from geoae.schema import PATCH, UNUSED, layer_path

__all__ = ["Footprint", "FootprintReport", "place_tiles", "read_footprints"]


@dataclass(frozen=True)
class FootprintReport:
    """What was placed.

    Parameters
    ----------
    path
        The layer.
    tiles, patches
        Tiles and patches that have a footprint now.
    without
        Tiles of scenes without a CRS that have none.
    unused
        Footprints that belong to no such tile of the cube.
    """

    path: str
    tiles: int
    patches: int
    without: tuple[str, ...]
    unused: tuple[str, ...]


def place_tiles(
    cube: Cube | str | os.PathLike[str],
    source: str | Path,
    *,
    name: str = "tiles",
    crs: str | None = None,
    overwrite: bool = False,
) -> FootprintReport:
    """Give the tiles of a cube their footprints and write them as a layer.

    Only scenes without a CRS are placed: the others have a place of their own.

    Parameters
    ----------
    cube
        The cube, or its path.
    source
        A folder with text files of corners or a table, see `read_footprints`.
    name
        Name of the layer.
    crs
        CRS of the footprints where the source and the cube's catalog name none.
    overwrite
        Replace the layer if it exists.

    Raises
    ------
    InputError
        If the source cannot be read, is contradictory, or belongs to no tile of the cube.
    UsageError
        If every scene of the cube has a CRS.
    StoreExistsError
        If the layer exists and was made from another source.
    """
    cube = Cube.open(cube)
    found = read_footprints(source, cube.catalog, crs=crs)
    scenes = cube.scenes()
    loose = scenes[scenes.scene_crs == ""]
    if loose.empty:
        raise UsageError(f"every scene of {cube.location.name} has a CRS: its patches have their places")
    tiles = list(dict.fromkeys(zip(loose.scene_city, loose.scene_tile, strict=True)))
    owner = _match(tiles, found)
    used = [tile for tile in tiles if tile in owner]
    if not used:
        raise InputError(
            f"none of {len(found)} footprints belongs to a tile of {cube.location.name}: "
            f"tiles are {_listed(tiles)}; footprints {_listed((f.city, f.tile) for f in found)}",
            hint="the columns city and tile must be those of the cube, see `geoae info`",
        )
    of_scene = np.full(len(scenes), UNUSED, np.int32)
    for number, (city, tile, system) in enumerate(
        zip(scenes.scene_city, scenes.scene_tile, scenes.scene_crs, strict=True)
    ):
        if system == "" and (city, tile) in owner:
            of_scene[number] = used.index((city, tile))
    of_patch = of_scene[np.asarray(cube.array("scene_number")[...])]
    entries = [found[owner[tile]] for tile in used]
    described = [[c, t, f.crs, f.outline.wkt] for (c, t), f in zip(used, entries, strict=True)]
    without = [tile for tile in tiles if tile not in owner]
    record = Record(
        made_by="place_tiles",
        options={"footprints": digest_of(described)},
        inputs={"cube": cube.cube_id},
        counts={"tiles": len(used), "patches": int((of_patch >= 0).sum()), "tiles_without": len(without)},
    )
    path = layer_path("footprints", name)
    write_layer(cube, path, _dataset(of_patch, used, entries), record, overwrite=overwrite)
    spare = [f for position, f in enumerate(found) if position not in set(owner.values())]
    return FootprintReport(
        path=path,
        tiles=len(used),
        patches=record.counts["patches"],
        without=tuple(spoken(*tile) for tile in without),
        unused=tuple(spoken(f.city, f.tile) for f in spare),
    )


def _dataset(
    of_patch: np.ndarray[Any, Any], tiles: Sequence[tuple[str, str]], entries: Sequence[Footprint]
) -> xr.Dataset:
    dim = "footprint_index"

    def texts(values: Iterable[str], title: str) -> tuple[str, Any, dict[str, str]]:
        return dim, np.array(list(values), dtype=object), {"long_name": title}

    centres = np.array([[f.outline.centroid.x, f.outline.centroid.y] for f in entries], dtype=np.float64)
    return xr.Dataset(
        {
            "footprint": (
                PATCH,
                of_patch,
                {
                    "long_name": "position of the tile's footprint in the tables over footprint_index",
                    "comment": "-1 where none is known, or where the scene has a CRS and so its own place",
                },
            ),
            "footprint_centre": (
                (dim, "axis"),
                centres,
                {"long_name": "x and y of the footprint's centroid in its CRS"},
            ),
        },
        coords={
            "footprint_city": texts((city for city, _ in tiles), "city"),
            "footprint_tile": texts((tile for _, tile in tiles), "tile"),
            "footprint_crs": texts((f.crs for f in entries), "coordinate reference system"),
            "footprint_outline": texts((f.outline.wkt for f in entries), "outline as well-known text"),
        },
        attrs={
            "approximate": True,
            "comment": "A footprint says where a tile lies, not where a pixel or a patch of it does.",
        },
    )


def _match(tiles: Sequence[tuple[str, str]], found: Sequence[Footprint]) -> dict[tuple[str, str], int]:
    """Return the footprint of each tile that has one.

    Raises
    ------
    InputError
        If a footprint without a city could be that of two tiles.
    """
    exact = {(f.city, f.tile): position for position, f in enumerate(found)}
    # Spreadsheets make 4 of 004.
    loose = {(f.city, _bare(f.tile)): position for position, f in enumerate(found)}
    owner: dict[tuple[str, str], int] = {}
    for city, tile in tiles:
        keys = (exact.get((city, tile)), exact.get(("", tile)), loose.get((city, _bare(tile))))
        position = next((key for key in (*keys, loose.get(("", _bare(tile)))) if key is not None), None)
        if position is not None:
            owner[city, tile] = position
    for position, number in Counter(owner.values()).items():
        if number > 1:
            names = _listed(tile for tile, p in owner.items() if p == position)
            raise InputError(
                f"the footprint of tile {found[position].tile} could be that of {names}",
                hint="give the footprints a column city",
            )
    return owner


def _bare(tile: str) -> str:
    return tile.lstrip("0") or "0" if tile.isdigit() else tile


def _listed(tiles: Iterable[tuple[str, str]]) -> str:
    names = [spoken(*tile) for tile in tiles]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
