"""What only the structure of a TIFF tells: whether its blocks are there, and layouts that GDAL misreads."""

import logging
import struct
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import tifffile

from geoae.errors import SceneError
from geoae.grid import Grid
from geoae.raster.model import Layout, RasterHeader, check_claims

__all__ = ["check_structure"]

MAX_HWC_BANDS = 16
"""Widest page that is taken for one row of a multi-band image if the number of bands is not known: as many
bands as WorldView-3 has."""

# tifffile logs what is wrong with a file beside raising it; without a handler that would reach stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

# What tifffile's parser raises on tables of tags that are not as they should be.
_UNREADABLE = (
    *(tifffile.TiffFileError, struct.error, ValueError, IndexError, KeyError, TypeError),
    *(RuntimeError, OverflowError, ZeroDivisionError, AttributeError),
)


def check_structure(header: RasterHeader, layout: Layout, bands: int | None) -> RasterHeader:
    """Check that the pixels are there, and correct the header of a file that GDAL misreads.

    Parameters
    ----------
    header
        GDAL's view of the file.
    layout, bands
        What is known of it, see `read_header`.

    Raises
    ------
    SceneError
        If strips or tiles lie beyond the end of the file.
    """
    # What tifffile cannot parse and GDAL can is left to GDAL.
    with suppress(*_UNREADABLE), tifffile.TiffFile(header.path) as tiff:
        page = tiff.pages.first
        stack = None
        if layout != "band-first" and header.count == 1 and page.samplesperpixel == 1:
            stack = _stacked(header, tiff, page, layout, bands)
        header = _with_strips(header, page) if stack is None else stack
        check_claims(header)
        if stack is None:
            _check_blocks(header, page)
        else:
            _check_pages(header, tiff)
    return header


def _stacked(
    header: RasterHeader, tiff: tifffile.TiffFile, page: Any, layout: Layout, bands: int | None
) -> RasterHeader | None:
    """Return the header of a stack of pages, or None if the file is none.

    tifffile writes the array's shape into the first page's description: (height, width, band), each
    page one row of the image, or (band, height, width), each page one band. Where the description is
    gone the pages count: as many as an image has rows, each as wide as there are bands.
    """
    rows, columns = page.imagelength, page.imagewidth
    shape = _described_shape(tiff) if page.is_shaped else None
    if shape is None and len(tiff.pages) > 1 < rows and (layout == "hwc" or columns == bands):
        shape = (len(tiff.pages), rows, columns)
    if shape is None or shape[1:] != (rows, columns):
        return None
    if layout == "hwc" or columns == bands or (shape[0] != bands and columns <= MAX_HWC_BANDS < rows):
        height, width, count = shape
        crs, transform = header.grid.crs, header.grid.transform
        return _as_stack(header, count, Grid(crs, transform, (height, width)), "hwc")
    if layout == "auto" and shape[0] == bands:
        return _as_stack(header, shape[0], header.grid, "band-first")
    return None


def _described_shape(tiff: tifffile.TiffFile) -> tuple[int, int, int] | None:
    with suppress(ValueError, TypeError, KeyError):
        first, second, third = (int(size) for size in (tiff.shaped_metadata or ({},))[0]["shape"])
        return first, second, third
    return None


def _as_stack(header: RasterHeader, count: int, grid: Grid, layout: Any) -> RasterHeader:
    return replace(
        header,
        grid=grid,
        count=count,
        scales=header.scales[:1] * count,
        offsets=header.offsets[:1] * count,
        block_shape=(1, grid.width) if layout == "hwc" else grid.shape,
        layout=layout,
        interleave="pixel" if layout == "hwc" else "band",
        engine="tifffile",
        band_names=("",) * count,
        units=("",) * count,
        colors=("undefined",) * count,
    )


def _with_strips(header: RasterHeader, page: Any) -> RasterHeader:
    """Correct the shape of strips: one that GDAL gives by rows is still decoded from its start."""
    if page.is_tiled or not page.rowsperstrip:
        return header
    height, width = header.grid.shape
    return replace(header, block_shape=(min(int(page.rowsperstrip), height), width))


def _check_pages(header: RasterHeader, tiff: tifffile.TiffFile) -> None:
    series = tiff.series[0]
    if series.dataoffset is not None:
        end = series.dataoffset + header.pixel_bytes
        if end > header.file_bytes:
            raise _truncated(header, end)
    expected, unit = (header.grid.height, "rows") if header.layout == "hwc" else (header.count, "bands")
    if series.ndim != 3 or series.shape[0] != expected:
        found = series.shape[0] if series.ndim == 3 else 1
        raise SceneError(
            f"{header.path.name} is truncated: it has pages for {found} of {expected} {unit}",
            hint="copy or download it again",
        )


def _check_blocks(header: RasterHeader, page: Any) -> None:
    """Compare where the strips or tiles should lie with the size of the file."""
    if min((*page.dataoffsets, *page.databytecounts), default=0) < 0:
        raise SceneError(
            f"{header.path.name} is broken: a strip or tile begins or ends before the file does",
            hint="copy or download it again",
        )
    offsets = np.asarray(page.dataoffsets, dtype=np.uint64)
    counts = np.asarray(page.databytecounts, dtype=np.uint64)
    if len(offsets) != len(counts) or not len(offsets):
        return
    size = np.uint64(header.file_bytes)
    # Written so that no sum of damaged numbers overflows.
    missing = (offsets > size) | (counts > size - np.minimum(offsets, size))
    if missing.any():
        last = int(np.argmax(offsets))
        raise _truncated(
            header,
            int(offsets[last]) + int(counts[last]),
            f"; {int(missing.sum())} of {missing.size} strips or tiles are not there",
        )


def _truncated(header: RasterHeader, expected: int, more: str = "") -> SceneError:
    return SceneError(
        f"{header.path.name} is truncated: it has {header.file_bytes} of {expected} bytes{more}",
        hint="copy or download it again",
    )
