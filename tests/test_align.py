"""Alignment: copies bit for bit, warps that do not depend on the window, pictures made from bands."""

import pickle

import dask
import numpy as np
import pyproj
import pytest
import xarray as xr
from affine import Affine
from cube_scenes import NORTH_UP, SMALL, UTM, catalog_of, header_of, scene_pixels, write_scene, write_tif
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoae import align as module
from geoae.align import SceneReader, align, channels_of
from geoae.catalog import Modality
from geoae.errors import SceneError
from geoae.grid import Window

SHAPE = (57, 83)
KEY = "JAX_001_001"
MODALITIES = {"msi": "MSI", "rgb": "RGB", "agl": "AGL", "label": "CLS"}


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A scene whose files share one grid, and their pixels."""
    folder = tmp_path_factory.mktemp("copied")
    pixels = write_scene(folder, KEY, scene_pixels(SHAPE, 1))
    return header_of(folder, SMALL), pixels


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A scene whose heights and labels are twice as coarse, and whose bands lie in another zone."""
    folder = tmp_path_factory.mktemp("mixed")
    pixels = dict(scene_pixels(SHAPE, 2, kinds=("RGB",)))
    coarse = scene_pixels((29, 42), 3)
    pixels |= {k: coarse[k] for k in ("AGL", "CLS")}
    pixels["MSI"] = scene_pixels((70, 90), 4)["MSI"]
    write_tif(folder / f"{KEY}_RGB.tif", pixels["RGB"])
    for kind in ("AGL", "CLS"):
        write_tif(folder / f"{KEY}_{kind}.tif", pixels[kind], transform=NORTH_UP @ Affine.scale(2))
    # The same ground seen from zone 16, a little larger than the scene.
    place = Affine(0.55, 0, 1_011_540, 0, -0.55, 3_361_085)
    write_tif(folder / f"{KEY}_MSI.tif", pixels["MSI"], crs="EPSG:32616", transform=_over(place, SHAPE))
    return header_of(folder, SMALL), pixels


def _over(transform, shape):
    """Move a transform of zone 16 so that its raster covers the scene of zone 17."""
    to = pyproj.Transformer.from_crs(UTM, "EPSG:32616", always_xy=True)
    x, y = to.transform(*(NORTH_UP @ (shape[1] / 2, shape[0] / 2)))
    return Affine(transform.a, 0, x - 45 * transform.a, 0, transform.e, y - 35 * transform.e)


def valid_of(kind, values):
    return (
        np.isfinite(values)
        if kind == "AGL"
        else (values != 0).any(0)
        if values.ndim == 3
        else np.ones(values.shape, bool)
    )


windows = st.builds(
    Window, st.integers(-5, 60), st.integers(-5, 90), st.integers(1, 40), st.integers(1, 40)
).filter(lambda w: min(w.clipped(SHAPE)[2:]) > 0)


# --- copies ---------------------------------------------------------------------------------------


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(windows)
def test_what_is_on_the_grid_is_copied_bit_for_bit(copied, window):
    header, pixels = copied
    assert set(header.provided.values()) == {"copied"}
    inside = window.clipped(SHAPE)
    rows, cols = inside.slices
    at = np.s_[
        ...,
        inside.y - window.y : inside.y - window.y + inside.height,
        inside.x - window.x : inside.x - window.x + inside.width,
    ]
    with SceneReader(header, SMALL) as reader:
        for modality, kind in MODALITIES.items():
            read = reader.read(modality, window)
            expected = pixels[kind][..., rows, cols]
            assert read.values.dtype == expected.dtype
            assert read.values.shape == (*expected.shape[:-2], window.height, window.width)
            assert read.values[at].tobytes() == expected.tobytes()
            assert np.array_equal(read.valid[at], valid_of(kind, expected))
            # What lies outside is void.
            outside = np.ones(read.valid.shape, bool)
            outside[at[1:]] = False
            assert not read.valid[outside].any()
            rest = read.values[..., outside]
            assert np.isnan(rest).all() if kind == "AGL" else not rest.any()


@pytest.mark.parametrize(
    "transform",
    [
        Affine(0.5, 0, 434_000, 0, 0.5, 3_354_000),
        Affine.translation(434_000, 3_354_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5),
    ],
    ids=["south up", "rotated"],
)
def test_any_orientation_is_copied_as_it_is(tmp_path, transform):
    pixels = write_scene(tmp_path, KEY, scene_pixels((20, 30), 1), transform=transform)
    header = header_of(tmp_path, SMALL)
    with SceneReader(header, SMALL) as reader:
        for modality, kind in MODALITIES.items():
            assert header.provided[modality] == "copied"
            read = reader.read(modality, Window(3, 4, 10, 11))
            assert np.array_equal(read.values, pixels[kind][..., 3:13, 4:15], equal_nan=kind == "AGL")


def test_without_a_crs_equal_sizes_are_the_same_grid(tmp_path):
    pixels = write_scene(tmp_path, KEY, scene_pixels((20, 30), 1), crs=None)
    header = header_of(tmp_path, SMALL)
    assert header.grid.crs is None
    with SceneReader(header, SMALL) as reader:
        for modality, kind in MODALITIES.items():
            read = reader.read(modality, header.grid.window)
            assert np.array_equal(read.values, pixels[kind], equal_nan=kind == "AGL")


def test_chosen_bands_come_in_the_catalogs_order(tmp_path):
    pixels = scene_pixels((16, 16), 1)
    write_tif(tmp_path / f"{KEY}_RGB.tif", np.concatenate([pixels["RGB"], pixels["RGB"][:1]]))
    catalog = catalog_of(modalities={"rgb": {"band_indices": [3, 1, 4]}})
    with SceneReader(header_of(tmp_path, catalog), catalog) as reader:
        read = reader.read("rgb", Window(0, 0, 16, 16))
    assert np.array_equal(read.values, pixels["RGB"][[2, 0, 0]])


def test_a_missing_modality_is_none(tmp_path):
    write_scene(tmp_path, KEY, scene_pixels((16, 16), 1, kinds=("RGB", "CLS")))
    with SceneReader(header_of(tmp_path, SMALL), SMALL) as reader:
        assert reader.read("agl", Window(0, 0, 4, 4)) is None
        assert reader.read("msi", Window(-1, 0, 4, 4)) is None
        assert reader.read("rgb", Window(0, 0, 4, 4)) is not None


def test_a_scene_without_a_grid_is_refused(tmp_path):
    (tmp_path / f"{KEY}_RGB.tif").write_bytes(b"")
    header = header_of(tmp_path, SMALL)
    with pytest.raises(SceneError, match=f"scene {KEY} has no grid: rgb: .*empty"):
        SceneReader(header, SMALL)
    with pytest.raises(SceneError, match="has no grid"):
        align(header, SMALL)


# --- warps ----------------------------------------------------------------------------------------


@pytest.fixture
def small_blocks(monkeypatch):
    """Warp in blocks of 16 pixels, so that small scenes have many."""
    monkeypatch.setattr(module, "BLOCK", 16)


def whole_scene(header):
    with SceneReader(header, SMALL) as reader:
        return {m: reader.read(m, header.grid.window) for m in ("msi", "agl", "label")}


def test_a_warped_value_does_not_depend_on_the_window(mixed, small_blocks):
    header, _ = mixed
    assert [header.provided[m] for m in ("msi", "rgb", "agl", "label")] == [
        "warped",
        "copied",
        "warped",
        "warped",
    ]
    whole = whole_scene(header)

    @settings(max_examples=40)
    @given(st.lists(windows, min_size=1, max_size=3), st.integers(0, 30_000))
    def check(wanted, cache):
        with SceneReader(header, SMALL, cache_bytes=cache) as reader:
            for modality, one in whole.items():
                for window in wanted:
                    inside = window.clipped(SHAPE)
                    part = reader.read(modality, inside)
                    rows, cols = inside.slices
                    assert (
                        part.values.tobytes() == np.ascontiguousarray(one.values[..., rows, cols]).tobytes()
                    )
                    assert np.array_equal(part.valid, one.valid[rows, cols])

    check()


def test_blocks_have_no_seams(mixed, monkeypatch):
    header, _ = mixed
    results = {}
    for side in (512, 16, 23):
        monkeypatch.setattr(module, "BLOCK", side)
        results[side] = whole_scene(header)
    for side in (16, 23):
        for modality, whole in results[512].items():
            assert np.array_equal(results[side][modality].valid, whole.valid)
            apart = np.abs(results[side][modality].values.astype(float) - whole.values)
            limit = {"msi": 1, "agl": 1e-3, "label": 0}[modality]
            assert np.nanmax(apart) <= limit


def test_coarse_labels_are_repeated_and_coarse_heights_interpolated(mixed):
    header, pixels = mixed
    height, width = SHAPE
    with SceneReader(header, SMALL) as reader:
        label = reader.read("label", header.grid.window)
        heights = reader.read("agl", header.grid.window)
    assert label.valid.all()
    assert np.array_equal(label.values, pixels["CLS"].repeat(2, 0).repeat(2, 1)[:height, :width])
    coarse = pixels["AGL"].astype(float)
    # By hand in the middle: a fine pixel is a quarter of a coarse one from the nearest centre, both ways.
    for y, x in np.argwhere(np.isfinite(coarse)):
        near = coarse[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        if near.shape == (3, 3) and np.isfinite(near).all() and 2 * y + 1 < height and 2 * x + 1 < width:
            expected = 0.5625 * near[1, 1] + 0.1875 * (near[0, 1] + near[1, 0]) + 0.0625 * near[0, 0]
            assert heights.values[2 * y, 2 * x] == pytest.approx(expected, abs=1e-4)
    void = ~np.isfinite(coarse).repeat(2, 0).repeat(2, 1)[:height, :width]
    assert heights.valid[~void].all()
    assert np.array_equal(np.isfinite(heights.values), heights.valid)


def test_sentinels_are_gone_before_heights_are_interpolated(tmp_path):
    write_tif(tmp_path / f"{KEY}_RGB.tif", scene_pixels((40, 40), 1, void=0)["RGB"])
    heights = np.full((20, 20), 5, np.float32)
    heights[5, 5], heights[9, 3], heights[12, 12], heights[0, 0] = -9999, -999, -10000, np.inf
    write_tif(tmp_path / f"{KEY}_AGL.tif", heights, transform=NORTH_UP @ Affine.scale(2))
    with SceneReader(header_of(tmp_path, SMALL), SMALL) as reader:
        read = reader.read("agl", Window(0, 0, 40, 40))
    assert read.valid.mean() > 0.98
    assert (read.values[read.valid] == 5).all()


def test_half_a_pixel_is_not_copied(tmp_path):
    write_tif(tmp_path / f"{KEY}_RGB.tif", scene_pixels((20, 20), 1, void=0)["RGB"])
    heights = np.arange(400, dtype=np.float32).reshape(20, 20)
    write_tif(tmp_path / f"{KEY}_AGL.tif", heights, transform=NORTH_UP @ Affine.translation(0.5, 0))
    header = header_of(tmp_path, SMALL)
    assert header.provided["agl"] == "warped"
    with SceneReader(header, SMALL) as reader:
        read = reader.read("agl", Window(0, 0, 20, 20))
    assert np.allclose(read.values[:, 1:19], (heights[:, 0:18] + heights[:, 1:19]) / 2, atol=1e-3)


def test_sizes_match_where_nothing_else_does(tmp_path):
    rgb = scene_pixels((40, 60), 1)["RGB"]
    label = scene_pixels((20, 30), 2)["CLS"]
    write_tif(tmp_path / f"{KEY}_RGB.tif", rgb, crs=None)
    write_tif(tmp_path / f"{KEY}_CLS.tif", label, crs=None)
    header = header_of(tmp_path, SMALL)
    assert header.provided["label"] == "matched by size"
    with SceneReader(header, SMALL) as reader:
        read = reader.read("label", Window(0, 0, 40, 60))
    assert np.array_equal(read.values, label.repeat(2, 0).repeat(2, 1))


# --- pictures from bands --------------------------------------------------------------------------

EXTRACTING = catalog_of(
    modalities={
        "msi": {"bands": [{"name": n} for n in ("blue", "green", "red")]},
        "rgb": {"extract": {"modality": "msi", "bands": ["red", "green", "blue"], "percentiles": [2, 98]}},
    }
)


@pytest.fixture
def bands_only(tmp_path):
    rng = np.random.default_rng(5)
    msi = rng.gamma(2, 150, (3, 60, 50)).astype(np.uint16) + 1
    msi[:, :7, :9] = 0
    write_tif(tmp_path / f"{KEY}_MSI.tif", msi)
    return header_of(tmp_path, EXTRACTING), msi


def test_a_picture_is_stretched_between_percentiles_of_the_valid_pixels(bands_only):
    header, msi = bands_only
    assert header.provided["rgb"] == "extracted"
    with SceneReader(header, EXTRACTING) as reader:
        picture = reader.read("rgb", header.grid.window)
    valid = (msi != 0).any(0)
    assert picture.values.dtype == np.uint8
    assert np.array_equal(picture.valid, valid)
    assert not picture.values[:, ~valid].any()
    for i, band in enumerate((2, 1, 0)):
        numbers = np.sort(msi[band][valid])
        low, high = (float(numbers[max(int(np.ceil(len(numbers) * p)) - 1, 0)]) for p in (0.02, 0.98))
        expected = np.clip(np.rint((msi[band].astype(float) - low) * 254 / (high - low)) + 1, 1, 255)
        assert np.abs(picture.values[i][valid] - expected[valid]).max() <= 1  # halves may round either way
        assert 0.015 < (picture.values[i][valid] == 1).mean() < 0.04
        assert 0.015 < (picture.values[i][valid] == 255).mean() < 0.04


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.builds(Window, st.integers(0, 40), st.integers(0, 30), st.integers(1, 20), st.integers(1, 20)))
def test_a_picture_does_not_depend_on_the_window(bands_only, window):
    header, _ = bands_only
    with SceneReader(header, EXTRACTING) as one, SceneReader(header, EXTRACTING) as other:
        whole = one.read("rgb", header.grid.window)
        part = other.read("rgb", window)
    assert np.array_equal(part.values, whole.values[(slice(None), *window.slices)])


def test_a_picture_of_nothing(tmp_path):
    write_tif(tmp_path / f"{KEY}_MSI.tif", np.zeros((3, 20, 20), np.uint16))
    with SceneReader(header_of(tmp_path, EXTRACTING), EXTRACTING) as reader:
        picture = reader.read("rgb", Window(0, 0, 20, 20))
    assert not picture.valid.any()
    assert not picture.values.any()


def test_a_picture_of_one_value(tmp_path):
    write_tif(tmp_path / f"{KEY}_MSI.tif", np.full((3, 20, 20), 500, np.uint16))
    with SceneReader(header_of(tmp_path, EXTRACTING), EXTRACTING) as reader:
        picture = reader.read("rgb", Window(0, 0, 20, 20))
    assert picture.valid.all()
    assert np.unique(picture.values).size == 1


# --- bands ----------------------------------------------------------------------------------------


def test_names_of_bands(copied):
    header = copied[0].headers["rgb"]
    assert channels_of("rgb", SMALL.modalities["rgb"], None) == ("red", "green", "blue")
    plain = Modality(role="image", kinds=["RGB"])
    assert channels_of("rgb", plain, header) == ("band_1", "band_2", "band_3")
    chosen = Modality(role="image", kinds=["RGB"], band_indices=[4, 2])
    assert channels_of("rgb", chosen, None) == ("band_4", "band_2")
    with pytest.raises(ValueError, match="neither from the catalog nor from a file"):
        channels_of("rgb", plain, None)


# --- the lazy view --------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", ["copied", "mixed"])
@pytest.mark.parametrize("chunk", [16, 30, 1024])
def test_the_lazy_view_is_what_the_reader_reads(scene, chunk, request):
    header, _ = request.getfixturevalue(scene)
    view = align(header, SMALL, chunk=chunk)
    assert isinstance(view, xr.Dataset)
    assert dict(view.sizes) == {"y": 57, "x": 83, "msi_band": 2, "rgb_band": 3}
    assert view.rgb_band.values.tolist() == ["red", "green", "blue"]
    assert view.agl.attrs["units"] == "m"
    assert view.attrs["transform"] == tuple(NORTH_UP)[:6]
    computed = view.compute(scheduler="synchronous")
    with SceneReader(header, SMALL) as reader:
        for modality in MODALITIES:
            read = reader.read(modality, header.grid.window)
            assert computed[modality].dtype == view[modality].dtype == read.values.dtype
            assert np.array_equal(computed[modality], read.values, equal_nan=modality == "agl")
            if modality != "agl":
                assert np.array_equal(computed[f"{modality}_valid"], read.valid)


def test_the_lazy_view_reads_nothing_before_it_must(copied, monkeypatch):
    header, _ = copied
    opened = []
    original = SceneReader.read
    monkeypatch.setattr(SceneReader, "read", lambda *a: opened.append(a) or original(*a))
    view = align(header, SMALL, chunk=32)
    repr(view)
    view._repr_html_()
    view.isel(y=slice(0, 10))
    assert opened == []
    view.rgb.isel(y=slice(0, 10), x=slice(0, 10)).compute(scheduler="synchronous")
    assert len(opened) == 1


def test_the_lazy_view_runs_in_threads_and_travels(copied):
    header, pixels = copied
    view = pickle.loads(pickle.dumps(align(header, SMALL, chunk=16)))
    with dask.config.set(scheduler="threads", num_workers=4):
        assert np.array_equal(view.msi.compute(), pixels["MSI"])


def test_a_picture_from_bands_is_in_the_lazy_view(bands_only):
    header, _ = bands_only
    view = align(header, EXTRACTING, chunk=20).compute(scheduler="synchronous")
    with SceneReader(header, EXTRACTING) as reader:
        assert np.array_equal(view.rgb, reader.read("rgb", header.grid.window).values)
    assert view.rgb.attrs["alignment"] == "extracted"


def test_a_coarse_reference_does_not_read_a_fine_source_at_once(tmp_path, monkeypatch):
    """Blocks shrink where a target pixel covers many source pixels; values stay what they are."""
    fine = np.random.default_rng(0).normal(50, 5, (256, 256)).astype(np.float32)
    coarse = np.ones((3, 16, 16), np.uint8)
    write_tif(tmp_path / "JAX_001_001_AGL.tif", fine, transform=NORTH_UP)
    write_tif(tmp_path / "JAX_001_001_RGB.tif", coarse, transform=NORTH_UP @ Affine.scale(16))
    scene = header_of(tmp_path, SMALL)
    whole = Window(0, 0, 16, 16)
    with SceneReader(scene, SMALL) as reader:
        expected = reader.read("agl", whole)
        assert reader._side("agl") == 256  # 512 pixels of 16 x 16 floats are 256 MiB
    monkeypatch.setattr(module, "BLOCK_BYTES", 64 * 64 * 4)
    read: list[int] = []
    reading = SceneReader._read_source
    monkeypatch.setattr(
        SceneReader,
        "_read_source",
        lambda self, name, window: read.append(window.height) or reading(self, name, window),
    )
    with SceneReader(scene, SMALL) as reader:
        assert reader._side("agl") == 4
        found = reader.read("agl", whole)
    assert len(read) == 16
    assert max(read) < 256
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-6)


def test_what_lies_beyond_the_edge_is_void_as_void_is_elsewhere(tmp_path):
    """An image of floating-point numbers is 0 there, not NaN, which no encoder could take."""
    catalog = catalog_of(modalities={"rgb": {"dtype": "float32", "bands": None}})
    image = np.full((1, 8, 8), 7, np.float32)
    image[0, 0, 0] = np.nan
    write_scene(tmp_path, KEY, {"RGB": image, "AGL": image[0], "CLS": np.full((8, 8), 6, np.uint8)})
    with SceneReader(header_of(tmp_path, catalog), catalog) as reader:
        window = Window(0, 0, 10, 10)
        found = {name: reader.read(name, window) for name in ("rgb", "agl", "label")}
    inside = np.zeros((10, 10), bool)
    inside[:8, :8] = True
    inside[0, 0] = False
    assert np.array_equal(found["rgb"].values[0], np.where(inside, 7, 0))
    assert np.array_equal(found["agl"].values, np.where(inside, 7, np.nan), equal_nan=True)
    assert np.array_equal(found["rgb"].valid, inside)
    assert not found["label"].values[8:].any()
