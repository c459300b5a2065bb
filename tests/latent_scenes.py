"""A small cube with latents that a test chooses."""

from pathlib import Path

import numpy as np
import xarray as xr
from cube_scenes import catalog_of, write_scene
from matplotlib.figure import Figure

from geoae.clusters import cluster
from geoae.cube import Cube
from geoae.ingestion import ingest
from geoae.layers import write_layer
from geoae.projections import project
from geoae.provenance import Record
from geoae.summaries import summarize


def make_cube(
    folder: Path, *, scenes: int = 2, side: int = 16, patch: int = 4, crs: str | None = None
) -> Cube:
    """Scenes of JAX and OMA in turn: a colour image of a ramp, heights and labels of known patches.

    Patch ``(row, col)`` of every scene has the label ``(2, 5, 6)[(row + col) % 3]`` and the height
    ``10 * row + col``.
    """
    y, x = np.mgrid[:side, :side]
    row, col = y // patch, x // patch
    for number in range(scenes):
        city = ("JAX", "OMA")[number % 2]
        rgb = np.stack([1 + y * 7, 1 + x * 7, np.full_like(y, 40 + number)]).astype(np.uint8)
        label = np.array([2, 5, 6], np.uint8)[(row + col) % 3]
        agl = (10 * row + col).astype(np.float32)
        pixels = {"RGB": rgb, "CLS": label, "AGL": agl}
        write_scene(folder / "scenes", f"{city}_{number:03d}_001", pixels, crs=crs)
    out = folder / "small.zarr"
    ingest(folder / "scenes", catalog=catalog_of(), out=out, patch=patch)
    return Cube.open(out)


def give_latents(cube: Cube, z: np.ndarray, name: str = "pca", *, seed: int = 0) -> None:
    """Write latents as an encoder would; `seed` only makes records differ."""
    dataset = xr.Dataset({"z": (("patch", "component"), z.astype(np.float32))})
    write_layer(
        cube, f"latents/{name}", dataset, Record(made_by="encode", options={"seed": seed}), overwrite=True
    )


def groups(
    n: int, centers: np.ndarray, *, spread: float = 0.3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Rows around centres, of unequal numbers; rows and which centre each came from."""
    rng = np.random.default_rng(seed)
    weight = np.arange(len(centers), 0, -1) / np.arange(len(centers) + 1).sum()
    which = rng.choice(len(centers), n, p=weight)
    return centers[which] + rng.normal(0, spread, (n, centers.shape[1])), which


def plotted_cube(folder: Path) -> Cube:
    """Three scenes with latents (all but patch 5), a summary, three clusters and a projection."""
    made = make_cube(folder, scenes=3)
    z = np.random.default_rng(0).normal(size=(made.n_patches, 4)) * [4, 2, 1, 0.5]
    z[5] = np.nan
    give_latents(made, z)
    summarize(made)
    cluster(made, latents="pca", k=3)
    project(made, latents="pca")
    return made


def texts(figure: Figure) -> str:
    """All words of a figure, legends and axes included, on one line."""
    found = [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return " ".join(" ".join(found).split())
