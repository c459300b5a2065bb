"""k-means beside scikit-learn's KMeans, at an equal agreement with the truth."""

import time

import numpy as np
import numpy.typing as npt

from benchmarks.figures import Figure
from benchmarks.measure import Setting, Work

K = 8
COMPONENTS = 64


def _latents(setting: Setting) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Draw latents of eight overlapping groups of unequal size, with the falling variances of a PCA."""
    rng = np.random.default_rng(0)
    share = np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.07, 0.05, 0.03])
    truth = rng.choice(K, setting.latents, p=share)
    deviation = 1 / np.sqrt(np.arange(1, COMPONENTS + 1))
    center = rng.standard_normal((K, COMPONENTS)) * deviation
    z = center[truth] + rng.standard_normal((setting.latents, COMPONENTS)) * deviation
    return z.astype(np.float32), truth


def _agreement(truth: npt.NDArray[np.int64], label: npt.NDArray[np.int64]) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(truth, label))


def ours(setting: Setting) -> Work:
    """Cluster as geoae does by default."""
    from geoae.kmeans import cluster_rows

    z, truth = _latents(setting)

    def work() -> dict[str, float]:
        start = time.perf_counter()
        found = cluster_rows(z, K)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "ari": _agreement(truth, found.label)}

    return work


def peer(setting: Setting) -> Work:
    """Cluster by scikit-learn's KMeans from as many starts, with all cores."""
    from sklearn.cluster import KMeans

    from geoae.kmeans import STARTS

    z, truth = _latents(setting)

    def work() -> dict[str, float]:
        start = time.perf_counter()
        label = KMeans(K, n_init=STARTS, random_state=0).fit_predict(z)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "ari": _agreement(truth, label)}

    return work


FIGURES = (
    Figure(
        "kmeans",
        "k-means, 8 clusters of 64 components",
        "peer: scikit-learn KMeans, as many starts",
        {"geoae": ours, "other": peer},
        "speed",
        4.0,
        quality="ari",
        slack=0.01,
        amount=lambda setting: (setting.latents, "rows"),
    ),
)
