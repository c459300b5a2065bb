"""Bad input, fault by fault: one line that names the file, or a scene that is void, counted and said."""

import shutil

import numpy as np
import pytest
import tifffile
import zarr
from affine import Affine
from cube_scenes import NORTH_UP, SMALL, UTM, catalog_of, scene_pixels, tree, write_scene, write_tif

from geoae import assembly
from geoae.cube import Cube
from geoae.errors import InputError, SceneError, UsageError
from geoae.ingestion import ingest
from geoae.testing.quirks import (
    empty_tif,
    garbage_block_tif,
    giant_strip_tif,
    lfs_pointer,
    sentinel_heights,
    sparse_huge_tif,
    truncated_tif,
    vrt_named_tif,
)
from geoae.verification import verify

GOOD = ("JAX_001_001", "JAX_003_001")
BAD = "JAX_002_001"
SIDE = 128


def pixels_of(key):
    return scene_pixels((SIDE, SIDE), int(key[4:7]), kinds=("MSI", "RGB", "AGL", "CLS"))


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A good scene, one that tests break, and another good one."""
    folder = tmp_path_factory.mktemp("clean")
    for key in (*GOOD, BAD):
        write_scene(folder, key, pixels_of(key))
    return folder


@pytest.fixture
def folder(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "scenes")
    return tmp_path / "scenes"


def make(folder, name="c.zarr", **options):
    return ingest(folder, **{"catalog": SMALL, "out": folder.parent / name, "patch": 32, **options})


def contents(path):
    group = zarr.open_group(path, mode="r")
    return {name: group[name][...] for name in group.array_keys()}


def one_line(folder, *names, kind=SceneError, code=3, **options):
    """Ingest fails with one line that has these words, leaves no cube, and spoils nothing that was there."""
    before = tree(folder)
    with pytest.raises(kind) as caught:
        make(folder, **options)
    assert caught.value.exit_code == code
    said = str(caught.value)
    assert "\n" not in said
    for name in names:
        assert name in said, said
    assert tree(folder) == before
    assert not (folder.parent / "c.zarr" / "zarr.json").exists()
    return said


def skipped(folder, *names):
    """Ingest with leave to skip: the bad scene keeps its rows, void, with a status; others are whole."""
    report = make(folder, skip_bad=True)
    assert report.partial
    assert list(report.bad) == [BAD]
    for name in names:
        assert name in report.bad[BAD], report.bad
    cube = Cube.open(report.cube)
    assert cube.bad_scenes() == dict(report.bad)
    found = contents(report.cube)
    assert len(found["patch"]) == 48
    bad = found["scene_id"].astype(object) == BAD
    assert bad.sum() == 16
    for name in ("msi", "rgb", "label", "msi_valid", "rgb_valid", "label_valid", "valid_fraction"):
        assert not found[name][bad].any(), name
    assert np.isnan(found["agl"][bad]).all()
    for key in GOOD:
        rows = found["scene_id"].astype(object) == key
        expected = pixels_of(key)
        for name, kind in {"msi": "MSI", "rgb": "RGB", "agl": "AGL", "label": "CLS"}.items():
            cut = np.stack(
                [
                    expected[kind][..., y : y + 32, x : x + 32]
                    for y in range(0, 128, 32)
                    for x in range(0, 128, 32)
                ]
            )
            assert found[name][rows].tobytes() == cut.tobytes()
    assert verify(report.cube).ok
    again = make(folder, skip_bad=True)
    assert not again.created
    assert again.partial
    return report


# --- files that headers betray --------------------------------------------------------------------

BROKEN = {
    "1 empty": (empty_tif, "is empty"),
    "2 git-LFS pointer": (lfs_pointer, "git-LFS pointer"),
    "2 text": (lambda path: path.write_text("Dear reader,\nno raster here."), "text"),
    "3 truncated deflate": (truncated_tif, "truncated"),
    "3 truncated LZW": (lambda path: truncated_tif(path, compress="lzw"), "truncated"),
    "5 sparse giant": (sparse_huge_tif, "sparse or broken"),
    "6 giant strip": (giant_strip_tif, "claims 200000 x 60000"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(folder, name):
    spoil, word = BROKEN[name]
    path = folder / f"{BAD}_RGB.tif"
    path.unlink()
    spoil(path)
    one_line(folder, f"{BAD}_RGB.tif", word, "--skip-bad")
    skipped(folder, f"{BAD}_RGB.tif", word)


def test_7_a_vrt_named_tif_opens_nothing(folder, tmp_path):
    secret = write_tif(tmp_path / "secret.tif", np.full((3, SIDE, SIDE), 77, np.uint8))
    vrt_named_tif(folder / f"{BAD}_RGB.tif", secret)
    one_line(folder, f"{BAD}_RGB.tif", "VRT")
    report = skipped(folder, "VRT")
    assert not (contents(report.cube)["rgb"] == 77).all(axis=(1, 2, 3)).any()


def test_8_links_out_of_the_folder_are_not_followed(folder, tmp_path):
    outside = write_tif(tmp_path / "outside" / f"{BAD}_RGB.tif", scene_pixels((SIDE, SIDE), 77)["RGB"])
    path = folder / f"{BAD}_RGB.tif"
    path.unlink()
    path.symlink_to(outside)
    one_line(folder, f"{BAD}_RGB.tif", "link that leaves the folder", "--follow-symlinks")
    skipped(folder, "link that leaves the folder")
    followed = make(folder, "followed.zarr", follow_symlinks=True)
    assert followed.bad == {}


# --- files that only their pixels betray ----------------------------------------------------------


def spoil_last_block(folder, kind):
    path = folder / f"{BAD}_{kind}.tif"
    values = pixels_of(BAD)[kind]
    path.unlink()
    write_tif(folder / "x.tif", values)
    garbage_block_tif(path, folder / "x.tif")
    (folder / "x.tif").unlink()


@pytest.mark.parametrize("kind", ["MSI", "RGB", "AGL"])
def test_4_garbage_in_a_block(folder, kind):
    spoil_last_block(folder, kind)
    one_line(folder, f"{BAD}_{kind}.tif", "band", "rows", "columns", "cannot be decoded")
    skipped(folder, f"{BAD}_{kind}.tif", "cannot be decoded")


def test_4_a_run_without_leave_can_be_finished_with_it(folder, monkeypatch):
    monkeypatch.setattr(assembly, "RUN_BYTES", 1)
    spoil_last_block(folder, "MSI")
    one_line(folder, f"{BAD}_MSI.tif", workers=2)
    first = tree(folder.parent / skipped(folder).cube)
    make(folder, "fresh.zarr", skip_bad=True, workers=1)
    assert tree(folder.parent / "fresh.zarr") == first


# --- scenes whose files do not fit ----------------------------------------------------------------


def test_9_a_missing_partner_is_no_fault_and_not_silent(folder):
    (folder / f"{BAD}_MSI.tif").unlink()
    (folder / f"{BAD}_CLS.tif").unlink()
    report = make(folder)
    assert not report.partial
    assert report.plan.counts()["msi"] == {"copied": 2, "missing": 1}
    scenes = Cube.open(report.cube).scenes().set_index("scene_name")
    assert scenes.scene_modalities[BAD] == "msi=missing rgb=copied agl=copied label=missing"
    found = contents(report.cube)
    rows = found["scene_id"].astype(object) == BAD
    assert not found["msi_valid"][rows].any()
    assert not found["label_valid"][rows].any()
    assert found["rgb_valid"][rows].any()


def test_10_two_files_for_one_modality(folder):
    (folder / "again").mkdir()
    shutil.copy(folder / f"{BAD}_RGB.tif", folder / "again" / f"{BAD}_rgb.TIF")
    one_line(folder, f"again/{BAD}_rgb.TIF", f"{BAD}_RGB.tif", "2 times")
    skipped(folder, "2 times")


def test_10_other_spellings_of_one_extension(folder):
    path = folder / f"{BAD}_RGB.tif"
    path.rename(folder / f"{BAD}_rgb.TIFF")
    assert not make(folder).partial


@pytest.mark.parametrize("bands", [1, 3])
def test_11_images_of_other_band_counts(folder, bands):
    write_tif(folder / f"{BAD}_MSI.tif", np.ones((bands, SIDE, SIDE), np.uint16))
    one_line(folder, f"{BAD}_MSI.tif", f"{bands} band", "expects 2 (red, nir)")
    skipped(folder, "expects 2")


@pytest.mark.parametrize("bands", [7, 8, 9])
def test_11_rows_of_pixels_with_all_their_bands(tmp_path, bands):
    eight = catalog_of(modalities={"msi": {"bands": [{"name": f"b{n}"} for n in range(8)]}})
    rng = np.random.default_rng(0)
    rgb = scene_pixels((64, 64), 1, void=0)["RGB"]
    msi = rng.integers(1, 2048, (64, 64, bands)).astype(np.uint16)
    (tmp_path / "scenes").mkdir()
    write_tif(tmp_path / "scenes" / f"{BAD}_RGB.tif", rgb, crs=None)
    tifffile.imwrite(tmp_path / "scenes" / f"{BAD}_MSI.tif", msi, photometric="minisblack", shaped=True)
    if bands != 8:
        with pytest.raises(SceneError, match=rf"{BAD}_MSI\.tif has {bands} bands, the catalog expects 8"):
            make(tmp_path / "scenes", catalog=eight)
        return
    found = contents(make(tmp_path / "scenes", catalog=eight).cube)
    assert np.array_equal(found["msi"][0], msi[:32, :32].transpose(2, 0, 1))
    assert np.array_equal(found["msi"][3], msi[32:, 32:].transpose(2, 0, 1))


def test_12_sizes_that_are_nearly_equal(folder):
    for kind in ("RGB", "AGL", "CLS"):
        write_tif(folder / f"{BAD}_{kind}.tif", pixels_of(BAD)[kind], crs=None)
    write_tif(folder / f"{BAD}_MSI.tif", pixels_of(BAD)["MSI"][:, :-1, :-1], crs=None)
    one_line(folder, "rgb is 128 x 128, msi 127 x 127", "without a CRS")
    skipped(folder, "127 x 127")


def test_12_a_pixel_less_is_no_matter_where_places_are_known(folder):
    write_tif(folder / f"{BAD}_MSI.tif", pixels_of(BAD)["MSI"][:, :-1, :-1])
    report = make(folder)
    scenes = Cube.open(report.cube).scenes().set_index("scene_name")
    assert "msi=warped" in scenes.scene_modalities[BAD]
    found = contents(report.cube)
    rows = np.flatnonzero(found["scene_id"].astype(object) == BAD)
    # The place is the same, so each pixel is its own; the last row and column are void.
    assert np.array_equal(found["msi"][rows[0]], pixels_of(BAD)["MSI"][:, :32, :32])
    assert not found["msi_valid"][rows[-1]][-1].any()


def test_15_and_16_no_crs_at_all_and_cities_in_different_zones(tmp_path):
    write_scene(tmp_path / "s", "JAX_001_001", pixels_of("JAX_001_001"), crs="EPSG:32617")
    write_scene(tmp_path / "s", "OMA_001_001", pixels_of("JAX_002_001"), crs="EPSG:32615")
    write_scene(tmp_path / "s", "ZZZ_001_001", pixels_of("JAX_003_001"), crs=None)
    report = make(tmp_path / "s")
    scenes = Cube.open(report.cube).scenes()
    assert "zone 17N" in scenes.scene_crs[0]
    assert "zone 15N" in scenes.scene_crs[1]
    assert scenes.scene_crs[2] == ""
    found = contents(report.cube)
    assert np.isnan(found["pixel_size_x"][32:]).all()
    assert found["bounds"][32].tolist() == [0, 0, 32, 32]
    assert found["bounds"][0].tolist() == [434_000, 3_353_984, 434_016, 3_354_000]
    assert Cube.open(report.cube).grid(2).crs is None


def test_half_a_scene_with_a_crs_is_refused(folder):
    for kind in ("RGB", "AGL", "CLS"):
        write_tif(folder / f"{BAD}_{kind}.tif", pixels_of(BAD)[kind][..., :64, :64], crs=None)
    one_line(folder, "has no CRS")


def test_a_raster_elsewhere_is_refused(folder):
    far = Affine(0.5, 0, 700_000, 0, -0.5, 3_000_000)
    write_tif(folder / f"{BAD}_MSI.tif", pixels_of(BAD)["MSI"], transform=far)
    one_line(folder, "msi lies elsewhere than rgb")
    skipped(folder, "lies elsewhere")


# --- pixels that mean nothing ---------------------------------------------------------------------


def test_18_and_23_nan_without_a_tag_and_patches_without_a_pixel(folder):
    heights = pixels_of(BAD)["AGL"]
    heights[:32, :32] = np.nan
    write_tif(folder / f"{BAD}_AGL.tif", heights)
    rgb = pixels_of(BAD)["RGB"]
    rgb[:, 32:64, :32] = 0
    write_tif(folder / f"{BAD}_RGB.tif", rgb)
    report = make(folder)
    assert not report.partial
    found = contents(report.cube)
    first = np.flatnonzero(found["scene_id"].astype(object) == BAD)[0]
    names = found["modality"].astype(object).tolist()
    assert np.isnan(found["agl"][first]).all()
    assert found["valid_fraction"][first, names.index("agl")] == 0
    assert not found["rgb_valid"][first + 4].any()
    assert found["valid_fraction"][first + 4, names.index("rgb")] == 0
    assert found["valid_fraction"][first + 1, names.index("agl")] == np.float32(
        np.isfinite(heights[:32, 32:64]).mean()
    )


def test_19_sentinels_go_and_small_negatives_stay(folder):
    sentinel_heights(folder / "x.tif")
    values = tifffile.imread(folder / "x.tif")
    (folder / "x.tif").unlink()
    write_tif(folder / f"{BAD}_AGL.tif", values)
    found = contents(make(folder).cube)
    agl = found["agl"][found["scene_id"].astype(object) == BAD]
    assert np.isnan(agl[:4, :4]).all()
    assert np.isfinite(agl[0, 4:]).all()
    assert np.nanmin(agl) == values[4:].min() < 0
    assert np.nanmax(agl) == values[4:].max()


def test_17_and_20_types_and_tags(folder):
    rgb = pixels_of(BAD)["RGB"]
    rgb[:, :8, :8] = 255
    write_tif(folder / f"{BAD}_RGB.tif", rgb, nodata=255)
    centimetres = np.full((SIDE, SIDE), 250, np.int16)
    centimetres[0, 0] = -9999
    write_tif(folder / f"{BAD}_AGL.tif", centimetres, scale=0.01, nodata=-9999)
    codes = pixels_of(BAD)["CLS"].astype(np.int16)
    codes[0, 1] = -1
    write_tif(folder / f"{BAD}_CLS.tif", codes)
    report = make(folder)
    said = " ".join(report.plan.notes)
    assert "nodata tag 255" in said
    assert "scale 0.01" in said
    found = contents(report.cube)
    first = np.flatnonzero(found["scene_id"].astype(object) == BAD)[0]
    assert np.array_equal(found["rgb"][first], rgb[:, :32, :32])
    assert found["rgb_valid"][first, :8, :8].all()
    assert np.isnan(found["agl"][first, 0, 0])
    assert (found["agl"][first].ravel()[1:] == 2.5).all()
    assert found["label"].dtype == np.uint8
    assert found["label_valid"][first].sum() == 32 * 32 - 1
    assert not found["label_valid"][first, 0, 1]


def test_17_an_image_of_another_type(folder):
    write_tif(folder / f"{BAD}_RGB.tif", pixels_of(BAD)["RGB"].astype(np.uint16))
    one_line(folder, f"{BAD}_RGB.tif is uint16, the catalog expects uint8")
    skipped(folder, "expects uint8")


def test_21_codes_outside_of_every_table_are_kept(folder):
    found = contents(make(folder).cube)
    assert {65, 214} <= set(np.unique(found["label"]))


def test_24_a_scene_smaller_than_a_patch_and_no_multiple_of_it(tmp_path):
    write_scene(tmp_path / "s", "JAX_001_001", scene_pixels((20, 90), 1, kinds=("RGB",)))
    write_scene(tmp_path / "s", "JAX_002_001", scene_pixels((70, 90), 2, kinds=("RGB",)))
    report = make(tmp_path / "s")
    assert report.plan.patches.counts.tolist() == [0, 4]
    assert report.plan.patches.dropped_pixels.tolist() == [1800, 70 * 90 - 64 * 64]
    assert Cube.open(report.cube).scenes().scene_status.tolist() == ["ok", "ok"]
    padded = make(tmp_path / "s", "padded.zarr", edge="pad")
    assert padded.plan.patches.counts.tolist() == [3, 9]
    assert padded.plan.patches.dropped_pixels.tolist() == [0, 0]
    found = contents(padded.cube)
    assert not found["rgb_valid"][0, 20:].any()
    assert not found["rgb"][0, :, 20:].any()


# --- folders --------------------------------------------------------------------------------------


def test_25_names_with_spaces_newlines_and_letters_of_all_kinds(tmp_path):
    names = ("a b", "Ägypten", "new\nline", "q'uote\"s", "日本", "-dash", "[glob]*?")
    for number, name in enumerate(names):
        write_tif(tmp_path / "s" / f"{name}_RGB.tif", scene_pixels((32, 32), number, void=0)["RGB"])
    report = ingest(tmp_path / "s", pattern="{scene}_{kind}.tif", out=tmp_path / "c ü.zarr", patch=32)
    cube = Cube.open(report.cube)
    assert sorted(cube.scenes().scene_name) == sorted(names)
    found = contents(report.cube)
    for number, name in enumerate(names):
        row = found["scene_id"].astype(object).tolist().index(name)
        assert np.array_equal(found["rgb"][row], scene_pixels((32, 32), number, void=0)["RGB"])


def test_25_a_bad_file_of_a_strange_name_is_still_one_line(tmp_path):
    write_tif(tmp_path / "s" / "ok_RGB.tif", scene_pixels((32, 32), 1)["RGB"])
    empty_tif(tmp_path / "s" / "new\nline_RGB.tif")
    with pytest.raises(SceneError) as caught:
        ingest(tmp_path / "s", pattern="{scene}_{kind}.tif", out=tmp_path / "c.zarr", patch=32)
    assert "\n" not in str(caught.value)
    assert "new line_RGB.tif is empty" in str(caught.value)


def test_files_that_nobody_explains_are_listed(folder):
    write_tif(folder / "holiday.tif", np.ones((8, 8), np.uint8))
    write_tif(folder / "JAX_004_001_PAN.tif", np.ones((8, 8), np.uint8))
    report = make(folder)
    assert report.plan.ignored == ("JAX_004_001_PAN.tif", "holiday.tif")


def test_35_nothing_of_a_failed_run_is_in_the_way(folder):
    empty_tif(folder / f"{BAD}_RGB.tif")
    one_line(folder)
    write_tif(folder / f"{BAD}_RGB.tif", pixels_of(BAD)["RGB"])
    make(folder)
    make(folder, "fresh.zarr")
    assert tree(folder.parent / "c.zarr") == tree(folder.parent / "fresh.zarr")


def test_43_the_output_is_not_the_input(folder):
    with pytest.raises(UsageError) as caught:
        ingest(folder, catalog=SMALL, out=folder, patch=32, overwrite=True)
    assert caught.value.exit_code == 2


def test_nothing_to_do_is_an_error(tmp_path):
    (tmp_path / "s").mkdir()
    with pytest.raises(InputError) as caught:
        make(tmp_path / "s")
    assert caught.value.exit_code == 3


def test_a_shift_of_half_a_pixel_moves_the_pixels(folder):
    # The one case in which a warp would be worse than a copy, were it taken for rounding.
    write_tif(
        folder / f"{BAD}_AGL.tif", pixels_of(BAD)["AGL"], transform=NORTH_UP @ Affine.translation(0.5, 0.5)
    )
    report = make(folder)
    assert "agl=warped" in Cube.open(report.cube).scenes().set_index("scene_name").scene_modalities[BAD]
    tiny = NORTH_UP @ Affine.translation(1e-6, 0)
    write_tif(folder / f"{BAD}_AGL.tif", pixels_of(BAD)["AGL"], transform=tiny, crs=UTM)
    again = make(folder, overwrite=True)
    assert "agl=copied" in Cube.open(again.cube).scenes().set_index("scene_name").scene_modalities[BAD]
