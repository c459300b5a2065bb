"""Clusters of latent vectors.

`cluster` reads a layer of latents, splits off the rows that cannot be used and writes the result;
`geoae.kmeans` does the mathematics.
"""

import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from geoae.cube import Cube
from geoae.errors import InputError, UsageError
from geoae.kmeans import METHODS, Clustering, Method, cluster_rows
from geoae.layers import would_write, write_layer
from geoae.provenance import Record
from geoae.schema import PATCH, SPLIT_NAMES, UNUSED, layer_path
from geoae.splits import parse_split

__all__ = ["ClusterReport", "cluster"]


@dataclass(frozen=True)
class ClusterReport:
    """What `cluster` made.

    Parameters
    ----------
    path
        The layer in the cube.
    k
        Number of clusters; may be smaller than asked for.
    size
        Patches of each cluster, decreasing.
    used, unused
        Patches with a cluster, and patches without one since their latents are not known.
    inertia, silhouette
        See `geoae.kmeans.Clustering`.
    notes
        What a user must read.
    """

    path: str
    k: int
    size: tuple[int, ...]
    used: int
    unused: int
    inertia: float
    silhouette: float | None
    notes: tuple[str, ...]


def cluster(
    cube: Cube | str | os.PathLike[str],
    *,
    latents: str,
    k: int = 8,
    method: Method = "minibatch-kmeans",
    whiten: bool = False,
    seed: int = 0,
    name: str | None = None,
    split: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> ClusterReport:
    """Cluster the latents of the patches and write the clusters as a layer.

    Parameters
    ----------
    cube
        The cube, or its path.
    latents
        Name of a layer of latents, such as ``pca``.
    k, method, whiten, seed
        See `geoae.kmeans.cluster_rows`.
    name
        Name of the new layer; None for the name of the latents.
    split
        Learn the centres from one part of a split only, ``train`` or ``name:train``, and give every
        patch its cluster; None learns from all patches.
    overwrite
        Replace the layer if it exists.
    dry_run
        Compute, write nothing.

    Returns
    -------
    ClusterReport
        Sizes, quality and notes. Patches without latents are in no cluster (-1) and counted.

    Raises
    ------
    InputError
        If no patch has latents.
    UsageError
        If the method or the part of the split is unknown, or the part is empty.
    StoreExistsError
        If the layer exists and was made with other options.
    """
    if method not in METHODS:  # typed on a command line
        raise UsageError(f"unknown method {method!r}", hint=f"it is one of {', '.join(METHODS)}")
    cube = Cube.open(cube)
    source = layer_path("latents", latents)
    path = layer_path("clusters", latents if name is None else name)
    inputs = {source: cube.layer_digest(source)}
    z = cube.layer(source)["z"].to_numpy()
    usable = np.isfinite(z).all(axis=1)
    if not usable.any():
        raise InputError(f"{source} of {cube.path} has no patch with latents", hint="see `geoae info`")
    learn = None
    if split is not None:
        split_name, part = parse_split(split)
        split_path = layer_path("splits", split_name)
        codes = cube.layer(split_path)["split"].to_numpy()
        learn = (codes == SPLIT_NAMES.index(part))[usable]
        inputs[split_path] = cube.layer_digest(split_path)
        if not learn.any():
            raise UsageError(f"no patch of the part {part!r} of {split_path} has latents")
    found = cluster_rows(z[usable], k, method=method, whiten=whiten, seed=seed, learn=learn)
    record = Record(
        made_by="cluster",
        options={"k": k, "method": method, "whiten": whiten, "seed": seed, "split": split},
        inputs=inputs,
        software={"scikit-learn": version("scikit-learn"), "numpy": version("numpy")},
        counts={"patches": len(z), "used": int(usable.sum()), "unused": int((~usable).sum())},
    )
    if dry_run:
        would_write(cube, path, record, {}, overwrite=overwrite)
    else:
        write_layer(cube, path, _dataset(found, usable, source, whiten), record, overwrite=overwrite)
    return ClusterReport(
        path=path,
        k=len(found.size),
        size=tuple(int(n) for n in found.size),
        used=int(usable.sum()),
        unused=int((~usable).sum()),
        inertia=found.inertia,
        silhouette=found.silhouette,
        notes=found.notes,
    )


def _dataset(found: Clustering, usable: npt.NDArray[np.bool_], source: str, whiten: bool) -> xr.Dataset:
    label = np.full(len(usable), UNUSED, dtype=np.int32)
    label[usable] = found.label
    distance = np.full(len(usable), np.nan, dtype=np.float32)
    distance[usable] = found.distance
    units = "deviations of the latents' components" if whiten else "units of the latents"
    attributes: dict[str, Any] = {"latents": source, "inertia": found.inertia}
    if found.silhouette is not None:  # absent where it is not defined
        attributes["silhouette"] = found.silhouette
    if found.notes:
        attributes["notes"] = list(found.notes)
    return xr.Dataset(
        {
            "cluster": (
                PATCH,
                label,
                {
                    "long_name": "cluster of the patch",
                    "comment": "numbered by decreasing size; -1 where the patch has no latents",
                },
            ),
            "distance": (
                PATCH,
                distance,
                {"long_name": "distance from the centre of the patch's cluster", "comment": f"in {units}"},
            ),
            "center": (
                ("cluster_id", "component"),
                found.center.astype(np.float32),
                {"long_name": "centre of the cluster", "comment": "in units of the latents"},
            ),
            "size": ("cluster_id", found.size, {"long_name": "patches in the cluster", "units": "1"}),
            "scale": (
                "component",
                found.scale.astype(np.float32),
                {"long_name": "what differences are divided by before distances are taken"},
            ),
        },
        coords={"cluster_id": ("cluster_id", np.arange(len(found.size), dtype=np.int32))},
        attrs=attributes,
    )
