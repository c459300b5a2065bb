"""Footprints of patches and the layers that they go to."""

import export_scenes as scenes
import geopandas
import numpy as np
import pyproj
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from geoae.exports import footprints
from geoae.exports.maps import map_layers
from geoae.grid import Grid, Window


@given(
    angle=st.floats(0, 360),
    scale=st.tuples(
        st.floats(0.1, 50), st.floats(0.1, 50), st.sampled_from([-1, 1]), st.sampled_from([-1, 1])
    ),
    start=st.tuples(st.integers(0, 500), st.integers(0, 500)),
)
def test_ground_corners_are_the_grids_corners_counter_clockwise(
    angle: float, scale: tuple[float, float, int, int], start: tuple[int, int]
) -> None:
    transform = (
        Affine.translation(5e5, 4e6)
        @ Affine.rotation(angle)
        @ Affine.scale(scale[0] * scale[2], scale[1] * scale[3])
    )
    grid = Grid("EPSG:32617", transform, (1024, 1024))
    found = footprints.ground_corners(
        {3: grid}, np.array([3]), np.array([start[0]]), np.array([start[1]]), 128
    )
    expected = shapely.Polygon(grid.corners(Window(*start, 128, 128)))
    polygon = shapely.Polygon(found[0])
    assert polygon.exterior.is_ccw
    assert polygon.symmetric_difference(expected).area <= 1e-6 * expected.area


def test_wkb_is_what_shapely_writes() -> None:
    corners = footprints.pixel_corners(np.array([0, 128]), np.array([256, 0]), 128)
    expected = [polygon.wkb for polygon in shapely.polygons(corners)]
    assert footprints.wkb_polygons(corners).to_pylist() == expected


def test_overview_agrees_with_geopandas() -> None:
    place = (np.zeros(1, int), np.array([16]), np.array([32]))
    corners = footprints.ground_corners({0: scenes.FEET}, *place, 16)
    expected = geopandas.GeoSeries(shapely.polygons(corners), crs="EPSG:2994").to_crs(4326)
    found = footprints.to_longitude_latitude(corners, "EPSG:2994")
    assert found is not None
    assert shapely.Polygon(found[0]).equals_exact(expected[0], 1e-12)
    assert -125 < found[0, 0, 0] < -120  # longitude first


def test_patch_across_the_antimeridian_stays_small() -> None:
    grid = Grid("EPSG:32660", Affine(30, 0, 832_000, 0, -30, 100_000), (128, 128))
    corners = footprints.ground_corners({0: grid}, np.zeros(1, int), np.zeros(1, int), np.zeros(1, int), 128)
    found = footprints.to_longitude_latitude(corners, "EPSG:32660")
    assert found is not None
    assert np.ptp(found[0, :, 0]) < 0.1
    assert found[..., 0].max() > 180


def test_a_crs_without_place_on_the_globe_gives_a_warning_and_keeps_its_layer() -> None:
    grid = Grid('LOCAL_CS["site grid",UNIT["metre",1]]', scenes.NORTH_UP.transform, scenes.SHAPE)
    layers, warnings = map_layers(scenes.table_of([grid, scenes.NORTH_UP]))
    assert {layer.name: len(layer.rows) for layer in layers} == {
        "overview": 12,
        "clusters_site_grid": 12,
        "clusters_epsg_32617": 12,
    }
    assert warnings == [
        "12 patches in the CRS site grid are not in the overview: PROJ cannot place it on the globe"
    ]


def test_sheet_keeps_views_of_a_tile_together_and_scenes_apart() -> None:
    groups = [("JAX", "1")] * 3 + [("JAX", "2")] * 2 + [("OMA", "1")] * 2
    offsets, step = footprints.sheet_offsets(groups, [(80, 40)] * 7)
    assert step == (45, 90)
    # three views fill the line of tile 1; tile 2 begins another; so does the next city
    assert offsets.tolist() == [[0, 0], [45, 0], [90, 0], [0, -90], [45, -90], [0, -180], [45, -180]]


@given(
    st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from("123")), min_size=1, max_size=40).map(sorted)
)
def test_no_two_scenes_share_a_cell_of_the_sheet(groups: list[tuple[str, str]]) -> None:
    offsets, _ = footprints.sheet_offsets(groups, [(10, 10)] * len(groups))
    assert len(np.unique(offsets, axis=0)) == len(groups)


def test_equal_crs_in_other_words_share_a_layer() -> None:
    wkt = pyproj.CRS("EPSG:32617").to_wkt(pretty=True)
    layers, _ = map_layers(
        scenes.table_of([scenes.NORTH_UP, Grid(wkt, scenes.ROTATED.transform, scenes.SHAPE)])
    )
    assert [layer.name for layer in layers] == ["overview", "clusters_epsg_32617"]


def test_different_crs_of_one_name_do_not() -> None:
    wkt = [pyproj.CRS.from_proj4(f"+proj=utm +zone={zone} +ellps=GRS80").to_wkt() for zone in (25, 26)]
    layers, _ = map_layers(
        scenes.table_of([Grid(text, scenes.NORTH_UP.transform, scenes.SHAPE) for text in wkt])
    )
    assert [layer.name for layer in layers] == ["overview", "clusters_unknown", "clusters_unknown_other"]
