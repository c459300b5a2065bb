"""Cubes of a few random scenes, and what tests ask of them."""

from pathlib import Path
from typing import Any

import numpy as np
from cube_scenes import catalog_of, scene_pixels, write_scene

from geoae.catalog import Catalog
from geoae.cube import Cube
from geoae.ingestion import ingest


def small_cube(
    folder: Path,
    *,
    side: int = 32,
    scenes: int = 6,
    patch: int = 8,
    catalog: Catalog | None = None,
    kinds: tuple[str, ...] = ("MSI", "RGB", "AGL", "CLS"),
    **options: Any,
) -> Cube:
    """A cube of random scenes of one city, ``c.zarr``; options are those of `write_scene`."""
    for number in range(scenes):
        pixels = scene_pixels((side, side), number, kinds=kinds)
        write_scene(folder / "scenes", f"JAX_{number:03d}_001", pixels, **options)
    ingest(folder / "scenes", catalog=catalog or catalog_of(), out=folder / "c.zarr", patch=patch)
    return Cube.open(folder / "c.zarr")


def train_rows(cube: Cube) -> np.ndarray:
    """Rows of the training patches of the default split."""
    return np.flatnonzero(cube.layer("splits/default")["split"].to_numpy() == 0)
