"""Rasters of clusters and summaries: each pixel is its patch, in its place, with its name and colour."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import export_scenes as scenes
import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine
from test_exports_cube import make_clusters, make_latents, write

from geoae.cube import Cube
from geoae.errors import InputError, IntegrityError, StoreExistsError, UsageError
from geoae.exports import cog, export_geopackage, export_rasters, rasters
from geoae.exports.cog import Band, Raster, write_cog
from geoae.exports.table import Category
from geoae.grid import Grid, crs_equal
from geoae.ingestion import ingest
from geoae.plots.style import cluster_colors
from geoae.summaries import summarize

GRIDS = {
    "JAX_004_001": scenes.NORTH_UP,
    "JAX_004_002": scenes.ROTATED,
    "JAX_004_003": scenes.SOUTH_UP,
    "JAX_004_004": scenes.FEET,
    "OMA_132_001": scenes.OTHER_ZONE,
    "OMA_132_002": scenes.DEGREES,
    "OMA_132_003": scenes.LOOSE,
}
PLACED = [name for name, grid in GRIDS.items() if grid.crs is not None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """US3D names in seven grids; rows of ground, trees and buildings, the last patch void."""
    folder = tmp_path_factory.mktemp("us3d")
    code = scenes.pixels()
    row, col = np.divmod(code, 100)
    for name, grid in GRIDS.items():
        write(folder / f"{name}_RGB.tif", np.stack([10 + row, 10 + col, 10 + row]).astype(np.uint8), grid)
        label = np.where(code == 203, 65, np.array([2, 5, 6])[row.clip(0, 2)]).astype(np.uint8)
        write(folder / f"{name}_CLS.tif", label[np.newaxis], grid)
        height = np.where(code == 203, np.nan, row + col / 10).astype(np.float32)
        write(folder / f"{name}_AGL.tif", height[np.newaxis], grid)
    return folder


def cube_of(folder: Path, out: Path, **options: Any) -> Cube:
    ingest(folder, catalog="us3d", out=out, mixed_resolution=True, workers=1, **options)
    cube = Cube.open(out)
    summarize(cube)
    make_latents(cube, "pca")
    make_clusters(cube, "pca", "pca")
    return cube


@pytest.fixture(scope="module")
def cube(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Cube:
    return cube_of(folder, tmp_path_factory.mktemp("cube") / "us3d.zarr", patch=scenes.PATCH)


@pytest.fixture(scope="module")
def maps(cube: Cube, tmp_path_factory: pytest.TempPathFactory) -> Path:
    maps = tmp_path_factory.mktemp("out") / "maps"
    report = export_rasters(cube, maps)
    assert report.warnings == ()
    assert dict(report.left_out) == {"OMA_132_003": "no CRS"}
    assert len(report.files) == 4 * len(PLACED)
    return maps


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


# --- values and places --------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", PLACED)
def test_a_pixel_is_its_patch(cube: Cube, maps: Path, scene: str) -> None:
    number = list(GRIDS).index(scene)
    each = scenes.ROWS * scenes.COLUMNS
    label = (np.arange(each) + number * each) % 3
    expected = np.where(np.arange(each) + number * each == 0, 255, label).reshape(scenes.ROWS, scenes.COLUMNS)
    with rasterio.open(maps / f"{scene}_clusters_pca.tif") as raster:
        assert raster.read(1).tolist() == expected.tolist()
        assert raster.nodata == 255
        assert crs_equal(raster.crs.to_wkt(), GRIDS[scene].crs)
    with rasterio.open(maps / f"{scene}_classes_dfc2019.tif") as raster:
        assert raster.read(1).tolist() == [[2] * 4, [5] * 4, [6, 6, 6, 255]]
    with rasterio.open(maps / f"{scene}_summary_dfc2019.tif") as raster:
        assert raster.descriptions == ("purity", "mean_height_m", "height_valid", "error")
        assert raster.units == ("", "m", "", "") or raster.units == (None, "m", None, None)
        height = [[row + col / 10 for col in range(4)] for row in range(3)]
        height[2][3] = np.nan
        np.testing.assert_allclose(raster.read(2), height, rtol=1e-6)
    with rasterio.open(maps / f"{scene}_fractions_dfc2019.tif") as raster:
        ground = raster.read(raster.descriptions.index("ground") + 1)
        np.testing.assert_array_equal(ground, [[1] * 4, [0] * 4, [0, 0, 0, np.nan]])


def test_the_transform_by_hand(maps: Path) -> None:
    with rasterio.open(maps / "JAX_004_001_clusters_pca.tif") as raster:
        assert tuple(raster.transform)[:6] == (8.0, 0.0, 434_000.0, 0.0, -8.0, 3_354_000.0)
    with rasterio.open(maps / "JAX_004_003_clusters_pca.tif") as raster:  # first row in the south
        assert tuple(raster.transform)[:6] == (8.0, 0.0, 436_000.0, 0.0, 8.0, 3_356_000.0)


def agree(cube: Cube, folder: Path, path: Path) -> int:
    """Compare each polygon's cluster with the pixel at its centroid; return how many were compared."""
    export_geopackage(cube, path)
    compared = 0
    for name, _ in pyogrio.list_layers(path):
        if not name.startswith("clusters_") or name == "clusters_pixels":
            continue
        for scene, frame in scenes.read(path, name).groupby("scene_id"):
            with rasterio.open(folder / f"{scene}_clusters_pca.tif") as raster:
                points = list(zip(frame.centroid.x, frame.centroid.y, strict=True))
                found = [int(value) for (value,) in raster.sample(points)]
                assert found == frame["cluster"].fillna(255).astype(int).tolist()
                # and the pixel lies in the middle of its patch
                middles = [raster.xy(*map(int, cell)) for cell in frame[["row", "col"]].to_numpy()]
                side = max(abs(raster.transform.a), abs(raster.transform.b))
                np.testing.assert_allclose(np.array(middles), np.array(points), atol=1e-6 * side)
            compared += len(frame)
    return compared


@pytest.mark.filterwarnings("ignore:Geometry is in a geographic CRS")
def test_polygons_and_pixels_agree_in_every_grid(cube: Cube, maps: Path, tmp_path: Path) -> None:
    assert agree(cube, maps, tmp_path / "x.gpkg") == 12 * len(PLACED)


@pytest.mark.filterwarnings("ignore:Geometry is in a geographic CRS")
def test_overlapping_patches_have_a_pixel_each(folder: Path, tmp_path: Path) -> None:
    cube = cube_of(folder, tmp_path / "us3d.zarr", patch=16, stride=6)
    export_rasters(cube, tmp_path / "maps")
    # 0.5 m pixels, a step of 6, and half of 16 - 6 pixels to the first middle's border
    with rasterio.open(tmp_path / "maps" / "JAX_004_001_clusters_pca.tif") as raster:
        assert tuple(raster.transform)[:6] == (3.0, 0.0, 434_002.5, 0.0, -3.0, 3_353_997.5)
    assert agree(cube, tmp_path / "maps", tmp_path / "x.gpkg") > 12 * len(PLACED)


def test_patches_with_gaps_are_refused(folder: Path, tmp_path: Path) -> None:
    cube = cube_of(folder, tmp_path / "us3d.zarr", patch=16, stride=20)
    with pytest.raises(UsageError, match="leave gaps") as caught:
        export_rasters(cube, tmp_path / "maps")
    assert "polygons" in str(caught.value)
    assert not (tmp_path / "maps").exists()


def test_patches_that_are_not_selected_are_void(cube: Cube, tmp_path: Path) -> None:
    report = export_rasters(cube, tmp_path, kinds=["classes"], scenes=["OMA_132_001", "OMA_132_003"])
    assert [Path(file.path).name for file in report.files] == ["OMA_132_001_classes_dfc2019.tif"]
    assert list(report.left_out) == ["OMA_132_003"]


# --- what others read ---------------------------------------------------------------------------------


def ask(gdalinfo: str, path: Path) -> Any:
    return json.loads(
        subprocess.run([gdalinfo, "-json", path], capture_output=True, text=True, check=True).stdout
    )


def test_gdal_reads_colours_names_and_origin(cube: Cube, maps: Path, gdalinfo: str) -> None:
    found = ask(gdalinfo, maps / "JAX_004_001_classes_dfc2019.tif")
    (band,) = found["bands"]
    classes = {c.code: c for c in cube.catalog.class_tables["dfc2019"].classes}
    for code, one in classes.items():
        assert band["colorTable"]["entries"][code][:3] == list(bytes.fromhex(one.color[1:]))
        assert band["categories"][code] == one.name
    rows = [row["f"] for row in found["rat"]["row"]]  # value, count, name, red, green, blue
    assert {row[0]: row[1:] for row in rows if row[1]} == {
        code: [count, classes[code].name, *bytes.fromhex(classes[code].color[1:])]
        for code, count in {2: 4, 5: 4, 6: 3}.items()
    }
    text = found["metadata"][""]
    assert text["licence"] == cube.catalog.licence
    assert text["citation"] == cube.catalog.citation
    assert text["attribution"].startswith(f"Data: {cube.catalog.title}. M. Bosch, ")
    assert text["TIFFTAG_COPYRIGHT"] == cube.catalog.licence
    assert text["cube_id"] == cube.cube_id
    assert json.loads(band["metadata"][""]["categories"])["2"] == classes[2].name
    assert found["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"


def test_gdal_reads_units_and_statistics(maps: Path, gdalinfo: str) -> None:
    band = ask(gdalinfo, maps / "JAX_004_001_summary_dfc2019.tif")["bands"][1]
    assert (band["description"], band["unit"]) == ("mean_height_m", "m")
    heights = np.array([row + col / 10 for row in range(3) for col in range(4)][:-1])
    found = {name: float(text) for name, text in band["metadata"][""].items() if name.startswith("STAT")}
    assert found == pytest.approx(
        {
            "STATISTICS_MINIMUM": 0,
            "STATISTICS_MAXIMUM": 2.2,
            "STATISTICS_MEAN": heights.mean(),
            "STATISTICS_STDDEV": heights.std(),
            "STATISTICS_VALID_PERCENT": 100 * 11 / 12,
        },
        rel=1e-3,
    )


def test_gdal_says_that_they_are_valid(maps: Path, tmp_path: Path, qgis_python: str) -> None:
    """With QGIS come the bindings of GDAL and their script."""
    write_cog(large(), tmp_path / "large.tif", {})
    for path in [tmp_path / "large.tif", *sorted(maps.glob("JAX_004_00[12]*.tif"))]:
        command = [qgis_python, "-m", "osgeo_utils.samples.validate_cloud_optimized_geotiff", path]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "is a valid cloud optimized GeoTIFF" in run.stdout, run.stdout + run.stderr
        assert "warning" not in run.stdout.lower()


def large() -> Raster:
    """Three of four pixels of each square of 2 x 2 are of class 1, the other one of class 0."""
    values = np.ones((1, 700, 1200), dtype=np.uint8)
    values[0, ::2, ::2] = 0
    grid = Grid("EPSG:32617", Affine(8, 0, 434_000, 0, -8, 3_354_000), (700, 1200))
    return Raster(
        grid, values, 255, (Band("c", "C"),), (Category(0, "a", "#000000"), Category(1, "b", "#ff0000"))
    )


def test_large_rasters_have_overviews_of_the_most_frequent_class(tmp_path: Path) -> None:
    write_cog(large(), tmp_path / "large.tif", {})
    with rasterio.open(tmp_path / "large.tif") as raster:
        assert raster.overviews(1) == [2, 4]
    with rasterio.open(tmp_path / "large.tif", overview_level=0) as raster:
        assert np.unique(raster.read(1)).tolist() == [1]


def test_small_rasters_have_none(maps: Path) -> None:
    with rasterio.open(maps / "JAX_004_001_clusters_pca.tif") as raster:
        assert raster.overviews(1) == []


@pytest.mark.parametrize("codes", [(-3, 4), (7, 255), (1, 70_000)], ids=["negative", "byte", "large"])
def test_codes_that_do_not_fit_into_a_byte(codes: tuple[int, int]) -> None:
    legend = tuple(Category(code, f"class {code}", "#102030") for code in codes)
    where = (np.array([0, 0]), np.array([0, 1]))
    grid = Grid("EPSG:32617", Affine(8, 0, 434_000, 0, -8, 3_354_000), (1, 3))
    raster = rasters._classes(grid, where, Band("c", "C"), legend, np.array(codes))
    assert raster is not None
    assert raster.values.dtype == np.int32
    assert raster.values[0, 0, :2].tolist() == list(codes)
    assert raster.known.tolist() == [[[True, True, False]]]


def test_colours_are_those_of_the_plots(maps: Path) -> None:
    with rasterio.open(maps / "JAX_004_001_clusters_pca.tif") as raster:
        table = raster.colormap(1)
    assert [table[i][:3] for i in range(3)] == [tuple(bytes.fromhex(c[1:])) for c in cluster_colors(3)]


QGIS = """
import json, os, sys
os.environ["QT_QPA_PLATFORM"] = "offscreen"
from qgis.core import QgsApplication, QgsRasterLayer
application = QgsApplication([], False)
application.initQgis()
layers = [QgsRasterLayer(path, "raster") for path in sys.argv[1:]]
renderers = [layer.renderer() for layer in layers]
classes = [[c.value, c.label, c.color.name()] for c in renderers[0].classes()]
stretch = renderers[1].contrastEnhancement()
grey = [renderers[1].type(), stretch.minimumValue(), stretch.maximumValue()]
print("RESULT" + json.dumps([classes, grey]))
sys.stdout.flush()
os._exit(0)
"""


def test_qgis_shows_the_classes_and_no_more(maps: Path, qgis_python: str) -> None:
    paths = [maps / f"JAX_004_001_{name}.tif" for name in ("clusters_pca", "summary_dfc2019")]
    command = [qgis_python, "-c", QGIS, *paths]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("RESULT")]
    classes, grey = json.loads(line.removeprefix("RESULT"))
    assert classes == [[i, f"Cluster {i}", color] for i, color in enumerate(cluster_colors(3))]
    assert grey == ["singlebandgray", 1, 1]  # the purity of these is one


# --- files --------------------------------------------------------------------------------------------


def test_equal_exports_have_equal_bytes(cube: Cube, maps: Path, tmp_path: Path) -> None:
    export_rasters(cube, tmp_path / "again")
    assert digests(tmp_path / "again") == digests(maps)
    export_rasters(cube, tmp_path / "again", overwrite=True)
    assert digests(tmp_path / "again") == digests(maps)


def test_files_are_replaced_only_when_asked_and_only_ours(cube: Cube, folder: Path, tmp_path: Path) -> None:
    export_rasters(cube, tmp_path, kinds=["clusters"])
    before = digests(tmp_path)
    with pytest.raises(StoreExistsError, match="exists"):
        export_rasters(cube, tmp_path)
    foreign = tmp_path / "JAX_004_001_clusters_pca.tif"
    foreign.write_bytes((folder / "JAX_004_001_RGB.tif").read_bytes())
    before = digests(tmp_path)
    with pytest.raises(StoreExistsError, match="is not a raster of geoae and is never replaced"):
        export_rasters(cube, tmp_path, overwrite=True)
    assert digests(tmp_path) == before


def test_a_failure_leaves_the_old_files_and_nothing_else(
    cube: Cube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_rasters(cube, tmp_path, kinds=["clusters"])
    before = digests(tmp_path)
    monkeypatch.setattr(cog, "_names", lambda _raster: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_rasters(cube, tmp_path, kinds=["clusters"], overwrite=True)
    assert digests(tmp_path) == before


def test_a_raster_that_does_not_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cog, "_describe", lambda made, raster, _tags: made.write(raster.values * 0))
    with pytest.raises(IntegrityError, match="does not read back"):
        write_cog(large(), tmp_path / "large.tif", {})


def test_a_dry_run_writes_nothing(cube: Cube, maps: Path, tmp_path: Path) -> None:
    report = export_rasters(cube, tmp_path / "maps", dry_run=True)
    assert not (tmp_path / "maps").exists()
    assert [Path(file.path).name for file in report.files] == [
        Path(file.path).name for file in export_rasters(cube, tmp_path / "maps").files
    ]
    for file in report.files:
        assert 0.3 < (maps / Path(file.path).name).stat().st_size / file.n_bytes < 1.1


def test_without_a_crs_there_is_nothing_to_write(cube: Cube, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no scene to write, 1 with no CRS") as caught:
        export_rasters(cube, tmp_path / "maps", scenes=["OMA_132_003"])
    assert caught.value.exit_code == 3
    assert not (tmp_path / "maps").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kinds": ["hills"]}, "no kind 'hills'"), ({"clusters": "vae"}, "no clusters/vae")],
)
def test_what_is_not_there(cube: Cube, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        export_rasters(cube, tmp_path / "maps", **options)


def test_folders_that_cannot_be(cube: Cube, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(StoreExistsError, match="is a file"):
        export_rasters(cube, tmp_path / "file")
    with pytest.raises(InputError, match="the folder above does not exist"):
        export_rasters(cube, tmp_path / "a" / "b")
    with pytest.raises(UsageError, match="lies in the cube"):
        export_rasters(cube, cube.location.path / "maps")
