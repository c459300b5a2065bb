"""Footprints of tiles: read from texts and tables, written as a layer, counted in exports."""

import json
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoae.catalog import load_catalog
from geoae.cli import main
from geoae.clusters import cluster
from geoae.cube import Cube
from geoae.dataset import open_cube
from geoae.encoding import encode
from geoae.errors import GeoaeError, InputError, StoreExistsError, UsageError
from geoae.exports import export_geopackage
from geoae.footprints import place_tiles, read_footprints
from geoae.ingestion import ingest
from geoae.layers import remove_layer
from geoae.summaries import summarize
from geoae.testing import write_georeferenced
from geoae.verification import verify

US3D = load_catalog("us3d")
SIDE = 2048 * 0.25  # of the tiles written here, in metres


def corners(folder: Path, tiles: list[tuple[str, str]]) -> dict[tuple[str, str], tuple[float, float]]:
    """Write a text file for each tile, as Track 3 has them; return the lower-left corners."""
    places = {}
    (folder / "Track3-Truth").mkdir(parents=True)
    for number, (city, tile) in enumerate(tiles):
        x, y = 434_000 + 1000 * number, 3_354_000 + 500 * number
        places[city, tile] = (x, y)
        text = f"{x:.8e}\n{y:.8e}\n2.04800000e+03\n2.50000000e-01\n"
        (folder / "Track3-Truth" / f"{city}_{tile}_DSM.txt").write_text(text)
    return places


def tiles_of(path: Path) -> list[tuple[str, str]]:
    scenes = Cube.open(path).scenes()
    return list(dict.fromkeys(zip(scenes.scene_city, scenes.scene_tile, strict=True)))


# --- reading --------------------------------------------------------------------------------------


def test_texts_of_corners_become_squares_in_the_citys_zone(tmp_path: Path) -> None:
    corners(tmp_path, [("JAX", "004"), ("OMA", "132")])
    (tmp_path / "readme.txt").write_text("hello")
    first, second = read_footprints(tmp_path, US3D)
    assert (first.city, first.tile, first.crs) == ("JAX", "004", "EPSG:32617")
    assert first.outline.bounds == (434_000, 3_354_000, 434_512, 3_354_512)
    assert (second.city, second.tile, second.crs) == ("OMA", "132", "EPSG:32615")
    assert second.outline.bounds == (435_000, 3_354_500, 435_512, 3_355_012)


NO_CORNERS = ["", "1\n2\n3", "1 2 3 4 5", "a\nb\nc\nd", "1\n2\nnan\n4", "1\n2\n0\n0.5", "1\n2\n10\n-1"]


@pytest.mark.parametrize("text", [*NO_CORNERS, "1\n2\n2.5\n1", "1e400\n2\n10\n1", "9" * 5000])
def test_texts_that_are_no_corner(tmp_path: Path, text: str) -> None:
    (tmp_path / "JAX_004_DSM.txt").write_text(text)
    with pytest.raises(InputError, match=r"JAX_004_DSM\.txt"):
        read_footprints(tmp_path, US3D)


def test_a_table_of_bounds_or_outlines(tmp_path: Path) -> None:
    table = tmp_path / "tiles.csv"
    table.write_text("City,TILE,xmin,ymin,xmax,ymax\nJAX,004,0,0,10,20\nOMA,132,5,5,6,6\n")
    first, second = read_footprints(table, US3D)
    assert (first.outline.bounds, first.crs) == ((0, 0, 10, 20), "EPSG:32617")
    assert second.crs == "EPSG:32615"
    table.write_text('tile,wkt,crs\n7,"POLYGON ((0 0, 0 4, 4 0, 0 0))",EPSG:2154\n')
    (only,) = read_footprints(table, US3D)
    assert (only.city, only.tile, only.crs, only.outline.area) == ("", "7", "EPSG:2154", 8)
    assert only.outline.exterior.is_ccw


def test_a_geopackage_of_polygons(tmp_path: Path) -> None:
    polygons = [shapely.box(0, 0, 2, 2), shapely.MultiPolygon([shapely.box(4, 4, 5, 5)])]
    frame = geopandas.GeoDataFrame(
        {"tile": ["004", "068"], "city": "JAX"}, geometry=polygons, crs="EPSG:3086"
    )
    frame.to_file(tmp_path / "tiles.gpkg")
    first, second = read_footprints(tmp_path / "tiles.gpkg", US3D)
    assert pyproj.CRS(first.crs) == pyproj.CRS("EPSG:3086")
    assert second.outline.bounds == (4, 4, 5, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns none"),
        ("a,b\n1,2\n", "columns a, b"),
        ("tile,xmin,ymin,xmax,ymax\n1,0,0,x,1\n", "line 2: no outline"),
        ("tile,xmin,ymin,xmax,ymax\n1,0,0,0,1\n", "line 2: bounds .* are empty"),
        ("tile,xmin,ymin,xmax,ymax\n1,0,0,nan,1\n", "line 2: bounds .* are empty"),
        ("tile,xmin,ymin,xmax,ymax\n,0,0,1,1\n", "line 2: the tile has no name"),
        ("tile,xmin,ymin,xmax,ymax\n1,0,0,1,1\n", "nothing says which CRS"),
        ("tile,xmin,ymin,xmax,ymax,crs\n1,0,0,1,1,EPSG:99\n", "'EPSG:99' is no CRS"),
        ("tile,wkt,crs\n1,POINT (0 0),EPSG:2154\n", "one polygon"),
        ("tile,wkt,crs\n1,nonsense,EPSG:2154\n", "no outline"),
        ('tile,wkt,crs\n1,"POLYGON ((0 0, 2 2, 2 0, 0 2, 0 0))",EPSG:2154\n', "not valid"),
        ("tile,xmin,ymin,xmax,ymax,crs\n1,0,0,1,1,EPSG:2154\n1,0,0,2,2,EPSG:2154\n", "two different"),
    ],
)
def test_tables_that_are_wrong_say_where(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tiles.csv").write_text(text)
    with pytest.raises(InputError, match=message) as info:
        read_footprints(tmp_path / "tiles.csv", US3D)
    assert "\n" not in str(info.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("t")
    for name in ("tiles.csv", "tiles.gpkg", "JAX_004_DSM.txt"):
        (folder / name).write_bytes(data)
    for source in (folder / "tiles.csv", folder / "tiles.gpkg", folder):
        with pytest.raises(GeoaeError):
            read_footprints(source, US3D)


def test_what_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file or folder"):
        read_footprints(tmp_path / "none", US3D)
    with pytest.raises(InputError, match="no text file"):
        read_footprints(tmp_path, US3D)
    (tmp_path / "tiles.gpkg").write_text("<OGRVRTDataSource/>")
    with pytest.raises(InputError, match="no GeoPackage"):
        read_footprints(tmp_path / "tiles.gpkg", US3D)
    (tmp_path / "tiles.shp").write_text("")
    with pytest.raises(InputError, match=r"a \.csv or a \.gpkg"):
        read_footprints(tmp_path / "tiles.shp", US3D)


# --- the layer ------------------------------------------------------------------------------------


def test_patches_know_their_tile_and_nothing_gets_a_crs(cube_copy: Path, tmp_path: Path) -> None:
    tiles = tiles_of(cube_copy)
    places = corners(tmp_path / "truth", tiles[1:])
    before = Cube.open(cube_copy).cube_id
    report = place_tiles(cube_copy, tmp_path / "truth")
    assert report.path == "footprints/tiles"
    assert report.tiles == len(tiles) - 1
    assert report.without == (" ".join(tiles[0]),)
    cube = Cube.open(cube_copy)
    layer = cube.layer("footprints/tiles").load()
    assert layer.attrs["approximate"] is True
    table = cube.table()
    for patch, position in enumerate(layer["footprint"].to_numpy()):
        tile = (table.city[patch], table.tile[patch])
        if tile == tiles[0]:
            assert position == -1
            continue
        entry = layer.isel(footprint_index=position)
        assert (str(entry.footprint_city.item()), str(entry.footprint_tile.item())) == tile
        x, y = places[tile]
        assert entry.footprint_centre.to_numpy().tolist() == [x + SIDE / 2, y + SIDE / 2]
    assert cube.cube_id == before
    assert set(cube.scenes().scene_crs) == {""}
    assert np.isnan(table.pixel_size_x).all()
    assert verify(cube_copy).ok
    assert open_cube(cube_copy)["tiles_footprint"].dims == ("patch",)


def test_equal_sources_do_nothing_and_others_ask(cube_copy: Path, tmp_path: Path) -> None:
    tiles = tiles_of(cube_copy)
    corners(tmp_path / "a", tiles)
    place_tiles(cube_copy, tmp_path / "a")
    digest = Cube.open(cube_copy).layer_digest("footprints/tiles")
    place_tiles(cube_copy, tmp_path / "a")
    corners(tmp_path / "b", tiles[:2])
    with pytest.raises(StoreExistsError):
        place_tiles(cube_copy, tmp_path / "b")
    place_tiles(cube_copy, tmp_path / "b", overwrite=True)
    assert Cube.open(cube_copy).layer_digest("footprints/tiles") != digest
    remove_layer(Cube.open(cube_copy), "footprints/tiles")
    assert Cube.open(cube_copy).layers() == ()


def test_numbers_without_zeros_and_without_a_city_are_understood_where_they_are_clear(
    cube_copy: Path, tmp_path: Path
) -> None:
    tiles = tiles_of(cube_copy)
    bare = [tile.lstrip("0") for city, tile in tiles if city == "JAX"]
    shared = {t for c, t in tiles if c == "JAX"} & {t for c, t in tiles if c == "OMA"}
    table = tmp_path / "t.csv"
    rows = "".join(f"JAX,{tile},0,0,{number + 1},1\n" for number, tile in enumerate(bare))
    table.write_text(f"city,tile,xmin,ymin,xmax,ymax\n{rows}")
    assert place_tiles(cube_copy, table).tiles == len(bare)
    alone = [tile for city, tile in tiles if city == "OMA" and tile not in shared]
    table.write_text("tile,xmin,ymin,xmax,ymax\n" + "".join(f"{tile},0,0,1,1\n" for tile in alone))
    assert place_tiles(cube_copy, table, name="oma", crs="EPSG:32615").tiles == len(alone)


def test_footprints_of_other_tiles_are_refused(cube_copy: Path, tmp_path: Path) -> None:
    corners(tmp_path / "a", [("JAX", "999")])
    with pytest.raises(InputError, match="none of 1 footprints belongs to a tile"):
        place_tiles(cube_copy, tmp_path / "a")


def test_scenes_with_a_crs_keep_their_own_place(tmp_path: Path) -> None:
    write_georeferenced(tmp_path / "s", cities=["OMA"], tiles=1, size=64)
    ingest(tmp_path / "s", out=tmp_path / "c.zarr", patch=32)
    corners(tmp_path / "a", [("OMA", "001")])
    with pytest.raises(UsageError, match=r"every scene .* has a CRS"):
        place_tiles(tmp_path / "c.zarr", tmp_path / "a")


# --- exports --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mapped(us3d_cube: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A cube with clusters, classes and footprints of all tiles but one, and its export."""
    import shutil

    folder = tmp_path_factory.mktemp("mapped")
    for path in us3d_cube.parent.iterdir():
        shutil.copytree(path, folder / path.name)
    cube = folder / us3d_cube.name
    encode(cube, plugin="pca", options={"latent_dim": 4})
    cluster(cube, latents="pca", k=3)
    summarize(cube)
    corners(folder / "truth", tiles_of(cube)[:-1])
    place_tiles(cube, folder / "truth")
    export_geopackage(cube, folder / "map.gpkg")
    return cube, folder / "map.gpkg"


def test_the_export_has_a_layer_of_tiles_for_each_crs(mapped: tuple[Path, Path]) -> None:
    cube, path = mapped
    names = pyogrio.list_layers(path)[:, 0].tolist()
    assert {"tiles_epsg_32617", "tiles_epsg_32615", "overview_tiles", "clusters_pixels"} <= set(names)
    table, layer = Cube.open(cube).table(), Cube.open(cube)
    labels = layer.layer("clusters/pca")["cluster"].to_numpy()
    classes = layer.layer("summaries/dfc2019").load()
    seen = 0
    for name, code in (("tiles_epsg_32617", "EPSG:32617"), ("tiles_epsg_32615", "EPSG:32615")):
        frame = pyogrio.read_dataframe(path, layer=name)
        assert pyproj.CRS(frame.crs) == pyproj.CRS(code)
        assert frame.approximate.all()
        for row in frame.itertuples():
            mine = ((table.city == row.city) & (table.tile == row.tile)).to_numpy()
            counts = np.bincount(labels[mine][labels[mine] >= 0], minlength=3)
            assert [row.patches_cluster_0, row.patches_cluster_1, row.patches_cluster_2] == counts.tolist()
            assert (row.patches, row.views) == (mine.sum(), table.scene_id[mine].nunique())
            assert row.cluster == counts.argmax()
            assert row.cluster_part == pytest.approx(counts.max() / counts.sum())
            dominant = classes["dominant_class"].to_numpy()[mine]
            assert row.patches_class_2 == (dominant == 2).sum()
            values, number = np.unique(dominant[dominant >= 0], return_counts=True)
            assert row.dominant_class == values[number.argmax()]
            heights = classes["mean_height"].to_numpy()[mine]
            assert row.mean_height_m == pytest.approx(np.nanmean(heights), rel=1e-6)
            assert row.geometry.area == SIDE**2
        seen += len(frame)
    assert seen == len(tiles_of(cube)) - 1


def test_the_overview_has_the_centres(mapped: tuple[Path, Path]) -> None:
    _, path = mapped
    centres = pyogrio.read_dataframe(path, layer="overview_tiles")
    assert centres.crs.to_epsg() == 4326
    assert centres.approximate.all()
    for code in (32617, 32615):
        tiles = pyogrio.read_dataframe(path, layer=f"tiles_epsg_{code}")
        for row in tiles.itertuples():
            centre = centres[(centres.city == row.city) & (centres.tile == row.tile)]
            there = centre.to_crs(code).geometry.iloc[0]
            assert there.distance(row.geometry.centroid) < 1e-3


def test_patches_without_a_crs_stay_in_pixels_and_tiles_are_styled(mapped: tuple[Path, Path]) -> None:
    _, path = mapped
    patches = pyogrio.read_dataframe(path, layer="clusters_pixels")
    assert patches.geometry.bounds.miny.max() <= 0
    styles = pyogrio.read_dataframe(path, layer="layer_styles")
    tiles = styles[styles.f_table_name == "tiles_epsg_32617"]
    assert set(tiles.styleName) == {"Clusters", "Classes"}
    assert "scene_id" not in tiles.styleQML.iloc[0]
    info = pyogrio.read_info(path, layer="tiles_epsg_32617", encoding="utf-8")
    assert "footprints/tiles" in info["layer_metadata"]["layers"]


def test_an_export_of_a_part_counts_only_its_patches(mapped: tuple[Path, Path], tmp_path: Path) -> None:
    cube, _ = mapped
    export_geopackage(cube, tmp_path / "jax.gpkg", cities=["JAX"])
    names = pyogrio.list_layers(tmp_path / "jax.gpkg")[:, 0].tolist()
    assert "tiles_epsg_32617" in names
    assert "tiles_epsg_32615" not in names


def test_without_footprints_the_export_is_as_before(us3d_cube: Path, tmp_path: Path) -> None:
    export_geopackage(us3d_cube, tmp_path / "a.gpkg")
    assert not any("tiles" in name for name in pyogrio.list_layers(tmp_path / "a.gpkg")[:, 0])


def test_the_command(cube_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corners(tmp_path / "truth", [*tiles_of(cube_copy)[1:], ("JAX", "999")])
    with pytest.raises(SystemExit) as stopped:
        main(["footprints", str(tmp_path / "truth"), "--cube", str(cube_copy), "--json"])
    captured = capsys.readouterr()
    assert not stopped.value.code
    document = json.loads(captured.out)
    assert (document["path"], document["unused"]) == ("footprints/tiles", ["JAX 999"])
    assert "1 tiles have no footprint" in captured.err
    with pytest.raises(SystemExit) as stopped:
        main(["footprints", str(tmp_path / "none"), "--cube", str(cube_copy)])
    assert stopped.value.code == 3
