"""Files broken on purpose: what an ingest meets in real folders, one small function a defect.

Every function writes `path` and returns it. Those that break a good file take it as `source`; without one
they make their own.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import rasterio
import tifffile
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

__all__ = [
    "empty_tif",
    "garbage_block_tif",
    "giant_strip_tif",
    "lfs_pointer",
    "nodata255_rgb",
    "sentinel_heights",
    "sparse_huge_tif",
    "truncated_tif",
    "vrt_named_tif",
]


def _raster(source: Path | None, shape: tuple[int, int, int] = (3, 128, 128)) -> NDArray[np.generic]:
    """Return the pixels of a good file, or a smooth picture with some noise."""
    if source is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(source, driver="GTiff") as good:
                return np.asarray(good.read())
    y, x = np.mgrid[: shape[1], : shape[2]]
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 60, shape)
    return np.asarray((x + y) % 190 + noise, np.uint8)


def _write(path: Path, image: NDArray[np.generic], **profile: object) -> None:
    """Write a band-first raster without CRS."""
    count, rows, cols = image.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", width=cols, height=rows, count=count, dtype=image.dtype.name, **profile
        ) as sink:
            sink.write(image)


def empty_tif(path: Path) -> Path:
    """Write a file of no bytes."""
    path.write_bytes(b"")
    return path


def lfs_pointer(path: Path) -> Path:
    """Write the text that git leaves in place of a large file that was never fetched."""
    digest = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 3146010\n")
    return path


def truncated_tif(
    path: Path, source: Path | None = None, *, keep: float = 0.5, compress: str = "deflate"
) -> Path:
    """Write a compressed GeoTIFF whose last blocks are missing: its header is whole.

    Parameters
    ----------
    path : Path
    source : Path, optional
        Good file whose pixels are used.
    keep : float, optional
        Share of the bytes that is left.
    compress : str, optional
        "deflate" or "lzw".
    """
    _write(path, _raster(source), compress=compress, tiled=True, blockxsize=64, blockysize=64)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    return path


def garbage_block_tif(path: Path, source: Path | None = None, *, compress: str = "deflate") -> Path:
    """Write a compressed GeoTIFF whose last block holds noise; all else is sound."""
    _write(path, _raster(source), compress=compress, tiled=True, blockxsize=64, blockysize=64)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        offset, count = page.dataoffsets[-1], page.databytecounts[-1]
    whole = bytearray(path.read_bytes())
    whole[offset : offset + count] = np.random.Generator(np.random.PCG64(1)).bytes(count)
    path.write_bytes(bytes(whole))
    return path


def sparse_huge_tif(path: Path, *, side: int = 800_000) -> Path:
    """Write a small file that claims to be huge: without blocks, every one of them reads as zero.

    Parameters
    ----------
    path : Path
    side : int, optional
        Side, pixels of one byte: 800,000 make 0.58 TiB in a file of less than 2 MB.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        profile = {
            "width": side,
            "height": side,
            "count": 1,
            "dtype": "uint8",
            "SPARSE_OK": "TRUE",
            "BIGTIFF": "YES",
        }
        block = {"tiled": True, "blockxsize": 2048, "blockysize": 2048, "compress": "deflate"}
        with rasterio.open(path, "w", driver="GTiff", **profile, **block):
            pass
    return path


def giant_strip_tif(path: Path, *, rows: int = 200_000, cols: int = 60_000) -> Path:
    """Write a few bytes that claim one strip of rows x cols bytes: who reads a window must decode all of it.

    Parameters
    ----------
    path : Path
    rows, cols : int, optional
        Size; the default claims 12 GB.
    """
    # Tag, type (3: SHORT, 4: LONG), count, value; ascending tags, as TIFF 6.0 demands.
    entries = [
        (256, 4, 1, cols),
        (257, 4, 1, rows),
        (258, 3, 1, 8),
        (259, 3, 1, 8),  # deflate
        (262, 3, 1, 1),
        (273, 4, 1, 8 + 2 + 10 * 12 + 4),
        (277, 3, 1, 1),
        (278, 4, 1, rows),
        (279, 4, 1, 64),
        (339, 3, 1, 1),
    ]
    parts = [struct.pack("<2sHIH", b"II", 42, 8, len(entries))]
    parts += [struct.pack("<HHII", *entry) for entry in entries]
    parts += [struct.pack("<I", 0), b"\x78\x9c" + bytes(62)]
    path.write_bytes(b"".join(parts))
    return path


def vrt_named_tif(path: Path, target: Path) -> Path:
    """Write a GDAL virtual raster under a name that says GeoTIFF: opened carelessly, it reads `target`.

    Parameters
    ----------
    path : Path
    target : Path
        The file that a reader must not be led to.
    """
    path.write_text(
        '<VRTDataset rasterXSize="64" rasterYSize="64">\n'
        '  <VRTRasterBand dataType="Byte" band="1">\n'
        f'    <SimpleSource><SourceFilename relativeToVRT="0">{target}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource>\n"
        "  </VRTRasterBand>\n"
        "</VRTDataset>\n"
    )
    return path


def nodata255_rgb(path: Path, source: Path | None = None) -> Path:
    """Write a uint8 photograph with a nodata tag of 255 and legitimate white in its upper left quarter."""
    image = _raster(source).astype(np.uint8)
    image[:, : image.shape[1] // 4, : image.shape[2] // 4] = 255
    _write(path, image, nodata=255)
    return path


def sentinel_heights(
    path: Path,
    source: Path | None = None,
    *,
    sentinels: tuple[float, ...] = (-9999.0, -999.0, -10000.0, np.inf),
) -> Path:
    """Write heights whose first rows hold sentinels for void, one a row, without a nodata tag.

    Below the sentinels the heights stay as they are, small negatives included.

    Parameters
    ----------
    path : Path
    source : Path, optional
        Good heights; without it, a slope from -1 m to 30 m.
    sentinels : tuple of float, optional
        Value of row 0, 1, ...
    """
    if source is None:
        height = np.linspace(-1, 30, 128 * 128, dtype=np.float32).reshape(1, 128, 128)
    else:
        height = _raster(source).astype(np.float32)
    for row, value in enumerate(sentinels):
        height[:, row] = value
    _write(path, height)
    return path
