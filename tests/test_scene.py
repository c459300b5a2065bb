"""Scenes: files found by name, headers compared, and one line for whatever does not fit."""

import os
import pickle
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import tifffile
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning

from geoae.catalog import Catalog, load_catalog
from geoae.errors import CatalogError, InputError, UsageError
from geoae.grid import Grid, crs_equal
from geoae.raster import RasterHeader, read_header
from geoae.scene import Scene, SceneHeader, choose_catalog, find_scenes, fit_together, headers, read_scene
from geoae.testing import quirks

US3D = load_catalog("us3d")
UTM = "EPSG:32617"
NORTH_UP = Affine(0.5, 0, 400_000, 0, -0.5, 3_300_000)
FIXTURES = Path(__file__).parent / "catalogs"


def write(path: Path, shape: tuple[int, ...], dtype: str, **profile: Any) -> Path:
    """Write a raster of ones: (height, width) or (band, height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.ones(shape if len(shape) == 3 else (1, *shape), dtype)
    size = {"count": len(image), "height": image.shape[1], "width": image.shape[2], "dtype": dtype}
    tags = {key: profile.pop(key) for key in ("scales", "offsets", "descriptions") if key in profile}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **{"driver": "GTiff"} | size | profile) as sink:
            sink.write(image)
            for key, value in tags.items():
                setattr(sink, key, value)
    return path


def us3d(folder: Path, key: str = "JAX_004_006", size: int = 32, **profile: Any) -> Path:
    """Write one view of US3D, as GDAL would."""
    write(folder / f"{key}_RGB.tif", (3, size, size), "uint8", **profile)
    write(folder / f"{key}_MSI.tif", (8, size, size), "uint16", **profile)
    write(folder / f"{key}_AGL.tif", (size, size), "float32", **profile)
    write(folder / f"{key}_CLS.tif", (size, size), "uint8", **profile)
    return folder


def only(folder: Path, catalog: Catalog = US3D) -> SceneHeader:
    """The header of a folder's one scene."""
    (scene,) = find_scenes(folder, catalog).scenes
    return read_scene(scene, catalog)


# --- finding --------------------------------------------------------------------------------------


def layouts(folder: Path) -> Iterator[Path]:
    """The same three views as different people extract them."""
    names = [
        f"{key}_{kind}.tif"
        for key in ("JAX_004_006", "JAX_004_007", "OMA_132_003")
        for kind in ("RGB", "MSI", "AGL", "CLS")
    ]
    places = {
        "flat": {},
        "official": {
            "RGB": "Track1-RGB",
            "MSI": "Track1-MSI-1/Track1-MSI",
            "AGL": "Track1-Truth",
            "CLS": "Track1-Truth",
        },
        "nested": {"RGB": "Train-Track1-RGB/Track1-RGB", "AGL": "a/b/c", "CLS": "a"},
    }
    for layout, place in places.items():
        for name in names:
            path = folder / layout / place.get(name[-7:-4], "") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        yield folder / layout


def test_the_layout_of_folders_does_not_matter(tmp_path: Path) -> None:
    found = []
    for folder in layouts(tmp_path):
        finding = find_scenes(folder, US3D)
        assert not finding.ignored
        assert not finding.problems
        found.append([(scene.key, dict(scene.fields), list(scene.sources)) for scene in finding.scenes])
    assert found[0] == found[1] == found[2]
    assert found[0][1] == (
        "JAX_004_007",
        {"city": "JAX", "tile": "004", "view": "007"},
        ["msi", "rgb", "agl", "label"],
    )
    assert [key for key, *_ in found[0]] == ["JAX_004_006", "JAX_004_007", "OMA_132_003"]


def test_paths_are_told_below_the_folder(tmp_path: Path) -> None:
    *_, nested = layouts(tmp_path)
    source = find_scenes(nested, US3D).scenes[0].sources["agl"]
    assert source.name == "a/b/c/JAX_004_006_AGL.tif"
    assert source.path == nested / "a/b/c/JAX_004_006_AGL.tif"


def test_what_is_ignored_and_what_is_left_out(tmp_path: Path) -> None:
    for name in (
        "JAX_004_006_RGB.tif",
        "JAX_Tile_004_RGB.tif",
        "ARG_001_006_RGB.tif",
        "JAX_004_006_DSP.TIF",
        "._JAX_004_006_RGB.tif",
        ".hidden/JAX_004_009_RGB.tif",
        "us3d.zarr/c/JAX_004_009_RGB.tif",
        "us3d.zarr.work/JAX_004_009_RGB.tif",
        "JAX_004_006_RGB.tif.aux.xml",
        "readme.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    finding = find_scenes(tmp_path, US3D)
    assert [scene.key for scene in finding.scenes] == ["JAX_004_006"]
    assert finding.ignored == ("ARG_001_006_RGB.tif", "JAX_004_006_DSP.TIF")
    assert finding.excluded == ("JAX_Tile_004_RGB.tif",)
    assert finding.files == 1


def test_a_missing_partner_is_normal(tmp_path: Path) -> None:
    us3d(tmp_path)
    (tmp_path / "JAX_004_006_AGL.tif").unlink()
    header = only(tmp_path)
    assert header.ok
    assert header.provided["agl"] == "missing"
    assert header.provided["dsm"] == "missing"
    assert header.provided["label"] == "copied"


@pytest.mark.parametrize(
    "second", ["copy/JAX_004_006_RGB.tif", "JAX_004_006_RGB.TIF", "JAX_004_006_rgb.tiff"]
)
def test_one_modality_twice_names_both_files(second: str, tmp_path: Path) -> None:
    us3d(tmp_path)
    (tmp_path / second).parent.mkdir(exist_ok=True)
    shutil.copy(tmp_path / "JAX_004_006_RGB.tif", tmp_path / second)
    header = only(tmp_path)
    assert not header.ok
    names = sorted(["JAX_004_006_RGB.tif", second])
    assert header.status == f"rgb is there 2 times: {names[0]} and {names[1]}"
    assert header.grid is not None  # its rows can be planned


def test_a_truth_that_was_issued_again_wins(tmp_path: Path) -> None:
    for name in ("JAX_004_CLS.tif", "JAX_004_CLS_v2.tif", "JAX_004_CLS_v10.tif", "JAX_004_DSM.tif"):
        (tmp_path / name).touch()
    (scene,) = find_scenes(tmp_path, US3D).scenes
    assert scene.key == "JAX_004"
    assert scene.fields == {"city": "JAX", "tile": "004", "view": ""}
    assert scene.sources["label"].name == "JAX_004_CLS_v10.tif"
    assert scene.problems == ()
    assert scene.notes == (
        "label is JAX_004_CLS_v10.tif, issued again; not used: JAX_004_CLS.tif, JAX_004_CLS_v2.tif",
    )


def test_names_with_spaces_newlines_and_any_letters(tmp_path: Path) -> None:
    catalog = load_catalog("generic", pattern="{scene}_{kind}.tif")
    keys = ["a b", "new\nline", "Zürich 東京"]
    for key in keys:
        write(tmp_path / f"{key}_RGB.tif", (3, 8, 8), "uint8")
        shutil.copy(tmp_path / f"{key}_RGB.tif", tmp_path / f"{key}_RGB.TIF")
    finding = find_scenes(tmp_path, catalog)
    assert [scene.key for scene in finding.scenes] == sorted(keys)
    for scene in finding.scenes:
        assert scene.fields == {"city": "", "tile": scene.key, "view": "", "scene": scene.key}
        assert read_scene(scene, catalog).grid is not None
        assert "\n" not in read_scene(scene, catalog).status


def test_a_name_that_is_no_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "JAX_004_006_RGB.tif").touch()
    try:
        (tmp_path / os.fsdecode(b"JAX_\xff_RGB.tif")).touch()
    except OSError:
        pytest.skip("this file system has only names in UTF-8")
    assert find_scenes(tmp_path, US3D).problems == (r"'JAX_\udcff_RGB.tif' is no name in UTF-8",)


def test_links_that_leave_the_folder(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "us3d"
    us3d(outside)
    folder.mkdir()
    (folder / "JAX_004_006_RGB.tif").symlink_to(outside / "JAX_004_006_RGB.tif")
    (folder / "JAX_004_006_CLS.tif").symlink_to("../outside/JAX_004_006_CLS.tif")
    shutil.copy(outside / "JAX_004_006_AGL.tif", folder)
    (folder / "more").symlink_to(outside)
    finding = find_scenes(folder, US3D)
    (scene,) = finding.scenes
    assert list(scene.sources) == ["agl"]
    leaves = "is a link that leaves the folder; --follow-symlinks allows it"
    assert scene.problems == (f"JAX_004_006_RGB.tif {leaves}", f"JAX_004_006_CLS.tif {leaves}")
    assert finding.problems == (f"more {leaves}",)
    assert not read_scene(scene, US3D).ok


def test_links_that_may_leave_the_folder(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "us3d"
    us3d(outside)
    folder.mkdir()
    (folder / "data").symlink_to(outside)
    (outside / "again").symlink_to(outside)  # and round in circles
    (outside / "back").symlink_to(folder)
    finding = find_scenes(folder, US3D, follow_symlinks=True)
    assert finding.problems == ()
    assert read_scene(finding.scenes[0], US3D).ok
    assert choose_catalog(folder, follow_symlinks=True).name == "us3d"


def test_links_within_the_folder_are_no_duplicates(tmp_path: Path) -> None:
    us3d(tmp_path / "real")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "JAX_004_006_RGB.tif").symlink_to("../real/JAX_004_006_RGB.tif")
    (tmp_path / "whole").symlink_to(tmp_path / "real")
    finding = find_scenes(tmp_path, US3D)
    assert [problem for scene in finding.scenes for problem in scene.problems] == []
    assert finding.problems == ()


def test_links_to_nothing(tmp_path: Path) -> None:
    us3d(tmp_path)
    (tmp_path / "JAX_004_006_AGL.tif").unlink()
    for name in ("JAX_004_006_AGL.tif", "nowhere.tif", "folder", "notes.txt"):
        (tmp_path / name).symlink_to(tmp_path / "missing")
    finding = find_scenes(tmp_path, US3D)
    gone = "cannot be read: No such file or directory"
    assert finding.scenes[0].problems == (f"JAX_004_006_AGL.tif {gone}",)
    assert finding.problems == (f"folder {gone}", f"nowhere.tif {gone}")


def test_a_folder_below_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "JAX_004_006_RGB.tif").touch()
    (tmp_path / "secret").mkdir()
    forbid(monkeypatch, tmp_path / "secret")
    assert find_scenes(tmp_path, US3D).problems == ("folder secret cannot be read: Permission denied",)


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, tmp_path)
    with pytest.raises(InputError, match="cannot be read: Permission denied") as info:
        find_scenes(tmp_path, US3D)
    assert info.value.exit_code == 3


def forbid(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make a folder unreadable, for root, too."""
    scandir = os.scandir

    def guarded(path: Any) -> Any:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.exists, "there is no folder"),
        (Path.mkdir, "holds no file"),
        (Path.touch, "is a file"),
    ],
    ids=["missing", "empty", "file"],
)
def test_no_folder_of_scenes(make: Any, message: str, tmp_path: Path) -> None:
    make(tmp_path / "us3d")
    for look in (lambda: find_scenes(tmp_path / "us3d", US3D), lambda: choose_catalog(tmp_path / "us3d")):
        with pytest.raises(InputError, match=message) as info:
            look()
        assert info.value.exit_code == 3


def test_a_catalog_that_explains_nothing(tmp_path: Path) -> None:
    (tmp_path / "holiday.tif").touch()
    with pytest.raises(CatalogError, match=r"us3d explains no file in .*, such as holiday\.tif .*--pattern"):
        find_scenes(tmp_path, US3D)


names_of_files = st.builds(
    "{}{}_{}{}".format,
    st.sampled_from(["", "a/", "b/c/"]),
    st.sampled_from(["JAX_1_1", "JAX_1_2", "OMA_1_1", "x"]),
    st.sampled_from(["RGB", "MSI", "CLS", "XXX"]),
    st.sampled_from([".tif", ".TIF", ".txt"]),
)


@settings(max_examples=40)
@given(
    files=st.lists(names_of_files, min_size=1, max_size=12, unique=True),
    random=st.randoms(use_true_random=False),
)
def test_every_raster_is_accounted_for_whatever_the_order(
    files: list[str], random: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    names = [*files, "JAX_9_9_RGB.tif"]
    found = []
    for _ in range(2):
        folder = tmp_path_factory.mktemp("any")
        random.shuffle(names)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        finding = find_scenes(folder, US3D)
        found.append(
            [
                [(s.key, s.problems, [source.name for source in s.sources.values()]) for s in finding.scenes],
                finding.ignored,
            ]
        )
        assert [s.key for s in finding.scenes] == sorted(s.key for s in finding.scenes)
        told = [source.name for scene in finding.scenes for source in scene.sources.values()]
        told += [*finding.ignored, *(problem for scene in finding.scenes for problem in scene.problems)]
        for name in names:
            assert name.endswith(".txt") or any(name in line for line in told)
        shutil.rmtree(folder)
    assert found[0] == found[1]


# --- choosing a catalog ---------------------------------------------------------------------------


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def test_the_catalog_that_explains_most_scenes_is_chosen(tmp_path: Path) -> None:
    touch(tmp_path, "JAX_004_006_RGB.tif", "JAX_004_007_RGB.tif", "old_CLS.tif", "old_DSM.tif", "old_AGL.tif")
    assert choose_catalog(tmp_path).name == "us3d"
    touch(tmp_path, "older_CLS.tif", "oldest_CLS.tif")
    assert choose_catalog(tmp_path).name == "lidar"


def test_then_the_one_that_explains_most_files(tmp_path: Path) -> None:
    touch(tmp_path, "JAX_004_006_RGB.tif", "JAX_004_006_MSI.tif", "old_CLS.tif")
    assert choose_catalog(tmp_path).name == "us3d"


def test_a_tie_is_left_to_the_user(tmp_path: Path) -> None:
    touch(tmp_path, "JAX_004_006_RGB.tif", "old_CLS.tif")
    with pytest.raises(
        UsageError, match=r"us3d and lidar explain .* equally well: 1 scenes, 1 files"
    ) as info:
        choose_catalog(tmp_path)
    assert info.value.exit_code == 2
    assert info.value.hint == "choose one, for example --catalog us3d"


def test_no_catalog_fits(tmp_path: Path) -> None:
    touch(tmp_path, "holiday.tif")
    with pytest.raises(CatalogError, match=r"no shipped catalog explains .*, such as holiday\.tif") as info:
        choose_catalog(tmp_path)
    assert info.value.hint is not None
    assert "--pattern" in info.value.hint
    assert info.value.exit_code == 3


# --- headers that fit -----------------------------------------------------------------------------


def test_a_view_without_crs(tmp_path: Path) -> None:
    header = only(us3d(tmp_path))
    assert header.status == "ok"
    assert header.notes == ()
    assert header.reference == "rgb"
    assert header.grid == Grid(None, Affine.identity(), (32, 32))
    assert dict(header.provided) == {
        "msi": "copied",
        "rgb": "copied",
        "agl": "copied",
        "dsm": "missing",
        "label": "copied",
    }
    assert all(grid == header.grid for grid in header.grids.values())


def test_height_width_band_beside_the_others(tmp_path: Path) -> None:
    us3d(tmp_path)
    image = np.ones((32, 32, 8), "uint16")
    tifffile.imwrite(tmp_path / "JAX_004_006_MSI.tif", image, photometric="minisblack")
    header = only(tmp_path)
    assert header.status == "ok"
    assert header.provided["msi"] == "copied"
    assert header.headers["msi"].layout == "hwc"
    assert header.notes == ("msi is stored as height x width x band and read by tifffile",)


def test_rgb_is_extracted_where_it_is_missing(tmp_path: Path) -> None:
    us3d(tmp_path)
    (tmp_path / "JAX_004_006_RGB.tif").unlink()
    header = only(tmp_path)
    assert header.reference == "msi"
    assert header.provided["rgb"] == "extracted"
    assert header.notes == ("rgb is extracted from msi (red, green, blue)",)
    (tmp_path / "JAX_004_006_MSI.tif").unlink()
    header = only(tmp_path)
    assert header.reference == "agl"
    assert header.provided["rgb"] == "missing"


def test_truth_of_a_tile_is_a_scene(tmp_path: Path) -> None:
    write(tmp_path / "JAX_004_DSM.tif", (16, 16), "float32", crs=UTM, transform=NORTH_UP)
    write(tmp_path / "JAX_004_CLS.tif", (16, 16), "uint8", crs=UTM, transform=NORTH_UP)
    header = only(tmp_path)
    assert header.reference == "dsm"
    assert crs_equal(header.grid.crs if header.grid else None, UTM)
    assert header.provided["label"] == "copied"


def test_another_resolution_of_the_same_ground_is_warped(tmp_path: Path) -> None:
    profile = {"crs": UTM, "transform": NORTH_UP}
    write(tmp_path / "JAX_004_006_RGB.tif", (3, 32, 32), "uint8", **profile)
    coarse = NORTH_UP @ Affine.scale(2)
    write(tmp_path / "JAX_004_006_AGL.tif", (16, 16), "float32", crs=UTM, transform=coarse)
    header = only(tmp_path)
    assert header.ok
    assert header.provided["agl"] == "warped"
    assert header.grids["agl"] == header.headers["agl"].grid
    assert header.notes == ()


def test_pixel_sizes_that_differ_by_rounding_are_equal(tmp_path: Path) -> None:
    write(tmp_path / "JAX_004_006_RGB.tif", (3, 32, 32), "uint8", crs=UTM, transform=NORTH_UP)
    nearly = Affine(0.49999999999963, 0, 400_000, 0, -0.5000000000014783, 3_300_000)
    write(tmp_path / "JAX_004_006_CLS.tif", (32, 32), "uint8", crs=UTM, transform=nearly)
    assert only(tmp_path).provided["label"] == "copied"


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (NORTH_UP @ Affine.translation(0.5, 0.5), "warped"),
        (NORTH_UP @ Affine.rotation(10), "warped"),
        (Affine(0.5, 0, 400_000, 0, 0.5, 3_299_984), "warped"),  # the same ground, south up
        (NORTH_UP, "copied"),
    ],
    ids=["half a pixel", "rotated", "south up", "equal"],
)
def test_shifts_and_turns_are_warped_never_copied(transform: Affine, expected: str, tmp_path: Path) -> None:
    write(tmp_path / "JAX_004_006_RGB.tif", (3, 32, 32), "uint8", crs=UTM, transform=NORTH_UP)
    write(tmp_path / "JAX_004_006_CLS.tif", (32, 32), "uint8", crs=UTM, transform=transform)
    header = only(tmp_path)
    assert header.ok
    assert header.provided["label"] == expected


def test_all_rotated_alike_is_copied(tmp_path: Path) -> None:
    header = only(us3d(tmp_path, crs=UTM, transform=NORTH_UP @ Affine.rotation(10)))
    assert {header.provided[key] for key in header.headers} == {"copied"}


def test_another_crs_is_warped_and_told(tmp_path: Path) -> None:
    write(tmp_path / "JAX_004_006_RGB.tif", (3, 32, 32), "uint8", crs=UTM, transform=NORTH_UP)
    # The same ground in degrees: x is the longitude, whatever the order of the axes in EPSG:4326.
    to_degrees = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    west, north = to_degrees.transform(NORTH_UP.c, NORTH_UP.f)
    degrees = Affine(0.5 / 96_500, 0, west, 0, -0.5 / 110_850, north)
    write(tmp_path / "JAX_004_006_CLS.tif", (32, 32), "uint8", crs="EPSG:4326", transform=degrees)
    header = only(tmp_path)
    assert header.status == "ok"
    assert header.provided["label"] == "warped"
    assert header.notes[0] == "label has another CRS than rgb"
    write(tmp_path / "JAX_004_006_RGB.tif", (3, 32, 32), "uint8", crs="EPSG:4326", transform=degrees)
    header = only(tmp_path)
    assert header.provided["label"] == "copied"
    assert header.grid is not None
    assert header.grid.pixel_size_metres() == pytest.approx((0.5, 0.5), rel=0.01)


def test_cities_in_different_zones_are_scenes_like_others(tmp_path: Path) -> None:
    us3d(tmp_path, "JAX_004_006", crs="EPSG:32617", transform=NORTH_UP)
    us3d(tmp_path, "OMA_132_003", crs="EPSG:32615", transform=NORTH_UP)
    found = [read_scene(scene, US3D) for scene in find_scenes(tmp_path, US3D).scenes]
    assert [header.status for header in found] == ["ok", "ok"]
    zones = [header.grid.crs for header in found if header.grid]
    assert crs_equal(zones[0], "EPSG:32617")
    assert crs_equal(zones[1], "EPSG:32615")


@pytest.mark.parametrize(
    ("reference", "partner", "scale"),
    [
        ((32, 32), (16, 16), 2.0),
        ((33, 32), (17, 16), 2.0),
        ((32, 32), (8, 8), 4.0),
        ((16, 16), (32, 32), 0.5),
        ((16, 16), (33, 32), 0.5),
    ],
)
def test_without_a_crs_an_integer_ratio_of_sizes_matches(
    reference: tuple[int, int], partner: tuple[int, int], scale: float, tmp_path: Path
) -> None:
    write(tmp_path / "JAX_004_006_RGB.tif", (3, *reference), "uint8")
    write(tmp_path / "JAX_004_006_AGL.tif", partner, "float32")
    header = only(tmp_path)
    assert header.status == "ok"
    assert header.provided["agl"] == "matched by size"
    assert header.grids["agl"] == Grid(None, Affine.scale(scale), partner)
    assert header.notes[0].startswith("agl is matched by size: one of its pixels is")


def test_uneven_sizes_are_refused_with_both(tmp_path: Path) -> None:
    write(tmp_path / "JAX_004_006_RGB.tif", (3, 1024, 1024), "uint8")
    write(tmp_path / "JAX_004_006_MSI.tif", (8, 1023, 1023), "uint16")
    header = only(tmp_path)
    assert header.status.startswith(
        "rgb is 1024 x 1024, msi 1023 x 1023, without a CRS: neither equal nor an"
    )
    assert header.provided["msi"] == "missing"


@settings(max_examples=300)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(2, 64), st.data())
def test_a_ratio_is_found_for_whatever_a_cut_to_whole_pixels_leaves(
    height: int, width: int, ratio: int, data: st.DataObject
) -> None:
    fine = height * ratio, width * ratio
    # Up to a coarse pixel less one fine pixel may be cut off either raster.
    cut = [data.draw(st.integers(-(ratio - 1), ratio - 1)) for _ in range(2)]
    if min(height, width) >= 2 * ratio:  # else another ratio may fit, too
        target = fine[0] + cut[0], fine[1] + cut[1]
        assert headers._size_ratio(target, (height, width)) == ratio
        assert headers._size_ratio((height, width), target) == pytest.approx(1 / ratio)


@given(st.tuples(*[st.integers(1, 300)] * 2), st.tuples(*[st.integers(1, 300)] * 2))
def test_a_ratio_always_fits(target: tuple[int, int], shape: tuple[int, int]) -> None:
    ratio = headers._size_ratio(target, shape)
    if ratio is not None:
        k = ratio if ratio > 1 else 1 / ratio
        fine, coarse = (target, shape) if ratio > 1 else (shape, target)
        assert k == pytest.approx(round(k))
        assert 2 <= round(k) <= 64
        assert all(abs(many - round(k) * few) < round(k) for many, few in zip(fine, coarse, strict=True))


def test_one_crs_of_two_is_enough_only_for_equal_sizes(tmp_path: Path) -> None:
    write(tmp_path / "JAX_004_006_RGB.tif", (3, 32, 32), "uint8", crs=UTM, transform=NORTH_UP)
    write(tmp_path / "JAX_004_006_CLS.tif", (32, 32), "uint8")
    header = only(tmp_path)
    assert header.status == "ok"
    assert header.provided["label"] == "matched by size"
    assert header.grids["label"] == header.grid
    assert header.notes == ("label is taken for the grid of rgb by its equal size",)
    write(tmp_path / "JAX_004_006_CLS.tif", (16, 16), "uint8")
    header = only(tmp_path)
    assert header.status.startswith(
        "rgb is 32 x 32, label 16 x 16, and label has no CRS: nothing says where it"
    )


def test_transforms_without_a_crs_must_agree_with_the_sizes(tmp_path: Path) -> None:
    write(tmp_path / "JAX_004_006_RGB.tif", (3, 32, 32), "uint8", transform=NORTH_UP)
    coarse = NORTH_UP @ Affine.scale(2)
    write(tmp_path / "JAX_004_006_AGL.tif", (16, 16), "float32", transform=coarse)
    assert only(tmp_path).provided["agl"] == "matched by size"
    shifted = NORTH_UP @ Affine.translation(3, 0)
    write(tmp_path / "JAX_004_006_AGL.tif", (32, 32), "float32", transform=shifted)
    assert "without a CRS, and their transforms differ by 3 pixels" in only(tmp_path).status


def test_rasters_of_different_places_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "JAX_004_006_RGB.tif", (3, 32, 32), "uint8", crs=UTM, transform=NORTH_UP)
    away = NORTH_UP @ Affine.translation(32, 0)  # the next tile: they touch
    write(tmp_path / "JAX_004_006_CLS.tif", (32, 32), "uint8", crs=UTM, transform=away)
    header = only(tmp_path)
    assert header.status.startswith("label lies elsewhere than rgb: (400016, 3.29998e+06,")
    assert "no overlap" in header.status
    write(tmp_path / "JAX_004_006_CLS.tif", (32, 32), "uint8", crs="EPSG:32615", transform=NORTH_UP)
    assert "no overlap" in only(tmp_path).status


def test_a_partner_that_covers_a_part_is_told(tmp_path: Path) -> None:
    write(tmp_path / "JAX_004_006_RGB.tif", (3, 32, 32), "uint8", crs=UTM, transform=NORTH_UP)
    half = NORTH_UP @ Affine.translation(16, 0)
    write(tmp_path / "JAX_004_006_CLS.tif", (32, 32), "uint8", crs=UTM, transform=half)
    assert only(tmp_path).notes == ("label covers 50% of rgb",)


def test_the_finest_is_the_reference_where_the_catalog_names_none(tmp_path: Path) -> None:
    catalog = load_catalog("generic", pattern="{scene}_{kind}.tif")
    write(tmp_path / "a_AGL.tif", (16, 16), "float32", crs=UTM, transform=NORTH_UP @ Affine.scale(2))
    write(tmp_path / "a_CLS.tif", (32, 32), "uint8", crs=UTM, transform=NORTH_UP)
    header = only(tmp_path, catalog)
    assert header.reference == "label"
    assert header.provided["agl"] == "warped"
    for name in ("a_AGL.tif", "a_CLS.tif"):
        (tmp_path / name).unlink()
    write(tmp_path / "b_AGL.tif", (16, 16), "float32")
    write(tmp_path / "b_MSI.tif", (5, 32, 32), "int16")
    header = only(tmp_path, catalog)
    assert header.reference == "msi"
    assert header.headers["msi"].count == 5


# --- headers that do not fit the catalog ----------------------------------------------------------


@pytest.mark.parametrize("count", [7, 9])
@pytest.mark.parametrize("layout", ["band-first", "hwc"])
def test_msi_with_too_few_or_many_bands(count: int, layout: str, tmp_path: Path) -> None:
    us3d(tmp_path)
    path = tmp_path / "JAX_004_006_MSI.tif"
    if layout == "hwc":
        tifffile.imwrite(path, np.ones((32, 32, count), "uint16"), photometric="minisblack")
    else:
        write(path, (count, 32, 32), "uint16")
    header = only(tmp_path)
    assert header.status.startswith(
        f"msi: JAX_004_006_MSI.tif has {count} bands, the catalog expects 8 (coastal,"
    )
    assert header.grid is not None


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "status"),
    [
        ("RGB", (3, 32, 32), "uint16", "rgb: JAX_004_006_RGB.tif is uint16, the catalog expects uint8"),
        ("RGB", (4, 32, 32), "uint8", "rgb: JAX_004_006_RGB.tif has 4 bands, the catalog expects 3"),
        ("MSI", (8, 32, 32), "float32", "msi: JAX_004_006_MSI.tif is float32, the catalog expects uint16"),
        ("AGL", (2, 32, 32), "float32", "agl: JAX_004_006_AGL.tif has 2 bands, a height has one"),
        ("CLS", (3, 32, 32), "uint8", "label: JAX_004_006_CLS.tif has 3 bands, a label has one"),
        ("CLS", (32, 32), "float32", "label: JAX_004_006_CLS.tif is float32, label codes are integers"),
    ],
)
def test_bands_and_types_that_the_catalog_does_not_expect(
    name: str, shape: tuple[int, ...], dtype: str, status: str, tmp_path: Path
) -> None:
    write(us3d(tmp_path) / f"JAX_004_006_{name}.tif", shape, dtype)
    assert only(tmp_path).status.startswith(status)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("AGL", "float64"),
        ("AGL", "int16"),
        ("CLS", "int16"),
        ("CLS", "int8"),
        ("CLS", "uint32"),
        ("CLS", "int64"),
    ],
)
def test_types_that_can_be_turned_into_the_cube_s(name: str, dtype: str, tmp_path: Path) -> None:
    write(us3d(tmp_path) / f"JAX_004_006_{name}.tif", (32, 32), dtype)
    assert only(tmp_path).status == "ok"


def test_scaled_heights_are_told(tmp_path: Path) -> None:
    write(us3d(tmp_path) / "JAX_004_006_AGL.tif", (32, 32), "int16", scales=(0.01,), offsets=(-5,))
    header = only(tmp_path)
    assert header.notes == ("agl has scale 0.01, offset -5 in its header: applied",)
    assert header.headers["agl"].scales == (0.01,)


def test_a_tag_of_255_on_a_picture_is_told(tmp_path: Path) -> None:
    quirks.nodata255_rgb(tmp_path / "JAX_004_006_RGB.tif")
    assert only(tmp_path).notes == (
        "rgb has the nodata tag 255, which is also white: it is not taken for void",
    )


def test_bands_in_another_order_than_the_catalog_s(tmp_path: Path) -> None:
    path = tmp_path / "JAX_004_006_RGB.tif"
    write(path, (3, 32, 32), "uint8", descriptions=("blue", "Green", "red"))
    assert only(tmp_path).status.startswith(
        "rgb: JAX_004_006_RGB.tif has its bands in another order than the catalog: blue, Green, red"
    )
    write(path, (3, 32, 32), "uint8", descriptions=("Red", "GREEN", "blue"))
    assert only(tmp_path).status == "ok"
    write(path, (3, 32, 32), "uint8", descriptions=("1", "2", "3"))
    assert only(tmp_path).status == "ok"


def test_band_indices_choose_among_the_bands_of_a_file(tmp_path: Path) -> None:
    data = load_catalog(FIXTURES / "autzen.yaml").model_dump(mode="json")
    data["modalities"]["rgb"]["band_indices"] = [1, 2, 4]
    catalog = Catalog.model_validate(data)
    write(tmp_path / "AUTZEN_RGB_1ft.tif", (4, 8, 8), "uint8")
    assert only(tmp_path, catalog).ok
    write(tmp_path / "AUTZEN_RGB_1ft.tif", (3, 8, 8), "uint8")
    assert "has 3 bands, the catalog takes band 4" in only(tmp_path, catalog).status


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (quirks.empty_tif, "is empty"),
        (quirks.lfs_pointer, "git-LFS pointer"),
        (quirks.truncated_tif, "is truncated"),
        (quirks.sparse_huge_tif, "claims"),
        (quirks.giant_strip_tif, "claims"),
        (lambda path: quirks.vrt_named_tif(path, path.parent / "JAX_004_006_CLS.tif"), "a VRT"),
    ],
    ids=["empty", "lfs", "truncated", "sparse", "strip", "vrt"],
)
def test_a_bad_file_fails_its_scene_in_one_line(break_it: Any, reason: str, tmp_path: Path) -> None:
    us3d(tmp_path)
    us3d(tmp_path, "JAX_004_007")
    path = tmp_path / "JAX_004_006_MSI.tif"
    path.unlink()
    break_it(path)
    first, second = (read_scene(scene, US3D) for scene in find_scenes(tmp_path, US3D).scenes)
    assert first.status.startswith("msi: JAX_004_006_MSI.tif ")
    assert reason in first.status
    assert "\n" not in first.status
    assert first.grid is not None
    assert second.ok


def test_a_scene_without_any_good_file_has_no_grid(tmp_path: Path) -> None:
    for kind in ("RGB", "CLS"):
        quirks.empty_tif(tmp_path / f"JAX_004_006_{kind}.tif")
    header = only(tmp_path)
    assert header.grid is None
    assert header.reference == ""
    assert header.status.count("is empty") == 2  # all that is wrong, not only the first


def test_a_scene_smaller_than_any_patch_is_read_like_others(tmp_path: Path) -> None:
    header = only(us3d(tmp_path, size=3))
    assert header.ok
    assert header.grid is not None
    assert header.grid.shape == (3, 3)


def test_headers_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    header = only(us3d(tmp_path, crs=UTM, transform=NORTH_UP))
    assert pickle.loads(pickle.dumps(header)) == header


# --- real rasters ---------------------------------------------------------------------------------


def described(folder: Path, catalog: Catalog) -> dict[str, tuple[Scene, SceneHeader]]:
    return {scene.key: (scene, read_scene(scene, catalog)) for scene in find_scenes(folder, catalog).scenes}


def test_ign_770550(realdata: Path) -> None:
    found = described(realdata / "ign_770550", load_catalog(FIXTURES / "ign_770550.yaml"))
    ((scene, header),) = found.values()
    assert scene.key == "IGN_770550_6277600"
    assert (scene.fields["city"], scene.fields["tile"]) == ("IGN", "770550_6277600")
    assert header.status == "ok"
    assert header.grid is not None
    assert header.grid.shape == (252, 252)
    assert crs_equal(header.grid.crs, "EPSG:2154")
    assert header.grid.pixel_size_metres() == pytest.approx((0.2, 0.2))
    ways = {"msi": "copied", "rgb": "copied", "dsm": "warped", "agl": "warped", "label": "warped"}
    assert dict(header.provided) == ways
    assert find_scenes(realdata / "ign_770550", load_catalog(FIXTURES / "ign_770550.yaml")).ignored == (
        "raw/pdaltools_irc.tif",
        "raw/pdaltools_rgb.tif",
    )


def test_ign_as_published(realdata: Path) -> None:
    found = described(realdata / "ign_770550" / "raw", load_catalog(FIXTURES / "ign_raw.yaml"))
    ((_, header),) = found.values()
    assert header.status == "ok"
    assert [note.split(" has the nodata tag 255")[0] for note in header.notes] == ["rgb", "irc"]
    assert header.grid is not None
    # The same name and another datum: no EPSG code is guessed.
    assert not crs_equal(header.grid.crs, "EPSG:2154")


def test_autzen(realdata: Path) -> None:
    catalog = load_catalog(FIXTURES / "autzen.yaml")
    ((_, header),) = described(realdata / "autzen", catalog).values()
    assert header.status == "ok"
    assert (header.reference, header.grid.shape if header.grid else None) == ("rgb", (4385, 3248))
    assert header.grid is not None
    assert header.grid.pixel_size_metres() == pytest.approx((0.3048, 0.3048))
    assert dict(header.provided) == {"rgb": "copied", "intensity": "warped", "dsm": "warped"}
    # The stadium stands about 130 m above the sea: 406 to 615 can only be feet.
    with rasterio.open(realdata / "autzen" / "AUTZEN_DSM_2ft.tif") as file:
        lowest = float(np.nanmin(file.read(1)))
    assert catalog.modalities["dsm"].unit == "foot"
    assert 110 < lowest * 0.3048 < 140


def test_las_codes_need_no_catalog_of_their_own(realdata: Path) -> None:
    catalog = choose_catalog(realdata / "las_codes")
    assert catalog.name == "lidar"
    found = described(realdata / "las_codes", catalog)
    assert list(found) == ["IGN_0292_6833", "IGN_870000_6618000", "STBARTH_515000_1981000"]
    for _, header in found.values():
        assert header.status == "ok"
        assert {key: how for key, how in header.provided.items() if how != "missing"} == {
            "dsm": "copied",
            "agl": "copied",
            "label": "copied",
        }


def test_olinda(realdata: Path) -> None:
    found = described(realdata / "olinda", load_catalog(FIXTURES / "olinda.yaml"))
    ((scene, header),) = found.values()
    assert (scene.key, header.status, header.reference) == ("olinda", "ok", "msi")
    assert dict(header.provided) == {"msi": "copied", "dsm": "warped"}
    assert header.notes == ("dsm has another CRS than msi",)
    assert header.headers["msi"].count == 6


def test_a_crs_without_a_place_on_the_globe_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = (
        'ENGCRS["Plan",EDATUM["Site"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'
    )
    write(tmp_path / "JAX_004_006_RGB.tif", (3, 32, 32), "uint8", crs=UTM, transform=NORTH_UP)
    write(tmp_path / "JAX_004_006_AGL.tif", (16, 32), "float32", crs=plan, transform=NORTH_UP)
    header = only(tmp_path)
    assert "the CRS of agl cannot be transformed to that of rgb" in header.status
    assert "\n" not in header.status
    assert len(header.status) < 300
    assert capfd.readouterr().err == ""  # GDAL writes its errors there by itself


def test_pixels_of_absurdly_different_sizes_are_refused(tmp_path: Path) -> None:
    write(
        tmp_path / "JAX_004_006_RGB.tif", (3, 4, 4), "uint8", crs=UTM, transform=NORTH_UP @ Affine.scale(5000)
    )
    write(tmp_path / "JAX_004_006_AGL.tif", (64, 64), "float32", crs=UTM, transform=NORTH_UP)
    assert "agl has pixels 5000 times finer than rgb" in only(tmp_path).status


def test_files_that_could_be_of_one_scene(tmp_path: Path) -> None:
    def header(name: str, shape: tuple[int, int], **profile: Any) -> RasterHeader:
        return read_header(write(tmp_path / name, shape, "uint8", **profile))

    here = header("a.tif", (32, 32), crs=UTM, transform=NORTH_UP)
    overlapping = header("b.tif", (8, 8), crs=UTM, transform=NORTH_UP @ Affine.translation(16, 16))
    elsewhere = header("c.tif", (8, 8), crs=UTM, transform=NORTH_UP @ Affine.translation(160, 16))
    bare, coarse, odd = (header(f"{n}.tif", (n, n)) for n in (32, 16, 21))
    pairs = [
        (here, overlapping),
        (here, elsewhere),
        (here, bare),
        (here, coarse),
        (bare, coarse),
        (bare, odd),
    ]
    assert [fit_together(*pair) for pair in pairs] == [True, False, True, False, True, False]
