"""Synthetic US3D data and the conformance test of encoders, for tests, documentation and plugin authors.

`check_encoder` proves that an encoder keeps the contract, on patches from arrays (`ArrayPatches`).
`write_us3d` writes a folder that looks, is named and is flawed like DFC2019's Track 1; `write_georeferenced`
writes the same towns with a CRS; `geoae.testing.quirks` breaks files on purpose. Nothing here needs the
network or the real data.
"""

from geoae.testing.arrays import ArrayPatches, synthetic_patches
from geoae.testing.conformance import check_encoder
from geoae.testing.us3d import write_georeferenced, write_us3d
from geoae.testing.views import SyntheticView, make_view, tile_views

__all__ = [
    "ArrayPatches",
    "SyntheticView",
    "check_encoder",
    "make_view",
    "synthetic_patches",
    "tile_views",
    "write_georeferenced",
    "write_us3d",
]
