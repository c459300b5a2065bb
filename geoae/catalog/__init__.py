"""Catalogs: how a data set looks, written down once in YAML.

A catalog says how file names give scene, city, tile and view; which modalities there are (images,
heights, labels) with their bands, units and voids; what the label codes mean; which modality gives
the grid; and what a split may never cut in two. geoae itself knows no data set.

Three catalogs are shipped: ``us3d``, ``lidar`` and ``generic``.
"""

from geoae.catalog.classes import VOID, ClassEntry, ClassTable, class_colors
from geoae.catalog.json_schema import catalog_schema
from geoae.catalog.loading import load_catalog, parse_catalog, shipped_catalogs
from geoae.catalog.modality import Band, Extraction, Modality
from geoae.catalog.models import Catalog, City
from geoae.catalog.naming import Name, Naming

__all__ = [
    "VOID",
    "Band",
    "Catalog",
    "City",
    "ClassEntry",
    "ClassTable",
    "Extraction",
    "Modality",
    "Name",
    "Naming",
    "catalog_schema",
    "class_colors",
    "load_catalog",
    "parse_catalog",
    "shipped_catalogs",
]
