"""Raster files: headers without pixels, windows of pixels, and files that are not what they seem."""

import os
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import tifffile
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from geoae.errors import SceneError
from geoae.grid import Window, crs_equal
from geoae.raster import RasterHeader, RasterReader, model, opening, read_header
from geoae.testing import quirks

UTM = "EPSG:32617"
NORTH_UP = Affine(0.5, 0, 400_000, 0, -0.5, 3_300_000)


def pixels(count: int, height: int, width: int, dtype: str = "uint16") -> npt.NDArray[Any]:
    """Noise, different in every pixel and band, so that no shift or mix-up goes unnoticed."""
    noise = np.random.default_rng(count * height + width).integers(0, 2000, (count, height, width))
    return noise.astype(dtype)


def write(path: Path, image: npt.NDArray[Any], **profile: Any) -> Path:
    """Write band-first pixels with rasterio."""
    count, height, width = image.shape
    size = {"count": count, "height": height, "width": width, "dtype": image.dtype.name}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **{"driver": "GTiff"} | size | profile) as sink:
            sink.write(image)
    return path


def read_all(header: RasterHeader) -> npt.NDArray[Any]:
    with RasterReader(header) as reader:
        return reader.read(header.grid.window)


def refused(path: Path, **known: Any) -> str:
    """The one line that says why a file's header is refused."""
    with pytest.raises(SceneError) as info:
        read_header(path, **known)
    assert info.value.exit_code == 3
    assert path.name in str(info.value)
    assert "\n" not in str(info.value)
    return str(info.value)


# --- headers --------------------------------------------------------------------------------------


def test_the_header_of_a_georeferenced_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.tif",
        pixels(3, 40, 50),
        crs=UTM,
        transform=NORTH_UP,
        nodata=7,
        compress="deflate",
        tiled=True,
        blockxsize=32,
        blockysize=16,
    )
    header = read_header(path)
    assert header.grid.shape == (40, 50)
    assert header.grid.transform == NORTH_UP
    assert crs_equal(header.grid.crs, UTM)
    assert (header.count, header.dtype, header.nodata) == (3, "uint16", 7)
    assert (header.driver, header.engine, header.layout) == ("GTiff", "rasterio", "band-first")
    assert (header.block_shape, header.compression, header.interleave) == ((16, 32), "deflate", "pixel")
    assert (header.scales, header.offsets) == ((1, 1, 1), (0, 0, 0))
    assert header.pixel_bytes == 3 * 40 * 50 * 2
    assert header.file_bytes == path.stat().st_size


def test_files_that_say_the_same_share_the_memory_for_it(tmp_path: Path) -> None:
    options: dict[str, Any] = {"crs": UTM, "transform": NORTH_UP}
    first, second = (
        read_header(write(tmp_path / name, pixels(2, 4, 6), **options)) for name in ("a.tif", "b.tif")
    )
    for name in ("grid", "scales", "offsets", "band_names", "units", "colors"):
        assert getattr(first, name) is getattr(second, name)


def test_signed_zeros_are_told_apart(tmp_path: Path) -> None:
    found = []
    for offset in (0.0, -0.0):
        path = write(tmp_path / f"{offset}.tif", pixels(1, 4, 4), crs=UTM, transform=NORTH_UP)
        with rasterio.open(path, "r+") as file:
            file.scales, file.offsets = (0.5,), (offset,)
        found.append(str(read_header(path).offsets[0]))
    assert found == ["0.0", "-0.0"]


def test_scale_offset_and_band_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", pixels(2, 4, 4, "int16"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "r+") as file:
            file.scales, file.offsets = (0.01, 0.1), (-10, 0)
            file.descriptions = ("red", None)
    header = read_header(path)
    assert header.scales == (0.01, 0.1)
    assert header.offsets == (-10, 0)
    assert header.band_names == ("red", "")


def test_no_crs_stays_none_and_is_not_warned_about(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", pixels(1, 4, 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        header = read_header(path)
        read_all(header)
    assert header.grid.crs is None
    assert header.grid.transform.is_identity


def test_a_crs_without_a_transform_says_nothing(tmp_path: Path) -> None:
    header = read_header(write(tmp_path / "a.tif", pixels(1, 4, 6), crs=UTM))
    assert header.grid.crs is None


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", Affine(1e-5, 0, -81.6, 0, -1e-5, 30.3)),  # x is the longitude, whatever the axes' order
        (UTM, Affine.translation(4e5, 3e6) @ Affine.rotation(20) @ Affine.scale(0.5, -0.5)),
        (UTM, Affine(0.5, 0, 4e5, 0, 0.5, 3e6)),  # south up
        (UTM, Affine(0.19999999999963, 0, 4e5, 0, -0.2000000000014783, 3e6)),
        (UTM, Affine(0.3, 0, 4e5, 0, -0.6, 3e6)),  # no squares
    ],
    ids=["degrees", "rotated", "south up", "nearly 0.2", "oblong"],
)
def test_transforms_come_as_they_are(crs: str, transform: Affine, tmp_path: Path) -> None:
    header = read_header(write(tmp_path / "a.tif", pixels(1, 4, 6), crs=crs, transform=transform))
    assert header.grid.transform.almost_equals(transform, 1e-9)
    assert crs_equal(header.grid.crs, crs)


def test_files_beside_the_raster_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", pixels(1, 4, 6))
    (tmp_path / "a.tfw").write_text("0.5\n0\n0\n-0.5\n400000\n3300000\n")
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><NoDataValue>5</NoDataValue></PAMRasterBand></PAMDataset>"
    )
    header = read_header(path)
    assert header.grid.transform.is_identity
    assert header.nodata is None


@pytest.mark.parametrize(("driver", "name"), [("PNG", "a.png"), ("JP2OpenJPEG", "a.jp2")])
def test_other_formats_on_the_list(driver: str, name: str, tmp_path: Path) -> None:
    image = pixels(3, 64, 64, "uint8")
    lossless = {"QUALITY": "100", "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
    header = read_header(write(tmp_path / name, image, driver=driver, **lossless))
    assert header.driver == driver
    np.testing.assert_array_equal(read_all(header), image)


def test_the_name_of_a_file_does_not_choose_its_driver(tmp_path: Path) -> None:
    png = write(tmp_path / "a.png", pixels(1, 8, 8, "uint8"), driver="PNG")
    assert read_header(png.rename(tmp_path / "a.tif")).driver == "PNG"


@pytest.mark.parametrize(
    "name", ["with space.tif", "new\nline.tif", "Zürich 東京.tif", "a!b#c%20.tif", "-.tif"]
)
def test_odd_names(name: str, tmp_path: Path) -> None:
    image = pixels(1, 4, 6)
    np.testing.assert_array_equal(read_all(read_header(write(tmp_path / name, image))), image)


def test_a_relative_path_is_a_path_and_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "GTIFF_DIR:1:a.tif", pixels(1, 4, 6))
    monkeypatch.chdir(tmp_path)
    assert read_header(Path("GTIFF_DIR:1:a.tif")).grid.shape == (4, 6)


# --- the layouts that GDAL misreads ---------------------------------------------------------------


def hwc(path: Path, image: npt.NDArray[Any], **options: Any) -> Path:
    """Write band-first pixels as height x width x band, the way DFC2019's files are."""
    tifffile.imwrite(path, np.moveaxis(image, 0, 2), photometric="minisblack", **options)
    return path


def test_gdal_does_misread_it(tmp_path: Path) -> None:
    path = hwc(tmp_path / "a.tif", pixels(8, 30, 40))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            assert (file.count, file.shape) == (1, (40, 8))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": True},
        {"bigtiff": True},
    ],
    ids=["plain", "big endian", "deflate", "lzw", "bigtiff"],
)
def test_height_width_band(options: dict[str, Any], tmp_path: Path) -> None:
    image = pixels(8, 30, 40)
    header = read_header(hwc(tmp_path / "a.tif", image, **options), bands=8)
    assert (header.grid.shape, header.count, header.dtype) == ((30, 40), 8, "uint16")
    assert (header.layout, header.engine) == ("hwc", "tifffile")
    np.testing.assert_array_equal(read_all(header), image)
    with RasterReader(header) as reader:
        for window in (Window(3, 5, 20, 11), Window(3, 16, 20, 24), Window(29, 39, 1, 1)):
            expected = image[:, *window.slices]
            np.testing.assert_array_equal(reader.read(window), expected)
            np.testing.assert_array_equal(reader.read(window, [5, 3, 2]), expected[[4, 2, 1]])


@pytest.mark.parametrize("count", [7, 9])
def test_another_number_of_bands_is_seen_as_it_is(count: int, tmp_path: Path) -> None:
    header = read_header(hwc(tmp_path / "a.tif", pixels(count, 30, 40)), bands=8)
    assert (header.grid.shape, header.count) == ((30, 40), count)


def test_the_layout_is_recognised_without_a_description(tmp_path: Path) -> None:
    image = pixels(8, 30, 40)
    path = hwc(tmp_path / "a.tif", image, metadata=None)
    np.testing.assert_array_equal(read_all(read_header(path, bands=8)), image)
    np.testing.assert_array_equal(read_all(read_header(path, layout="hwc")), image)
    assert read_header(path, layout="band-first").grid.shape == (40, 8)


def test_a_band_on_each_page(tmp_path: Path) -> None:
    image = pixels(8, 30, 40)
    for options in ({}, {"compression": "zlib"}):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, image, photometric="minisblack", **options)
        header = read_header(path, bands=8)
        assert (header.grid.shape, header.count, header.layout) == ((30, 40), 8, "band-first")
        np.testing.assert_array_equal(read_all(header), image)
        with RasterReader(header) as reader:
            window = Window(3, 5, 20, 11)
            np.testing.assert_array_equal(reader.read(window, [8, 1]), image[[7, 0], *window.slices])


def test_band_first_files_of_gdal_are_not_mistaken(tmp_path: Path) -> None:
    for interleave in ("pixel", "band"):
        image = pixels(8, 30, 40)
        header = read_header(write(tmp_path / "a.tif", image, interleave=interleave), bands=8)
        assert (header.engine, header.layout, header.count) == ("rasterio", "band-first", 8)
        np.testing.assert_array_equal(read_all(header), image)


def test_plain_images_of_tifffile_are_not_mistaken(tmp_path: Path) -> None:
    label, picture = pixels(1, 30, 40, "uint8")[0], np.moveaxis(pixels(3, 30, 40, "uint8"), 0, 2)
    tifffile.imwrite(tmp_path / "label.tif", label)
    tifffile.imwrite(tmp_path / "picture.tif", picture, photometric="rgb")
    assert read_header(tmp_path / "label.tif", bands=1).grid.shape == (30, 40)
    header = read_header(tmp_path / "picture.tif", bands=3)
    np.testing.assert_array_equal(read_all(header), np.moveaxis(picture, 2, 0))


def test_the_real_layout(realdata: Path) -> None:
    path = realdata / "defects" / "SYNTHETIC_tifffile_HWC8_MSI.tif"
    header = read_header(path, bands=8)
    assert (header.grid.shape, header.count, header.dtype) == ((64, 64), 8, "uint16")
    np.testing.assert_array_equal(read_all(header), np.moveaxis(tifffile.imread(path), 2, 0))


# --- pixels ---------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(data=st.data())
def test_any_window_of_any_file_is_that_part_of_the_array(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    count, height, width = (data.draw(st.integers(1, high)) for high in (4, 40, 40))
    dtype = data.draw(st.sampled_from(["uint8", "int16", "uint16", "float32", "float64"]))
    image = pixels(count, height, width, dtype)
    path = tmp_path_factory.mktemp("window") / "a.tif"
    if data.draw(st.booleans(), label="hwc") and count > 1:
        header = read_header(hwc(path, image), layout="hwc")
    else:
        options = {"compress": data.draw(st.sampled_from(["none", "lzw", "deflate"]))}
        tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16}
        header = read_header(write(path, image, **options | data.draw(st.sampled_from([{}, tiles]))))
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    window = Window(y, x, data.draw(st.integers(1, height - y)), data.draw(st.integers(1, width - x)))
    bands = data.draw(st.none() | st.lists(st.integers(1, count), min_size=1, max_size=4, unique=True))
    expected = image[[band - 1 for band in bands or range(1, count + 1)], *window.slices]
    with RasterReader(header) as reader:
        found = reader.read(window, bands)
        assert found.dtype == image.dtype
        np.testing.assert_array_equal(found, expected)
        frame = np.zeros((len(expected), window.height + 2, window.width + 3), dtype)
        part = frame[:, 1:-1, 2:-1]
        assert reader.read(window, bands, out=part) is part
    np.testing.assert_array_equal(part, expected)
    assert not frame[:, 0].any()
    assert not frame[:, :, :2].any()


def test_what_a_caller_may_not_ask_for(tmp_path: Path) -> None:
    header = read_header(write(tmp_path / "a.tif", pixels(2, 8, 9)))
    whole = header.grid.window
    with pytest.raises(ValueError, match="use the reader as a context"):
        RasterReader(header).read(whole)
    with RasterReader(header) as reader:
        for window in (Window(0, 0, 9, 9), Window(-1, 0, 2, 2), Window(0, 0, 0, 3)):
            with pytest.raises(ValueError, match="not inside a raster of"):
                reader.read(window)
        for bands in ([], [0], [3]):
            with pytest.raises(ValueError, match="not between 1 and 2"):
                reader.read(whole, bands)
        with pytest.raises(ValueError, match="out is float32"):
            reader.read(whole, out=np.empty((2, 8, 9), "float32"))
    with pytest.raises(ValueError, match="use the reader as a context"):
        reader.read(whole)


def test_threads_with_a_reader_each(tmp_path: Path) -> None:
    image = pixels(3, 64, 64)
    path = write(tmp_path / "a.tif", image, compress="deflate")
    wrong: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                np.testing.assert_array_equal(read_all(read_header(path)), image)
        except BaseException as error:  # noqa: BLE001 (a thread's exception would be lost)
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_file_that_changed_after_its_header_was_read(tmp_path: Path) -> None:
    path = hwc(tmp_path / "a.tif", pixels(8, 30, 40))
    header = read_header(path, bands=8)
    path.write_bytes(path.read_bytes()[:5000])
    with (
        pytest.raises(SceneError, match=r"a\.tif has changed since its header was read"),
        RasterReader(header),
    ):
        pass
    path.unlink()
    with pytest.raises(SceneError, match=r"a\.tif cannot be opened"), RasterReader(header):
        pass


# --- files that are not what they seem ------------------------------------------------------------


def test_empty_file(tmp_path: Path) -> None:
    assert "is empty (0 bytes)" in refused(quirks.empty_tif(tmp_path / "a.tif"))


def test_lfs_pointer(tmp_path: Path) -> None:
    assert "a git-LFS pointer, not the raster itself (fetch it" in refused(
        quirks.lfs_pointer(tmp_path / "a.tif")
    )


def test_the_real_lfs_pointer(realdata: Path) -> None:
    assert "git lfs pull" in refused(realdata / "defects" / "CLASSIF_FEAT_WV2_VilarVeiga_smallTestSite.tif")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"404 not found\n", "a text file"),
        ("Straße\n".encode() * 99, "a text file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\xef\xbb\xbf<HTML>", "a web page"),
        (b"PK\x03\x04" + bytes(99), "a zip archive"),
        (b"\x1f\x8b" + bytes(99), "a gzip archive"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\xff\xd8\xff\xe0", "a JPEG"),
        (bytes(4096), "begins with zero bytes only"),
        (bytes(range(128, 256)), "a file of another format"),
    ],
    ids=lambda value: value[:18].strip() if isinstance(value, str) else "",
)
def test_other_things_named_tif(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    assert what in refused(path)


def test_a_vrt_named_tif_is_never_followed(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.tif", pixels(1, 64, 64, "uint8"))
    path = quirks.vrt_named_tif(tmp_path / "a.tif", secret)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as careless:
            assert careless.read().any()
    assert "a VRT, which opens other files" in refused(path)
    path.write_text('<?xml version="1.0"?>\n' + path.read_text())
    assert "a VRT, which opens other files" in refused(path)


def test_the_driver_alone_would_refuse_it_too(tmp_path: Path) -> None:
    path = quirks.vrt_named_tif(tmp_path / "a.tif", tmp_path / "secret.tif")
    with pytest.raises(RasterioIOError):
        opening.open_dataset(path, "GTiff")


def test_filters_of_warnings_are_left_as_they_were(tmp_path: Path) -> None:
    before = list(warnings.filters)
    read_header(write(tmp_path / "a.tif", pixels(1, 4, 6)))
    with pytest.raises(SceneError):
        read_header(quirks.empty_tif(tmp_path / "b.tif"))
    assert list(warnings.filters) == before


def test_damage_is_told_once_and_not_logged_to_stderr(tmp_path: Path) -> None:
    path = hwc(tmp_path / "a.tif", pixels(8, 30, 40))
    path.write_bytes(path.read_bytes()[:5000])
    code = f"""
from pathlib import Path
from geoae.errors import SceneError
from geoae.raster import read_header
try:
    read_header(Path({str(path)!r}), bands=8)
except SceneError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "is truncated" in result.stdout
    assert result.stderr == ""


def test_folders_and_pipes_are_no_rasters(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    (tmp_path / "folder.tif").mkdir()
    for name in ("pipe.tif", "folder.tif", "missing.tif"):
        assert "is no file" in refused(tmp_path / name)


@pytest.mark.parametrize("compress", ["deflate", "lzw"])
@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_truncated_files_fail_before_any_pixel(compress: str, keep: float, tmp_path: Path) -> None:
    path = quirks.truncated_tif(tmp_path / "a.tif", keep=keep, compress=compress)
    line = refused(path)
    assert "is truncated: it has" in line
    assert "strips or tiles are not there" in line


def test_a_truncated_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", pixels(3, 64, 64), compress="deflate")
    path.write_bytes(path.read_bytes()[:100])
    assert "a.tif cannot be opened" in refused(path)


def test_truncated_height_width_band(tmp_path: Path) -> None:
    path = hwc(tmp_path / "a.tif", pixels(8, 30, 40))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "is truncated" in refused(path, bands=8)


@pytest.mark.parametrize("compress", ["deflate", "lzw"])
def test_garbage_in_a_block_is_one_line_with_file_band_and_window(compress: str, tmp_path: Path) -> None:
    path = quirks.garbage_block_tif(tmp_path / "a.tif", compress=compress)
    header = read_header(path)
    with RasterReader(header) as reader:
        reader.read(Window(0, 0, 64, 64))  # the first tile is sound
        with pytest.raises(SceneError) as info:
            reader.read(Window(64, 64, 64, 64), [2])
    assert info.value.message.startswith(
        "a.tif, band 2, rows 64-127, columns 64-127: pixels cannot be decoded"
    )
    assert info.value.exit_code == 3


def test_garbage_in_a_row_of_height_width_band(tmp_path: Path) -> None:
    path = hwc(tmp_path / "a.tif", pixels(8, 30, 40), compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset, length = file.pages[20].dataoffsets[0], file.pages[20].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + length] = bytes(length)
    path.write_bytes(content)
    with RasterReader(read_header(path, bands=8)) as reader:
        reader.read(Window(0, 0, 20, 40))
        with pytest.raises(SceneError, match="bands 1-8, rows 20-29, columns 0-39: pixels cannot be decoded"):
            reader.read(Window(20, 0, 10, 40))


def test_a_sparse_file_that_claims_half_a_tebibyte(tmp_path: Path) -> None:
    path = quirks.sparse_huge_tif(tmp_path / "a.tif")
    assert path.stat().st_size < 2_500_000
    line = refused(path)
    assert "claims 800000 x 800000 x 1 uint8, 596 GiB, in a file of" in line
    assert "5000 bytes for each byte of file" in line


def test_a_sparse_file_of_modest_size_is_believed(tmp_path: Path) -> None:
    path = quirks.sparse_huge_tif(tmp_path / "a.tif", side=4096)
    assert not read_all(read_header(path)).any()


def test_more_than_a_tebibyte_is_refused_in_any_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", pixels(1, 8, 8))
    monkeypatch.setattr(model, "MAX_BYTES", 127)
    assert "128 bytes, more than the 127 bytes allowed" in refused(path)


def test_a_giant_strip_is_refused_with_the_limit(tmp_path: Path) -> None:
    line = refused(quirks.giant_strip_tif(tmp_path / "a.tif", rows=30_000, cols=30_000))
    assert "strips or tiles of 30000 x 30000 pixels, 858 MiB each" in line
    assert "more than the 512 MiB that geoae decodes at once" in line
    assert "TILED=YES" in line
    assert "claims" in refused(quirks.giant_strip_tif(tmp_path / "b.tif"))


def test_complex_pixels_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", pixels(1, 4, 4).astype("complex64"))
    assert "pixels of type complex64" in refused(path)


def test_a_degenerate_transform_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", pixels(1, 4, 4), crs=UTM, transform=Affine(0, 0, 4e5, 0, 0, 3e6))
    assert "a transform that places no pixel" in refused(path)


@settings(max_examples=150)
@given(data=st.data())
def test_damaged_bytes_give_pixels_or_one_line(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever the bytes, nothing but a SceneError comes out, and no claim is followed blindly."""
    folder = tmp_path_factory.getbasetemp() / "sound"
    if not folder.exists():
        folder.mkdir()
        write(folder / "0.tif", pixels(3, 24, 20), crs=UTM, transform=NORTH_UP, compress="lzw", blockysize=8)
        write(folder / "1.tif", pixels(1, 24, 20, "float32"), compress="deflate", nodata=-9999)
        hwc(folder / "2.tif", pixels(8, 24, 20))
        hwc(folder / "3.tif", pixels(8, 24, 20), compression="zlib")
    source = folder / f"{data.draw(st.integers(0, 3))}.tif"
    content = bytearray(source.read_bytes())
    # The directory of a TIFF is where damage does more than change a pixel.
    start = int.from_bytes(content[4:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, 7) | st.integers(start, min(start + 300, len(content) - 1)))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "a.tif"
    path.write_bytes(content)
    try:
        header = read_header(path, bands=8)
        if header.pixel_bytes < 1 << 24:
            read_all(header)
    except SceneError as error:
        assert "a.tif" in str(error)  # noqa: PT017 (either outcome is right)
    finally:
        shutil.rmtree(path.parent)
