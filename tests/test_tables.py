"""The small tables of a cube, against rasterio and against what was written."""

import numpy as np
import pytest
import rasterio.windows
from affine import Affine
from cube_scenes import NORTH_UP, SMALL, UTM, catalog_of, scene_pixels, write_scene, write_tif

from geoae import schema
from geoae.planning import plan_ingest
from geoae.tables import root_attributes, small_arrays
from geoae.testing.quirks import empty_tif

TURNED = Affine.translation(434_000, 3_354_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.4)
SOUTH_UP = Affine(0.5, 0, 434_000, 0, 0.5, 3_354_000)
SCENES = {
    "JAX_001_001": {"transform": NORTH_UP},
    "JAX_001_002": {"transform": TURNED},
    "JAX_002_001": {"transform": SOUTH_UP},
    "JAX_003_001": {"crs": None},
    "OMA_001_001": {"crs": "EPSG:2994", "transform": Affine(1, 0, 635_000, 0, -1, 853_000)},
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Plan and tables of five scenes of every orientation, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("tables")
    for number, (key, place) in enumerate(SCENES.items()):
        write_scene(folder, key, scene_pixels((20, 28), number, kinds=("RGB", "AGL")), **place)
    empty_tif(folder / "OMA_002_001_RGB.tif")
    plan = plan_ingest(folder, SMALL, patch=8, stride=6, skip_bad=True, mixed_resolution=True)
    counts = np.arange(plan.patches.n_patches)
    halves = np.array_split(counts, 2)
    entries = {
        n: {"valid": {m: h.tolist() for m in plan.modalities}} for n, h in reversed(list(enumerate(halves)))
    }
    arrays = small_arrays(plan, entries, {1: "the reader said no"})
    return plan, {name: values for name, (_, values) in arrays.items()}, arrays


def test_every_table_has_the_shape_that_its_metadata_say(tables):
    plan, _, arrays = tables
    assert plan.patches.n_patches == 5 * 3 * 4
    for name, (spec, values) in arrays.items():
        assert spec.shape == values.shape, name
        assert len(spec.dims) == values.ndim
        assert spec.shard is None
    assert set(schema.PATCH_VARIABLES) | set(schema.SCENE_VARIABLES) <= set(arrays)


def test_rows_are_scenes_in_key_order_then_rows_then_columns(tables):
    _, values, _ = tables
    expected = [
        (number, key, row, col, 6 * row, 6 * col)
        for number, key in enumerate(SCENES)
        for row in range(3)
        for col in range(4)
    ]
    names = ("scene_number", "scene_id", "row", "col", "y_start", "x_start")
    assert list(zip(*(values[n].tolist() for n in names), strict=True)) == expected
    assert values["patch"].tolist() == list(range(60))
    assert values["city"].tolist() == ["JAX"] * 48 + ["OMA"] * 12
    assert values["tile"].tolist()[24:36] == ["002"] * 12
    assert values["view"].tolist()[12:24] == ["002"] * 12


def test_bounds_come_from_the_transform(tables):
    _, values, _ = tables
    for i in range(60):
        transform = list(SCENES.values())[values["scene_number"][i]].get("transform", Affine.identity())
        y, x = int(values["y_start"][i]), int(values["x_start"][i])
        corners = np.array([transform @ (x + a, y + b) for a in (0, 8) for b in (0, 8)])
        assert values["bounds"][i] == pytest.approx([*corners.min(0), *corners.max(0)], rel=1e-15)
    # Without a CRS, bounds are pixels.
    assert values["bounds"][36].tolist() == [0, 0, 8, 8]


@pytest.mark.filterwarnings(
    "ignore:Use `@` matmul:PendingDeprecationWarning"
)  # rasterio's own multiplication
def test_bounds_of_north_up_scenes_are_rasterios(tables):
    _, values, _ = tables
    for i in range(12):
        window = rasterio.windows.Window(int(values["x_start"][i]), int(values["y_start"][i]), 8, 8)
        assert values["bounds"][i] == pytest.approx(rasterio.windows.bounds(window, NORTH_UP), rel=1e-15)


def test_pixel_sizes_are_metres_or_unknown(tables):
    _, values, _ = tables
    assert values["pixel_size_x"][0] == pytest.approx(0.5)
    assert (values["pixel_size_x"][12], values["pixel_size_y"][12]) == pytest.approx((0.5, 0.4))
    assert np.isnan(values["pixel_size_x"][36:48]).all()
    assert values["pixel_size_y"][48] == pytest.approx(0.3048)


def test_scenes_keep_crs_transform_shape_and_status(tables):
    _, values, _ = tables
    assert values["scene_name"].tolist() == [*SCENES, "OMA_002_001"]
    assert values["scene_shape"].tolist() == [[20, 28]] * 5 + [[0, 0]]
    assert values["scene_transform"][1] == pytest.approx(list(TURNED)[:6])
    assert values["scene_crs"][3] == ""
    assert all("UTM zone 17N" in crs for crs in values["scene_crs"][:3])
    assert values["scene_status"].tolist()[:5] == ["ok", "the reader said no", "ok", "ok", "ok"]
    assert "OMA_002_001_RGB.tif is empty" in values["scene_status"][5]
    assert values["scene_modalities"][0] == "rgb=copied agl=copied"
    assert values["scene_modalities"][3] == "rgb=copied agl=copied"
    assert values["scene_modalities"][5] == "rgb=missing agl=missing"


def test_the_share_of_valid_pixels_is_in_the_order_of_shards(tables):
    plan, values, _ = tables
    assert values["modality"].tolist() == list(plan.modalities) == ["rgb", "agl"]
    assert values["valid_fraction"].dtype == np.float32
    assert np.array_equal(
        values["valid_fraction"], np.repeat(np.arange(60)[:, None] / 64, 2, 1).astype(np.float32)
    )


def test_bands_have_names_and_wavelengths_where_all_are_known(tmp_path):
    write_scene(tmp_path, "JAX_001_001", scene_pixels((8, 8), 1))
    plan = plan_ingest(tmp_path, SMALL, patch=8)
    arrays = small_arrays(plan, {0: {"valid": {m: [64] for m in plan.modalities}}}, {})
    assert arrays["msi_band"][1].tolist() == ["red", "nir"]
    assert arrays["msi_wavelength"][1].tolist() == [660, 830]
    assert arrays["msi_bandwidth"][0].attributes == {"long_name": "bandwidth", "units": "nm"}
    assert arrays["rgb_band"][1].tolist() == ["red", "green", "blue"]
    assert "rgb_wavelength" not in arrays


def test_the_root_says_what_it_is_and_no_more(tables, tmp_path):
    plan, _, arrays = tables
    digests = dict.fromkeys(arrays, "sha256:0") | {"rgb": "sha256:1"}
    attributes = root_attributes(plan, digests)
    assert attributes["Conventions"] == "CF-1.11"
    assert attributes["geoae_arrays"] == digests
    assert "license" not in attributes
    other = root_attributes(plan, digests | {"rgb": "sha256:2"})
    assert other["geoae_cube"] != attributes["geoae_cube"]
    listed = attributes["coordinates"].split()
    assert len(listed) == len(set(listed))
    assert {"city", "scene_crs", "valid_fraction", "rgb_band"} <= set(listed)
    assert "rgb" not in listed
    write_tif(tmp_path / "JAX_001_001_RGB.tif", scene_pixels((8, 8), 1)["RGB"], crs=UTM)
    cited = plan_ingest(tmp_path, catalog_of(licence="CC0", citation="Somebody"), patch=8)
    assert root_attributes(cited, digests)["license"] == "CC0"
    assert root_attributes(cited, digests)["references"] == "Somebody"
