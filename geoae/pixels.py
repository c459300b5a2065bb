"""Pixels of one modality: from what a file holds to what a cube holds.

Units become metres, sentinels become voids, and a mask says what was measured. Values that are valid
are never changed for images and labels.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from geoae.catalog import Modality
from geoae.grid import metres_per_unit
from geoae.raster import RasterHeader

__all__ = ["Pixels", "clean", "honoured_nodata", "void_pixels"]


class Pixels(NamedTuple):
    """A window of one modality.

    Parameters
    ----------
    values
        Image ``(band, y, x)`` in its own dtype; height ``(y, x)`` float32 in metres, NaN void; label
        ``(y, x)`` uint8 codes.
    valid
        ``(y, x)`` bool.
    """

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_]


def clean(description: Modality, header: RasterHeader, raw: npt.NDArray[Any]) -> Pixels:
    """Turn a file's values into the cube's: units, voids, mask.

    Parameters
    ----------
    description
        What the catalog says of the modality.
    header
        The file's header: nodata tag, scale and offset.
    raw
        ``(band, y, x)`` in the file's dtype; one band for heights and labels.
    """
    if description.role == "image":
        return _clean_image(description, header, raw)
    if description.role == "height":
        return _clean_height(description, header, raw[0])
    return _clean_label(description, header, raw[0])


def void_pixels(description: Modality, dtype: str, bands: int, shape: tuple[int, int]) -> Pixels:
    """Return a window without any valid pixel."""
    if description.role == "image":
        return Pixels(np.zeros((bands, *shape), dtype), np.zeros(shape, bool))
    if description.role == "height":
        return Pixels(np.full(shape, np.nan, np.float32), np.zeros(shape, bool))
    return Pixels(np.zeros(shape, np.uint8), np.zeros(shape, bool))


def honoured_nodata(description: Modality, header: RasterHeader) -> float | None:
    """Return the nodata value that counts for a file.

    A tag of 255 on an 8-bit photograph is ignored unless the catalog says ``nodata: tag``: white is
    a legitimate colour, and such tags have been seen on orthophotos without any void.
    """
    if description.nodata == "none":
        return None
    photograph = description.role == "image" and header.dtype == "uint8" and header.nodata == 255
    return None if photograph and description.nodata == "auto" else header.nodata


def _clean_image(description: Modality, header: RasterHeader, raw: npt.NDArray[Any]) -> Pixels:
    nodata = honoured_nodata(description, header)
    if raw.dtype.kind == "f":
        valid = np.isfinite(raw).all(axis=0)
    elif description.black_is_void:
        valid = np.bitwise_or.reduce(raw, axis=0) != 0
    else:
        valid = np.ones(raw.shape[1:], bool)
    if raw.dtype.kind == "f" and description.black_is_void:
        valid &= (raw != 0).any(axis=0)
    if nodata is not None and not (nodata == 0 and description.black_is_void):
        valid &= ~_equal(raw, nodata).all(axis=0)
    if raw.dtype.kind == "f" and not valid.all():
        # NaN and sentinels like -3.4e38 would spoil sums and overflow wherever values are scaled.
        raw = np.where(valid, raw, 0)
    return Pixels(raw, valid)


def _clean_height(description: Modality, header: RasterHeader, raw: npt.NDArray[Any]) -> Pixels:
    nodata = honoured_nodata(description, header)
    void = ~np.isfinite(raw) if raw.dtype.kind == "f" else np.zeros(raw.shape, bool)
    for sentinel in (nodata, *description.void):
        if sentinel is not None and not math.isnan(sentinel):
            void |= _equal(raw, sentinel)
    factor = metres_per_unit(description.unit or "metre")
    scale, offset = header.scales[0], header.offsets[0]
    if (scale, offset, factor) == (1, 0, 1):
        values = raw.astype(np.float32)
    else:
        values = ((raw.astype(np.float64) * scale + offset) * factor).astype(np.float32)
    if description.valid_range is not None:
        low, high = description.valid_range
        # NaN compares as False, so voids stay as they are.
        void |= (values < low) | (values > high)
    values[void] = np.nan
    return Pixels(values, ~void)


def _equal(raw: npt.NDArray[Any], sentinel: float) -> npt.NDArray[np.bool_]:
    """Compare with a sentinel as the file's type holds it; one beyond a float's range is infinite."""
    with np.errstate(over="ignore"):
        equal: npt.NDArray[np.bool_] = raw == sentinel
    return equal


def _clean_label(description: Modality, header: RasterHeader, raw: npt.NDArray[Any]) -> Pixels:
    nodata = honoured_nodata(description, header)
    valid = np.ones(raw.shape, bool)
    if raw.dtype != np.uint8:
        valid = (raw >= 0) & (raw <= 255)
        raw = np.where(valid, raw, 0).astype(np.uint8)
    if nodata is not None:
        valid = valid & (raw != nodata)
    return Pixels(raw, valid)
