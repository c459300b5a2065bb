"""Polygons to a GeoPackage beside bare pyogrio writing the same tables."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures import Figure
from benchmarks.measure import Setting, Work

if TYPE_CHECKING:
    from geoae.exports.table import ExportTable

_SIDE = 128
_ACROSS = 8


def _table(setting: Setting) -> "ExportTable":
    """Return a table of patches as an export of US3D has it: scenes in two UTM zones, some 20 columns."""
    import pyarrow as pa
    from affine import Affine

    from geoae.exports.qml import cluster_categories
    from geoae.exports.table import Category, Column, ExportTable
    from geoae.grid import Grid

    rng = np.random.default_rng(0)
    n = setting.polygons
    scene = np.arange(n, dtype=np.int32) // _ACROSS**2
    row, col = np.divmod(np.arange(n, dtype=np.int32) % _ACROSS**2, np.int32(_ACROSS))
    scenes = int(scene[-1]) + 1
    side = _ACROSS * _SIDE
    grids = {
        i: Grid(
            ("EPSG:32617", "EPSG:32615")[i % 2],
            Affine(0.3, 0, 434_000 + i % 50 * 400, 0, -0.3, 3_354_000 + i // 50 * 400),
            (side, side),
        )
        for i in range(scenes)
    }
    names = pa.array([f"{('JAX', 'OMA')[i % 2]}_{i // 8:03d}_{i % 8:03d}" for i in range(scenes)])
    code = np.array([2, 5, 6, 9, 17], np.int16)[rng.integers(0, 5, n)]

    def numbers(name: str) -> Column:
        return Column(name, pa.array(rng.random(n, np.float32)), name)

    columns = (
        Column("patch_id", pa.array(np.arange(n)), "Patch"),
        *(Column(name, names.take(pa.array(scene)), name) for name in ("scene_id", "city", "tile", "view")),
        *(Column(name, pa.array(values), name) for name, values in (("row", row), ("col", col))),
        Column("dominant_class", pa.array(code), "Dominant class"),
        Column(
            "class_name",
            pa.array(["ground", "trees", "building", "water", "bridge"]).take(
                pa.array(rng.integers(0, 5, n))
            ),
            "Class",
        ),
        *(numbers(f"{name}_fraction") for name in ("ground", "trees", "building", "water", "bridge")),
        *(numbers(name) for name in ("purity", "mean_height_m", "height_std_m", "error", "x", "y")),
        Column("cluster", pa.array(rng.integers(0, 8, n, np.int32)), "Cluster"),
    )
    return ExportTable(
        columns=columns,
        scene_number=scene,
        y_start=row * _SIDE,
        x_start=col * _SIDE,
        patch=_SIDE,
        grids=grids,
        places={i: (("JAX", "OMA")[i % 2], f"{i // 8:03d}") for i in range(scenes)},
        clusters=cluster_categories(8),
        classes=tuple(Category(c, str(c), "#888888") for c in (2, 5, 6, 9, 17)),
    )


def _target(setting: Setting, name: str) -> Path:
    path = setting.folder / name
    path.unlink(missing_ok=True)
    return path


def ours(setting: Setting) -> Work:
    """Write the file as ``geoae export`` does: layers, overview, styles, and reading back the counts."""
    from geoae.exports.geopackage import write_geopackage

    table, path = _table(setting), _target(setting, "geoae.gpkg")

    def work() -> dict[str, float]:
        layers, _ = write_geopackage(table, path)
        return {"features": sum(layer.features for layer in layers), "bytes": path.stat().st_size}

    return work


def bare(setting: Setting) -> Work:
    """Write the same layers by pyogrio alone, SQLite as fast as ours.

    Columns are ready in Arrow and corners in the CRS of their scenes; what is left is what nobody can do
    without: transforming the corners for the overview, and well-known binary of all polygons.
    """
    import pyarrow as pa
    import pyogrio
    import pyproj

    from geoae.exports.footprints import wkb_polygons
    from geoae.exports.maps import map_layers

    table, path = _table(setting), _target(setting, "bare.gpkg")
    names = [column.name for column in table.columns]
    ready = []
    for layer in map_layers(table)[0]:
        arrays = [column.values.take(pa.array(layer.rows)) for column in table.columns]
        # float64 like geoae's, which are made as short as their float32: the same bytes to write
        arrays = [a.cast(pa.float64()) if a.type == pa.float32() else a for a in arrays]
        ready.append((layer, pa.table(arrays, names=names)))
    overview = next(layer for layer, _ in ready if layer.name == "overview")
    pyogrio.set_gdal_config_options({"OGR_SQLITE_SYNCHRONOUS": "OFF"})

    def transformed() -> np.ndarray:
        corners = np.empty_like(overview.corners)
        for layer in (layer for layer, _ in ready if layer is not overview):
            transformer = pyproj.Transformer.from_crs(layer.crs, overview.crs, always_xy=True)
            x, y = transformer.transform(layer.corners[..., 0], layer.corners[..., 1])
            corners[layer.rows] = np.stack([x, y], axis=-1)
        return corners

    def work() -> dict[str, float]:
        for layer, data in ready:
            corners = transformed() if layer is overview else layer.corners
            pyogrio.write_arrow(
                data.append_column("geom", wkb_polygons(corners)),
                path,
                layer=layer.name,
                driver="GPKG",
                geometry_name="geom",
                geometry_type="Polygon",
                crs=layer.crs,
            )
        return {"features": sum(len(data) for _, data in ready), "bytes": path.stat().st_size}

    return work


FIGURES = (
    Figure(
        "export",
        "polygons to GeoPackage, each also in the overview",
        "floor: bare pyogrio with Arrow, same layers",
        {"geoae": ours, "other": bare},
        "time",
        1.1,
        amount=lambda setting: (setting.polygons, "polygons"),
    ),
)
