"""Grids: windows, bounds and sizes, compared with rasterio and pyproj."""

import math

import numpy as np
import pyproj
import pytest
import rasterio.transform
import rasterio.windows
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from geoae.grid import Bounds, Grid, Window, crs_equal, metres_per_unit

NORTH_UP = Affine(0.5, 0, 434_000, 0, -0.5, 3_354_000)
SOUTH_UP = Affine(0.5, 0, 434_000, 0, 0.5, 3_354_000)
ROTATED = Affine.translation(434_000, 3_354_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.4)
UTM = "EPSG:32617"

angles = st.floats(-180, 180)
sizes = st.floats(0.05, 100)
windows = st.builds(Window, st.integers(0, 40), st.integers(0, 40), st.integers(1, 30), st.integers(1, 30))


# rasterio multiplies transforms in the way that affine is about to give up.
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
@given(windows)
def test_bounds_of_a_north_up_window_are_rasterios(window):
    grid = Grid(UTM, NORTH_UP, (80, 80))
    place = rasterio.windows.Window(window.x, window.y, window.width, window.height)
    assert grid.window_bounds(window) == pytest.approx(rasterio.windows.bounds(place, NORTH_UP))


def test_bounds_of_a_south_up_window_are_in_order():
    bounds = Grid(UTM, SOUTH_UP, (8, 8)).window_bounds(Window(2, 4, 2, 4))
    assert bounds == Bounds(434_002, 3_354_001, 434_004, 3_354_002)


def test_bounds_of_a_rotated_window_hold_all_its_corners():
    # A unit square turned by 45 degrees about its first corner: by hand, a diamond of half-diagonal 0.7071.
    transform = Affine.translation(10, 20) @ Affine.rotation(45)
    bounds = Grid(UTM, transform, (1, 1)).bounds
    half = math.sqrt(0.5)
    assert bounds == pytest.approx((10 - half, 20, 10 + half, 20 + 2 * half))


def test_without_a_crs_bounds_are_pixels():
    assert Grid(None, Affine.identity(), (8, 9)).window_bounds(Window(1, 2, 3, 4)) == Bounds(2, 1, 6, 4)


@given(windows, angles, sizes, sizes)
def test_a_part_lies_where_its_window_is(window, angle, size_x, size_y):
    transform = Affine.translation(1000, 2000) @ Affine.rotation(angle) @ Affine.scale(size_x, -size_y)
    grid = Grid(UTM, transform, (80, 80))
    part = grid.sub(window)
    assert part.shape == (window.height, window.width)
    assert np.allclose(part.bounds, grid.window_bounds(window), atol=1e-6)
    assert np.allclose(part.pixel_size, (size_x, size_y))


def test_corners_go_round():
    corners = Grid(None, Affine.identity(), (4, 4)).corners(Window(1, 2, 1, 2))
    assert corners == ((2, 1), (4, 1), (4, 2), (2, 2))


@given(st.integers(-10, 20), st.integers(-10, 20), st.integers(1, 20), st.integers(1, 20))
def test_clipping_is_the_intersection(y, x, height, width):
    clipped = Window(y, x, height, width).clipped((9, 7))
    inside = np.zeros((60, 60), bool)  # shifted by 20, so that nothing is negative
    inside[y + 20 : y + 20 + height, x + 20 : x + 20 + width] = True
    inside[:20] = inside[:, :20] = inside[29:] = inside[:, 27:] = False
    assert clipped.height * clipped.width == inside.sum()
    if inside.any():
        rows, cols = np.nonzero(inside)
        assert clipped == (rows.min() - 20, cols.min() - 20, np.ptp(rows) + 1, np.ptp(cols) + 1)


def test_a_grid_has_pixels_and_a_way_back():
    with pytest.raises(ValueError, match="at least one pixel"):
        Grid(None, Affine.identity(), (0, 4))
    with pytest.raises(ValueError, match="invertible"):
        Grid(None, Affine(1, 1, 0, 1, 1, 0), (4, 4))


# --- sizes ----------------------------------------------------------------------------------------


def test_pixel_sizes_of_rotated_grids_are_lengths_of_sides():
    assert Grid(UTM, ROTATED, (4, 4)).pixel_size == pytest.approx((0.5, 0.4))


def test_no_crs_no_metres():
    assert all(math.isnan(size) for size in Grid(None, NORTH_UP, (4, 4)).pixel_size_metres())


def test_feet_become_metres():
    # EPSG:2994 is in international feet, EPSG:2263 in US survey feet.
    assert Grid("EPSG:2994", NORTH_UP, (4, 4)).pixel_size_metres() == pytest.approx((0.1524, 0.1524))
    survey = Grid("EPSG:2263", Affine.scale(1, -1), (4, 4)).pixel_size_metres()
    assert survey == pytest.approx((1200 / 3937, 1200 / 3937), rel=1e-12)


def test_degrees_become_metres_at_the_middle_of_the_grid():
    step = 1e-4
    grid = Grid("EPSG:4326", Affine(step, 0, -81.5, 0, -step, 30.3), (100, 200))
    # Radii of curvature of WGS84 at the latitude of the middle, from the textbook.
    a, e2 = 6_378_137.0, 0.006_694_379_990_14
    latitude = math.radians(30.3 - 50 * step)
    root = math.sqrt(1 - e2 * math.sin(latitude) ** 2)
    across = math.radians(step) * math.cos(latitude) * a / root
    along = math.radians(step) * a * (1 - e2) / root**3
    assert grid.pixel_size_metres() == pytest.approx((across, along), rel=1e-6)


def test_crs_without_a_unit_or_of_a_local_kind_have_a_size():
    local = 'LOCAL_CS["Undefined Cartesian SRS",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    assert Grid(local, NORTH_UP, (4, 4)).pixel_size_metres() == pytest.approx((0.5, 0.5))
    bound = pyproj.CRS.from_proj4(
        "+proj=utm +zone=25 +south +ellps=aust_SA +towgs84=-67,4,-38 +units=m"
    ).to_wkt()
    assert Grid(bound, NORTH_UP, (4, 4)).pixel_size_metres() == pytest.approx((0.5, 0.5))
    compound = pyproj.CRS.from_user_input("EPSG:2154+5720").to_wkt()
    assert Grid(compound, NORTH_UP, (4, 4)).pixel_size_metres() == pytest.approx((0.5, 0.5))
    geographic = pyproj.CRS.from_user_input("EPSG:4326+5773").to_wkt()
    assert Grid(geographic, Affine(1e-4, 0, 0, 0, -1e-4, 0), (4, 4)).pixel_size_metres()[0] > 10


def test_a_local_crs_without_axes_has_a_size():
    # As GDAL writes it for files whose GeoKeys name only a unit.
    assert Grid('LOCAL_CS["unnamed",UNIT["metre",1]]', NORTH_UP, (4, 4)).pixel_size_metres() == pytest.approx(
        (0.5, 0.5)
    )


def test_units():
    assert metres_per_unit("us-survey-foot") == pytest.approx(0.304800609601219)
    assert [metres_per_unit(u) for u in ("metre", "decimetre", "centimetre")] == [1, 0.1, 0.01]
    with pytest.raises(ValueError, match="unknown unit 'inch'; known: metre"):
        metres_per_unit("inch")


# --- equality -------------------------------------------------------------------------------------


def test_crs_are_compared_by_definition():
    wkt = pyproj.CRS.from_epsg(32617).to_wkt()
    assert crs_equal(wkt, UTM)
    assert crs_equal(pyproj.CRS.from_epsg(32617).to_wkt("WKT1_GDAL"), UTM)
    assert crs_equal(None, None)
    assert not crs_equal(UTM, None)
    # Two datums whose names differ little: equal to a guesser, not to a surveyor.
    assert not crs_equal("EPSG:32617", "EPSG:26917")
    assert not crs_equal("EPSG:2154", "EPSG:5490")


def test_the_order_of_axes_does_not_count():
    lon_lat = pyproj.CRS.from_user_input("OGC:CRS84").to_wkt()
    assert crs_equal("EPSG:4326", "EPSG:4326")
    assert crs_equal(pyproj.CRS.from_epsg(4326).to_wkt("WKT1_GDAL"), "EPSG:4326")
    assert not crs_equal(lon_lat, "EPSG:4269")


@pytest.mark.parametrize(
    ("shift", "same"), [(0, True), (1e-5, True), (0.1, False), (0.5, False), (-0.5, False)]
)
def test_a_tenth_of_a_pixel_is_another_grid(shift, same):
    grid = Grid(UTM, NORTH_UP, (100, 100))
    moved = Grid(UTM, NORTH_UP @ Affine.translation(shift, 0), (100, 100))
    assert grid.same_as(moved) is same
    assert grid.offset_in_pixels(moved) == pytest.approx(abs(shift), abs=1e-9)


def test_rounded_pixel_sizes_are_the_same_grid():
    exact = Grid(UTM, Affine(0.2, 0, 770_550, 0, -0.2, 6_277_600), (5000, 5000))
    rounded = Grid(UTM, Affine(0.19999999999963, 0, 770_550, 0, -0.2, 6_277_600), (5000, 5000))
    assert exact.same_as(rounded)
    # But 0.2001 is half a pixel away at the far end.
    wrong = Grid(UTM, Affine(0.2001, 0, 770_550, 0, -0.2, 6_277_600), (5000, 5000))
    assert exact.offset_in_pixels(wrong) == pytest.approx(2.5)
    assert not exact.same_as(wrong)


def test_other_shapes_crs_and_orientations_are_other_grids():
    grid = Grid(UTM, NORTH_UP, (8, 8))
    assert not grid.same_as(Grid(UTM, NORTH_UP, (8, 9)))
    assert not grid.same_as(Grid("EPSG:32615", NORTH_UP, (8, 8)))
    assert not grid.same_as(Grid(None, NORTH_UP, (8, 8)))
    assert not grid.same_as(Grid(UTM, SOUTH_UP, (8, 8)))
    assert not grid.same_as(Grid(UTM, ROTATED, (8, 8)))


@given(st.integers(1, 50), st.integers(1, 50))
def test_rescaling_keeps_the_ground(height, width):
    for transform in (NORTH_UP, SOUTH_UP, ROTATED):
        grid = Grid(UTM, transform, (20, 30))
        assert np.allclose(grid.rescaled((height, width)).bounds, grid.bounds)


@pytest.mark.parametrize(
    ("second", "shared"),
    [
        ((1, 1, 3, 3), True),
        ((2, 0, 3, 2), False),
        ((-1, -1, 5, 5), True),
        ((0, 2, 2, 3), False),
        ((5, 5, 6, 6), False),
    ],
)
def test_boxes_intersect_if_they_share_area(second, shared):
    assert Bounds(0, 0, 2, 2).intersects(Bounds(*second)) is shared
    assert Bounds(*second).intersects(Bounds(0, 0, 2, 2)) is shared
