"""k-means of the rows of an array.

The same options give the same bytes whatever the number of cores: sums are made by one thread.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

__all__ = ["METHODS", "STARTS", "Clustering", "Method", "cluster_rows"]

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
        mean, deviation = _moments(z[subset])
        varies = deviation > CONSTANT * deviation.max(initial=0.0)
        scale = np.where(varies, deviation, 1.0) if whiten else np.ones_like(mean)
        # One unit for all components, so that no square leaves the range of float32.
        unit = float((deviation / scale).max(initial=0.0)) or 1.0
        divisor = scale * unit
        rows = np.concatenate([((block - mean) / divisor).astype(np.float32) for block in _blocks(z)])
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


def _blocks(rows: npt.NDArray[Any]) -> Iterator[FloatArray]:
    """Yield rows as float64, a few at a time: more leave the processor's cache and take thrice as long."""
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH].astype(np.float64)


def _moments(rows: npt.NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Return mean and deviation of each component."""
    mean, square = np.zeros((2, rows.shape[1]))
    for block in _blocks(rows):
        mean += block.sum(axis=0) / len(rows)
    for block in _blocks(rows):
        offset = block - mean
        square += np.einsum("nc,nc->c", offset, offset)
    return mean, np.sqrt(square / len(rows))


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
        # It says that clusters stayed empty; those are counted after the last assignment.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if method == "kmeans":
            model = KMeans(k, n_init=STARTS, random_state=seed).fit(rows)
            return np.asarray(model.cluster_centers_, dtype=np.float64)
        return _fit_minibatch(rows, k, seed)


def _fit_minibatch(rows: npt.NDArray[np.float32], k: int, seed: int) -> FloatArray:
    sample = rows
    if len(rows) > SAMPLE:
        chosen = rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:SAMPLE])]
        if _distinct(chosen, k) == k:  # else a sample of many equal rows
            sample = chosen
    # Where more steps follow, the last digits of the start are no matter.
    tolerance = 1e-4 if len(sample) == len(rows) else 1e-3
    start = KMeans(k, n_init=STARTS, max_iter=50, tol=tolerance, random_state=seed).fit(sample)
    if len(sample) == len(rows):
        return np.asarray(start.cluster_centers_, dtype=np.float64)
    # No reassignment: the start is good already, and a rare cluster is a finding.
    batches = MiniBatchKMeans(
        k, init=start.cluster_centers_, n_init=1, batch_size=BATCH, random_state=seed, reassignment_ratio=0
    ).fit(rows)
    # One step on all rows: centres of mini-batches still carry where they came from.
    return _step(rows, np.asarray(batches.cluster_centers_, dtype=np.float64))


def _step(rows: npt.NDArray[np.float32], center: FloatArray) -> FloatArray:
    """Move each centre to the mean of the rows that it is the nearest to; one without a row stays.

    Examples
    --------
    >>> rows = np.array([[0.0], [2.0], [9.0]], np.float32)
    >>> _step(rows, np.array([[1.5], [8.0], [50.0]])).tolist()
    [[1.0], [9.0], [50.0]]
    """
    total, size = np.zeros_like(center), np.zeros(len(center))
    numbers = np.arange(len(center))
    for block in _blocks(rows):
        mine = numbers[:, np.newaxis] == _closest(block, center)
        total += mine.astype(np.float64) @ block
        size += mine.sum(axis=1)
    moved = size > 0
    return np.where(moved[:, np.newaxis], total / np.maximum(size, 1)[:, np.newaxis], center)


def _closest(block: FloatArray, center: FloatArray) -> IntArray:
    """Return the nearest centre of each row of a block."""
    norm = np.einsum("kc,kc->k", center, center)
    return np.asarray((norm - 2 * (block @ center.T)).argmin(axis=1))


def _nearest(rows: npt.NDArray[np.float32], center: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the nearest centre of each row and the squared distance, in float64, block by block."""
    label = np.empty(len(rows), dtype=np.int64)
    square = np.empty(len(rows))
    for number, block in enumerate(_blocks(rows)):
        part = slice(number * BATCH, number * BATCH + len(block))
        label[part] = _closest(block, center)
        offset = block - center[label[part]]
        square[part] = np.einsum("nc,nc->n", offset, offset)
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
