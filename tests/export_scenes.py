"""Small scenes whose pixels say to which patch they belong, and the table that is exported for them."""

from collections.abc import Sequence
from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pyogrio
import rasterio
from affine import Affine

from geoae.exports.qml import cluster_categories
from geoae.exports.table import Category, Column, ExportTable
from geoae.grid import Grid

PATCH = 16
ROWS, COLUMNS = 3, 4
SHAPE = (ROWS * PATCH + 5, COLUMNS * PATCH + 2)  # a rest at both edges lies in no patch

NORTH_UP = Grid("EPSG:32617", Affine(0.5, 0, 434_000, 0, -0.5, 3_354_000), SHAPE)
ROTATED = Grid(
    "EPSG:32617",
    Affine.translation(435_000, 3_355_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5),
    SHAPE,
)
SOUTH_UP = Grid("EPSG:32617", Affine(0.5, 0, 436_000, 0, 0.5, 3_356_000), SHAPE)
FEET = Grid("EPSG:2994", Affine(2, 0, 635_615.4, 0, -2, 853_362.6), SHAPE)
OTHER_ZONE = Grid("EPSG:32615", Affine(0.5, 0, 254_000, 0, -0.5, 4_572_000), SHAPE)
DEGREES = Grid("EPSG:4326", Affine(1e-5, 0, -81.5, 0, -1e-5, 30.3), SHAPE)
LOOSE = Grid(None, Affine.identity(), SHAPE)
MIXED = (NORTH_UP, OTHER_ZONE, ROTATED, LOOSE)

CLASSES = (
    Category(2, "ground", "#b39c6b"),
    Category(5, "trees & <shrubs>", "#1b7837"),
    Category(6, "building", "#d6604d"),
)


def read(path: Path, layer: str) -> geopandas.GeoDataFrame:
    """Read one layer."""
    return pyogrio.read_dataframe(path, layer=layer)


def pixels() -> np.ndarray:
    """``(y, x)`` int32: 100 times the patch's row plus its column; -1 outside of patches."""
    y, x = np.indices(SHAPE)
    inside = (y < ROWS * PATCH) & (x < COLUMNS * PATCH)
    return np.where(inside, 100 * (y // PATCH) + x // PATCH, -1).astype(np.int32)


def write_raster(path: Path, grid: Grid) -> Path:
    """Write `pixels` with that grid."""
    with rasterio.open(
        path, "w", driver="GTiff", width=grid.width, height=grid.height, count=1, dtype="int32",
        crs=grid.crs, transform=None if grid.crs is None else grid.transform,
    ) as raster:  # fmt: skip
        raster.write(pixels(), 1)
    return path


def table_of(
    grids: Sequence[Grid], *, clusters: int = 3, places: Sequence[tuple[str, str]] | None = None
) -> ExportTable:
    """Return the table of these scenes: twelve patches each, one of them without class and cluster."""
    each = ROWS * COLUMNS
    number = len(grids) * each
    scene = np.repeat(np.arange(len(grids), dtype=np.int32), each)
    row = np.tile(np.repeat(np.arange(ROWS, dtype=np.int32), COLUMNS), len(grids))
    col = np.tile(np.arange(COLUMNS, dtype=np.int32), ROWS * len(grids))
    places = places or [("JAX", f"{scene:03d}") for scene in range(len(grids))]
    unknown = (row == 2) & (col == 3)
    code = np.array([2, 5, 6], dtype=np.int16)[row]
    name = np.array(["ground", "trees & <shrubs>", "building"])[row]
    columns = [
        Column("patch_id", pa.array(np.arange(number)), "Patch number"),
        Column("scene_id", pa.array([f"scene {s}" for s in scene]), "Scene"),
        Column("city", pa.array([places[s][0] for s in scene]), "City"),
        Column("row", pa.array(row), "Patch row in scene"),
        Column("col", pa.array(col), "Patch column in scene"),
        Column("dominant_class", pa.array(code, mask=unknown), "Dominant class (code)"),
        Column("class_name", pa.array(name, mask=unknown), "Dominant class"),
        Column("mean_height_m", pa.array((0.1 * row + 0.01 * col).astype(np.float32)), "Mean height (m)"),
    ]
    if clusters:
        label = ((row + col) % clusters).astype(np.int32)
        columns.append(Column("cluster", pa.array(label, mask=unknown), "Cluster"))
    return ExportTable(
        columns=tuple(columns),
        scene_number=scene,
        y_start=row * PATCH,
        x_start=col * PATCH,
        patch=PATCH,
        grids=dict(enumerate(grids)),
        places=dict(enumerate(places)),
        clusters=cluster_categories(clusters),
        classes=CLASSES,
        title="Clusters pca",
        description="Made by geoae from cube 1234",
        metadata={"geoae_version": "0.1.0", "cube_id": "sha256:1234", "licence": "CC BY 4.0 <&>"},
    )
