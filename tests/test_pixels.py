"""Pixels: units, voids and masks of each role, on values written out by hand."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from geoae.catalog import Modality
from geoae.grid import Grid
from geoae.pixels import clean, honoured_nodata, void_pixels
from geoae.raster import RasterHeader

NAN = np.nan


def header(dtype="uint8", nodata=None, scale=1.0, offset=0.0, count=1):
    return RasterHeader(
        path=Path("x.tif"),
        driver="GTiff",
        grid=Grid(None, Affine.identity(), (2, 2)),
        count=count,
        dtype=dtype,
        nodata=nodata,
        scales=(scale,) * count,
        offsets=(offset,) * count,
        block_shape=(2, 2),
        layout="band-first",
        compression="none",
        interleave="pixel",
        file_bytes=100,
    )


def image(**options):
    return Modality(role="image", kinds=["RGB"], **options)


def height(**options):
    return Modality(role="height", kinds=["AGL"], **{"quantity": "above-ground", **options})


def label(**options):
    return Modality(role="label", kinds=["CLS"], **options)


def cleaned(description, values, **options):
    """Clean ``(y, x)`` or ``(band, y, x)`` and check that the input was left alone."""
    raw = np.asarray(values)
    raw = raw if raw.ndim == 3 else raw[None]
    before = raw.copy()
    pixels = clean(description, header(raw.dtype.name, count=len(raw), **options), raw)
    assert np.array_equal(raw, before, equal_nan=raw.dtype.kind == "f")
    assert pixels.valid.dtype == bool
    assert pixels.valid.shape == raw.shape[1:]
    return pixels


# --- images ---------------------------------------------------------------------------------------


def test_an_image_keeps_its_values_and_black_is_void():
    raw = np.array([[[0, 0], [7, 255]], [[0, 9], [0, 255]]], np.uint8)
    pixels = cleaned(image(), raw)
    assert np.array_equal(pixels.values, raw)
    assert pixels.values.dtype == np.uint8
    assert pixels.valid.tolist() == [[False, True], [True, True]]


def test_black_can_be_a_measurement():
    raw = np.zeros((1, 2, 2), np.uint16)
    assert cleaned(image(black_is_void=False), raw).valid.all()
    assert not cleaned(image(black_is_void=False), raw, nodata=0).valid.any()


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "float64"])
def test_nodata_needs_all_bands(dtype):
    raw = np.array([[[-9, -9], [5, 5]], [[-9, 5], [5, 5]]]).astype(dtype)
    nodata = float(raw[0, 0, 0])
    pixels = cleaned(image(), raw, nodata=nodata)
    assert pixels.valid.tolist() == [[False, True], [True, True]]
    assert np.array_equal(pixels.values[:, 1], raw[:, 1])


@pytest.mark.parametrize(
    ("nodata_rule", "dtype", "expected"),
    [("auto", "uint8", None), ("tag", "uint8", 255), ("none", "uint8", None), ("auto", "uint16", 255)],
)
def test_a_tag_of_255_on_a_photograph_is_white(nodata_rule, dtype, expected):
    assert honoured_nodata(image(nodata=nodata_rule), header(dtype, nodata=255.0)) == expected
    raw = np.array([[[255, 1], [2, 3]]] * 3).astype(dtype)
    valid = cleaned(image(nodata=nodata_rule), raw, nodata=255.0).valid
    assert valid.tolist() == [[expected is None, True], [True, True]]


def test_other_tags_on_photographs_count():
    assert honoured_nodata(image(), header("uint8", nodata=254.0)) == 254
    assert honoured_nodata(label(), header("uint8", nodata=255.0)) == 255


def test_floating_point_images_have_no_nan_and_void_where_any_band_has():
    raw = np.array([[[1, NAN], [3, np.inf]], [[1, 2], [NAN, 4]]], np.float32)
    pixels = cleaned(image(), raw)
    assert pixels.valid.tolist() == [[True, False], [False, False]]
    assert np.isfinite(pixels.values).all()
    assert pixels.values[:, 0, 0].tolist() == [1, 1]


def test_black_is_void_in_floating_point_images_too():
    raw = np.array([[[0, 0.5], [0, 0]], [[0, 0], [0.25, 0]]], np.float32)
    assert cleaned(image(), raw).valid.tolist() == [[False, True], [True, False]]
    assert cleaned(image(black_is_void=False), raw).valid.all()


def test_a_void_float_is_no_giant_number():
    # -3.4e38 times any scale would overflow where batches are normalised.
    giant = float(np.finfo(np.float32).min)
    pixels = cleaned(image(), np.array([[[giant, 0.5], [0.25, 0.125]]], np.float32), nodata=giant)
    assert pixels.valid.tolist() == [[False, True], [True, True]]
    assert np.abs(pixels.values).max() <= 0.5


# --- heights --------------------------------------------------------------------------------------


def test_heights_are_metres_and_voids_are_nan():
    pixels = cleaned(height(), np.array([[1.5, NAN], [-0.25, np.inf]], np.float32))
    assert pixels.values.dtype == np.float32
    assert np.array_equal(pixels.values, [[1.5, NAN], [-0.25, NAN]], equal_nan=True)
    assert np.array_equal(pixels.valid, np.isfinite(pixels.values))


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("metre", 1),
        ("foot", 0.3048),
        ("us-survey-foot", 1200 / 3937),
        ("decimetre", 0.1),
        ("centimetre", 0.01),
    ],
)
@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64"])
def test_units(unit, factor, dtype):
    pixels = cleaned(height(unit=unit), np.array([[100, -3], [0, 1]]).astype(dtype))
    assert np.array_equal(pixels.values, (np.array([[100, -3], [0, 1]]) * factor).astype(np.float32))


def test_sentinels_are_judged_before_units_and_small_negatives_stay():
    raw = np.array([[-9999, -999, -10000], [-3, -0.01, 204]], np.float32)
    pixels = cleaned(height(void=[-9999, -999, -10000], unit="foot"), raw)
    assert not pixels.valid[0].any()
    assert np.isnan(pixels.values[0]).all()
    assert pixels.values[1] == pytest.approx([-0.9144, -0.003048, 62.1792])


@pytest.mark.parametrize("dtype", ["int16", "float32", "float64"])
def test_nodata_tags_of_heights(dtype):
    pixels = cleaned(height(), np.array([[-32768, 5]]).astype(dtype), nodata=-32768.0)
    assert np.array_equal(pixels.values, [[NAN, 5]], equal_nan=True)


def test_nodata_tags_that_a_type_can_only_round_still_count():
    giant = np.float32(-3.4028234663852886e38)
    tag = -3.4028234663852886e38
    assert not cleaned(height(), np.array([[giant, 1]], np.float32), nodata=tag).valid[0, 0]
    # As a person types it: more digits than float32 has.
    value = np.float32(-9999.9)
    assert not cleaned(height(), np.array([[value, 1]], np.float32), nodata=-9999.9).valid[0, 0]
    assert not cleaned(height(void=[-9999.9]), np.array([[value, 1]], np.float32)).valid[0, 0]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_sentinels_that_a_type_cannot_hold_are_no_fault(dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = cleaned(height(void=[-1e300, 1e10]), np.array([[1, 2]]).astype(dtype), nodata=-1.7e308)
    assert pixels.valid.all()


def test_scaled_integers():
    # Centimetres as int16 with scale 0.01 and offset 100: by hand.
    pixels = cleaned(
        height(), np.array([[0, 250], [-9999, 32000]], np.int16), nodata=-9999.0, scale=0.01, offset=100.0
    )
    assert np.array_equal(pixels.values, np.array([[100, 102.5], [NAN, 420]], np.float32), equal_nan=True)


def test_a_scale_works_before_the_unit():
    pixels = cleaned(height(unit="foot"), np.array([[10]], np.int16), scale=0.5, offset=1.0)
    assert pixels.values[0, 0] == np.float32((10 * 0.5 + 1) * 0.3048)


def test_the_valid_range_is_in_metres_and_closed():
    raw = np.array([[-501, -500, 0], [9000, 9001, NAN]], np.float32)
    pixels = cleaned(height(valid_range=[-500, 9000]), raw)
    assert pixels.valid.tolist() == [[False, True, True], [True, False, False]]
    feet = cleaned(height(valid_range=[-500, 9000], unit="foot"), np.array([[20_000, 30_000]], np.float32))
    assert feet.valid.tolist() == [[True, False]]


def test_the_tag_can_be_ignored():
    raw = np.array([[0, 3]], np.float32)
    assert not cleaned(height(), raw, nodata=0.0).valid[0, 0]
    assert cleaned(height(nodata="none"), raw, nodata=0.0).valid.all()


# --- labels ---------------------------------------------------------------------------------------


def test_raw_codes_stay_whatever_they_mean():
    raw = np.array([[0, 2, 65], [214, 254, 255]], np.uint8)
    pixels = cleaned(label(), raw)
    assert np.array_equal(pixels.values, raw)
    assert pixels.valid.all()


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "int32", "uint32", "int64"])
def test_wider_codes_must_fit_a_byte(dtype):
    values = [[0, 6, 100]] if dtype == "int8" else [[0, 6, 255]]
    bad = {"int8": -1, "uint16": 300, "uint32": 2**31}.get(dtype, -1)
    pixels = cleaned(label(), np.array([*values, [bad, 2, 2]]).astype(dtype))
    assert pixels.values.dtype == np.uint8
    assert pixels.values.tolist() == [*values, [0, 2, 2]]
    assert pixels.valid.tolist() == [[True] * 3, [False, True, True]]


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", 255.0), ("int16", -9999.0), ("uint8", 0.0), ("int16", 7.0)]
)
def test_nodata_of_labels_is_no_class(dtype, nodata):
    raw = np.array([[nodata, 2]]).astype(dtype)
    assert cleaned(label(), raw, nodata=nodata).valid.tolist() == [[False, True]]


def test_a_fractional_or_nan_tag_names_no_code():
    assert cleaned(label(), np.array([[0, 2]], np.uint8), nodata=NAN).valid.all()
    assert cleaned(label(), np.array([[0, 2]], np.uint8), nodata=-9999.0).valid.all()


# --- all ------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 65535), min_size=12, max_size=12), st.booleans())
def test_valid_pixels_of_images_and_labels_never_change(numbers, black):
    raw = np.array(numbers, np.uint16).reshape(2, 2, 3)
    pixels = cleaned(image(black_is_void=black), raw)
    assert np.array_equal(pixels.values, raw)
    codes = (raw[0] % 256).astype(np.uint8)
    assert np.array_equal(cleaned(label(), codes).values, codes)


def test_nothing_at_all():
    picture = void_pixels(image(), "uint16", 8, (3, 4))
    assert (picture.values.shape, picture.values.dtype, picture.values.any()) == ((8, 3, 4), np.uint16, False)
    heights = void_pixels(height(), "int16", 1, (3, 4))
    assert (heights.values.shape, heights.values.dtype, np.isnan(heights.values).all()) == (
        (3, 4),
        np.float32,
        True,
    )
    codes = void_pixels(label(), "int16", 1, (3, 4))
    assert (codes.values.shape, codes.values.dtype) == ((3, 4), np.uint8)
    assert not picture.valid.any() | heights.valid.any() | codes.valid.any()
