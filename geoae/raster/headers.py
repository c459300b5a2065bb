"""Reading headers: everything about a file but its pixels."""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from affine import Affine

from geoae.errors import SceneError
from geoae.grid import Grid
from geoae.raster.formats import identify
from geoae.raster.model import Layout, RasterHeader, check_claims
from geoae.raster.opening import failing_as, open_dataset
from geoae.raster.structure import check_structure

__all__ = ["read_header"]

_Value = TypeVar("_Value")

_SMALLEST = 1e-12
"""Smallest pixel for the size of its coordinates: 4 thousandths of a millimetre for northings of 4,000 km.
Beyond that two neighbours have one place."""


def read_header(path: Path, *, layout: Layout = "auto", bands: int | None = None) -> RasterHeader:
    """Read a raster's header and check that its pixels can be there. Decodes no pixel.

    Parameters
    ----------
    path
        The file.
    layout
        ``hwc`` or ``band-first`` if it is known.
    bands
        Number of bands that the file should have. It helps to recognise the layout and is not checked.

    Raises
    ------
    SceneError
        If the file is no raster of an allowed format, is truncated, or claims more than it can hold.
    """
    driver, file_bytes = identify(path)
    with failing_as(f"{path.name} cannot be opened"), open_dataset(path, driver) as source:
        header = _header(source, path, file_bytes)
    # Before the structure is read, whose tables of blocks are as long as the claim.
    check_claims(header)
    return check_structure(header, layout, bands) if driver == "GTiff" else header


@lru_cache(maxsize=1024)
def _first(value: _Value, text: str) -> _Value:  # noqa: ARG001 (a part of the key)
    return value


def _one(value: _Value) -> _Value:
    """Return one object for equal values: thousands of files say the same of their bands and their place."""
    first: _Value = _first(value, repr(value))  # 0.0 equals -0.0, and is another number in the plan
    return first


def _header(source: Any, path: Path, file_bytes: int) -> RasterHeader:
    types = sorted(set(source.dtypes))
    if not source.count:
        raise SceneError(f"{path.name} has no bands")
    if len(types) > 1 or np.dtype(types[0]).kind not in "iuf":
        raise SceneError(f"{path.name} has pixels of type {', '.join(types)}, not of one real type")
    _check_transform(source.transform, path.name)
    compression, interleave = "jpeg2000", "pixel"
    # GDAL reads a JPEG 2000 through for these, and never ends where one of its boxes has no length.
    if source.driver != "JP2OpenJPEG":
        # Of what rasterio does not know it gives the text.
        compression = str(getattr(source.compression, "name", source.compression or "none")).lower()
        interleave = str(getattr(source.interleaving, "value", source.interleaving or "pixel")).lower()
    return RasterHeader(
        path=path,
        driver=source.driver,
        grid=_one(Grid(_crs(source), source.transform, (source.height, source.width))),
        count=source.count,
        dtype=types[0],
        nodata=source.nodata,
        scales=_one(tuple(source.scales)),
        offsets=_one(tuple(source.offsets)),
        block_shape=(int(source.block_shapes[0][0]), int(source.block_shapes[0][1])),
        layout="band-first",
        compression=compression,
        interleave=interleave,
        file_bytes=file_bytes,
        band_names=_one(tuple(description or "" for description in source.descriptions)),
        units=_one(tuple(unit or "" for unit in source.units)),
        colors=_one(tuple(color.name for color in source.colorinterp)),
    )


def _check_transform(transform: Affine, name: str) -> None:
    """Refuse a transform that cannot tell the pixels of a raster apart."""
    a, b, c, d, e, f = tuple(transform)[:6]
    sizes = (math.hypot(a, d), math.hypot(b, e))
    if not all(map(math.isfinite, (a, b, c, d, e, f))) or min(sizes) <= _SMALLEST * max(abs(c), abs(f), 1e-3):
        raise SceneError(
            f"{name} has a transform that places no pixel: {a:.6g} {b:.6g} {c:.6g} {d:.6g} {e:.6g} {f:.6g}",
            hint="georeference it anew: gdal_edit.py -a_ullr",
        )


def _crs(source: Any) -> str | None:
    """Return the CRS as the file has it: WKT, not an EPSG code that resembles it."""
    # A CRS without a transform says nothing of where the pixels lie.
    if not source.crs or source.transform.is_identity:
        return None
    return _one(str(source.crs.to_wkt()))
