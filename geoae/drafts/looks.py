"""How files look: their headers, and a small sample of their pixels."""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from geoae.errors import SceneError
from geoae.grid import Window
from geoae.raster import RasterHeader, RasterReader, read_header
from geoae.scene import Source

__all__ = ["Sample", "read_looks", "sample_files", "sample_windows", "signature"]

MAX_HEADERS = 1000
"""Most files whose headers are read; of more, as many at equal steps through the names."""

MAX_FILES = 4
"""Files of a kind from which pixels are read."""

SIDE = 256
"""Side of a window that is read, in pixels."""

MAX_PIXELS = 1 << 26
"""Largest block (in values) that is decoded for a sample; a file of one giant strip is not sampled."""


@dataclass
class Sample:
    """What a few windows of some files hold.

    Parameters
    ----------
    low, high
        Smallest and largest finite value; NaN if there is none.
    quantiles
        5th, 50th and 95th percentile of the finite values.
    codes
        Values of integer files with how often they occur; None where there are more than 256.
    void
        Share of pixels that are NaN or infinite.
    files
        Number of files that were read.
    problems
        Files that could not be read, one line each.
    """

    low: float = math.nan
    high: float = math.nan
    quantiles: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    codes: dict[int, int] | None = field(default_factory=dict)
    void: float = 0.0
    files: int = 0
    problems: list[str] = field(default_factory=list)


def read_looks(rasters: Sequence[Source]) -> tuple[dict[str, RasterHeader], dict[str, str]]:
    """Read the headers of files.

    Returns
    -------
    headers : dict
        By the file's name below the folder.
    problems : dict
        Why a file cannot be used, by its name.
    """
    chosen = rasters
    if len(rasters) > MAX_HEADERS:
        chosen = [rasters[i] for i in np.linspace(0, len(rasters) - 1, MAX_HEADERS).astype(int)]
    headers: dict[str, RasterHeader] = {}
    problems: dict[str, str] = {}
    for raster in chosen:
        try:
            headers[raster.name] = read_header(raster.path)
        except SceneError as error:
            problems[raster.name] = str(error)
    return headers, problems


def signature(header: RasterHeader) -> Hashable:
    """Return what files of one kind have in common: number of bands and type of pixels."""
    return header.count, header.dtype


def sample_windows(shape: tuple[int, int]) -> list[Window]:
    """Return windows in the middle and near two corners of a raster.

    Examples
    --------
    >>> sample_windows((100, 200)), len(sample_windows((4000, 4000)))
    ([Window(y=0, x=0, height=100, width=200)], 3)
    """
    height, width = min(shape[0], SIDE), min(shape[1], SIDE)
    places = {
        (round((shape[0] - height) * part), round((shape[1] - width) * part)) for part in (0.05, 0.5, 0.95)
    }
    return [Window(y, x, height, width) for y, x in sorted(places)]


def sample_files(headers: Iterable[RasterHeader]) -> Sample:
    """Read a few windows of a few files.

    Parameters
    ----------
    headers
        Files of one kind.
    """
    found = list(headers)
    steps = sorted({round(i) for i in np.linspace(0, len(found) - 1, min(MAX_FILES, len(found)))})
    sample = Sample()
    parts: list[npt.NDArray[np.float64]] = []
    for header in (found[i] for i in steps):
        try:
            parts += _read(header, sample)
            sample.files += 1
        except SceneError as error:
            sample.problems.append(str(error))
    values = np.concatenate(parts) if parts else np.empty(0)
    finite = values[np.isfinite(values)]
    if values.size:
        sample.void = 1 - finite.size / values.size
    if finite.size:
        sample.low, sample.high = float(finite.min()), float(finite.max())
        low, middle, high = (float(q) for q in np.quantile(finite, (0.05, 0.5, 0.95)))
        sample.quantiles = (low, middle, high)
    return sample


def _read(header: RasterHeader, sample: Sample) -> list[npt.NDArray[np.float64]]:
    parts = []
    rows, columns = (
        min(header.block_shape[0], header.grid.height),
        min(header.block_shape[1], header.grid.width),
    )
    if rows * columns * header.count > MAX_PIXELS:
        raise SceneError(f"{header.path.name} is not sampled: its strips are large")
    with RasterReader(header) as reader:
        for window in sample_windows(header.grid.shape):
            raw = reader.read(window)
            if raw.dtype.kind in "iu" and header.count == 1:
                _count(raw, sample)
            else:
                sample.codes = None
            values = raw.astype(np.float64).ravel()
            if header.nodata is not None:
                values[values == header.nodata] = np.nan
            parts.append(values)
    return parts


def _count(raw: npt.NDArray[np.integer], sample: Sample) -> None:
    if sample.codes is None:
        return
    for code, number in zip(*np.unique(raw, return_counts=True), strict=True):
        sample.codes[int(code)] = sample.codes.get(int(code), 0) + int(number)
    if len(sample.codes) > 256:
        sample.codes = None
