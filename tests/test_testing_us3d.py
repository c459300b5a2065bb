"""The synthetic US3D: names, layouts, quirks and agreement of pixels and truth."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.errors import NotGeoreferencedWarning

from geoae.testing import make_view, tile_views, write_georeferenced, write_us3d
from geoae.testing.camera import acquisition, photograph
from geoae.testing.canvas import GSD, MARGIN, Canvas
from geoae.testing.materials import Material
from geoae.testing.plans import CITIES, KINDS, tile_number, tile_rank
from geoae.testing.streets import Streets
from geoae.testing.town import Town, build_town

NAME = re.compile(r"(JAX|OMA)_\d{3}_\d{3}_(RGB|MSI|AGL|CLS)\.tif")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("us3d")
    write_us3d(root, tiles=3, views=2, size=128)
    return root


@pytest.fixture(scope="module")
def town() -> Town:
    return build_town("JAX", tile_number("JAX", 0), 384, 0)


def read(path: Path) -> tuple[np.ndarray, dict[str, object]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, driver="GTiff") as source:
            return source.read(), dict(source.profile)


def box_town(height: float, *, row: int, col: int, rows: int, cols: int, size: int = 128) -> Town:
    """A lawn with one flat-roofed block, corners in pixels of the picture."""
    canvas = Canvas(size + 2 * MARGIN)
    window = np.s_[MARGIN + row : MARGIN + row + rows, MARGIN + col : MARGIN + col + cols]
    canvas.height[window] = height
    canvas.code[window] = 6
    canvas.material[window] = Material.GRAVEL
    return Town("JAX", 4, "test", canvas, np.zeros_like(canvas.height))


# Names, folders, determinism


def test_names_and_folders(folder: Path) -> None:
    files = sorted(folder.rglob("*.tif"))
    assert files
    assert all(NAME.fullmatch(path.name) for path in files)
    allowed = {"Track1-RGB", "Track1-Truth", "Track1-MSI-1", "Track1-MSI-2", "Track1-MSI-3"}
    assert {path.parent.name for path in files} <= allowed


@pytest.mark.parametrize(
    ("layout", "where"), [("flat", "."), ("train", "Train-Track1-RGB/Track1-RGB"), ("track1", "Track1-RGB")]
)
def test_layouts_hold_the_same_bytes(tmp_path: Path, layout: str, where: str) -> None:
    one = write_us3d(tmp_path / "a", cities=("OMA",), tiles=1, views=1, size=64, layout=layout)  # type: ignore[arg-type]
    two = write_us3d(tmp_path / "b", cities=("OMA",), tiles=1, views=1, size=64)
    assert {p.name: p.read_bytes() for p in one} == {p.name: p.read_bytes() for p in two}
    rgb = next(p for p in one if p.name.endswith("RGB.tif"))
    assert rgb.parent == (tmp_path / "a" / where)


def test_bytes_do_not_depend_on_what_else_is_asked(tmp_path: Path) -> None:
    numbers = [tile_number("JAX", k) for k in (2, 0)]
    both = write_us3d(tmp_path / "both", tiles=numbers, cities=("OMA", "JAX"), views=2, size=64)
    alone = write_us3d(tmp_path / "alone", tiles=numbers[:1], cities=("JAX",), views=2, size=64)
    again = {p.name: p.read_bytes() for p in both}
    assert alone
    assert all(again[p.name] == p.read_bytes() for p in alone)


def test_seed_changes_pixels() -> None:
    one, two = (make_view("OMA", 132, 1, size=64, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one.msi, two.msi)


def test_tile_numbers_are_distinct_and_invertible() -> None:
    for city in CITIES:
        numbers = [tile_number(city, k) for k in range(997)]
        assert len(set(numbers)) == 997
        assert [tile_rank(city, n) for n in numbers[:50]] == list(range(50))
        assert set(CITIES[city].kinds) <= set(KINDS)


def test_first_ten_tiles_show_ten_kinds_of_town() -> None:
    for city, place in CITIES.items():
        kinds = [place.kinds[tile_rank(city, tile_number(city, k)) % len(place.kinds)] for k in range(10)]
        assert len(set(kinds)) == 10


def test_every_plan_has_shares_that_sum_to_one() -> None:
    for name, plan in KINDS.items():
        assert sum(plan.uses.values()) == pytest.approx(1.0), name


def test_views_vary_in_number_and_are_shared_by_tiles() -> None:
    lists = [tile_views("JAX", tile_number("JAX", k), views=4) for k in range(12)]
    assert {len(views) for views in lists} == {1, 2, 3, 4}
    assert all(views == sorted(set(views)) for views in lists)
    assert max(sum(v in views for views in lists) for v in range(1, 7)) > 1


def test_progress_counts_views(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_us3d(
        tmp_path,
        cities=("OMA",),
        tiles=2,
        views=2,
        size=64,
        progress=lambda done, all_: calls.append((done, all_)),
    )
    total = calls[0][1]
    assert calls == [(n, total) for n in range(1, total + 1)]


# Quirks of the files


def test_hwc_msi_is_misread_by_gdal_and_read_by_tifffile(folder: Path) -> None:
    path = next(folder.rglob("*_MSI.tif"))
    image, profile = read(path)
    assert image.shape == (1, 128, 8)
    assert profile["count"] == 1
    assert profile["width"] == 8
    with tifffile.TiffFile(path) as tif:
        assert tif.series[0].shape == (128, 128, 8)
        assert tif.pages.first.photometric.name == "MINISBLACK"
        assert len(tif.pages) == 128


def test_hwc_msi_has_the_header_of_the_real_ones(folder: Path, realdata: Path) -> None:
    ours, theirs = next(folder.rglob("*_MSI.tif")), realdata / "defects/SYNTHETIC_tifffile_HWC8_MSI.tif"
    with tifffile.TiffFile(ours) as one, tifffile.TiffFile(theirs) as two:
        tags = [{tag.name: (tag.dtype, tag.count) for tag in tif.pages.first.tags} for tif in (one, two)]
        assert tags[0].keys() == tags[1].keys()
        assert one.series[0].axes == two.series[0].axes


def test_band_first_msi_holds_the_same_numbers(tmp_path: Path) -> None:
    names = {"cities": ("OMA",), "tiles": 1, "views": 1, "size": 64, "missing": 0.0}
    hwc = write_us3d(tmp_path / "a", **names)  # type: ignore[arg-type]
    bands = write_us3d(tmp_path / "b", **names, msi_layout="bands")  # type: ignore[arg-type]
    one = tifffile.imread(next(p for p in hwc if "MSI" in p.name))
    two, profile = read(next(p for p in bands if "MSI" in p.name))
    assert profile["count"] == 8
    np.testing.assert_array_equal(np.moveaxis(one, -1, 0), two)


def test_files_carry_no_place_and_no_nodata(folder: Path) -> None:
    expected = {"RGB": ("uint8", 3), "AGL": ("float32", 1), "CLS": ("uint8", 1)}
    for kind, (dtype, count) in expected.items():
        image, profile = read(next(folder.rglob(f"*_{kind}.tif")))
        assert image.shape == (count, 128, 128)
        assert profile["dtype"] == dtype
        assert profile["crs"] is None
        assert profile["nodata"] is None
        assert profile["transform"] == rasterio.Affine.identity()


def test_missing_by_name_and_by_share(tmp_path: Path) -> None:
    plain = write_us3d(tmp_path / "all", cities=("JAX",), tiles=2, views=1, size=64, missing=0.0)
    assert len(plain) == 2 * 4
    scene = plain[0].name[:11]
    named = write_us3d(
        tmp_path / "some", cities=("JAX",), tiles=2, views=1, size=64, missing={scene: ("MSI", "CLS")}
    )
    assert {p.name for p in plain} - {p.name for p in named} == {f"{scene}_MSI.tif", f"{scene}_CLS.tif"}
    every = write_us3d(tmp_path / "every", cities=("JAX",), tiles=4, views=1, size=64, missing=1.0)
    assert all(len([p for p in every if p.name.startswith(s)]) < 4 for s in {p.name[:11] for p in every})


@pytest.mark.parametrize(
    "wrong",
    [
        {"cities": ("NYC",)},
        {"tiles": 0},
        {"tiles": [1000]},
        {"size": 3},
        {"views": 0},
        {"layout": "odd"},
        {"missing": {"JAX_004_001": ("DSM",)}},
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        write_us3d(tmp_path / "x", **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


# What the pictures show


def test_truth_agrees_with_itself() -> None:
    codes, heights = [], []
    for city, k in (("JAX", 0), ("OMA", 3), ("OMA", 0)):
        made = make_view(city, tile_number(city, k), 2, size=384, quirks=False)
        codes.append(made.label.ravel())
        heights.append(made.agl.ravel())
    code, height = np.concatenate(codes), np.concatenate(heights)
    assert set(np.unique(code)) >= {2, 5, 6, 9, 17}
    assert np.abs(height[code == 2]).max() < 1.5
    assert np.abs(height[code == 9]).max() == 0
    assert np.median(height[code == 6]) > 4
    assert height[code == 6].max() > 15
    assert 3 < np.median(height[code == 5]) < 18
    assert height[code == 5].max() <= 19
    assert 0.5 < np.median(height[code == 17]) < 9


def test_quirks_flaw_the_truth() -> None:
    clean = make_view("JAX", tile_number("JAX", 0), 2, size=256, quirks=False)
    flawed = make_view("JAX", tile_number("JAX", 0), 2, size=256)
    assert not np.isnan(clean.agl).any()
    assert 0.001 < np.isnan(flawed.agl).mean() < 0.3
    assert (flawed.label == 65).any()
    assert set(np.unique(flawed.label)) <= {2, 5, 6, 9, 17, 65}
    assert 0.9 < (flawed.label == clean.label).mean() < 1
    ground = (flawed.label == 2) & (clean.label == 2) & ~np.isnan(flawed.agl)
    assert flawed.agl[ground].min() < -0.1
    assert 0.07 < (flawed.agl - clean.agl)[ground].std() < 0.15
    black = (flawed.rgb == 0).all(axis=0)
    assert (flawed.msi[:, black] == 0).all()
    np.testing.assert_array_equal(np.isnan(flawed.dsm), np.isnan(flawed.agl))


def test_raw_numbers_have_eleven_bits_and_the_means_of_real_images() -> None:
    means = []
    for city in CITIES:
        for k in range(10):
            made = make_view(city, tile_number(city, k), k % 6 + 1, size=192, quirks=False)
            assert made.msi.max() <= 2047
            assert made.msi.min() > 0
            means.append(made.msi.mean(axis=(1, 2)))
    official = np.array([273, 378, 470, 335, 328, 354, 533, 350])
    np.testing.assert_allclose(np.mean(means, axis=0), official, rtol=0.2)


def test_vegetation_and_water_have_their_spectra(town: Town) -> None:
    exposure = photograph(town, acquisition("JAX", 2), seed=("test",))
    red, nir = exposure.msi[4].astype(float), exposure.msi[6].astype(float)
    index = (nir - red) / (nir + red)
    assert index[exposure.code == 5].mean() > 0.45
    assert index[exposure.code == 9].mean() < 0
    assert abs(index[exposure.code == 17].mean()) < 0.3
    assert nir[exposure.code == 9].mean() < 0.3 * nir[exposure.code == 2].mean()


def test_views_differ_in_brightness_and_geometry() -> None:
    tile = tile_number("OMA", 0)
    made = [make_view("OMA", tile, view, size=192, quirks=False) for view in range(1, 7)]
    means = [m.rgb.mean() for m in made]
    assert max(means) - min(means) > 8
    assert all(50 < mean < 170 for mean in means)
    assert len({m.label.tobytes() for m in made}) == 6


def test_roof_leans_away_from_the_satellite_by_its_height() -> None:
    town = box_town(GSD * 30, row=40, col=40, rows=30, cols=30)
    pass_ = acquisition("JAX", 1)
    # 45 degrees from the east: the ray to a roof 30 pixels high passes the ground 30 pixels further west.
    east = type(pass_)(**{**vars(pass_), "off_nadir": 45.0, "view_azimuth": 90.0})
    seen = photograph(town, east)
    roof = (seen.code == 6) & ~seen.wall
    rows, cols = np.nonzero(roof)
    assert (rows.min(), rows.max()) == (40, 69)
    assert cols.min() == 10
    assert 39 <= cols.max() <= 44  # the uppermost metre of a wall counts as roof
    assert (seen.agl[roof] == np.float32(GSD * 30)).all()
    heights = seen.agl[50, 46:70]  # down the wall
    np.testing.assert_allclose(heights, (69 - np.arange(46, 70)) * GSD, atol=1e-4)
    building = np.nonzero(seen.code == 6)[1]
    assert (building.min(), building.max()) == (10, 69)  # the eastern wall shows behind it
    nadir = photograph(town, type(pass_)(**{**vars(pass_), "off_nadir": 0.0}))
    cols = np.nonzero(nadir.code == 6)[1]
    assert (cols.min(), cols.max()) == (40, 69)


def test_shadow_is_as_long_as_the_sun_is_low() -> None:
    town = box_town(GSD * 20, row=50, col=50, rows=20, cols=20)
    pass_ = acquisition("JAX", 1)
    south = {"off_nadir": 0.0, "sun_azimuth": 180.0, "sun_elevation": 45.0, "dormancy": 0.0}
    seen = photograph(town, type(pass_)(**{**vars(pass_), **south}))
    red = seen.msi[4].astype(float)
    lawn, shade = np.median(red[100:, :40]), red[:50, 60]
    dark = np.nonzero(shade < 0.7 * lawn)[0]
    assert dark.max() >= 47  # it begins at the northern wall
    assert abs((50 - dark.min()) - 20) <= 2  # and is as long as the wall is high


def test_street_frame_inverts() -> None:
    bent = Streets(0.4, 150, 84, 37.0, 12.0, bend=15)
    for u, v in ((0.0, 0.0), (55.0, -20.0), (210.0, 130.0)):
        x, y, _ = bent.from_frame(u, v)
        back = bent.to_frame(np.array(x, np.float32), np.array(y, np.float32))
        assert [float(b) for b in back] == pytest.approx([u, v], abs=0.02)


@pytest.mark.parametrize("size", [16, 100, 300])
def test_any_size(size: int) -> None:
    made = make_view("OMA", tile_number("OMA", 4), 1, size=size)
    assert made.rgb.shape == (3, size, size)
    assert made.msi.shape == (8, size, size)
    assert made.label.shape == made.agl.shape == made.dsm.shape == (size, size)


@pytest.mark.parametrize("city", ["JAX", "OMA"])
def test_every_kind_of_town_is_drawn(city: str) -> None:
    for k in range(10):
        made = make_view(city, tile_number(city, k), 1, size=64)
        assert made.msi.std() > 5


# Georeferenced product


def test_georeferenced_grids(tmp_path: Path) -> None:
    files = write_georeferenced(tmp_path, tiles=2, size=128, truth_scale=2)
    assert len(files) == 2 * 2 * 5
    zones = {"JAX": 32617, "OMA": 32615}
    corners = set()
    for path in files:
        image, profile = read(path)
        scale = 1 if path.stem[-3:] in ("RGB", "MSI") else 2
        assert image.shape[1:] == (128 // scale, 128 // scale)
        assert profile["crs"].to_epsg() == zones[path.name[:3]]
        assert profile["transform"].a == pytest.approx(0.32 * scale)
        assert profile["transform"].e == pytest.approx(-0.32 * scale)
        corners.add((path.name[:11], profile["transform"].c, profile["transform"].f))
    assert len(corners) == 4
    agl, dsm = (read(next(tmp_path.glob(f"OMA*_{kind}.tif")))[0] for kind in ("AGL", "DSM"))
    terrain = (dsm - agl)[~np.isnan(agl)]
    assert 5 < terrain.min() < terrain.max() < 40
