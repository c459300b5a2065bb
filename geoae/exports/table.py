"""What is exported: one row a patch, with the names, types and titles of the columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from geoae.grid import Grid

__all__ = ["Category", "Column", "ExportReport", "ExportTable", "ExportedLayer", "TileLayer"]


@dataclass(frozen=True)
class Category:
    """One value of a categorical column, as a legend shows it.

    Parameters
    ----------
    value
        The number in the column.
    label
        Text of the legend.
    color
        ``#rrggbb``.
    """

    value: int
    label: str
    color: str


@dataclass(frozen=True)
class Column:
    """One column of the exported table.

    Parameters
    ----------
    name
        In snake_case; names differ by more than case, and none is ``fid``, which is GDAL's own.
    values
        ``(patch,)``; null where unknown.
    title
        What a person reads in place of the name, with the unit.
    """

    name: str
    values: pa.Array
    title: str


@dataclass(frozen=True)
class TileLayer:
    """Counts of patches by tile, on the footprints of the tiles.

    Parameters
    ----------
    name, title, description
        Its name in the file, and what people read.
    crs
        WKT or ``EPSG:n``.
    geometry_type
        ``Polygon`` or ``Point``.
    columns
        ``(tile,)`` each.
    geometry
        ``(tile,)`` well-known binary.
    """

    name: str
    title: str
    crs: str
    description: str
    geometry_type: str
    columns: tuple[Column, ...]
    geometry: pa.Array


@dataclass(frozen=True)
class ExportTable:
    """Patches with their attributes and places, ready to be written.

    Parameters
    ----------
    columns
        The attributes, in the order in which they are written.
    scene_number, y_start, x_start
        ``(patch,)`` integers: the scene of each patch, its first pixel row and column there.
    patch
        Side of a patch in pixels.
    grids
        Grid of every scene that has patches here, by its number.
    places
        City and tile of these scenes.
    clusters, classes
        Legends of the columns ``cluster`` and ``dominant_class``; empty where there are none.
    title
        What the map shows, such as ``Clusters pca``.
    description
        A paragraph for people: what it was made from, by whom, under which licence.
    metadata
        The same for machines, text by key.
    warnings
        One line each.
    tiles
        Layers of tiles, where footprints place scenes that have no CRS.
    projection
        Path of the layer of projections that is in the columns.
    """

    columns: tuple[Column, ...]
    scene_number: npt.NDArray[np.int32]
    y_start: npt.NDArray[np.int32]
    x_start: npt.NDArray[np.int32]
    patch: int
    grids: Mapping[int, Grid]
    places: Mapping[int, tuple[str, str]]
    clusters: tuple[Category, ...] = ()
    classes: tuple[Category, ...] = ()
    title: str = "Patches"
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    tiles: tuple[TileLayer, ...] = ()
    projection: str | None = None

    @property
    def patch_id(self) -> npt.NDArray[np.int64]:
        """Numbers of the patches in the cube."""
        return next(np.asarray(column.values) for column in self.columns if column.name == "patch_id")

    def only(self, keep: npt.NDArray[np.bool_]) -> "ExportTable":
        """Return the table of some of its patches, without tiles."""
        mask = pa.array(keep)
        number = self.scene_number[keep]
        return replace(
            self,
            columns=tuple(replace(column, values=column.values.filter(mask)) for column in self.columns),
            scene_number=number,
            y_start=self.y_start[keep],
            x_start=self.x_start[keep],
            grids={scene: self.grids[scene] for scene in np.unique(number).tolist()},
            places={scene: self.places[scene] for scene in np.unique(number).tolist()},
            tiles=(),
        )

    def __len__(self) -> int:
        return len(self.scene_number)


@dataclass(frozen=True)
class ExportedLayer:
    """One layer of a written file.

    Parameters
    ----------
    name
        Its name.
    crs
        ``EPSG:n`` or the CRS's name; None for pixel coordinates.
    features
        Number of polygons.
    """

    name: str
    crs: str | None
    features: int


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Parameters
    ----------
    path
        The file.
    patches
        Number of patches; a patch may be in more than one layer.
    layers
        In the order of the file.
    warnings
        One line each: stale layers, scenes that could not be placed on the globe.
    kept
        Layers of others that were in the file and stay.
    n_bytes
        Size of the file; after a dry run about the most that it would have.
    dry_run
        Whether nothing was written.
    """

    path: str
    patches: int
    layers: tuple[ExportedLayer, ...]
    warnings: tuple[str, ...]
    kept: tuple[str, ...] = ()
    n_bytes: int = 0
    dry_run: bool = False
