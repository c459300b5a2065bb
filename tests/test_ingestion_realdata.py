"""Cubes of real rasters: what is known of the ground must hold in their pixels."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from geoae.cube import Cube
from geoae.errors import UsageError
from geoae.ingestion import ingest
from geoae.verification import verify

CATALOGS = Path(__file__).parent / "catalogs"


def read(path):
    with rasterio.open(path, driver="GTiff") as source:
        return source.read()


def mosaic(values, rows, cols):
    """Put the patches of one scene, ``(patch, ..., y, x)``, side by side."""
    side = values.shape[-1]
    grid = values.reshape(rows, cols, *values.shape[1:])
    grid = np.moveaxis(grid, (0, 1), (-4, -2))  # (..., row, y, col, x)
    return grid.reshape(*values.shape[1:-2], rows * side, cols * side)


@pytest.fixture(scope="module")
def open_made(tmp_path_factory):
    """Ingest a folder and return the handle and plain xarray's view of the cube."""

    def make(folder, catalog, **options):
        out = tmp_path_factory.mktemp("real") / "c.zarr"
        report = ingest(folder, catalog=catalog, out=out, **options)
        assert not report.partial
        return Cube.open(out), xr.open_zarr(out)

    return make


# --- one scene with everything --------------------------------------------------------------------


@pytest.fixture(scope="module")
def ign(realdata, open_made):
    return open_made(realdata / "ign_770550", CATALOGS / "ign_770550.yaml", patch=64)


def test_nine_patches_of_five_modalities_on_one_grid(ign):
    cube, opened = ign
    assert cube.n_patches == 9
    assert {n: opened[n].shape for n in ("msi", "rgb", "dsm", "agl", "label")} == {
        "msi": (9, 4, 64, 64),
        "rgb": (9, 3, 64, 64),
        "dsm": (9, 64, 64),
        "agl": (9, 64, 64),
        "label": (9, 64, 64),
    }
    assert cube.table().pixel_size_x.to_numpy() == pytest.approx(np.full(9, 0.2), rel=1e-3)
    assert cube.scenes().scene_modalities[0] == "msi=copied rgb=copied dsm=warped agl=warped label=warped"
    assert (opened.valid_fraction > 0.9).all()
    assert verify(cube).ok


def test_images_are_copied_and_codes_are_repeated(ign, realdata):
    _, opened = ign
    folder = realdata / "ign_770550"
    for name, kind in (("msi", "MSI"), ("rgb", "RGB")):
        source = read(folder / f"IGN_770550_6277600_{kind}.tif")
        assert np.array_equal(mosaic(opened[name].values, 3, 3), source[:, :192, :192])
    codes = read(folder / "IGN_770550_6277600_CLS.tif")[0].repeat(2, 0).repeat(2, 1)
    assert np.array_equal(mosaic(opened.label.values, 3, 3), codes[:192, :192])


def ndvi_of(opened, rows, cols):
    msi = mosaic(opened.msi.values, rows, cols).astype(float)
    red, nir = msi[2], msi[3]
    return (nir - red) / np.maximum(nir + red, 1)


def test_vegetation_ground_and_roofs_have_their_ndvi_and_height(realdata, open_made):
    # The figures are those of the whole scene, so its edges are kept.
    _, opened = open_made(realdata / "ign_770550", CATALOGS / "ign_770550.yaml", patch=64, edge="pad")
    label, agl = mosaic(opened.label.values, 4, 4), mosaic(opened.agl.values, 4, 4)
    ndvi = ndvi_of(opened, 4, 4)
    # The lidar ends two pixels before the picture, with the last column of cells.
    inside = mosaic(opened.label_valid.values, 4, 4) & mosaic(opened.msi_valid.values, 4, 4)
    assert inside.sum() == 252 * 250
    means = {code: ndvi[inside & (label == code)].mean() for code in (5, 2, 6)}
    assert means == pytest.approx({5: 0.261, 2: -0.015, 6: -0.118}, abs=0.002)
    medians = {code: np.nanmedian(agl[inside & (label == code)]) for code in (5, 6, 2)}
    assert medians == pytest.approx({5: 3.8, 6: 6.3, 2: 0.0}, abs=0.1)


def test_the_modalities_lie_on_each_other(ign):
    _, opened = ign
    # At the size of the lidar's cells, two pixels.
    label = mosaic(opened.label.values, 3, 3)[::2, ::2]
    ndvi = ndvi_of(opened, 3, 3).reshape(96, 2, 96, 2).mean(axis=(1, 3))

    def separation(dy, dx):
        """Difference of the means of trees and roofs in units of their spread."""
        trees, roofs = (
            ndvi[4 + dy : 92 + dy, 4 + dx : 92 + dx][label[4:-4, 4:-4] == code] for code in (5, 6)
        )
        return (trees.mean() - roofs.mean()) / np.sqrt((trees.var() + roofs.var()) / 2)

    shifts = {(dy, dx): separation(dy, dx) for dy in range(-4, 5) for dx in range(-4, 5)}
    assert max(shifts, key=shifts.__getitem__) == (0, 0)
    assert shifts[0, 0] > 3


def test_heights_are_those_of_gdals_own_warp(ign, realdata):
    _, opened = ign
    folder = realdata / "ign_770550"
    with rasterio.open(folder / "IGN_770550_6277600_RGB.tif") as target:
        grid = {"crs": target.crs, "transform": target.transform, "width": 252, "height": 252}
    for name in ("dsm", "agl"):
        path = folder / f"IGN_770550_6277600_{name.upper()}.tif"
        with (
            rasterio.open(path) as source,
            WarpedVRT(source, resampling=Resampling.bilinear, tolerance=1e-6, **grid) as warped,
        ):
            expected = warped.read(1)[:192, :192]
        found = mosaic(opened[name].values, 3, 3)
        both = np.isfinite(found) & np.isfinite(expected)
        assert both.mean() > 0.95
        assert (np.isfinite(found) != np.isfinite(expected)).mean() < 0.002
        assert np.abs(found - expected)[both].max() < 0.02


def test_padding_keeps_the_rest_of_the_scene(realdata, open_made):
    cube, opened = open_made(realdata / "ign_770550", CATALOGS / "ign_770550.yaml", patch=64, edge="pad")
    assert cube.n_patches == 16
    rgb = read(realdata / "ign_770550" / "IGN_770550_6277600_RGB.tif")
    whole = mosaic(opened.rgb.values, 4, 4)
    assert np.array_equal(whole[:, :252, :252], rgb)
    assert not whole[:, 252:].any()
    assert not mosaic(opened.rgb_valid.values, 4, 4)[:, 252:].any()


def test_orthophotos_as_published(realdata, open_made):
    # An unknown datum, and a nodata tag of 255 where 255 is white.
    cube, opened = open_made(realdata / "ign_770550" / "raw", CATALOGS / "ign_raw.yaml", patch=63)
    rgb = read(realdata / "ign_770550" / "raw" / "pdaltools_rgb.tif")
    assert (rgb == 255).all(axis=0).any()
    assert np.array_equal(mosaic(opened.rgb.values, 4, 4), rgb)
    assert opened.rgb_valid.values.all()
    assert cube.scenes().scene_crs[0] != ""


# --- a stadium in feet ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def autzen(realdata, open_made):
    return open_made(realdata / "autzen", CATALOGS / "autzen.yaml", patch=128)


@pytest.mark.slow
def test_850_patches_with_heights_in_metres(autzen):
    cube, opened = autzen
    assert cube.n_patches == 850
    assert cube.table().pixel_size_x.to_numpy() == pytest.approx(np.full(850, 0.3048))
    assert cube.scenes().scene_modalities[0] == "rgb=copied intensity=warped dsm=warped"
    low, middle, high = np.nanpercentile(opened.dsm.values[::7], (0, 50, 100))
    # The ground at Autzen Stadium lies about 128 m above the sea, the stadium's rim some 30 m higher.
    assert 115 < low < 128
    assert 125 < middle < 140
    assert 145 < high < 195


@pytest.mark.slow
def test_the_stadiums_picture_is_copied_and_its_heights_are_gdals(autzen, realdata):
    _, opened = autzen
    rgb = read(realdata / "autzen" / "AUTZEN_RGB_1ft.tif")
    assert np.array_equal(mosaic(opened.rgb.values, 34, 25), rgb[:, : 34 * 128, : 25 * 128])
    with rasterio.open(realdata / "autzen" / "AUTZEN_RGB_1ft.tif") as target:
        grid = {"crs": target.crs, "transform": target.transform, "width": 3248, "height": 4385}
    with (
        rasterio.open(realdata / "autzen" / "AUTZEN_DSM_2ft.tif") as source,
        WarpedVRT(source, resampling=Resampling.bilinear, tolerance=1e-6, **grid) as warped,
    ):
        expected = warped.read(1)[: 34 * 128, : 25 * 128] * 0.3048
    found = mosaic(opened.dsm.values, 34, 25)
    both = np.isfinite(found) & np.isfinite(expected)
    assert both.mean() > 0.85
    assert (np.isfinite(found) != np.isfinite(expected)).mean() < 1e-4
    assert np.abs(found - expected)[both].max() < 0.01
    # Twice as coarse and aligned: every second pixel of a plain enlargement lies a quarter of a cell away, so
    # blocks of 512 pixels have no seam at their borders.
    steps = np.abs(np.diff(found, axis=0))
    at_border, elsewhere = np.nanmedian(steps[511::512]), np.nanmedian(steps)
    assert at_border < 2 * elsewhere + 1e-3


# --- lidar without images -------------------------------------------------------------------------


def test_codes_of_three_producers_without_any_image(realdata, open_made, tmp_path):
    folder = realdata / "las_codes"
    with pytest.raises(UsageError, match=r"pixel sizes differ: 0\.5 m in .*, 4 m in IGN_0292_6833") as caught:
        ingest(folder, catalog="lidar", out=tmp_path / "c.zarr", patch=32)
    assert caught.value.exit_code == 2
    cube, opened = open_made(folder, "lidar", patch=32, mixed_resolution=True)
    scenes = cube.scenes().set_index("scene_name")
    assert scenes.index.tolist() == ["IGN_0292_6833", "IGN_870000_6618000", "STBARTH_515000_1981000"]
    assert cube.modalities == ("dsm", "agl", "label")
    assert cube.n_patches == 7 * 7 + 3 * 6 + 6 * 6
    # Datums of two continents stay apart.
    assert len(set(scenes.scene_crs)) == 2
    codes = np.unique(opened.label.values)
    assert {64, 65, 66, 67, 208, 214} & set(codes.tolist())
    for number, name in enumerate(scenes.index):
        source = read(folder / f"{name}_CLS.tif")[0]
        rows = (opened.scene_number == number).values
        shape = cube.table()[rows][["row", "col"]].max() + 1
        found = mosaic(opened.label.values[rows], shape.row, shape.col)
        assert np.array_equal(found, source[: found.shape[0], : found.shape[1]])
    assert np.nanmedian(opened.agl.values) < 20


def test_a_resolution_brings_them_together(realdata, open_made):
    cube, _ = open_made(realdata / "las_codes", "lidar", patch=32, resolution=1.0)
    assert cube.table().pixel_size_x.to_numpy() == pytest.approx(np.ones(cube.n_patches), rel=0.01)


# --- two labels for one ground --------------------------------------------------------------------


def test_an_elevation_model_under_another_crs(realdata, open_made):
    cube, opened = open_made(realdata / "olinda", CATALOGS / "olinda.yaml", patch=32)
    assert cube.n_patches == 11 * 10
    assert cube.scenes().scene_modalities[0] == "msi=copied dsm=warped"
    msi = read(realdata / "olinda" / "L7_ETMs.tif")
    assert np.array_equal(mosaic(opened.msi.values, 11, 10), msi[:, :352, :320])
    dem = read(realdata / "olinda" / "olinda_dem_utm25s.tif")[0]
    found = mosaic(opened.dsm.values, 11, 10)
    assert np.isfinite(found).mean() > 0.97
    # Both labels mean the same ground: the enlarged model and the warped one are the same hills.
    rows = np.clip((np.arange(352) + 0.5) * 28.5 / 89.994, 0, 110).astype(int)
    cols = np.clip((np.arange(320) + 0.5) * 28.5 / 89.994, 0, 110).astype(int)
    nearest = dem[rows][:, cols]
    inside = np.isfinite(found)
    assert np.corrcoef(found[inside], nearest[inside])[0, 1] > 0.98
    # The sea in the east is low and dark in the near infrared.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        height = np.nanmean(opened.dsm.values, axis=(1, 2))
    nir = opened.msi.values[:, 3].mean(axis=(1, 2))
    assert height[nir < np.percentile(nir, 10)].mean() < height.mean()
