"""Scenes: the files of a folder, grouped by what their names say, and what their headers allow.

A scene is the set of rasters that show one ground at one time: an image, heights, labels. Scenes are
found by name alone, in any layout of folders; their headers are read and compared before any pixel.
"""

from geoae.scene.finding import Finding, Scene, Source, choose_catalog, find_rasters, find_scenes
from geoae.scene.headers import Provided, SceneHeader, fit_together, read_scene

__all__ = [
    "Finding",
    "Provided",
    "Scene",
    "SceneHeader",
    "Source",
    "choose_catalog",
    "find_rasters",
    "find_scenes",
    "fit_together",
    "read_scene",
]
