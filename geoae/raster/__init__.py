"""Raster files: headers without pixels, and windows of pixels. The only module that opens image files.

A file is opened only by the driver that its first bytes name, and only if that driver is one of
three that read one file and nothing else: a VRT that is called ``.tif`` would open any path on the
machine. Files beside the raster (``.aux.xml``, ``.ovr``, ``.msk``, world files) are not read.

Two readers are behind one door: rasterio, and tifffile for two layouts of tifffile's own that GDAL
misreads. The multispectral files of DFC2019 hold one TIFF page for each image row (height pages of
width x band), of which GDAL sees the first as an image of one band, 8 pixels wide. Stacks of bands
hold one page for each band, of which GDAL sees the first.
"""

from geoae.raster.headers import read_header
from geoae.raster.model import Layout, RasterHeader
from geoae.raster.opening import ignore_missing_places
from geoae.raster.pixels import RasterReader

__all__ = ["Layout", "RasterHeader", "RasterReader", "ignore_missing_places", "read_header"]
