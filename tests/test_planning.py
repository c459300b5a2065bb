"""Plans of an ingest: what headers tell, what is selected, what is refused, and what names a plan."""

import json
import shutil

import numpy as np
import pyproj
import pytest
from affine import Affine
from cube_scenes import NORTH_UP, SMALL, UTM, catalog_of, scene_pixels, write_scene, write_tif

from geoae.errors import CatalogError, InputError, SceneError, UsageError
from geoae.planning import pixel_size, plan_ingest
from geoae.selection import Selection
from geoae.testing.quirks import empty_tif, truncated_tif

KEYS = ("JAX_001_001", "JAX_001_002", "OMA_002_001")


@pytest.fixture
def folder(tmp_path):
    """Three small scenes of two cities, side by side."""
    root = tmp_path / "scenes"
    for number, key in enumerate(KEYS):
        write_scene(
            root,
            key,
            scene_pixels((20, 30), number),
            transform=NORTH_UP @ Affine.translation(100 * number, 0),
        )
    return root


def keys(plan):
    return tuple(h.scene.key for h in plan.scenes)


# --- what a plan says -----------------------------------------------------------------------------


def test_scenes_in_the_order_of_their_keys_and_arrays_of_their_patches(folder):
    plan = plan_ingest(folder, SMALL, patch=8)
    assert keys(plan) == KEYS
    assert plan.modalities == ("msi", "rgb", "agl", "label")
    assert plan.patches.n_patches == 3 * 2 * 3
    arrays = plan.pixel_arrays
    assert {n: (s.shape, s.dtype) for n, s in arrays.items()} == {
        "msi": ((18, 2, 8, 8), "uint16"),
        "msi_valid": ((18, 8, 8), "bool"),
        "rgb": ((18, 3, 8, 8), "uint8"),
        "rgb_valid": ((18, 8, 8), "bool"),
        "agl": ((18, 8, 8), "float32"),
        "label": ((18, 8, 8), "uint8"),
        "label_valid": ((18, 8, 8), "bool"),
    }
    assert arrays["msi"].dims == ("patch", "msi_band", "y", "x")
    assert arrays["label"].attributes["flag_values"] == [2, 5, 6]
    assert arrays["agl"].attributes["units"] == "m"
    per_patch = 8 * 8 * (2 * 2 + 1 + 3 + 1 + 4 + 1 + 1)
    assert plan.n_bytes == 18 * per_patch
    assert plan.shard_length == 60  # ten scenes of six patches
    assert plan.n_shards == 1
    assert plan.counts()["rgb"] == {"copied": 3}
    assert all(s.shard == 60 for s in arrays.values())


def test_integers_have_no_fill_value_attribute(folder):
    for spec in plan_ingest(folder, SMALL, patch=8).pixel_arrays.values():
        assert "_FillValue" not in spec.attributes


def test_a_modality_that_no_scene_has_is_no_array(folder):
    for path in folder.glob("*_AGL.tif"):
        path.unlink()
    (folder / "JAX_001_001_CLS.tif").unlink()
    plan = plan_ingest(folder, SMALL, patch=8)
    assert plan.modalities == ("msi", "rgb", "label")
    assert plan.counts()["label"] == {"copied": 2, "missing": 1}


def test_ignored_files_problems_and_notes_are_reported(folder, tmp_path):
    write_tif(folder / "holiday.tif", np.ones((4, 4), np.uint8))
    write_tif(folder / "deep er" / "b\nc.tif", np.ones((4, 4), np.uint8))
    (folder / "README.txt").write_text("no raster")
    write_tif(tmp_path / "outside" / "OMA_002_002_RGB.tif", scene_pixels((20, 30), 1)["RGB"])
    (folder / "linked").symlink_to(tmp_path / "outside")
    plan = plan_ingest(folder, SMALL, patch=8)
    assert plan.ignored == ("deep er/b\nc.tif", "holiday.tif")
    assert any("linked is a link that leaves the folder" in p for p in plan.problems)
    assert keys(plan) == KEYS
    assert keys(plan_ingest(folder, SMALL, patch=8, follow_symlinks=True)) == (*KEYS, "OMA_002_002")


# --- what names a plan ----------------------------------------------------------------------------


def test_a_plan_knows_no_place_and_no_time(folder, tmp_path):
    first = plan_ingest(folder, SMALL, patch=8)
    shutil.copytree(folder, tmp_path / "elsewhere")
    shutil.rmtree(folder)
    second = plan_ingest(tmp_path / "elsewhere", SMALL, patch=8)
    assert second.digest == first.digest
    assert str(tmp_path) not in json.dumps(first.document)


def test_a_plan_with_bad_scenes_knows_no_place_either(folder, tmp_path):
    empty_tif(folder / "JAX_001_001_RGB.tif")
    truncated_tif(folder / "JAX_001_002_RGB.tif")
    (folder / "OMA_002_001_CLS.tif").write_text("not a raster")
    (folder / "OMA_002_001_MSI.tif").write_bytes(b"II*\0" + b"\xff" * 60)
    write_scene(folder, "OMA_003_001", scene_pixels((20, 30), 9))
    first = plan_ingest(folder, SMALL, patch=8, skip_bad=True)
    shutil.copytree(folder, tmp_path / "else where")
    second = plan_ingest(tmp_path / "else where", SMALL, patch=8, skip_bad=True)
    assert len([h for h in first.scenes if h.status != "ok"]) == 3
    assert str(tmp_path) not in json.dumps(first.document)
    assert second.digest == first.digest


@pytest.mark.parametrize(
    "change",
    [
        {"patch": 10},
        {"stride": 4},
        {"edge": "pad"},
        {"min_valid": 0.25},
        {"selection": Selection(limit=2)},
        {"resolution": 0.8},
        {"catalog": catalog_of(title="Other")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_that_decides_bytes_changes_the_digest(folder, change):
    options = {"catalog": SMALL, "patch": 8}
    assert plan_ingest(folder, **{**options, **change}).digest != plan_ingest(folder, **options).digest


def test_what_only_headers_tell_changes_the_digest(folder):
    def digest():
        return plan_ingest(folder, SMALL, patch=8).digest

    values = np.full((20, 30), 5, np.int16)
    path = folder / "JAX_001_001_AGL.tif"
    seen, sizes = set(), set()
    for options in (
        {"nodata": 5},
        {"nodata": 6},
        {"nodata": 5, "scale": 0.5, "offset": 0.1},
        {"nodata": 5, "scale": 0.5, "offset": 0.2},
        {"nodata": 5, "transform": NORTH_UP @ Affine.translation(0.5, 0)},
        {"nodata": 5, "crs": "EPSG:32616"},
        {"nodata": 5, "crs": "EPSG:32616", "transform": NORTH_UP @ Affine.translation(3, 0)},
    ):
        if "crs" in options:
            # The same ground, so that the scene is accepted.
            to = pyproj.Transformer.from_crs(UTM, "EPSG:32616", always_xy=True)
            shift = 3 if "transform" in options else 0
            x, y = to.transform(NORTH_UP.c, NORTH_UP.f)
            options = {**options, "transform": Affine(0.5, 0, x + shift, 0, -0.5, y)}
        write_tif(path, values, **options)
        seen.add(digest())
        sizes.add(path.stat().st_size)
    assert len(seen) == 7
    assert len(sizes) < 7  # or the size of the file would have told


# --- what is refused ------------------------------------------------------------------------------


def test_bad_scenes_stop_a_plan_or_keep_their_rows(folder):
    empty_tif(folder / "JAX_001_002_MSI.tif")
    with pytest.raises(
        SceneError, match=r"scene JAX_001_002: msi: JAX_001_002_MSI\.tif is empty .*--skip-bad"
    ) as caught:
        plan_ingest(folder, SMALL, patch=8)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    plan = plan_ingest(folder, SMALL, patch=8, skip_bad=True)
    assert keys(plan) == KEYS
    assert plan.patches.counts.tolist() == [6, 6, 6]
    assert plan.problems == (
        "JAX_001_002: msi: JAX_001_002_MSI.tif is empty (0 bytes) (copy or download it again)",
    )


def test_a_scene_without_any_good_file_has_no_rows(folder):
    for kind in ("MSI", "RGB", "AGL", "CLS"):
        empty_tif(folder / f"JAX_001_002_{kind}.tif")
    plan = plan_ingest(folder, SMALL, patch=8, skip_bad=True)
    assert keys(plan) == KEYS
    assert plan.patches.counts.tolist() == [6, 0, 6]


def test_all_bad_is_an_error_even_if_skipped(folder):
    for path in folder.glob("*.tif"):
        empty_tif(path)
    with pytest.raises(
        SceneError, match=r"none of 3 scenes can be used; the first: msi: JAX_001_001_MSI\.tif is empty"
    ):
        plan_ingest(folder, SMALL, patch=8, skip_bad=True)


def test_more_than_one_bad_scene_is_counted(folder):
    for key in KEYS[1:]:
        empty_tif(folder / f"{key}_RGB.tif")
    with pytest.raises(SceneError, match=r"scene JAX_001_002: .* \(and 1 more scenes\)"):
        plan_ingest(folder, SMALL, patch=8)


def test_patches_larger_than_every_scene(folder):
    with pytest.raises(
        InputError, match=r"no scene of .* holds a patch of 64 pixels; the largest is 20 x 30"
    ):
        plan_ingest(folder, SMALL, patch=64)
    assert plan_ingest(folder, SMALL, patch=64, edge="pad").patches.n_patches == 3


@pytest.mark.parametrize(
    "options",
    [
        {"min_valid": 50},
        {"min_valid": -0.1},
        {"min_valid": float("nan")},
        {"resolution": 0},
        {"resolution": -1},
    ],
)
def test_nonsense_is_refused(folder, options):
    with pytest.raises(ValueError, match=r"min_valid|resolution"):
        plan_ingest(folder, SMALL, patch=8, **options)


def test_an_empty_folder_and_a_strange_one(tmp_path):
    with pytest.raises(InputError, match="holds no file"):
        plan_ingest(tmp_path, SMALL)
    with pytest.raises(InputError, match="there is no folder"):
        plan_ingest(tmp_path / "nowhere", SMALL)
    write_tif(tmp_path / "holiday.tif", np.ones((4, 4), np.uint8))
    with pytest.raises(CatalogError, match=r"explains no file in .* such as holiday.tif"):
        plan_ingest(tmp_path, SMALL)


# --- scenes that differ ---------------------------------------------------------------------------

LOOSE = catalog_of(modalities={"msi": {"bands": None, "dtype": None}})


def test_the_odd_scene_is_the_bad_one_wherever_it_stands(tmp_path):
    for n in range(4):
        write_scene(tmp_path, f"JAX_00{n}_001", scene_pixels((20, 30), n))
    odd = scene_pixels((20, 30), 9)["MSI"]
    for n, values in ((0, odd[:1]), (2, odd.astype(np.int16))):
        good = (tmp_path / f"JAX_00{n}_001_MSI.tif").read_bytes()
        write_tif(tmp_path / f"JAX_00{n}_001_MSI.tif", values)
        plan = plan_ingest(tmp_path, LOOSE, patch=8, skip_bad=True)
        assert [h.scene.key for h in plan.scenes if h.status != "ok"] == [f"JAX_00{n}_001"]
        expected = f"msi has {len(values)} bands? of {values.dtype}, most scenes have 2 of uint16"
        with pytest.raises(SceneError, match=expected):
            plan_ingest(tmp_path, LOOSE, patch=8)
        (tmp_path / f"JAX_00{n}_001_MSI.tif").write_bytes(good)


def test_a_modality_that_only_a_bad_scene_has_is_no_array(tmp_path):
    for n in range(3):
        write_scene(tmp_path, f"JAX_00{n}_001", scene_pixels((20, 30), n, kinds=("MSI",)))
    write_scene(tmp_path, "JAX_000_001", scene_pixels((20, 30), 5, kinds=("AGL",)))
    write_tif(tmp_path / "JAX_000_001_MSI.tif", scene_pixels((20, 30), 9)["MSI"][:1])
    assert plan_ingest(tmp_path, LOOSE, patch=8, skip_bad=True).modalities == ("msi",)


# --- pixel sizes ----------------------------------------------------------------------------------


def sized(folder, key, size, shape=(20, 30), **options):
    write_scene(
        folder,
        key,
        scene_pixels(shape, 1, kinds=("RGB",)),
        transform=Affine(size, 0, 434_000, 0, -size, 3_354_000),
        **options,
    )


def test_cities_of_nearly_one_pixel_size_go_together(tmp_path):
    sized(tmp_path, "JAX_001_001", 0.313)
    sized(tmp_path, "OMA_001_001", 0.337, crs="EPSG:32615")
    plan = plan_ingest(tmp_path, SMALL, patch=8)
    assert [pixel_size(h)[0] for h in plan.scenes] == pytest.approx([0.313, 0.337])


def test_mixed_pixel_sizes_must_be_meant(tmp_path):
    sized(tmp_path, "JAX_001_001", 0.3)
    sized(tmp_path, "OMA_001_001", 0.5)
    with pytest.raises(
        UsageError, match=r"0\.3 m in JAX_001_001, 0\.5 m in OMA_001_001 .*--resolution"
    ) as caught:
        plan_ingest(tmp_path, SMALL, patch=8)
    assert caught.value.exit_code == 2
    assert plan_ingest(tmp_path, SMALL, patch=8, mixed_resolution=True).patches.n_patches == 12
    plan = plan_ingest(tmp_path, SMALL, patch=8, resolution=0.5)
    assert [h.grid.shape for h in plan.scenes] == [(12, 18), (20, 30)]
    assert [h.provided["rgb"] for h in plan.scenes] == ["warped", "copied"]
    assert [pixel_size(h)[0] for h in plan.scenes] == pytest.approx([0.5, 0.5])


def test_feet_and_metres_are_compared_in_metres(tmp_path):
    sized(tmp_path, "JAX_001_001", 1.0, crs="EPSG:2994")
    sized(tmp_path, "OMA_001_001", 0.3048)
    assert plan_ingest(tmp_path, SMALL, patch=8).patches.n_patches == 12


def test_no_resolution_without_a_crs(tmp_path):
    write_scene(tmp_path, KEYS[0], scene_pixels((20, 30), 1, kinds=("RGB",)), crs=None)
    assert np.isnan(pixel_size(plan_ingest(tmp_path, SMALL, patch=8).scenes[0])).all()
    with pytest.raises(UsageError, match="--resolution needs a CRS, and scene JAX_001_001 has none"):
        plan_ingest(tmp_path, SMALL, patch=8, resolution=1)


def test_progress_counts_headers(folder):
    seen = []
    plan_ingest(folder, SMALL, patch=8, progress=lambda *a: seen.append(a))
    assert seen[0] == ("headers", 0, 3)
    assert seen[-1][0] == "headers"
