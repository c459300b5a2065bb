"""What a raster says about itself, and what of it is believed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from geoae.errors import SceneError
from geoae.grid import Grid

__all__ = ["Layout", "RasterHeader", "check_claims"]

Layout = Literal["auto", "band-first", "hwc"]

MAX_BYTES = 1 << 40
"""Most bytes of pixels that one file may claim (1 TiB): more than any mosaic that one would cut into the
patches of a single scene."""

MAX_RATIO = 5000
"""Most bytes of pixels for one byte of file, beyond `FREE_BYTES`. Deflate and LZW end at about 1,000 and
1,400 for constant pixels; a sparse file can claim anything."""

FREE_BYTES = 1 << 30
"""Claims below 1 GiB are believed however small the file is."""

MAX_BLOCK_BYTES = 1 << 29
"""Largest compressed strip or tile (512 MiB): for one patch each worker would decode all of it."""


@dataclass(frozen=True)
class RasterHeader:
    """What a raster file says about itself.

    Parameters
    ----------
    path
        The file.
    driver
        GDAL's name of the format.
    grid
        CRS (None if the file has none), transform and shape.
    count
        Number of bands.
    dtype
        numpy's name of the pixels' type.
    nodata
        The nodata tag.
    scales, offsets
        One number for each band: value = scale x pixel + offset.
    block_shape
        Rows and columns that are decoded together.
    layout
        ``hwc`` for height x width x band as tifffile writes it, else ``band-first``.
    compression
        Name of the compression, ``none`` if there is none.
    interleave
        ``pixel`` or ``band``.
    file_bytes
        Size of the file.
    engine
        What reads the pixels: ``rasterio`` or ``tifffile``.
    band_names
        What the file calls its bands; empty where it has no name.
    units
        The unit that the file states for the values of each band; empty where it states none.
    colors
        What the file says that each band shows: ``red``, ``alpha``, ``gray``, ``palette``, ``undefined``.
    """

    path: Path
    driver: str
    grid: Grid
    count: int
    dtype: str
    nodata: float | None
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    block_shape: tuple[int, int]
    layout: Literal["band-first", "hwc"]
    compression: str
    interleave: str
    file_bytes: int
    engine: Literal["rasterio", "tifffile"] = "rasterio"
    band_names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()

    @property
    def pixel_bytes(self) -> int:
        """Bytes of all pixels, decoded."""
        return self.grid.height * self.grid.width * self.count * np.dtype(self.dtype).itemsize


def check_claims(header: RasterHeader) -> None:
    """Refuse a header that no honest file of this size can have, and blocks too large to decode.

    Raises
    ------
    SceneError
        Stating the claim and the limit.
    """
    name, (height, width) = header.path.name, header.grid.shape
    claim = f"{name} claims {height} x {width} x {header.count} {header.dtype}, {_size(header.pixel_bytes)},"
    if header.pixel_bytes > MAX_BYTES:
        raise SceneError(f"{claim} more than the {_size(MAX_BYTES)} allowed", hint="cut it into tiles")
    if header.pixel_bytes > max(FREE_BYTES, MAX_RATIO * header.file_bytes):
        raise SceneError(
            f"{claim} in a file of {_size(header.file_bytes)}: it is sparse or broken and cannot hold them",
            hint=f"beyond {_size(FREE_BYTES)} geoae believes {MAX_RATIO} bytes for each byte of file",
        )
    rows, columns = min(header.block_shape[0], height), min(header.block_shape[1], width)
    together = header.count if header.interleave == "pixel" else 1
    block = rows * columns * together * np.dtype(header.dtype).itemsize
    # Without compression a part of a strip can be read; with it a strip is decoded whole.
    if block > MAX_BLOCK_BYTES and header.compression != "none":
        raise SceneError(
            f"{name} is cut into strips or tiles of {rows} x {columns} pixels, {_size(block)} each, "
            f"more than the {_size(MAX_BLOCK_BYTES)} that geoae decodes at once",
            hint="rewrite it with: gdal_translate -co TILED=YES -co COMPRESS=DEFLATE",
        )


def _size(number: float) -> str:
    """Write a number of bytes for people.

    Examples
    --------
    >>> _size(512), _size(1 << 30), _size(640_000_000_000)
    ('512 bytes', '1 GiB', '596 GiB')
    """
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.3g} TiB"
