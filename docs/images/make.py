"""Make the pictures of the pages from the demo's results.

::

    make demo
    .venv/bin/python docs/images/make.py

Another folder of the demo may be named as the only argument. The figures are those that `geoae demo`
drew, made smaller; ``demo.png`` puts two of them together; ``qgis.png`` is drawn by QGIS from the demo's
GeoPackage and one of its scenes, and is left as it is where QGIS' Python bindings are not installed.
"""

import subprocess
import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
WIDTH = 1200
"""Pixels: twice what a page shows, for dense screens."""

SCENE = "OMA_132_002"
GAP = 24
QGIS = "/usr/bin/python3"
"""The interpreter that Debian's QGIS belongs to."""

DRAW = """
import os, sys
os.environ["QT_QPA_PLATFORM"] = "offscreen"
from qgis.core import (QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsRasterLayer,
                       QgsVectorLayer)
from qgis.PyQt.QtCore import QSize
package, raster, scene, picture = sys.argv[1:]
application = QgsApplication([], False)
application.initQgis()
clusters = QgsVectorLayer(package + "|layername=clusters_pixels", "clusters", "ogr")
clusters.setSubsetString("scene_id = '" + scene + "'")
settings = QgsMapSettings()
below = QgsRasterLayer(raster, "raster")
settings.setLayers([clusters, below])
settings.setDestinationCrs(clusters.crs())
settings.setExtent(clusters.extent())
settings.setOutputSize(QSize(700, 700))
job = QgsMapRendererParallelJob(settings)
job.start()
job.waitForFinished()
job.renderedImage().save(picture)
os._exit(0)
"""


def opened(path: Path) -> Image.Image:
    """Return a picture no wider than `WIDTH`."""
    picture = Image.open(path).convert("RGB")
    if picture.width > WIDTH:
        height = round(picture.height * WIDTH / picture.width)
        picture = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    return picture


def stored(picture: Image.Image, name: str) -> None:
    """Write a picture with 256 colours of its own: a quarter of the bytes, hardly a difference to be seen."""
    # Of the methods this one keeps the few pixels of a legend's colours, at most 30 of 255 away.
    small = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2)
    small.save(HERE / name, optimize=True)
    print(f"{name}: {picture.width} x {picture.height}, {(HERE / name).stat().st_size / 1e3:.0f} kB")


def main(demo: Path) -> None:
    """Make all pictures from the folder of a demo."""
    figures = {name: opened(demo / f"{name}-pca.png") for name in ("map", "latents", "examples")}
    figures["reconstructions"] = opened(demo / "reconstructions-vae-pca.png")
    for name, figure in figures.items():
        stored(figure, f"{name}.png")
    above, below = figures["map"], figures["latents"]
    both = Image.new("RGB", (WIDTH, above.height + GAP + below.height), "white")
    both.paste(above, (0, 0))
    both.paste(below, (0, above.height + GAP))
    stored(both, "demo.png")
    raster = next(demo.glob(f"us3d/**/{SCENE}_RGB.tif"))
    drawn = demo / "qgis.png"
    run = subprocess.run(
        [QGIS, "-c", DRAW, demo / "clusters.gpkg", raster, SCENE, drawn], capture_output=True
    )
    if run.returncode:
        print("qgis.png: not made, QGIS is not installed")
    else:
        stored(opened(drawn), "qgis.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
