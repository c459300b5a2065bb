"""Summaries: counted by hand, by numpy's nan functions and by scipy's mode."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from cube_scenes import catalog_of, write_scene

from geoae.catalog import Catalog, ClassTable, shipped_catalogs
from geoae.cube import Cube
from geoae.dataset import open_cube
from geoae.errors import InputError, StoreExistsError, UsageError
from geoae.ingestion import ingest
from geoae.summaries import summarize
from geoae.summaries.statistics import (
    class_counts,
    class_fractions,
    count_codes,
    dominant_classes,
    height_statistics,
)

DFC2019 = shipped_catalogs()["us3d"].class_tables["dfc2019"]
THESIS = shipped_catalogs()["us3d"].class_tables["thesis"]
OUTSIDE = (1, 3, 4, 7, 64, 66, 67, 208, 214)  # in real lidar, and in no class table of US3D


def patch_of(*counts: tuple[int, int]) -> np.ndarray:
    """One patch of ``(code, pixels)`` in that order, ``(1, 4, n / 4)``."""
    codes = np.concatenate([np.full(n, code, np.uint8) for code, n in counts])
    return codes.reshape(1, 4, -1)


def dominant(labels: np.ndarray, table: ClassTable, valid: np.ndarray | None = None) -> int:
    counts = class_counts(count_codes(labels, valid), table)
    return int(dominant_classes(counts, [c.code for c in table.classes])[0])


@pytest.mark.parametrize(
    ("counts", "official", "thesis"),
    [
        ([(2, 16)], 2, 2),
        ([(6, 8), (5, 8)], 5, 5),  # a tie: the lowest code
        ([(9, 5), (6, 5), (2, 5), (17, 1)], 2, 2),  # three equal
        ([(65, 13), (6, 3)], 6, 65),  # unlabelled is void in one table, a class in the other
        ([(65, 16)], -1, 65),
        ([(65, 8), (9, 8)], 9, 9),  # a tie with 65, which is the highest
        ([(17, 16)], 17, -1),  # the thesis gives bridges no class
        ([(0, 16)], -1, -1),
        ([(255, 16)], -1, -1),
        ([*[(code, 1) for code in OUTSIDE], (2, 1), (0, 6)], 2, 2),  # one pixel of ground wins
        ([*[(code, 1) for code in OUTSIDE], (0, 7)], -1, -1),
    ],
)
def test_dominant_class_by_hand(counts: list[tuple[int, int]], official: int, thesis: int) -> None:
    labels = patch_of(*counts)
    assert dominant(labels, DFC2019) == official
    assert dominant(labels, THESIS) == thesis


def test_every_code_is_counted_once() -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    np.testing.assert_array_equal(count_codes(labels), np.ones((1, 256), np.int64))


def test_pixels_that_are_not_valid_do_not_count() -> None:
    labels = patch_of((2, 10), (6, 6))
    valid = labels == 6
    assert dominant(labels, DFC2019, valid) == 6
    assert count_codes(labels, valid).sum() == 6
    assert dominant(labels, DFC2019, np.zeros_like(valid)) == -1


@pytest.mark.parametrize("number", [1, 3, 8, 9, 256])
@pytest.mark.parametrize("masked", [None, 0.0, 0.5, 1.0])
def test_few_codes_are_counted_as_many(number: int, masked: float | None) -> None:
    """Codes that patches share are counted one by one: new ones, rare ones and voids come in between."""
    rng = np.random.default_rng(number)
    codes = rng.permutation(256).astype(np.uint8)[:number]
    labels = np.stack([rng.choice(codes[: 1 + i % number], (6, 7)) for i in range(40)])
    labels[30, 0, 0] = 255
    valid = None if masked is None else rng.random(labels.shape) >= masked
    if valid is not None:
        valid[10] = True
        valid[11] = False
    found = count_codes(labels, valid)
    for i, patch in enumerate(labels):
        pixels = patch.ravel() if valid is None else patch[valid[i]]
        np.testing.assert_array_equal(found[i], [(pixels == code).sum() for code in range(256)])


def test_ties_go_by_code_and_not_by_the_tables_order() -> None:
    table = ClassTable.model_validate(
        {
            "classes": [
                {"code": 9, "name": "w", "color": "#000000"},
                {"code": 4, "name": "v", "color": "#ffffff"},
            ]
        }
    )
    assert dominant(patch_of((9, 8), (4, 8)), table) == 4


def test_a_class_of_several_codes_adds_them() -> None:
    table = ClassTable.model_validate(
        {
            "classes": [
                {"code": 2, "name": "ground", "color": "#000000"},
                {"code": 5, "codes": [3, 4, 5], "name": "vegetation", "color": "#ffffff"},
            ]
        }
    )
    labels = patch_of((2, 6), (3, 3), (4, 3), (5, 2), (65, 2))
    counts = class_counts(count_codes(labels), table)
    np.testing.assert_array_equal(counts, [[6, 8]])
    np.testing.assert_allclose(class_fractions(counts), [[6 / 14, 8 / 14]])
    assert dominant(labels, table) == 5


def test_dominant_class_is_scipys_mode_of_the_labelled_pixels() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(np.array([2, 5, 6, 9, 17, 65, 64, 0], np.uint8), (200, 3, 3))
    counts = class_counts(count_codes(labels), DFC2019)
    found = dominant_classes(counts, [c.code for c in DFC2019.classes])
    for patch, code in zip(labels, found, strict=True):
        known = patch[np.isin(patch, [2, 5, 6, 9, 17])]
        # scipy, too, takes the lowest of equals.
        assert code == (scipy.stats.mode(known).mode if known.size else -1)


def test_heights_agree_with_numpys_nan_functions() -> None:
    rng = np.random.default_rng(1)
    heights = rng.normal(20, 30, (12, 9, 7)).astype(np.float32)
    heights[rng.random(heights.shape) < 0.3] = np.nan
    heights[3] = 4.5
    found = height_statistics(heights, [0, 5, 33.3, 50, 100])
    wide = heights.astype(np.float64)
    np.testing.assert_allclose(found.mean, np.nanmean(wide, axis=(1, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.std, np.nanstd(wide, axis=(1, 2)), rtol=1e-9, atol=1e-12)
    expected = np.nanpercentile(wide, [0, 5, 33.3, 50, 100], axis=(1, 2)).T
    np.testing.assert_allclose(found.percentile, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.valid, np.isfinite(wide).mean(axis=(1, 2)))


def test_no_patches_have_no_heights() -> None:
    found = height_statistics(np.empty((0, 8, 8), np.float32))
    assert found.mean.shape == found.valid.shape == (0,)
    assert found.percentile.shape == (0, 5)
    assert count_codes(np.empty((0, 8, 8), np.uint8)).shape == (0, 256)


def test_heights_without_a_value_give_nan_and_no_warning() -> None:
    heights = np.full((3, 2, 2), np.nan, np.float32)
    heights[1] = [[np.inf, -np.inf], [2.0, np.nan]]  # infinities are void, too
    heights[2, 0, 0] = -1.5  # one value; small negatives are heights
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = height_statistics(heights, [50])
    np.testing.assert_array_equal(found.mean, [np.nan, 2.0, -1.5])
    np.testing.assert_array_equal(found.std, [np.nan, 0.0, 0.0])
    np.testing.assert_array_equal(found.percentile[:, 0], [np.nan, 2.0, -1.5])
    np.testing.assert_array_equal(found.valid, [0.0, 0.25, 0.25])


def test_the_mean_of_a_high_surface_keeps_its_millimetres() -> None:
    heights = np.full((1, 128, 128), 2000.125, np.float32)
    heights[0, ::2] += np.float32(0.25)
    assert height_statistics(heights, []).mean[0] == 2000.25


# The layer, on two scenes of 8 x 12 pixels in patches of 4 x 4.

NAN = np.nan


def whole(patches: list[Any]) -> np.ndarray:
    """Six patches of 16 values each as a scene of 8 x 12."""
    blocks = [np.asarray(p).reshape(4, 4) for p in patches]
    return np.block([blocks[:3], blocks[3:]])


LABELS = [
    [2] * 16,
    [6] * 8 + [5] * 8,
    [65] * 16,
    [65] * 8 + [6] * 5 + [2] * 3,
    [*OUTSIDE, 0, 0, 0, 0, 0, 0, 0],
    [5] * 12 + [65] * 4,
]
HEIGHTS = [
    [3.0] * 16,
    [NAN] * 16,
    list(range(16)),
    [1.0] * 4 + [2.0] * 4 + [NAN] * 8,
    [8.0] * 7 + [NAN] * 9,  # less than half
    [-0.5] * 16,
]


def write_scenes(folder: Path) -> None:
    rgb = np.full((3, 8, 12), 90, np.uint8)
    label, agl = whole(LABELS).astype(np.uint8), whole(HEIGHTS).astype(np.float32)
    write_scene(folder, "JAX_001_001", {"RGB": rgb, "CLS": label, "AGL": agl}, crs=None)
    write_scene(folder, "OMA_001_001", {"RGB": rgb}, crs=None)  # no truth: normal in US3D


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder)
    out = folder.parent / "small.zarr"
    ingest(folder, catalog=catalog_of(), out=out, patch=4)
    return out


def test_the_layer_by_hand(made: Path) -> None:
    assert summarize(made) == "summaries/three"
    layer = Cube.open(made).layer("summaries/three").load()
    np.testing.assert_array_equal(layer["dominant_class"], [2, 5, -1, 6, -1, 5] + [-1] * 6)
    np.testing.assert_array_equal(layer["class_code"], [2, 5, 6])
    assert [str(n) for n in layer["class"].to_numpy()] == ["ground", "trees", "building"]
    np.testing.assert_array_equal(
        layer["class_fraction"][:6],
        np.array([[1, 0, 0], [0, 0.5, 0.5], [NAN] * 3, [3 / 8, 0, 5 / 8], [NAN] * 3, [0, 1, 0]], np.float32),
    )
    assert np.isnan(layer["class_fraction"][6:]).all()
    np.testing.assert_array_equal(layer["labelled_fraction"], [1, 1, 0, 0.5, 0, 0.75] + [0] * 6)
    np.testing.assert_array_equal(
        layer["purity"], np.array([1, 0.5, NAN, 5 / 8, NAN, 1] + [NAN] * 6, np.float32)
    )
    np.testing.assert_array_equal(layer["mean_height"], [3, NAN, 7.5, 1.5, NAN, -0.5] + [NAN] * 6)
    np.testing.assert_array_equal(
        layer["height_std"], np.array([0, NAN, np.arange(16).std(), 0.5, NAN, 0] + [NAN] * 6, np.float32)
    )
    np.testing.assert_array_equal(layer["height_valid"], [1, 0, 1, 0.5, 7 / 16, 1] + [0] * 6)
    np.testing.assert_array_equal(layer["percentile"], [5, 25, 50, 75, 95])
    np.testing.assert_array_equal(layer["height_percentile"][2], [0.75, 3.75, 7.5, 11.25, 14.25])
    assert layer.attrs["height_modality"] == "agl"
    assert layer["mean_height"].attrs["height_modality"] == "agl"
    assert layer["mean_height"].attrs["units"] == "m"
    assert layer["dominant_class"].attrs["flag_values"] == [-1, 2, 5, 6]
    assert layer["dominant_class"].attrs["flag_meanings"] == "none ground trees building"
    found = dict(
        zip(*(layer["labelled_fraction"].attrs[k] for k in ("void_codes", "void_pixels")), strict=True)
    )
    assert found == {0: 7, **dict.fromkeys(OUTSIDE, 1), 65: 28}


def test_the_record_counts_patches(made: Path) -> None:
    cube = Cube.open(made)
    record = cube.layer_info(summarize(cube)).record
    assert record.counts == {"patches": 12, "with_class": 4, "with_height": 4}
    assert record.inputs == {"cube": cube.cube_id}


def test_the_default_tables_summary_is_a_coordinate(made: Path) -> None:
    summarize(made)
    assert "dominant_class" in open_cube(made).coords


def test_min_valid_zero_takes_every_height(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes")
    ingest(tmp_path / "scenes", catalog=catalog_of(), out=tmp_path / "c.zarr", patch=4)
    summarize(tmp_path / "c.zarr", min_valid=0, percentiles=())
    layer = Cube.open(tmp_path / "c.zarr").layer("summaries/three")
    assert "height_percentile" not in layer
    np.testing.assert_array_equal(layer["mean_height"][:6], [3, NAN, 7.5, 1.5, 8, -0.5])
    with pytest.raises(StoreExistsError, match="made otherwise"):
        summarize(tmp_path / "c.zarr")
    summarize(tmp_path / "c.zarr", overwrite=True)


def test_equal_work_is_done_once_and_gives_equal_bytes(made: Path, tmp_path: Path) -> None:
    digest = Cube.open(made).layer_info(summarize(made)).digest
    assert Cube.open(made).layer_info(summarize(made)).digest == digest
    write_scenes(tmp_path / "scenes")
    ingest(tmp_path / "scenes", catalog=catalog_of(), out=tmp_path / "c.zarr", patch=4)
    assert Cube.open(tmp_path / "c.zarr").layer_info(summarize(tmp_path / "c.zarr")).digest == digest


def test_progress_ends_with_all_patches(made: Path) -> None:
    seen: list[tuple[int, int]] = []
    summarize(made, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12, 12)


@pytest.mark.parametrize(
    ("without", "path", "variables"),
    [
        ("label", "summaries/heights", {"mean_height", "height_std", "height_valid", "height_percentile"}),
        ("agl", "summaries/three", {"dominant_class", "class_fraction", "labelled_fraction", "purity"}),
    ],
)
def test_a_cube_without_labels_or_without_heights(
    tmp_path: Path, without: str, path: str, variables: set[str]
) -> None:
    write_scenes(tmp_path / "scenes")
    catalog = catalog_of(modalities={without: None})
    ingest(tmp_path / "scenes", catalog=catalog, out=tmp_path / "c.zarr", patch=4)
    assert summarize(tmp_path / "c.zarr") == path
    assert set(Cube.open(tmp_path / "c.zarr").layer(path).data_vars) == variables


def test_a_cube_with_neither_is_refused_in_one_line(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes")
    catalog = catalog_of(modalities={"label": None, "agl": None})
    ingest(tmp_path / "scenes", catalog=catalog, out=tmp_path / "c.zarr", patch=4)
    with pytest.raises(InputError, match="neither labels nor heights") as caught:
        summarize(tmp_path / "c.zarr")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_heights_above_ground_come_before_surfaces(tmp_path: Path) -> None:
    pixels = {
        "RGB": np.full((3, 4, 4), 9, np.uint8),
        "AGL": np.full((4, 4), 2, np.float32),
        "DSM": np.full((4, 4), 50, np.float32),
    }
    write_scene(tmp_path / "scenes", "JAX_001_001", pixels)
    surface = {"role": "height", "kinds": ["DSM"], "quantity": "surface"}
    for name, agl, expected in (("both", {}, ("agl", 2)), ("dsm", None, ("dsm", 50))):
        catalog = catalog_of(modalities={"dsm": surface, "agl": agl})
        if agl is None:
            (tmp_path / "scenes" / "JAX_001_001_AGL.tif").unlink()
        ingest(tmp_path / "scenes", catalog=catalog, out=tmp_path / f"{name}.zarr", patch=4)
        layer = Cube.open(tmp_path / f"{name}.zarr").layer(summarize(tmp_path / f"{name}.zarr"))
        assert (layer.attrs["height_modality"], float(layer["mean_height"][0])) == expected


def test_an_unknown_class_table_names_those_there_are(made: Path) -> None:
    with pytest.raises(UsageError, match=r"no class table 'four' \(it has: three"):
        summarize(made, table="four")


def test_without_a_class_table_every_code_is_a_class(tmp_path: Path) -> None:
    labels = np.array([[7, 7, 7, 0], [7, 7, 200, 200]], np.uint8).repeat(4, axis=0).repeat(2, axis=1)
    labels[0, 0] = 255
    write_scene(tmp_path / "scenes", "JAX_001_001", {"RGB": np.full((3, 8, 8), 9, np.uint8), "CLS": labels})
    catalog = Catalog.model_validate(
        catalog_of().model_dump(mode="json")
        | {"class_tables": {}, "default_class_table": None, "codes": {"7": "reeds"}}
    )
    ingest(tmp_path / "scenes", catalog=catalog, out=tmp_path / "c.zarr", patch=4)
    assert summarize(tmp_path / "c.zarr") == "summaries/codes"
    layer = Cube.open(tmp_path / "c.zarr").layer("summaries/codes").load()
    assert layer["class"].to_numpy().tolist() == ["code_0", "reeds", "code_200"]
    assert layer["class_code"].to_numpy().tolist() == [0, 7, 200]
    assert len(set(layer["class_color"].to_numpy().tolist())) == 3
    # Patches row by row: all 7 but one void pixel; 8 of 7 and 8 of 0; all 7; all 200.
    assert layer["dominant_class"].to_numpy().tolist() == [7, 0, 7, 200]
    assert layer["class_fraction"].to_numpy()[1].tolist() == [0.5, 0.5, 0.0]
    assert float(layer["labelled_fraction"][0]) == np.float32(15 / 16)
    # In the one Dataset they have their plain names, as the default table's have.
    assert open_cube(tmp_path / "c.zarr")["dominant_class"].to_numpy().tolist() == [7, 0, 7, 200]


def test_the_codes_may_be_asked_for_beside_a_class_table(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / made.name
    shutil.copytree(made, copy)
    assert summarize(copy, table="codes") == "summaries/codes"
    raw = Cube.open(copy).array("label")[...]
    valid = Cube.open(copy).array("label_valid")[...]
    there = sorted(set(np.unique(raw[valid]).tolist()) - {255})
    assert Cube.open(copy).layer("summaries/codes")["class_code"].to_numpy().tolist() == there


@pytest.mark.parametrize("percentiles", [(-1,), (50, 101), (5, 5), (float("nan"),)])
def test_percentiles_that_are_none(made: Path, percentiles: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="percentiles"):
        summarize(made, percentiles=percentiles)


def test_codes_of_real_lidar(realdata: Path, tmp_path: Path) -> None:
    ingest(realdata / "las_codes", out=tmp_path / "c.zarr", patch=32, mixed_resolution=True)
    cube = Cube.open(tmp_path / "c.zarr")
    layer = cube.layer(summarize(cube)).load()
    raw, valid = cube.array("label")[...], cube.array("label_valid")[...]
    codes, counts = np.unique(raw[valid], return_counts=True)
    table = cube.catalog.class_tables[layer.attrs["class_table"]].lookup()
    void = {int(c): int(n) for c, n in zip(codes, counts, strict=True) if table[c] == 255}
    attrs = layer["labelled_fraction"].attrs
    assert dict(zip(attrs["void_codes"], attrs["void_pixels"], strict=True)) == void
    assert set(np.unique(layer["dominant_class"])) <= {-1, *layer["class_code"].to_numpy().tolist()}
    heights = cube.array("agl")[...].astype(np.float64)
    known = np.isfinite(heights).mean(axis=(1, 2)) >= cube.min_valid
    expected = np.where(known, [np.nanmean(h) if np.isfinite(h).any() else NAN for h in heights], NAN)
    np.testing.assert_allclose(layer["mean_height"], expected.astype(np.float32), rtol=1e-6)
