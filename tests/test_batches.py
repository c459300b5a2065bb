"""Batches against plain numpy: every row once, content that no batch size changes, scales, masks."""

import threading
import tracemalloc

import numpy as np
import pytest
import zarr
from cube_scenes import SMALL, catalog_of, scene_pixels, write_scene, write_tif
from hypothesis import given, settings
from hypothesis import strategies as st

from geoae import batches as module
from geoae.batches import CubePatches, fit_normalisation, parse_input, usable_rows
from geoae.cube import Cube
from geoae.encoder import Channel, PatchSource
from geoae.errors import IntegrityError, UsageError
from geoae.ingestion import ingest
from geoae.normalisation import Normalisation

SIDE = 8


@pytest.fixture(scope="module")
def cube(tmp_path_factory):
    """Twelve scenes of 36 patches: some void, some half void, one without heights."""
    root = tmp_path_factory.mktemp("batches")
    for number in range(12):
        kinds = ("MSI", "RGB", "CLS") if number == 5 else ("MSI", "RGB", "AGL", "CLS")
        pixels = dict(scene_pixels((48, 48), number, kinds=kinds))
        pixels["MSI"][:, :8, :24] = 0  # three patches without any bands
        pixels["RGB"][:, 8:12, :8] = 0  # half a patch
        if "AGL" in pixels:
            pixels["AGL"][40:48, 40:44] = np.nan
        write_scene(root / "s", f"JAX_{number:03d}_001", pixels)
    ingest(root / "s", catalog=SMALL, out=root / "c.zarr", patch=SIDE)
    return Cube.open(root / "c.zarr")


@pytest.fixture(scope="module")
def arrays(cube):
    """Everything, read by plain zarr."""
    group = zarr.open_group(cube.path, mode="r")
    return {
        n: group[n][...] for n in ("msi", "rgb", "agl", "label", "msi_valid", "rgb_valid", "scene_number")
    }


def expected(arrays, channels, rows, norm=None):
    """Image and mask of some rows by float64 numpy."""
    bands = {"msi": ["red", "nir"], "rgb": ["red", "green", "blue"]}
    image, valid = [], []
    for channel in channels:
        if channel.modality == "agl":
            values = arrays["agl"][rows].astype(float)
            mask = np.isfinite(values)
        else:
            values = arrays[channel.modality][rows][:, bands[channel.modality].index(channel.band)].astype(
                float
            )
            mask = arrays[f"{channel.modality}_valid"][rows]
        image.append(values)
        valid.append(mask)
    image, valid = np.stack(image, 1), np.stack(valid, 1)
    if norm is not None:
        image = (image - np.reshape(norm.offset, (1, -1, 1, 1))) / np.reshape(norm.scale, (1, -1, 1, 1))
    return np.where(valid, image, 0), valid


def some_norm(channels):
    n = len(channels)
    return Normalisation(
        kind="standard", offset=tuple(3.5 * i + 10 for i in range(n)), scale=tuple(7.0 + i for i in range(n))
    )


INPUTS = [
    "rgb",
    "msi",
    "agl",
    "msi,agl",
    "agl,rgb,msi",
    "msi.nir",
    "msi.nir,rgb.blue,agl,rgb.red",
    "rgb.blue,rgb.green",
]


# --- input ----------------------------------------------------------------------------------------


def test_channels_are_named_by_modality_or_band(cube):
    assert parse_input(cube, "rgb") == tuple(Channel("rgb", b) for b in ("red", "green", "blue"))
    assert parse_input(cube, " msi.nir , agl ") == (Channel("msi", "nir"), Channel("agl", "agl", "m"))
    assert parse_input(cube, None) == parse_input(cube, "rgb")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sar", r"has no 'sar' .modalities of the cube: msi, rgb, agl, label"),
        ("label", r"'label' holds labels"),
        ("msi.swir", r"'msi' has no band 'swir' .bands: red, nir"),
        ("rgb,rgb.red", r"names no channel, or one twice"),
        ("", r"names no channel"),
        (",", r"names no channel"),
    ],
)
def test_input_that_makes_no_sense(cube, text, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse_input(cube, text)
    assert caught.value.exit_code == 2


def test_without_a_picture_the_first_image_is_taken_and_without_images_nothing(tmp_path):
    write_scene(tmp_path / "s", "JAX_001_001", scene_pixels((8, 8), 1, kinds=("MSI", "AGL")))
    ingest(tmp_path / "s", catalog=SMALL, out=tmp_path / "c.zarr", patch=8)
    assert [c.modality for c in parse_input(Cube.open(tmp_path / "c.zarr"), None)] == ["msi", "msi"]
    (tmp_path / "s" / "JAX_001_001_MSI.tif").unlink()
    ingest(tmp_path / "s", catalog=SMALL, out=tmp_path / "h.zarr", patch=8)
    with pytest.raises(UsageError, match=r"no image to encode .name heights with --input: agl"):
        parse_input(Cube.open(tmp_path / "h.zarr"), None)


# --- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", INPUTS)
@pytest.mark.parametrize("limit", [None, 0.0, 0.9, 1.0])
def test_usable_patches_have_enough_pixels_in_every_modality(cube, arrays, text, limit):
    channels = parse_input(cube, text)
    _, valid = expected(arrays, channels, np.arange(cube.n_patches))
    share = valid.mean(axis=(2, 3)).min(axis=1)
    wanted = np.flatnonzero((share >= (0.5 if limit is None else limit)) & (share > 0))
    assert np.array_equal(usable_rows(cube, channels, limit), wanted)
    if limit is None:
        source = CubePatches(cube, channels)
        assert np.array_equal(source.rows, wanted)
        assert len(source) == len(wanted)


@settings(max_examples=25)
@given(st.integers(1, 500), st.one_of(st.none(), st.integers(0, 2**31)), st.sampled_from([30, 100, 10_000]))
def test_every_usable_row_comes_once(cube, size, seed, mix):
    source = CubePatches(cube, parse_input(cube, "msi"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "MIX_ROWS", mix)
        sizes, rows = [], []
        for batch in source.batches(size, seed):
            sizes.append(len(batch))
            rows.append(batch.index.copy())
        again = np.concatenate([b.index.copy() for b in source.batches(size, seed)])
    rows = np.concatenate(rows)
    assert set(sizes[:-1]) <= {size}
    assert 1 <= sizes[-1] <= size
    assert np.array_equal(again, rows)
    assert np.array_equal(np.sort(rows), source.rows)
    if seed is None:
        assert np.array_equal(rows, source.rows)


def test_another_seed_is_another_order(cube):
    source = CubePatches(cube, parse_input(cube, "rgb"))
    orders = {tuple(np.concatenate([b.index for b in source.batches(50, seed)])) for seed in (None, 0, 1, 2)}
    assert len(orders) == 4


def test_a_shuffled_batch_draws_from_many_scenes(cube, arrays):
    source = CubePatches(cube, parse_input(cube, "rgb"))
    for seed in range(5):
        for batch in source.batches(48, seed):
            if len(batch) == 48:
                assert len(set(arrays["scene_number"][batch.index])) >= 8


# --- content --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", INPUTS)
@pytest.mark.parametrize("scaled", [False, True])
def test_content_is_numpys(cube, arrays, text, scaled):
    channels = parse_input(cube, text)
    norm = some_norm(channels) if scaled else None
    source = CubePatches(cube, channels, norm)
    assert isinstance(source, PatchSource)
    assert source.channels == source.target_channels == channels
    assert source.patch_shape == (SIDE, SIDE)
    for batch in source.batches(64, 3):
        image, valid = expected(arrays, channels, batch.index, norm)
        assert batch.image.dtype == np.float32
        assert batch.image.flags.c_contiguous
        assert np.array_equal(batch.valid, valid)
        assert np.allclose(batch.image, image, rtol=1e-6, atol=2e-5)
        assert (batch.image[~batch.valid] == 0).all()
        assert np.isfinite(batch.image).all()
        assert batch.target is None
        if not scaled:
            assert np.array_equal(batch.image, image.astype(np.float32))


def test_no_batch_size_changes_a_byte(cube):
    channels = parse_input(cube, "agl,rgb")
    source = CubePatches(cube, channels, some_norm(channels))

    def content(size, seed):
        return {
            int(row): (image.tobytes(), valid.tobytes())
            for batch in source.batches(size, seed)
            for row, image, valid in zip(batch.index, batch.image, batch.valid, strict=True)
        }

    first = content(1000, None)
    for size, seed in ((1, None), (7, 1), (64, 2), (350, None)):
        assert content(size, seed) == first
    assert {int(r): (i.tobytes(), v.tobytes()) for r, i, v in rows_of(source.read(source.rows))} == first


def rows_of(batch):
    return zip(batch.index, batch.image, batch.valid, strict=True)


def test_a_batch_may_be_kept_and_changed(cube):
    source = CubePatches(cube, parse_input(cube, "rgb"))
    kept = list(source.batches(20, 1))
    copies = [(b.index.copy(), b.image.copy(), b.valid.copy()) for b in source.batches(20, 1)]
    for batch, (index, image, valid) in zip(kept, copies, strict=True):
        assert np.array_equal(batch.index, index)
        assert np.array_equal(batch.image, image)
        assert np.array_equal(batch.valid, valid)
    kept[0].image[...] = 7
    assert not (source.read(kept[0].index).image == 7).all()


@settings(max_examples=20)
@given(st.lists(st.integers(0, 431), max_size=40))
def test_rows_are_read_in_any_order_and_more_than_once(cube, arrays, rows):
    channels = parse_input(cube, "msi,agl")
    batch = CubePatches(cube, channels, some_norm(channels)).read(np.array(rows, np.int64))
    image, valid = expected(arrays, channels, np.array(rows, int), some_norm(channels))
    assert batch.index.tolist() == rows
    assert np.allclose(batch.image, image, rtol=1e-6, atol=2e-5)
    assert np.array_equal(batch.valid, valid)


def test_one_thread_reads_what_all_read(cube):
    channels = parse_input(cube, "rgb,agl")
    target = parse_input(cube, "rgb")
    source = CubePatches(cube, channels, some_norm(channels), target_channels=target)
    rows = np.array([3, 4, 15, 16, 63, 64, 431])
    expected, found = source.read(rows), source.here()(rows)
    for name in ("index", "image", "valid", "target", "target_valid"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()
    assert len(source.here()(rows[:0])) == 0


@pytest.mark.parametrize("rows", [[-1], [432], [0, 500], [3, 3, 5], [2, 1, 2]])
def test_rows_that_are_not_there_or_twice_are_refused(cube, rows):
    channels = parse_input(cube, "rgb")
    with pytest.raises(ValueError, match="rows"):
        CubePatches(cube, channels, rows=np.array(rows))
    with pytest.raises(ValueError, match="rows"):
        CubePatches(cube, channels).only(np.array(rows))
    if not 0 <= min(rows) <= max(rows) < 432:
        with pytest.raises(ValueError, match="rows"):
            CubePatches(cube, channels).read(np.array(rows))


def test_rows_in_another_order_are_sorted(cube):
    source = CubePatches(cube, parse_input(cube, "rgb"), rows=np.array([40, 3, 17]))
    assert np.concatenate([b.index for b in source.batches(2)]).tolist() == [3, 17, 40]
    assert np.concatenate([b.index for b in source.only(np.array([9, 1])).batches(9)]).tolist() == [1, 9]


def test_no_rows_make_no_batches(cube):
    source = CubePatches(cube, parse_input(cube, "rgb"), rows=np.array([], np.int64))
    assert len(source) == 0
    assert list(source.batches(8)) == list(source.batches(8, 1)) == []
    assert source.read(np.array([], np.int64)).image.shape == (0, 3, SIDE, SIDE)


def test_a_batch_has_at_least_one_patch(cube):
    for size in (0, -1):
        with pytest.raises(ValueError, match="at least one patch"):
            next(CubePatches(cube, parse_input(cube, "rgb")).batches(size))


def test_targets_that_differ_from_the_input(cube, arrays):
    seen, wanted = parse_input(cube, "msi"), parse_input(cube, "rgb,agl")
    norm = some_norm(wanted)
    source = CubePatches(cube, seen, target_channels=wanted, target_normalisation=norm)
    assert source.target_channels == wanted
    for batch in source.batches(50, 1):
        image, valid = expected(arrays, seen, batch.index)
        target, target_valid = expected(arrays, wanted, batch.index, norm)
        assert np.array_equal(batch.image, image.astype(np.float32))
        assert np.allclose(batch.target, target, rtol=1e-6, atol=2e-5)
        assert np.array_equal(batch.valid, valid)
        assert np.array_equal(batch.target_valid, target_valid)


def test_damage_stops_the_batches(cube, tmp_path):
    import shutil

    shutil.copytree(cube.path, tmp_path / "c.zarr")
    path = tmp_path / "c.zarr/rgb/c/2/0/0/0"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(bytes(content))
    source = CubePatches(Cube.open(tmp_path / "c.zarr"), parse_input(cube, "rgb"))
    with pytest.raises(IntegrityError, match=r"rgb/c/2/0/0/0 is damaged"):
        list(source.batches(16, 1))


def test_a_loop_that_is_left_early_leaves_no_thread(cube):
    before = threading.active_count()
    for _ in range(3):
        for _batch in CubePatches(cube, parse_input(cube, "rgb")).batches(8, 1):
            break
    assert threading.active_count() <= before + 1


def test_memory_does_not_grow_with_the_cube(cube, monkeypatch):
    # 432 patches of 256 bytes are 110 kB for a band as float32; buffers of 64 rows are a sixth of that.
    monkeypatch.setattr(module, "MIX_ROWS", 32)
    source = CubePatches(cube, parse_input(cube, "msi,agl"))
    whole = len(source) * SIDE * SIDE * (2 * 2 + 1 + 4)
    list(source.batches(8, 1))  # what is imported and cached once

    def peak():
        tracemalloc.start()
        for _ in source.batches(8, 1):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak() < whole


# --- scales ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", INPUTS)
def test_mean_and_deviation_are_those_of_the_valid_pixels(cube, arrays, text):
    channels = parse_input(cube, text)
    rows = usable_rows(cube, channels)[::3]
    norm = fit_normalisation(cube, channels, rows, "standard")
    image, valid = expected(arrays, channels, rows)
    for i in range(len(channels)):
        values = image[:, i][valid[:, i]]
        assert norm.offset[i] == pytest.approx(values.mean(), rel=1e-9, abs=1e-9)
        assert norm.scale[i] == pytest.approx(values.std(), rel=1e-6)
    source = CubePatches(cube, channels, norm, rows=rows)
    scaled = source.read(rows)
    for i in range(len(channels)):
        values = scaled.image[:, i][scaled.valid[:, i]].astype(float)
        assert values.mean() == pytest.approx(0, abs=1e-5)
        assert values.std() == pytest.approx(1, abs=1e-5)
    assert np.allclose(norm.denormalise(scaled.image)[scaled.valid], image[valid], rtol=1e-5, atol=1e-3)


def test_large_offsets_lose_no_digits(tmp_path):
    # Surface heights of a plateau: 3,000 m with a few metres on top.
    heights = (3000 + np.random.default_rng(0).normal(0, 3, (64, 64))).astype(np.float32)
    write_tif(tmp_path / "s" / "JAX_001_001_AGL.tif", heights)
    ingest(tmp_path / "s", catalog=SMALL, out=tmp_path / "c.zarr", patch=SIDE)
    cube = Cube.open(tmp_path / "c.zarr")
    channels = parse_input(cube, "agl")
    norm = fit_normalisation(cube, channels, np.arange(64), "standard")
    assert norm.offset[0] == pytest.approx(heights.mean(dtype=float), rel=1e-12)
    assert norm.scale[0] == pytest.approx(heights.std(dtype=float), rel=1e-5)
    image = CubePatches(cube, channels, norm).read(np.arange(64)).image
    assert image.std() == pytest.approx(1, abs=0.02)
    exact = (heights.astype(float) - norm.offset[0]) / norm.scale[0]
    cut = exact.reshape(8, 8, 8, 8).swapaxes(1, 2).reshape(64, 1, 8, 8)
    assert np.abs(image - cut).max() < 1e-4


def test_unit_scales_are_what_the_catalog_states_or_what_is_there(cube, arrays):
    channels = parse_input(cube, "msi,rgb,agl")
    rows = usable_rows(cube, channels)
    norm = fit_normalisation(cube, channels, rows, "unit")
    heights = arrays["agl"][rows]
    low, high = np.nanmin(heights), np.nanmax(heights)
    assert norm.offset == pytest.approx((0, 0, 0, 0, 0, low))
    assert norm.scale == pytest.approx((2047, 2047, 255, 255, 255, high - low))
    image = CubePatches(cube, channels, norm, rows=rows).read(rows).image
    assert image.min() >= 0
    assert image.max() <= 1 + 1e-6


def test_a_constant_channel_stays_constant(tmp_path):
    write_tif(tmp_path / "s" / "JAX_001_001_RGB.tif", np.full((3, 16, 16), 77, np.uint8))
    write_tif(tmp_path / "s" / "JAX_001_001_AGL.tif", np.full((16, 16), 2.5, np.float32))
    ingest(tmp_path / "s", catalog=SMALL, out=tmp_path / "c.zarr", patch=SIDE)
    cube = Cube.open(tmp_path / "c.zarr")
    channels = parse_input(cube, "rgb,agl")
    for kind in ("standard", "unit"):
        norm = fit_normalisation(cube, channels, np.arange(4), kind)
        assert all(np.isfinite([*norm.offset, *norm.scale]))
        assert min(norm.scale) > 0
        image = CubePatches(cube, channels, norm).read(np.arange(4)).image
        assert np.isfinite(image).all()
        assert np.ptp(image, axis=(0, 2, 3)).max() == 0


def test_no_training_patch_at_all(cube):
    channels = parse_input(cube, "agl")
    for kind in ("standard", "unit"):
        norm = fit_normalisation(cube, channels, np.array([], np.int64), kind)
        assert all(np.isfinite([*norm.offset, *norm.scale]))


def test_floating_point_images_with_giant_sentinels(tmp_path):
    catalog = catalog_of(modalities={"msi": {"dtype": "float32", "range": None}})
    values = np.random.default_rng(0).random((2, 16, 16)).astype(np.float32)
    values[:, :4] = np.finfo(np.float32).min
    write_tif(tmp_path / "s" / "JAX_001_001_MSI.tif", values, nodata=float(np.finfo(np.float32).min))
    ingest(tmp_path / "s", catalog=catalog, out=tmp_path / "c.zarr", patch=SIDE)
    cube = Cube.open(tmp_path / "c.zarr")
    channels = parse_input(cube, "msi")
    norm = fit_normalisation(cube, channels, np.arange(4), "standard")
    batch = CubePatches(cube, channels, norm).read(np.arange(4))
    assert norm.offset[0] == pytest.approx(values[0, 4:].mean(dtype=float), rel=1e-6)
    assert np.isfinite(batch.image).all()
    assert (batch.image[~batch.valid] == 0).all()
    assert batch.valid.mean() == 0.75
