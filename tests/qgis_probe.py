"""Opens GeoPackage layers as QGIS does, and says what it found as JSON; run by the system's Python.

Usage: qgis_probe.py GEOPACKAGE PICTURE LAYER [RASTER]
"""

import json
import os
import sys

os.environ["QT_QPA_PLATFORM"] = "offscreen"

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor


def main() -> None:
    path, picture, drawn, *rasters = sys.argv[1:]
    application = QgsApplication([], False)
    application.initQgis()
    found = {}
    index = QgsVectorLayer(path, "index", "ogr")
    for sublayer in index.dataProvider().subLayers():
        name = sublayer.split("!!::!!")[1]
        if name == "layer_styles":
            continue
        layer = QgsVectorLayer(f"{path}|layername={name}", name, "ogr")  # loads the default style
        count, _, styles, *_ = layer.listStylesInDatabase()
        renderer = layer.renderer()  # none for a table without places
        kind = renderer and renderer.type()
        found[name] = {
            "valid": layer.isValid(),
            "features": layer.featureCount(),
            "crs": layer.crs().authid() or layer.crs().description(),
            "crs_valid": layer.crs().isValid(),
            "type": kind,
            "column": renderer.classAttribute() if kind == "categorizedSymbol" else None,
            "legend": [
                [category.value(), category.label(), category.symbol().color().name()]
                for category in (renderer.categories() if kind == "categorizedSymbol" else [])
            ],
            "aliases": {field.name(): field.alias() for field in layer.fields()},
            "display": layer.displayExpression(),
            "tip": layer.mapTipTemplate(),
            "abstract": layer.metadata().abstract() or layer.abstract(),
            "title": layer.metadata().title(),
            "opacity": layer.opacity(),
            "styles": [count, sorted(styles)],
        }
        if name == drawn:
            draw(layer, picture, rasters)
    print("RESULT" + json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # QGIS without a window may crash when it is taken down


def draw(layer, picture, rasters) -> None:
    layers = [layer, *(QgsRasterLayer(raster, "raster") for raster in rasters)]
    extent = layer.extent()
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(layer.crs())
    settings.setBackgroundColor(QColor("white"))
    settings.setExtent(extent)
    settings.setOutputSize(QSize(600, max(1, round(600 * extent.height() / extent.width()))))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(picture)


main()
