"""Projections of latent vectors to a few axes, to look at.

A projection keeps what its method keeps: that of a PCA is linear, so distances in it are shadows of
distances in the latents, and it says how much of the variance it shows.
"""

import os
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import xarray as xr
from threadpoolctl import threadpool_limits

from geoae.cube import Cube
from geoae.errors import InputError, UsageError
from geoae.layers import would_write, write_layer
from geoae.provenance import Record
from geoae.schema import PATCH, layer_path

__all__ = ["METHODS", "Method", "Projection", "ProjectionReport", "pca", "project", "project_rows"]

Method = Literal["pca"]
METHODS: tuple[str, ...] = get_args(Method)

BLOCK = 4096
"""Rows that are widened to float64 at a time."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Projection:
    """Rows on a few axes.

    Parameters
    ----------
    xy
        ``(n, axis)`` float64.
    explained_variance_ratio
        ``(axis,)``, part of the variance that each axis shows; None for methods without one.
    linear
        Whether the axes are directions in the latents, so that distances have a meaning.
    parameters
        Parameters of the method that the caption of a plot states.
    """

    xy: FloatArray
    explained_variance_ratio: FloatArray | None
    linear: bool
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProjectionReport:
    """What `project` made.

    Parameters
    ----------
    path
        The layer in the cube.
    axes
        Number of axes; may be smaller than asked for.
    explained_variance_ratio
        Part of the variance that each axis shows; None for methods without one.
    used, unused
        Patches with a place, and patches without one since their latents are not known.
    notes
        What a user must read.
    """

    path: str
    axes: int
    explained_variance_ratio: tuple[float, ...] | None
    used: int
    unused: int
    notes: tuple[str, ...]


def pca(z: npt.NDArray[Any], components: int = 2) -> Projection:
    """Project rows on their principal axes.

    The axes are the eigenvectors of the covariance, by decreasing eigenvalue; the largest entry of
    each is positive, which fixes the signs.

    Parameters
    ----------
    z
        ``(n, component)`` finite numbers, at least one row.
    components
        Number of axes, at most the number of components of `z`.

    Raises
    ------
    ValueError
        If the rows are empty or not finite, or there are fewer components than axes.

    Examples
    --------
    >>> found = pca(np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]), 1)
    >>> found.xy.round(6).ravel(), found.explained_variance_ratio.round(6)
    (array([-5.,  0.,  5.]), array([1.]))
    """
    if z.ndim != 2 or not z.size or not np.isfinite(z).all():
        raise ValueError(f"needs finite rows and components, got shape {z.shape}")
    if not 1 <= components <= z.shape[1]:
        raise ValueError(f"{components} axes of {z.shape[1]} components")
    # One thread: sums split among threads differ in their last bits with the number of cores.
    with threadpool_limits(limits=1):
        mean = z.mean(axis=0, dtype=np.float64)
        covariance = np.zeros((z.shape[1], z.shape[1]))
        for start in range(0, len(z), BLOCK):
            block = z[start : start + BLOCK].astype(np.float64) - mean
            covariance += block.T @ block
        values, vectors = np.linalg.eigh(covariance)
        axes = vectors[:, ::-1][:, :components]
        axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(components)] < 0, -1.0, 1.0)
        xy = np.concatenate([(z[i : i + BLOCK] - mean) @ axes for i in range(0, len(z), BLOCK)])
    total = float(np.trace(covariance))
    # Eigenvalues of rounding errors may be a little below zero.
    kept = np.clip(values[::-1][:components], 0.0, None)
    ratio = kept / total if total > 0 else np.zeros(components)
    return Projection(xy, ratio, linear=True)


def project_rows(
    z: npt.NDArray[Any], *, method: Method = "pca", components: int = 2, seed: int = 0
) -> Projection:
    """Project rows by a method; `seed` is for methods that start at random, which a PCA does not."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    del seed
    return pca(z, components)


def project(
    cube: Cube | str | os.PathLike[str],
    *,
    latents: str,
    method: Method = "pca",
    components: int = 2,
    name: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    dry_run: bool = False,
) -> ProjectionReport:
    """Project the latents of the patches and write the places as a layer.

    Parameters
    ----------
    cube
        The cube, or its path.
    latents
        Name of a layer of latents, such as ``vae``.
    method
        ``pca``.
    components
        Number of axes; capped by the components of the latents, with a note.
    name
        Name of the new layer; None for latents and method, such as ``vae_pca``.
    seed
        Seed of methods that start at random.
    overwrite
        Replace the layer if it exists.
    dry_run
        Compute, write nothing.

    Returns
    -------
    ProjectionReport
        Axes and counts. Patches without latents have no place (NaN) and are counted.

    Raises
    ------
    InputError
        If no patch has latents.
    UsageError
        If the method is unknown.
    StoreExistsError
        If the layer exists and was made with other options.
    """
    if components < 1:
        raise ValueError(f"components must be at least 1, not {components}")
    if method not in METHODS:  # typed on a command line
        raise UsageError(f"unknown method {method!r}", hint=f"it is one of {', '.join(METHODS)}")
    cube = Cube.open(cube)
    source = layer_path("latents", latents)
    path = layer_path("projections", f"{latents}_{method}" if name is None else name)
    z = cube.layer(source)["z"].to_numpy()
    usable = np.isfinite(z).all(axis=1)
    if not usable.any():
        raise InputError(f"{source} of {cube.path} has no patch with latents", hint="see `geoae info`")
    axes = min(components, z.shape[1])
    notes = () if axes == components else (f"{axes} axes instead of {components}: the latents have no more",)
    found = project_rows(z[usable], method=method, components=axes, seed=seed)
    xy = np.full((len(z), axes), np.nan, dtype=np.float32)
    xy[usable] = found.xy
    record = Record(
        made_by="project",
        options={"method": method, "components": components, "seed": seed, **found.parameters},
        inputs={source: cube.layer_digest(source)},
        software={"numpy": version("numpy")},
        counts={"patches": len(z), "used": int(usable.sum()), "unused": int((~usable).sum())},
    )
    attributes: dict[str, Any] = {"latents": source, "method": method, "linear": found.linear}
    ratio = found.explained_variance_ratio
    if ratio is not None:
        attributes["explained_variance_ratio"] = [float(r) for r in ratio]
    dataset = xr.Dataset(
        {"xy": ((PATCH, "axis"), xy, {"long_name": f"place of the patch in a {method} of {source}"})},
        attrs=attributes,
    )
    if dry_run:
        would_write(cube, path, record, {}, overwrite=overwrite)
    else:
        write_layer(cube, path, dataset, record, overwrite=overwrite)
    return ProjectionReport(
        path=path,
        axes=axes,
        explained_variance_ratio=None if ratio is None else tuple(float(r) for r in ratio),
        used=int(usable.sum()),
        unused=int((~usable).sum()),
        notes=notes,
    )
