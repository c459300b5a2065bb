"""Clusters of latent vectors.

`cluster_rows` does the mathematics on an array; `cluster` reads a layer of latents, splits off the
rows that cannot be used and writes the result. The same options give the same bytes whatever the
number of cores: sums are made by one thread.
"""

import os
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import xarray as xr
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

from geoae.cube import Cube
from geoae.errors import InputError, UsageError
from geoae.layers import would_write, write_layer
from geoae.provenance import Record
from geoae.schema import PATCH, SPLIT_NAMES, UNUSED, layer_path
from geoae.splits import parse_split

__all__ = ["METHODS", "ClusterReport", "Clustering", "Method", "cluster", "cluster_rows"]

Method = Literal["minibatch-kmeans", "kmeans"]
METHODS: tuple[str, ...] = get_args(Method)

STARTS = 8
"""k-means runs from different starts; the one with the least inertia is kept."""

SAMPLE = 8192
"""Rows on which mini-batch k-means looks for its start. A start from whole k-means runs on a sample
makes the result as good as that of k-means on all rows; the k-means++ start alone does not."""

BATCH = 2048
"""Rows of a mini-batch."""

SILHOUETTE_SAMPLE = 2000
"""Rows of which the silhouette is computed; its cost grows with their square."""

CONSTANT = 1e-7
"""A component whose deviation is below this part of the largest is constant and is not whitened."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Clustering:
    """Clusters of rows, numbered by decreasing size.

    Parameters
    ----------
    label
        ``(n,)`` int64, the cluster of each row.
    distance
        ``(n,)`` float64, distance of each row from the centre of its cluster, in units of the latents
        or, if they were whitened, of their deviations.
    center
        ``(cluster, component)`` float64, in units of the latents.
    size
        ``(cluster,)`` int64.
    scale
        ``(component,)`` float64, what distances are divided by: ones unless whitened.
    inertia
        Sum of the squared distances.
    silhouette
        Mean silhouette of a sample of the rows, -1 to 1; None where it is not defined.
    notes
        What a user must read.
    """

    label: IntArray
    distance: FloatArray
    center: FloatArray
    size: IntArray
    scale: FloatArray
    inertia: float
    silhouette: float | None
    notes: tuple[str, ...]


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
        See `Clustering`.
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


def cluster_rows(
    z: npt.NDArray[Any],
    k: int,
    *,
    method: Method = "minibatch-kmeans",
    whiten: bool = False,
    seed: int = 0,
    learn: npt.NDArray[np.bool_] | None = None,
) -> Clustering:
    """Cluster the rows of an array.

    Parameters
    ----------
    z
        ``(n, component)`` finite numbers, at least one row.
    k
        Number of clusters; capped by the number of different rows, with a note.
    method
        ``kmeans``, or ``minibatch-kmeans``, which is several times faster on many rows.
    whiten
        Divide each component by its standard deviation first, so that all weigh the same. For latents
        whose components are uncorrelated, such as those of a PCA, this makes their covariance the
        identity.
    seed
        Seed of the starts.
    learn
        ``(n,)`` bool, rows that the centres are learned from; None for all. Every row gets a cluster.

    Raises
    ------
    ValueError
        If `z` is empty or not finite, or `k` is below one.

    Examples
    --------
    >>> found = cluster_rows(np.array([[0.0], [9.0], [0.2], [0.1]]), 2)
    >>> found.label, found.size
    (array([0, 1, 0, 0]), array([3, 1]))
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if z.ndim != 2 or not z.size or not np.isfinite(z).all():
        raise ValueError(f"needs finite rows and components, got shape {z.shape}")
    subset = slice(None) if learn is None else learn
    notes: list[str] = []
    # One thread: sums split among threads differ in their last bits with the number of cores.
    with threadpool_limits(limits=1):
        # Deviations from the mean, since float32 distances far from the origin lose their digits.
        mean = z[subset].mean(axis=0, dtype=np.float64)
        deviation = z[subset].std(axis=0, dtype=np.float64)
        varies = deviation > CONSTANT * deviation.max(initial=0.0)
        scale = np.where(varies, deviation, 1.0) if whiten else np.ones_like(mean)
        # One unit for all components, so that no square leaves the range of float32.
        unit = float((deviation / scale).max(initial=0.0)) or 1.0
        rows = ((z - mean) / (scale * unit)).astype(np.float32)
        learned = rows[subset]
        distinct = _distinct(learned, k)
        if distinct < k:
            notes.append(f"k is {distinct} instead of {k}: there are only {distinct} different patches")
        center = _fit(learned, distinct, method, seed)
        label, square = _nearest(rows, center)
        label, center, size = _by_size(label, center)
        if len(size) < distinct:
            notes.append(f"k is {len(size)} instead of {k}: the other clusters have no patch")
        silhouette = _silhouette(rows, label, seed)
    return Clustering(
        label=label,
        distance=np.sqrt(square) * unit,
        center=center * (scale * unit) + mean,
        size=size,
        scale=scale,
        inertia=float(square.sum()) * unit**2,
        silhouette=silhouette,
        notes=tuple(notes),
    )


def _distinct(rows: npt.NDArray[np.float32], enough: int) -> int:
    """Count different rows, no further than `enough`."""
    seen: set[bytes] = set()
    for row in rows:
        seen.add((row + np.float32(0)).tobytes())  # -0.0 + 0 is 0.0
        if len(seen) == enough:
            break
    return len(seen)


def _fit(rows: npt.NDArray[np.float32], k: int, method: Method, seed: int) -> FloatArray:
    """Return centres ``(k, component)``."""
    with warnings.catch_warnings():
        # It says that clusters stayed empty (those are counted after the last assignment) or that one
        # step is not the last.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if method == "kmeans":
            model = KMeans(k, n_init=STARTS, random_state=seed).fit(rows)
        else:
            model = _fit_minibatch(rows, k, seed)
    return np.asarray(model.cluster_centers_, dtype=np.float64)


def _fit_minibatch(rows: npt.NDArray[np.float32], k: int, seed: int) -> KMeans | MiniBatchKMeans:
    sample = rows
    if len(rows) > SAMPLE:
        chosen = rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:SAMPLE])]
        if _distinct(chosen, k) == k:  # else a sample of many equal rows
            sample = chosen
    start = KMeans(k, n_init=STARTS, max_iter=50, random_state=seed).fit(sample)
    if len(sample) == len(rows):
        return start
    # No reassignment: the start is good already, and a rare cluster is a finding.
    batches = MiniBatchKMeans(
        k, init=start.cluster_centers_, n_init=1, batch_size=BATCH, random_state=seed, reassignment_ratio=0
    ).fit(rows)
    # One step on all rows: centres of mini-batches still carry where they came from.
    return KMeans(k, init=batches.cluster_centers_, n_init=1, max_iter=1).fit(rows)


def _nearest(rows: npt.NDArray[np.float32], center: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the nearest centre of each row and the squared distance, in float64, block by block."""
    label = np.empty(len(rows), dtype=np.int64)
    square = np.empty(len(rows))
    norm = np.einsum("kc,kc->k", center, center)
    for start in range(0, len(rows), BATCH):
        block = rows[start : start + BATCH].astype(np.float64)
        best = (norm - 2 * (block @ center.T)).argmin(axis=1)
        offset = block - center[best]
        label[start : start + BATCH] = best
        square[start : start + BATCH] = np.einsum("nc,nc->n", offset, offset)
    return label, square


def _by_size(label: IntArray, center: FloatArray) -> tuple[IntArray, FloatArray, IntArray]:
    """Renumber clusters by decreasing size, equal ones by their first row; drop empty ones."""
    found, first, size = np.unique(label, return_index=True, return_counts=True)
    order = np.lexsort((first, -size))
    number = np.empty(len(center), dtype=np.int64)
    number[found[order]] = np.arange(len(order))
    return number[label], center[found[order]], size[order]


def _silhouette(rows: npt.NDArray[np.float32], label: IntArray, seed: int) -> float | None:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:SILHOUETTE_SAMPLE])
    groups = len(np.unique(label[chosen]))
    if not 2 <= groups < len(chosen):
        return None
    return float(silhouette_score(rows[chosen].astype(np.float64), label[chosen]))


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
        See `cluster_rows`.
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
