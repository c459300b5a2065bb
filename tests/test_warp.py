"""Warping: blocks against wholes, against values by hand, and against scipy and pyproj."""

import math

import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geoae.grid import Grid, Window
from geoae.pixels import Pixels
from geoae.warp import source_window, strip_width, warp

UTM = "EPSG:32617"
COARSE = Grid(UTM, Affine(2, 0, 434_000, 0, -2, 3_354_000), (30, 40))
FINE = COARSE.rescaled((60, 80))
TURNED = Grid(
    UTM, Affine.translation(434_010, 3_353_960) @ Affine.rotation(30) @ Affine.scale(0.7, -0.7), (45, 50)
)


def overlapping(crs, size, shape):
    """A north-up grid about the middle of COARSE in another CRS, no pixel of it between two of COARSE."""
    to = pyproj.Transformer.from_crs(UTM, crs, always_xy=True)
    x, y = to.transform(*(COARSE.transform @ (20.137, 15.219)))
    return Grid(crs, Affine(size, 0, x - size * shape[1] / 2, 0, -size, y + size * shape[0] / 2), shape)


ZONE_16 = overlapping("EPSG:32616", 1.3, (37, 41))
LAMBERT = overlapping("EPSG:2236", 3.3, (37, 41))  # US survey feet
LATLON = overlapping("EPSG:4326", 1.2e-5, (37, 41))


def heights(shape, seed=0, void=0.0):
    rng = np.random.default_rng(seed)
    values = ndimage.gaussian_filter(rng.normal(0, 40, shape), 1).astype(np.float32)
    values[rng.random(shape) < void] = np.nan
    return Pixels(values, np.isfinite(values))


def codes(shape, seed=0, void=0.2):
    rng = np.random.default_rng(seed)
    return Pixels(rng.integers(0, 256, shape).astype(np.uint8), rng.random(shape) >= void)


def picture(shape, seed=0, void=0.2, dtype=np.uint16, bands=3):
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 255 if dtype == np.uint8 else 2047, (bands, *shape)).astype(dtype)
    valid = rng.random(shape) >= void
    values[:, ~valid] = 0
    return Pixels(values, valid)


def whole(pixels, source, target, resampling):
    return warp(pixels, source, target, scene_grid=target, source_grid=source, resampling=resampling)


def by_blocks(pixels, source, target, resampling, side):
    """Warp block by block, each from its own source window, as a scene reader does."""
    lead = pixels.values.shape[:-2]
    values = np.zeros((*lead, *target.shape), pixels.values.dtype)
    if values.dtype.kind == "f":
        values[...] = np.nan if values.ndim == 2 else 0
    valid = np.zeros(target.shape, bool)
    for y in range(0, target.height, side):
        for x in range(0, target.width, side):
            window = Window(y, x, side, side).clipped(target.shape)
            block = target.sub(window)
            read = source_window(block, source, scene_grid=target)
            if read is None:
                continue
            rows, cols = read.slices
            part = Pixels(pixels.values[..., rows, cols], pixels.valid[rows, cols])
            out = warp(
                part, source.sub(read), block, scene_grid=target, source_grid=source, resampling=resampling
            )
            values[(..., *window.slices)] = out.values
            valid[window.slices] = out.valid
    return Pixels(values, valid)


# --- by hand --------------------------------------------------------------------------------------


def repeated(values, times=2):
    return values.repeat(times, axis=-2).repeat(times, axis=-1)


@pytest.mark.parametrize("crs", [UTM, None])
@pytest.mark.parametrize("flip", [False, True], ids=["north up", "south up"])
def test_labels_twice_as_coarse_are_repeated(crs, flip):
    transform = Affine(2, 0, 10, 0, 2 if flip else -2, 90) if crs else Affine.identity()
    source = Grid(crs, transform, (9, 13))
    target = source.rescaled((18, 26))
    pixels = codes((9, 13))
    assert 0 in pixels.values
    out = whole(pixels, source, target, "nearest")
    assert np.array_equal(out.valid, repeated(pixels.valid))
    assert np.array_equal(out.values[out.valid], repeated(pixels.values)[out.valid])


def test_labels_twice_as_fine_take_every_second_cell():
    pixels = codes((18, 26))
    source = Grid(UTM, Affine(1, 0, 10, 0, -1, 90), (18, 26))
    out = whole(pixels, source, source.rescaled((9, 13)), "nearest")
    # A coarse pixel's centre is the corner of four fine ones: any of them is as near, always the same one.
    options = [(dy, dx) for dy in (0, 1) for dx in (0, 1)]
    assert any(
        np.array_equal(out.valid, pixels.valid[dy::2, dx::2])
        and np.array_equal(out.values[out.valid], pixels.values[dy::2, dx::2][out.valid])
        for dy, dx in options
    )


def test_bilinear_between_pixels_that_are_twice_as_large():
    pixels = heights((8, 9))
    source = Grid(UTM, Affine(2, 0, 10, 0, -2, 90), (8, 9))
    out = whole(pixels, source, source.rescaled((16, 18)), "bilinear")
    # Centres of fine pixels lie a quarter of a coarse one before and behind coarse centres; beyond the
    # outermost centres there is one neighbour only.
    padded = np.pad(pixels.values.astype(float), 1, mode="edge")
    weights = ((0.25, 0.75, 0), (0, 0.75, 0.25))
    expected = np.empty((16, 18))
    for dy in (0, 1):
        for dx in (0, 1):
            expected[dy::2, dx::2] = sum(
                weights[dy][i] * weights[dx][j] * padded[i : i + 8, j : j + 9]
                for i in range(3)
                for j in range(3)
            )
    assert out.valid.all()
    assert np.allclose(out.values, expected, atol=1e-4)


def test_bilinear_of_finer_pixels_weighs_all_of_them():
    pixels = heights((16, 16))
    source = Grid(UTM, Affine(1, 0, 10, 0, -1, 90), (16, 16))
    out = whole(pixels, source, source.rescaled((8, 8)), "bilinear")
    # The triangle is as wide as two coarse pixels: weights 1/8, 3/8, 3/8, 1/8 along each side.
    kernel = np.array([1, 3, 3, 1]) / 8
    v = pixels.values.astype(float)
    expected = sum(
        kernel[i] * kernel[j] * v[1 + i : 1 + i + 12 : 2, 1 + j : 1 + j + 12 : 2]
        for i in range(4)
        for j in range(4)
    )
    assert np.allclose(out.values[1:7, 1:7], expected, atol=1e-4)


def test_average_is_the_mean_of_the_valid_ones():
    pixels = heights((12, 12), void=0.3)
    source = Grid(UTM, Affine(1, 0, 10, 0, -1, 90), (12, 12))
    out = whole(pixels, source, source.rescaled((4, 4)), "average")
    blocks = pixels.values.reshape(4, 3, 4, 3).astype(float)
    some = np.isfinite(blocks).any(axis=(1, 3))
    expected = np.nansum(blocks, axis=(1, 3)) / np.maximum(np.isfinite(blocks).sum(axis=(1, 3)), 1)
    assert np.array_equal(out.valid, some)
    assert np.allclose(out.values[some], expected[some], atol=1e-4)


def test_mode_counts_valid_cells_only():
    values = np.array(
        [
            [9, 9, 0, 0],
            [9, 2, 0, 5],
            [7, 7, 3, 9],
            [7, 7, 9, 9],
        ],
        np.uint8,
    )
    valid = values != 9
    source = Grid(UTM, Affine(1, 0, 10, 0, -1, 90), (4, 4))
    out = whole(Pixels(values, valid), source, source.rescaled((2, 2)), "mode")
    assert out.valid.all()
    assert out.values.tolist() == [[2, 0], [7, 3]]
    nothing = whole(Pixels(values, np.zeros((4, 4), bool)), source, source.rescaled((2, 2)), "mode")
    assert not nothing.valid.any()


def test_an_image_is_rounded_not_cut():
    source = Grid(UTM, Affine(2, 0, 10, 0, -2, 90), (3, 2))
    pixels = Pixels(np.array([[[10, 13]] * 3, [[255, 254]] * 3], np.uint8), np.ones((3, 2), bool))
    out = whole(pixels, source, source.rescaled((6, 4)), "bilinear")
    # 10, 10.75, 12.25, 13 and 255, 254.75, 254.25, 254.
    assert out.values.tolist() == [[[10, 11, 12, 13]] * 6, [[255, 255, 254, 254]] * 6]


def test_cubic_overshoot_stays_in_the_type():
    values = np.where(np.indices((1, 12, 12)).sum(0) % 5 < 2, 255, 1).astype(np.uint8)
    source = Grid(UTM, Affine(2, 0, 10, 0, -2, 90), (12, 12))
    out = whole(Pixels(values, np.ones((12, 12), bool)), source, source.rescaled((24, 24)), "cubic")
    floats = whole(
        Pixels(values.astype(np.float32), np.ones((12, 12), bool)), source, source.rescaled((24, 24)), "cubic"
    )
    assert floats.values.max() > 255
    assert out.values.max() == 255
    assert np.array_equal(out.values, np.clip(np.rint(floats.values), 0, 255))


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.float32, np.float64]
)
def test_images_keep_their_type(dtype):
    source = Grid(UTM, Affine(2, 0, 10, 0, -2, 90), (6, 6))
    top = 2**31 - 3 if np.dtype(dtype).itemsize == 4 and np.dtype(dtype).kind != "f" else 100
    pixels = Pixels(np.full((2, 6, 6), top, dtype), np.ones((6, 6), bool))
    out = whole(pixels, source, source.rescaled((9, 9)), "bilinear")
    assert out.values.dtype == dtype
    assert np.allclose(out.values, top, rtol=1e-15 if np.dtype(dtype).itemsize == 8 else 0, atol=0)


# --- voids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average", "mode"])
@pytest.mark.parametrize(
    "target", [FINE, COARSE.rescaled((13, 17)), TURNED, ZONE_16], ids=["fine", "coarse", "turned", "zone"]
)
def test_voids_do_not_bleed(resampling, target):
    # A constant field with holes: whatever is valid afterwards must be that constant.
    values = np.full((30, 40), 7.25, np.float32)
    values[np.random.default_rng(0).random((30, 40)) < 0.3] = np.nan
    out = whole(Pixels(values, np.isfinite(values)), COARSE, target, resampling)
    assert out.valid.any()
    assert np.allclose(out.values[out.valid], 7.25, rtol=1e-6)
    assert np.isnan(out.values[~out.valid]).all()
    counts = np.full((2, 30, 40), 600, np.uint16)
    counts[:, ~np.isfinite(values)] = 0
    out = whole(Pixels(counts, np.isfinite(values)), COARSE, target, resampling)
    assert (out.values[:, out.valid] == 600).all()
    assert (out.values[:, ~out.valid] == 0).all()


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic"])
def test_a_pixel_is_valid_where_the_source_pixel_under_it_is(resampling):
    pixels = heights((30, 40), void=0.3)
    out = whole(pixels, COARSE, FINE, resampling)
    assert np.array_equal(out.valid, repeated(pixels.valid)) or resampling != "nearest"
    # Interpolation may fill a hole's edge, it never opens one where the source is known.
    assert out.valid[repeated(pixels.valid)].all()


def test_outside_the_source_is_void():
    far = Grid(UTM, Affine(1, 0, 500_000, 0, -1, 3_400_000), (8, 8))
    assert source_window(far, COARSE, scene_grid=far) is None
    half = FINE.sub(Window(0, 0, 60, 80)).sub(Window(30, 40, 30, 40))
    larger = Grid(UTM, half.transform, (60, 80))
    for pixels in (heights((30, 40)), codes((30, 40), void=0), picture((30, 40), void=0)):
        out = whole(pixels, COARSE, larger, "nearest")
        assert out.valid[:30, :40].all()
        assert not out.valid[30:].any()
        assert not out.valid[:, 40:].any()


def test_a_grid_beyond_the_validity_of_a_crs_has_no_source():
    antipode = Grid("EPSG:4326", Affine(0.1, 0, 100, 0, -0.1, 91), (8, 8))
    assert source_window(antipode, COARSE, scene_grid=antipode) is None


# --- blocks ---------------------------------------------------------------------------------------

TARGETS = {
    "fine": FINE,
    "coarse": COARSE.rescaled((13, 17)),
    "odd": COARSE.rescaled((71, 53)),
    "turned": TURNED,
    "other zone": ZONE_16,
    "feet": LAMBERT,
    "degrees": LATLON,
}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average"])
def test_blocks_meet_without_a_seam(name, resampling):
    target = TARGETS[name]
    for pixels in (heights((30, 40), void=0.1), picture((30, 40)), codes((30, 40))):
        if pixels.values.dtype == np.uint8 and resampling != "nearest":
            continue
        one = whole(pixels, COARSE, target, resampling)
        assert one.valid.any()
        for side in (7, 16):
            parts = by_blocks(pixels, COARSE, target, resampling, side)
            assert np.array_equal(parts.valid, one.valid)
            # Between two CRS, places are interpolated to 1e-6 pixels; an integer may be rounded up or down.
            limit = 0 if resampling == "nearest" else 1e-3 if pixels.values.dtype.kind == "f" else 1
            apart = np.abs(parts.values[..., one.valid].astype(float) - one.values[..., one.valid])
            assert apart.max() <= limit


@pytest.mark.parametrize("name", ["fine", "odd", "turned", "other zone", "feet", "degrees"])
def test_bilinear_is_scipys_with_pyprojs_coordinates(name):
    target = TARGETS[name]
    pixels = heights((30, 40))
    out = whole(pixels, COARSE, target, "bilinear")
    rows, cols = np.indices(target.shape) + 0.5
    t = target.transform
    x, y = t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f
    x, y = pyproj.Transformer.from_crs(target.crs, UTM, always_xy=True).transform(x, y)
    s = ~COARSE.transform
    at = np.array([s.d * x + s.e * y + s.f, s.a * x + s.b * y + s.c]) - 0.5
    expected = ndimage.map_coordinates(pixels.values.astype(float), at, order=1, mode="nearest")
    inside = (at[0] > 0) & (at[0] < 29) & (at[1] > 0) & (at[1] < 39)
    assert inside.sum() > 300
    assert out.valid[inside].all()
    assert (
        np.abs(out.values - expected)[inside].max() < 0.02
    )  # of a range of 60 m; PROJ paths differ by 1e-4 pixels


def places(shape):
    """A picture whose two bands are the column and the row of each pixel's middle."""
    rows, cols = np.indices(shape) + 0.5
    return Pixels(np.stack([cols, rows]), np.ones(shape, bool))


@settings(max_examples=10, deadline=None)
@given(
    st.sampled_from(["EPSG:32616", "EPSG:32618", "EPSG:4326", "EPSG:3857", "EPSG:2236", "EPSG:5070"]),
    st.floats(1, 300),
    st.floats(-60, 60),
    st.sampled_from([(512, 512), (512, 100), (77, 512), (64, 33)]),
)
def test_places_between_two_crs_are_pyprojs(crs, size, angle, shape):
    source = Grid(UTM, Affine(size, 0, 434_000, 0, -size, 3_354_000), (560, 600))
    to = pyproj.Transformer.from_crs(UTM, crs, always_xy=True)
    x, y = to.transform(*(source.transform @ (300, 280)))
    metre = 1 / 111_000 if crs == "EPSG:4326" else 3.28 if crs == "EPSG:2236" else 1
    target = Grid(
        crs,
        Affine.translation(x, y)
        @ Affine.rotation(angle)
        @ Affine.scale(0.9 * size * metre, -0.9 * size * metre)
        @ Affine.translation(-shape[1] / 2, -shape[0] / 2),
        shape,
    )
    out = whole(places(source.shape), source, target, "bilinear")
    rows, cols = np.indices(shape) + 0.5
    t = target.transform
    back = pyproj.Transformer.from_crs(crs, UTM, always_xy=True)
    x, y = back.transform(t.a * cols + t.b * rows + t.c, t.d * cols + t.e * rows + t.f)
    s = ~source.transform
    exact = np.stack([s.a * x + s.c, s.e * y + s.f])
    inside = (exact > 1).all(0) & (exact[0] < 599) & (exact[1] < 559)
    assert inside.mean() > 0.3
    assert out.valid[inside].all()
    # A thousandth of a pixel, and what GDAL's PROJ and pyproj's differ by.
    assert np.abs(out.values - exact)[:, inside].max() < 1.5e-3


def test_strips_are_as_wide_as_the_crs_allow():
    block = Grid("EPSG:32616", Affine(0.5, 0, 0, 0, -0.5, 0), (512, 512))
    near = overlapping("EPSG:32616", 0.5, (512, 512))
    far = overlapping("EPSG:32616", 100, (512, 512))
    source = Grid(UTM, COARSE.transform @ Affine.scale(50), (600, 600))
    assert strip_width(block, Grid("EPSG:32616", Affine(3, 0, 9, 0, -3, 9), (80, 90))) == 512
    assert strip_width(near, COARSE) == 512  # a quarter of a kilometre: a row is straight
    assert strip_width(far, source) == 64
    assert strip_width(far.sub(Window(0, 0, 512, 5)), source) == 5
    nowhere = Grid("EPSG:4326", Affine(0.1, 0, 100, 0, -0.1, 91), (8, 20))
    assert strip_width(nowhere, COARSE) == 8


@settings(max_examples=60)
@given(
    st.floats(0.2, 5),
    st.floats(-180, 180),
    st.floats(-30, 30),
    st.floats(-30, 30),
    st.sampled_from(["nearest", "bilinear", "cubic", "average"]),
    st.integers(3, 40),
)
def test_any_block_of_any_grid_is_part_of_the_whole(size, angle, dx, dy, resampling, side):
    middle = COARSE.transform @ (20, 15)
    transform = (
        Affine.translation(middle[0] + dx, middle[1] + dy)
        @ Affine.rotation(angle)
        @ Affine.scale(size, -size)
        @ Affine.translation(-20, -20)
    )
    target = Grid(UTM, transform, (40, 40))
    pixels = heights((30, 40), void=0.1)
    one, parts = (
        whole(pixels, COARSE, target, resampling),
        by_blocks(pixels, COARSE, target, resampling, side),
    )
    assert np.array_equal(parts.valid, one.valid)
    assert np.allclose(parts.values, one.values, rtol=1e-5, atol=1e-3, equal_nan=True)


def test_the_source_window_covers_the_block_and_little_more():
    window = source_window(FINE.sub(Window(20, 20, 10, 10)), COARSE, scene_grid=FINE)
    assert window == Window(10 - 4, 10 - 4, 5 + 8, 5 + 8)
    coarse = Grid(UTM, COARSE.transform @ Affine.scale(4), (7, 10))
    window = source_window(coarse.sub(Window(1, 1, 1, 1)), COARSE, scene_grid=coarse)
    assert window == Window(0, 0, 8 + 16, 8 + 16)  # a halo of four target pixels, cut at the source's edge
    assert math.prod(window[2:]) < math.prod(COARSE.shape)


@pytest.mark.parametrize(("dx", "dy"), [(0.5, 0.0), (0.0, 0.5), (-0.5, -0.5), (0.5, -0.5)])
def test_half_a_pixels_shift_takes_the_same_neighbour_everywhere(dx, dy):
    """Every centre lies on an edge of two cells: rounding must not choose for each block anew."""
    pixels = codes((30, 40), void=0)
    # Numbers whose halves have no exact binary form, as real ones.
    source = Grid(UTM, Affine(0.3, 0, 432100.1, 0, -0.3, 3356789.7), (30, 40))
    target = Grid(UTM, source.transform @ Affine.translation(dx, dy), source.shape)
    one = whole(pixels, source, target, "nearest")
    for side in (3, 7, 16):
        parts = by_blocks(pixels, source, target, "nearest", side)
        assert np.array_equal(parts.values, one.values)
    inside = np.s_[2:-2, 2:-2]
    neighbours = [np.roll(pixels.values, (y, x), (0, 1))[inside] for y in (-1, 0, 1) for x in (-1, 0, 1)]
    assert any(np.array_equal(one.values[inside], neighbour) for neighbour in neighbours)
