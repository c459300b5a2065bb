"""The files broken on purpose are broken in their own way, and in no other."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from geoae.testing import quirks, write_us3d


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = write_us3d(
        tmp_path_factory.mktemp("us3d"), cities=("OMA",), tiles=1, views=1, size=128, missing=0.0
    )
    return next(path for path in files if path.name.endswith("_RGB.tif"))


def read(path: Path) -> tuple[np.ndarray, dict[str, object]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, driver="GTiff") as source:
            return source.read(), dict(source.profile)


def test_broken_files_are_broken_in_their_own_way(tmp_path: Path) -> None:
    assert quirks.empty_tif(tmp_path / "empty.tif").stat().st_size == 0
    assert quirks.lfs_pointer(tmp_path / "lfs.tif").read_text().startswith("version https://git-lfs")
    for path in (tmp_path / "empty.tif", tmp_path / "lfs.tif"):
        with pytest.raises(RasterioIOError):
            read(path)


@pytest.mark.parametrize("compress", ["deflate", "lzw"])
def test_truncated_and_garbage_open_but_do_not_read(tmp_path: Path, compress: str) -> None:
    for write in (quirks.truncated_tif, quirks.garbage_block_tif):
        path = write(tmp_path / "bad.tif", compress=compress)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver="GTiff") as source:
                assert source.shape == (128, 128)
                source.read(1, window=((0, 64), (0, 64)))
                with pytest.raises(RasterioIOError):
                    source.read()


def test_truncated_takes_a_source(tmp_path: Path, picture: Path) -> None:
    path = quirks.truncated_tif(tmp_path / "bad.tif", picture)
    assert read(picture)[0].shape == (3, 128, 128)
    with pytest.raises(RasterioIOError):
        read(path)


def test_sparse_and_strip_claim_more_than_they_hold(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        sparse = quirks.sparse_huge_tif(tmp_path / "sparse.tif")
        with rasterio.open(sparse, driver="GTiff") as source:
            assert source.width * source.height > 0.5 * 2**40
        assert sparse.stat().st_size < 2e6
        strip = quirks.giant_strip_tif(tmp_path / "strip.tif")
        with rasterio.open(strip, driver="GTiff") as source:
            assert source.width * source.height == 12_000_000_000
        assert strip.stat().st_size < 1000
    with tifffile.TiffFile(strip) as tif:
        assert tif.pages.first.rowsperstrip == 200_000


def test_vrt_named_tif_leads_gdal_astray_unless_told(tmp_path: Path, picture: Path) -> None:
    path = quirks.vrt_named_tif(tmp_path / "picture.tif", picture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as source:
            assert source.driver == "VRT"
            assert source.read(1).any()
    with pytest.raises(RasterioIOError):
        rasterio.open(path, driver="GTiff")


def test_nodata255_and_sentinels(tmp_path: Path) -> None:
    image, profile = read(quirks.nodata255_rgb(tmp_path / "white.tif"))
    assert profile["nodata"] == 255
    assert (image[:, :32, :32] == 255).all()
    height, profile = read(quirks.sentinel_heights(tmp_path / "agl.tif"))
    assert profile["nodata"] is None
    assert height[0, :4, 0].tolist() == [-9999.0, -999.0, -10000.0, np.inf]
    assert -1 < height[0, 4:].min() < 0.1
