"""Cloud optimized GeoTIFF: one raster with its colours, names, units, statistics and origin.

Names of classes are in the file's metadata, and beside the file in ``<name>.tif.aux.xml``: a TIFF has no
place for them, and this is where GDAL looks for category names and attribute tables. ``<name>.qml`` is what
QGIS applies when it opens the raster.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError

from geoae.errors import InputError, IntegrityError
from geoae.exports.qml import raster_style
from geoae.exports.table import Category
from geoae.grid import Grid, crs_equal
from geoae.provenance import canonical_json

__all__ = ["Band", "Raster", "side_files", "write_cog"]

_COLORS = 255
"""Most classes with a colour table: with 16 bits it would be 400 kB in every file."""


@dataclass(frozen=True)
class Band:
    """One band: its name, a title for people, a unit (empty for none)."""

    name: str
    title: str
    unit: str = ""


@dataclass(frozen=True)
class Raster:
    """A raster to be written.

    Parameters
    ----------
    grid
        Where its pixels lie; it has a CRS.
    values
        ``(band, y, x)``, float32 with NaN or integers with `nodata`.
    nodata
        What void pixels hold.
    bands
        Names and units.
    categories
        Classes of a raster of one band; empty for measures.
    title
        What it shows.
    """

    grid: Grid
    values: npt.NDArray[Any]
    nodata: float
    bands: tuple[Band, ...]
    categories: tuple[Category, ...] = ()
    title: str = ""

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """``(band, y, x)``: which pixels hold a value."""
        known: npt.NDArray[np.bool_] = (
            ~np.isnan(self.values) if self.values.dtype.kind == "f" else self.values != self.nodata
        )
        return known


def side_files(path: Path) -> tuple[Path, Path]:
    """Return where GDAL looks for the names of a raster's classes, and QGIS for its style."""
    return path.with_name(f"{path.name}.aux.xml"), path.with_suffix(".qml")


def write_cog(raster: Raster, path: Path, tags: Mapping[str, str]) -> tuple[str, ...]:
    """Write a raster to a new file, and the names of its classes and its style beside it.

    Equal rasters give equal bytes with one build of GDAL. Overviews are made where a side has more than 512
    pixels: of classes the most frequent one, of measures the mean.

    Parameters
    ----------
    raster
        The raster.
    path
        A file that does not exist yet, ``*.tif``.
    tags
        Where it comes from, text by key.

    Returns
    -------
    tuple of str
        Warnings: a CRS that GeoTIFF cannot hold as it is.

    Raises
    ------
    InputError
        If GDAL cannot write the file.
    IntegrityError
        If the file does not read back as it was written.
    """
    classes = bool(raster.categories)
    count, height, width = raster.values.shape
    options: dict[str, Any] = {"predictor": "YES"} if not classes else {}
    try:
        # Without PAM: what does not fit into the file would otherwise go into one beside it, unseen.
        with rasterio.Env(GDAL_PAM_ENABLED="NO", GDAL_NUM_THREADS="1"):
            with rasterio.open(
                path, "w", driver="COG", width=width, height=height, count=count,
                dtype=raster.values.dtype, nodata=raster.nodata, crs=CRS.from_user_input(raster.grid.crs),
                transform=raster.grid.transform, compress="DEFLATE",
                overview_resampling="MODE" if classes else "AVERAGE", **options,
            ) as made:  # fmt: skip
                made.write(raster.values)
                _describe(made, raster, tags)
            lost = _check(raster, path)
    except (RasterioError, CRSError, OSError) as error:
        raise InputError(
            f"{path.name}: GDAL cannot write the raster: {' '.join(str(error).split())}"
        ) from error
    names, style = side_files(path)
    if classes:
        names.write_text(_names(raster), encoding="utf-8")
    known = raster.values[0][raster.known[0]]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    style.write_text(raster_style(raster.categories, low, high), encoding="utf-8")
    return lost


def _describe(made: Any, raster: Raster, tags: Mapping[str, str]) -> None:
    made.update_tags(**{key: text for key, text in tags.items() if text})
    for number, (band, values, known) in enumerate(
        zip(raster.bands, raster.values, raster.known, strict=True), start=1
    ):
        made.set_band_description(number, band.name)
        own = {"title": band.title}
        if raster.categories:
            own["categories"] = canonical_json({str(c.value): c.label for c in raster.categories})
        else:
            own |= _statistics(values[known], values.size)
        made.update_tags(number, **own)
    made.units = tuple(band.unit for band in raster.bands)
    if raster.categories and raster.values.dtype == np.uint8:
        made.write_colormap(1, {c.value: (*bytes.fromhex(c.color[1:]), 255) for c in raster.categories})


def _statistics(values: npt.NDArray[Any], total: int) -> dict[str, str]:
    """Return GDAL's own items, so that viewers stretch a raster without reading it."""
    share = {"STATISTICS_VALID_PERCENT": f"{100 * len(values) / total:.4g}"}
    if not len(values):
        return share
    wide = values.astype(np.float64)
    found = {"MINIMUM": wide.min(), "MAXIMUM": wide.max(), "MEAN": wide.mean(), "STDDEV": wide.std()}
    return {f"STATISTICS_{name}": f"{value:.9g}" for name, value in found.items()} | share


def _check(raster: Raster, path: Path) -> tuple[str, ...]:
    """Open the file anew and compare it with what was to be written."""
    with rasterio.open(path, driver="GTiff") as found:
        same = (
            np.array_equal(found.read(), raster.values, equal_nan=raster.values.dtype.kind == "f")
            and found.transform == raster.grid.transform
            and found.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
        )
        crs = found.crs
    if not same:
        raise IntegrityError(f"{path.name} does not read back as it was written", hint="is the disk full?")
    if crs is None or not crs_equal(crs.to_wkt(), raster.grid.crs):
        return (f"{path.name}: GeoTIFF holds its CRS only nearly",)
    return ()


def _names(raster: Raster) -> str:
    """Write category names and attribute table as GDAL keeps them beside a file."""
    values = raster.values[raster.known]
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    highest = max(c.value for c in raster.categories)
    if min(c.value for c in raster.categories) >= 0 and highest <= _COLORS:
        names = {c.value: c.label for c in raster.categories}
        listed = ET.SubElement(band, "CategoryNames")
        for value in range(highest + 1):
            ET.SubElement(listed, "Category").text = names.get(value, "")
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    # Numbers of GDAL: kind 0 integer, 2 text; use 5 value, 1 count, 2 name, 6 to 8 red, green, blue.
    fields = (
        ("value", 0, 5),
        ("count", 0, 1),
        ("name", 2, 2),
        ("red", 0, 6),
        ("green", 0, 7),
        ("blue", 0, 8),
    )
    for index, (name, kind, use) in enumerate(fields):
        field = ET.SubElement(table, "FieldDefn", index=str(index))
        for key, text in (("Name", name), ("Type", kind), ("Usage", use)):
            ET.SubElement(field, key).text = str(text)
    for index, category in enumerate(raster.categories):
        row = ET.SubElement(table, "Row", index=str(index))
        count = int((values == category.value).sum())
        for cell in (category.value, count, category.label, *bytes.fromhex(category.color[1:])):
            ET.SubElement(row, "F").text = str(cell)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"
