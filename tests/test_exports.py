"""Exported files: rasters, patches and polygons agree; tables, styles, titles; CRS survive."""

import itertools
import json
import sqlite3
import subprocess
from pathlib import Path

import export_scenes as scenes
import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoae.errors import IntegrityError
from geoae.exports import footprints, geopackage, geoparquet
from geoae.exports.maps import map_layers
from geoae.exports.qml import cluster_categories
from geoae.grid import Grid, crs_equal

# --- raster, patch and polygon agree ------------------------------------------------------------


@pytest.mark.parametrize(
    "grid",
    [scenes.NORTH_UP, scenes.ROTATED, scenes.SOUTH_UP, scenes.FEET, scenes.OTHER_ZONE, scenes.DEGREES],
    ids=["north-up", "rotated", "south-up", "feet", "other zone", "degrees"],
)
def test_centroid_sampled_in_the_raster_gives_the_patch(tmp_path: Path, grid: Grid) -> None:
    geopackage.write_geopackage(scenes.table_of([grid]), tmp_path / "x.gpkg")
    raster_path = scenes.write_raster(tmp_path / "x.tif", grid)
    (layer,) = [name for name, _ in pyogrio.list_layers(tmp_path / "x.gpkg") if name.startswith("clusters_")]
    with rasterio.open(raster_path) as raster:
        for name in (layer, "overview"):
            frame = scenes.read(tmp_path / "x.gpkg", name).to_crs(raster.crs.to_wkt())
            centres = shapely.centroid(frame.geometry.array)
            found = [value[0] for value in raster.sample(shapely.get_coordinates(centres))]
            assert found == (100 * frame["row"] + frame["col"]).tolist(), name
            # the whole polygon, not its centre alone
            corner = [raster.index(*polygon.exterior.coords[0], op=round) for polygon in frame.geometry]
            assert all(y % scenes.PATCH == 0 and x % scenes.PATCH == 0 for y, x in corner)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angle=st.floats(0, 360),
    size=st.tuples(st.floats(0.05, 100), st.floats(0.05, 100)),
    signs=st.tuples(st.sampled_from([-1, 1]), st.sampled_from([-1, 1])),
    crs=st.sampled_from(["EPSG:32617", "EPSG:2154", "EPSG:2994", "EPSG:31985"]),
)
def test_any_grid_goes_to_polygons_and_back(
    tmp_path: Path, angle: float, size: tuple[float, float], signs: tuple[int, int], crs: str
) -> None:
    """The centre and the corners of each polygon, as read from the file, lie in the pixels of its patch."""
    turned = Affine.translation(634_000, 4_172_000) @ Affine.rotation(angle)
    grid = Grid(crs, turned @ Affine.scale(size[0] * signs[0], size[1] * signs[1]), scenes.SHAPE)
    target = tmp_path / "any.gpkg"
    target.unlink(missing_ok=True)
    geopackage.write_geopackage(scenes.table_of([grid]), target)
    (layer,) = [name for name, _ in pyogrio.list_layers(target) if name.startswith("clusters_")]
    frame = scenes.read(target, layer)
    assert len(frame) == scenes.ROWS * scenes.COLUMNS
    back = ~grid.transform
    for row, col, polygon in zip(frame["row"], frame["col"], frame.geometry, strict=True):
        x, y = back @ (polygon.centroid.x, polygon.centroid.y)
        assert scenes.pixels()[int(y), int(x)] == 100 * row + col
        corners = {(round(y, 3), round(x, 3)) for x, y in (back @ point for point in polygon.exterior.coords)}
        ends = itertools.product((row, row + 1), (col, col + 1))
        assert corners == {(r * scenes.PATCH, c * scenes.PATCH) for r, c in ends}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # that is the point
def test_without_crs_y_is_negated_and_the_sheet_says_its_offset(tmp_path: Path) -> None:
    table = scenes.table_of([scenes.LOOSE] * 3, places=[("JAX", "1"), ("JAX", "1"), ("OMA", "1")])
    geopackage.write_geopackage(table, tmp_path / "x.gpkg")
    with rasterio.open(scenes.write_raster(tmp_path / "x.tif", scenes.LOOSE)) as raster:
        values = raster.read(1)
    for name in ("clusters_pixels", "overview_pixels"):
        frame = scenes.read(tmp_path / "x.gpkg", name)
        centres = frame.geometry.centroid
        x, y = centres.x, -centres.y
        if name == "overview_pixels":
            x, y = centres.x - frame["x_offset"], frame["y_offset"] - centres.y
            assert not frame.geometry.sindex.query(frame.geometry, predicate="overlaps").size
        found = values[y.astype(int), x.astype(int)]
        assert found.tolist() == (100 * frame["row"] + frame["col"]).tolist()
    upper = scenes.read(tmp_path / "x.gpkg", "clusters_pixels").query("row == 0").geometry.centroid.y.mean()
    lower = scenes.read(tmp_path / "x.gpkg", "clusters_pixels").query("row == 2").geometry.centroid.y.mean()
    assert upper > lower  # the first row is at the top


def test_a_transform_without_crs_is_kept_as_the_file_gives_it(tmp_path: Path) -> None:
    grid = Grid(None, scenes.NORTH_UP.transform, scenes.SHAPE)
    geopackage.write_geopackage(scenes.table_of([grid, scenes.LOOSE]), tmp_path / "x.gpkg")
    bounds = scenes.read(tmp_path / "x.gpkg", "clusters_no_crs").total_bounds
    assert bounds.tolist() == [434_000, 3_353_976, 434_032, 3_354_000]
    assert len(scenes.read(tmp_path / "x.gpkg", "overview_pixels")) == 24


# --- GeoPackage -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mixed") / "mixed.gpkg"
    layers, warnings = geopackage.write_geopackage(scenes.table_of(scenes.MIXED), path)
    assert warnings == ()
    assert [(layer.name, layer.crs, layer.features) for layer in layers] == [
        ("overview_pixels", None, 12),
        ("overview", "EPSG:4326", 36),
        ("clusters_epsg_32617", "EPSG:32617", 24),
        ("clusters_epsg_32615", "EPSG:32615", 12),
        ("clusters_pixels", None, 12),
    ]
    return path


def rows_of(path: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return list(connection.execute(query))
    finally:
        connection.close()


def test_tables_of_the_geopackage(mixed: Path) -> None:
    assert rows_of(mixed, "pragma user_version") == [(10200,)]
    assert rows_of(mixed, "pragma application_id") == [(int.from_bytes(b"GPKG"),)]
    contents = "select table_name, data_type, srs_id, last_change from gpkg_contents order by rowid"
    date = "1970-01-01T00:00:00.000Z"
    assert rows_of(mixed, contents) == [
        ("overview_pixels", "features", -1, date),
        ("overview", "features", 4326, date),
        ("clusters_epsg_32617", "features", 32617, date),
        ("clusters_epsg_32615", "features", 32615, date),
        ("clusters_pixels", "features", -1, date),
        ("layer_styles", "attributes", 0, date),
    ]
    names = [name for (name,) in rows_of(mixed, "select distinct extension_name from gpkg_extensions")]
    assert sorted(names) == ["gpkg_metadata", "gpkg_rtree_index", "gpkg_schema"]
    assert rows_of(mixed, "pragma integrity_check") == [("ok",)]
    assert rows_of(mixed, "pragma foreign_key_check") == []


def test_columns_and_values(mixed: Path) -> None:
    frame = scenes.read(mixed, "clusters_epsg_32617")
    names = [name for name in frame.columns if name != "geometry"]
    assert names == [column.name for column in scenes.table_of(scenes.MIXED).columns]
    assert frame["patch_id"].tolist() == [*range(12), *range(24, 36)]
    assert frame["class_name"].isna().sum() == frame["cluster"].isna().sum() == 2
    assert frame["class_name"][4] == "trees & <shrubs>"
    # 0.1 + 0.01 as a person reads it, not as float32 widened to float64
    assert frame["mean_height_m"][5] == 0.11


def test_titles_description_and_metadata(mixed: Path) -> None:
    titles = "select column_name, name from gpkg_data_columns where table_name = 'overview'"
    assert dict(rows_of(mixed, titles)) == {c.name: c.title for c in scenes.table_of(scenes.MIXED).columns}
    for layer in ("overview", "clusters_pixels"):
        found = pyogrio.read_info(mixed, layer=layer)["layer_metadata"]
        assert scenes.table_of(scenes.MIXED).metadata.items() <= found.items()
    assert [file.name for file in mixed.parent.iterdir()] == [mixed.name]  # reading leaves nothing behind
    ((text,),) = rows_of(mixed, "select description from gpkg_contents where table_name = 'overview_pixels'")
    assert "cells of 75 x 60 pixels" in str(text)
    assert str(text).endswith("Made by geoae from cube 1234")


def test_styles_are_stored_for_each_layer(mixed: Path) -> None:
    query = (
        "select f_table_schema, f_table_name, f_geometry_column, styleName, useAsDefault from layer_styles"
    )
    layers = ["overview_pixels", "overview", "clusters_epsg_32617", "clusters_epsg_32615", "clusters_pixels"]
    assert rows_of(mixed, query) == [
        ("", layer, "geom", style, default)
        for layer in layers
        for style, default in (("Clusters", 1), ("Classes", 0))
    ]


def test_equal_exports_have_equal_bytes(mixed: Path, tmp_path: Path) -> None:
    geopackage.write_geopackage(scenes.table_of(scenes.MIXED), tmp_path / "again.gpkg")
    assert (tmp_path / "again.gpkg").read_bytes() == mixed.read_bytes()


def test_options_of_gdal_are_put_back(tmp_path: Path) -> None:
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "2001-01-01T00:00:00.000Z"})
    try:
        geopackage.write_geopackage(scenes.table_of([scenes.LOOSE]), tmp_path / "x.gpkg")
        assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") == "2001-01-01T00:00:00.000Z"
        assert pyogrio.get_gdal_config_option("OGR_SQLITE_SYNCHRONOUS") is None
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def test_without_clusters_the_layers_are_patches(tmp_path: Path) -> None:
    geopackage.write_geopackage(scenes.table_of([scenes.NORTH_UP], clusters=0), tmp_path / "x.gpkg")
    assert {name for name, _ in pyogrio.list_layers(tmp_path / "x.gpkg")} == {
        "overview",
        "patches_epsg_32617",
        "layer_styles",
    }
    styles = rows_of(tmp_path / "x.gpkg", "select distinct styleName, useAsDefault from layer_styles")
    assert styles == [("Classes", 1)]


def test_a_file_that_lost_polygons_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.gpkg"
    table = scenes.table_of([scenes.NORTH_UP])
    geopackage.write_geopackage(table, path)
    layers, _ = map_layers(scenes.table_of([scenes.NORTH_UP, scenes.ROTATED]))
    with pytest.raises(IntegrityError, match=r"layer overview holds 12 of 24 polygons"):
        geopackage.check_layers(layers, path)


@pytest.mark.parametrize(
    "crs", ["EPSG:2994", "EPSG:5490", "EPSG:2154", "EPSG:31985", "EPSG:4326", "EPSG:3413"]
)
def test_crs_survives(tmp_path: Path, crs: str) -> None:
    grid = Grid(crs, Affine(1e-3, 0, 1, 0, -1e-3, 2), scenes.SHAPE)
    geopackage.write_geopackage(scenes.table_of([grid]), tmp_path / "x.gpkg")
    layer = f"clusters_{crs.lower().replace(':', '_')}"
    assert pyogrio.read_info(tmp_path / "x.gpkg", layer=layer)["crs"] == crs


def test_crs_of_real_rasters_survive(tmp_path: Path, realdata: Path) -> None:
    files = ["olinda/olinda_dem_utm25s.tif", "olinda/L7_ETMs.tif", "autzen/AUTZEN_RGB_1ft.tif",
             "las_codes/STBARTH_515000_1981000_DSM.tif", "ign_770550/IGN_770550_6277600_RGB.tif"]  # fmt: skip
    grids = []
    for name in files:
        with rasterio.open(realdata / name) as raster:
            grids.append(Grid(raster.crs.to_wkt(), raster.transform, scenes.SHAPE))
    layers, warnings = geopackage.write_geopackage(scenes.table_of(grids), tmp_path / "x.gpkg")
    assert warnings == ()
    assert [layer.name for layer in layers] == [
        "overview",
        "clusters_utm_zone_25_southern_hemisphere",
        "clusters_epsg_31985",
        "clusters_nad_1983_harn_lambert_conformal_conic",
        "clusters_epsg_5490",
        "clusters_epsg_2154",
    ]
    for layer, grid in zip(layers[1:], grids, strict=True):
        assert crs_equal(pyogrio.read_info(tmp_path / "x.gpkg", layer=layer.name)["crs"], grid.crs)
    # Olinda, Oregon, Saint-Barthelemy and the south of France, in the overview
    centres = scenes.read(tmp_path / "x.gpkg", "overview").dissolve("scene_id").geometry.bounds.round()
    assert centres[["minx", "miny"]].to_numpy().tolist() == [
        [-35, -8],
        [-35, -8],
        [-123, 44],
        [-63, 18],
        [4, 44],
    ]


def test_ogrinfo_reads_it_without_a_complaint(mixed: Path, ogrinfo: str) -> None:
    run = subprocess.run([ogrinfo, "-ro", "-al", "-so", mixed], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    for word in ("ERROR", "Warning"):
        assert word not in run.stdout
    assert run.stdout.count("Geometry: Polygon") == 5
    assert 'ENGCRS["Undefined Cartesian SRS"' in run.stdout


# --- GeoParquet -------------------------------------------------------------------------------


def test_geoparquet_of_scenes_with_crs(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    geoparquet.write_geoparquet(scenes.table_of([scenes.NORTH_UP, scenes.OTHER_ZONE]), path)
    frame = geopandas.read_parquet(path)
    assert frame.crs == "EPSG:4326"
    assert frame.geometry.is_valid.all()
    assert frame.geometry.exterior.is_ccw.all()
    assert "pixel_geometry" not in frame
    assert frame["mean_height_m"].dtype == np.float32
    geo = json.loads(pq.read_schema(path).metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"]["bbox"] == pytest.approx(frame.total_bounds.tolist())
    assert pq.read_schema(path).field("cluster").metadata == {b"title": b"Cluster"}
    assert pq.read_schema(path).metadata[b"cube_id"] == b"sha256:1234"


def test_geoparquet_of_scenes_without_crs(tmp_path: Path) -> None:
    geoparquet.write_geoparquet(scenes.table_of([scenes.LOOSE]), tmp_path / "x.parquet")
    frame = geopandas.read_parquet(tmp_path / "x.parquet")
    assert frame.crs is None
    assert frame.geometry[0].equals(shapely.box(0, -16, 16, 0))


def test_geoparquet_of_both(tmp_path: Path) -> None:
    geoparquet.write_geoparquet(scenes.table_of([scenes.LOOSE, scenes.NORTH_UP]), tmp_path / "x.parquet")
    frame = geopandas.read_parquet(tmp_path / "x.parquet")
    assert frame.geometry.isna().tolist() == [True] * 12 + [False] * 12
    assert frame["pixel_geometry"].crs is None
    assert frame["pixel_geometry"][12].equals(shapely.box(0, -16, 16, 0))
    expected = footprints.to_longitude_latitude(
        footprints.ground_corners({0: scenes.NORTH_UP}, *np.zeros((3, 1), int), 16), "EPSG:32617"
    )
    assert expected is not None
    assert frame.geometry[12].equals_exact(shapely.Polygon(expected[0]), 1e-12)


# --- legends ----------------------------------------------------------------------------------


def test_colours_of_neighbouring_clusters_differ() -> None:
    colors = [category.color for category in cluster_categories(40)]
    rgb = np.array([list(bytes.fromhex(color[1:])) for color in colors], dtype=float)
    distance = [np.linalg.norm(rgb[a] - rgb[b]) for a, b in itertools.combinations(range(20), 2)]
    assert len(set(colors)) == 40
    assert min(distance) > 20


def test_rounding_keeps_float32() -> None:
    values = np.random.default_rng(0).normal(size=2000).astype(np.float32) * np.float32(10) ** np.arange(
        -20, 20
    ).repeat(50)
    special = np.array([0, -0.0, np.inf, -np.inf], dtype=np.float32)
    found = geopackage._tidy(pa.array(np.concatenate([values, special]))).to_numpy()
    # within the rounding of float32 itself
    np.testing.assert_allclose(found[:-4], values, rtol=6e-8)
    np.testing.assert_array_equal(found[-4:], special)
