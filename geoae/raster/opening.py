"""Opening files: the options, the driver, and what a failure is called."""

import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import rasterio
import tifffile
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError

from geoae.errors import GeoaeError, SceneError

__all__ = ["environment", "failing_as", "ignore_missing_places", "open_dataset"]

_OPTIONS: dict[str, Any] = {
    "GDAL_NUM_THREADS": "1",  # tasks run side by side already
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no files beside the raster
    # Bytes, since rasterio hands a number on to GDALSetCacheMax; GDAL's own default is 5 % of the memory
    # for each process. It must hold a row of patches, or strips are decoded again for each patch.
    "GDAL_CACHEMAX": 128 << 20,
}

_FAULTS = (RasterioError, CRSError, tifffile.TiffFileError, OSError, struct.error, zlib.error)
"""What rasterio and tifffile raise about files."""

_LOOSE_FAULTS = (ValueError, IndexError, KeyError, RuntimeError, TypeError, OverflowError)
"""What their parsers and decoders raise, too, on bytes that are not as they should be."""

_NO_PLACE_TEXT = "Dataset has no geotransform"

_NO_PLACE = ("ignore", re.compile(_NO_PLACE_TEXT), NotGeoreferencedWarning, None, 0)
"""Filter for rasterio's warning about files without a CRS, which is no fault here."""

_filtering = threading.Lock()


def environment() -> Any:
    """Return a context with GDAL's options for reading."""
    return rasterio.Env(**_OPTIONS)


def open_dataset(path: Path, driver: str) -> Any:
    """Open a file with one driver, for the calling thread alone."""
    with environment(), _without_warning():
        return rasterio.open(path.absolute(), driver=driver, sharing=False)


def ignore_missing_places() -> None:
    """Silence rasterio's warning about what has no place on the ground, in this process from now on.

    rasterio does so itself while it warps. Where several threads warp, one ends the silence of others, and
    the list of filters that is put back last may be anybody's: keep the list around such threads.
    """
    warnings.filterwarnings("ignore", _NO_PLACE_TEXT, NotGeoreferencedWarning)


@contextmanager
def _without_warning() -> Iterator[None]:
    # Filters belong to the whole process. warnings.catch_warnings puts back the list that it found, and
    # undoes what another thread has done to it meanwhile; this adds one filter and takes it away again.
    with _filtering:
        filters = cast("list[Any]", warnings.filters)
        filters.insert(0, _NO_PLACE)
        try:
            yield
        finally:
            with suppress(ValueError):
                cast("list[Any]", warnings.filters).remove(_NO_PLACE)


@contextmanager
def failing_as(what: str) -> Iterator[None]:
    """Turn whatever the readers raise about a file into one `SceneError`."""
    try:
        yield
    except GeoaeError:
        raise
    except (*_FAULTS, *_LOOSE_FAULTS) as error:
        cause = str(error.__cause__ or error) or type(error).__name__
        raise SceneError(f"{what}: {cause}", hint="check the file with: gdalinfo -checksum") from error
