"""Scenes for benchmarks: a few synthetic views, and as many variants of them as wanted.

Drawing a town takes seconds. A variant is a drawn view turned, shifted, brightened and given the noise
of a sensor, so that no two scenes are equal and their pixels compress as those of real images do.
"""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from geoae.testing import SyntheticView, make_view

__all__ = ["SCENES_A_TILE", "write_scenes", "write_sparse_scenes"]

SCENES_A_TILE = 8

DRAWN = (("JAX", 4, 1), ("OMA", 132, 1))

NOISE = {"rgb": 4.0, "msi": 25.0}
"""Deviation of the noise that is added, in units of the band: it brings the ratio of compressed to raw
bytes to about 0.6, that of real views."""

_ROWS = 256
"""Side of a tile of a file: what a window of one row of patches decodes."""


def write_scenes(folder: Path, number: int, size: int, *, seed: int = 0) -> None:
    """Write scenes of US3D with MSI, RGB, AGL and CLS as tiled GeoTIFFs compressed by deflate.

    Parameters
    ----------
    folder
        Created; a folder that is there is taken as written before.
    number
        How many scenes.
    size
        Side of a scene in pixels.
    seed
        Of towns and variants.
    """
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Moved into place when it is whole: a run that was stopped leaves no half data set.
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        fresh = Path(temporary) / "scenes"
        fresh.mkdir()
        views = [make_view(city, tile, view, size=size, seed=seed, quirks=True) for city, tile, view in DRAWN]
        for scene in range(number):
            city = ("JAX", "OMA")[scene % 2]
            tile, view = divmod(scene // 2, SCENES_A_TILE)
            rng = np.random.default_rng([seed, scene])
            rasters = _variant(views[scene % len(views)], rng)
            for kind, raster in rasters.items():
                path = fresh / f"{city}_{tile:03d}_{view + 1:03d}_{kind}.tif"
                _write(path, raster, raster.shape, raster.dtype.name)
        fresh.rename(folder)


def write_sparse_scenes(folder: Path, number: int, size: int) -> None:
    """Write scenes of the same kinds of which no pixel is stored: headers of a few hundred bytes.

    So a data set of the size of US3D takes seconds to write and little room; every pixel reads as 0.

    Parameters
    ----------
    folder
        Created; a folder that is there is taken as written before.
    number
        How many scenes.
    size
        Side of a scene in pixels.
    """
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"MSI": (8, "uint16"), "RGB": (3, "uint8"), "AGL": (1, "float32"), "CLS": (1, "uint8")}
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        fresh = Path(temporary) / "scenes"
        fresh.mkdir()
        for scene in range(number):
            city = ("JAX", "OMA")[scene % 2]
            tile, view = divmod(scene // 2, SCENES_A_TILE)
            for kind, (bands, dtype) in kinds.items():
                path = fresh / f"{city}_{tile:03d}_{view + 1:03d}_{kind}.tif"
                _write(path, None, (bands, size, size), dtype)
        fresh.rename(folder)


def _variant(view: SyntheticView, rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    side = view.label.shape[0]
    shift = rng.integers(0, side, 2)
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    brightness = rng.uniform(0.7, 1.2)

    def move(raster: npt.NDArray[Any]) -> npt.NDArray[Any]:
        raster = np.rot90(np.roll(raster, tuple(shift), (-2, -1)), turns, (-2, -1))
        return raster[..., ::-1] if mirrored else raster

    def image(raster: npt.NDArray[Any], noise: float, top: int) -> npt.NDArray[Any]:
        moved = move(raster)
        values = moved.astype(np.float32) * np.float32(brightness)
        values += rng.standard_normal(values.shape, np.float32) * np.float32(noise)
        values = np.clip(np.rint(values), 1, top)
        values[:, ~moved.any(axis=0)] = 0  # black is void
        return np.asarray(values, raster.dtype)

    return {
        "MSI": image(view.msi, NOISE["msi"], 2047),
        "RGB": image(view.rgb, NOISE["rgb"], 255),
        "AGL": move(view.agl)[None],
        "CLS": move(view.label)[None],
    }


def _write(path: Path, raster: npt.NDArray[Any] | None, shape: tuple[int, int, int], dtype: str) -> None:
    count, rows, cols = shape
    tiles = {"tiled": True, "blockxsize": _ROWS, "blockysize": _ROWS} if min(rows, cols) >= _ROWS else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # the real files have no CRS either
        with rasterio.open(
            path, "w", driver="GTiff", width=cols, height=rows, count=count, dtype=dtype,
            compress="deflate", zlevel=1, interleave="pixel", sparse_ok=raster is None, **tiles,
        ) as sink:  # fmt: skip
            if raster is not None:
                sink.write(raster)
