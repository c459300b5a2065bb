"""Statistics of sweeps: intervals of differences, and the knee of a curve."""

import numpy as np
import numpy.typing as npt

__all__ = ["FEWEST_GROUPS", "knee", "paired_interval", "participation_ratio"]

FEWEST_GROUPS = 10
"""With fewer groups an interval says too little; tables mark it."""

FloatArray = npt.NDArray[np.float64]


def paired_interval(
    difference: FloatArray,
    group: npt.NDArray[np.int64],
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the mean of paired differences and a bootstrap interval that draws whole groups.

    Parameters
    ----------
    difference
        ``(n,)``: of two methods on the same patch.
    group
        ``(n,)``: tile of each patch. Patches of a tile are alike; to draw them one by one would promise too
        much.
    level
        Of the interval.
    draws, seed
        Of the bootstrap.

    Returns
    -------
    tuple of float
        Mean, lower and upper end; the ends are NaN with fewer than two groups.

    Examples
    --------
    >>> paired_interval(np.array([1.0, 1.0, 1.0]), np.array([0, 1, 2]))
    (1.0, 1.0, 1.0)

    References
    ----------
    .. [1] A. Davison, D. Hinkley, Bootstrap methods and their application, 1997, section 3.8.
    """
    values = np.asarray(difference, np.float64)
    mean = float(values.mean())
    number = np.unique(group, return_inverse=True)[1]
    sums, counts = np.bincount(number, values), np.bincount(number)
    if len(sums) < 2:
        return mean, float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return mean, float(low), float(high)


def knee(sizes: FloatArray, errors: FloatArray) -> int | None:
    """Return the position of the knee of a falling curve; None if it has none.

    On axes that both go from 0 to 1, the first logarithmic, it is the point farthest below the straight line
    from the first to the last point. There is none with fewer than three points, or if no point lies below
    the line by a hundredth or more.

    Parameters
    ----------
    sizes
        ``(n,)`` ascending and positive.
    errors
        ``(n,)``.

    Examples
    --------
    A curve that falls by 1 at each doubling up to 16, and stays there:

    >>> knee(np.array([2.0, 4, 8, 16, 32, 64, 128]), np.array([4.0, 3, 2, 1, 1, 1, 1]))
    3

    References
    ----------
    .. [1] V. Satopaa et al., Finding a "kneedle" in a haystack, 2011.
    """
    if len(sizes) < 3 or errors[0] <= errors[-1]:
        return None
    x = np.log(np.asarray(sizes, np.float64))
    x = (x - x[0]) / (x[-1] - x[0])
    y = (errors - errors[-1]) / (errors[0] - errors[-1])
    below = (1 - x) - y
    best = int(below.argmax())
    return best if below[best] >= 0.01 else None


def participation_ratio(z: npt.NDArray[np.float32]) -> float:
    """Return how many directions share the variance of latent vectors: ``trace(C)^2 / trace(C^2)``.

    It is below the number of vectors, however long they are.

    Parameters
    ----------
    z
        ``(n, latent)``.

    Examples
    --------
    >>> participation_ratio(np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]], np.float32))
    2.0
    """
    centred = np.asarray(z, np.float64) - z.mean(axis=0, dtype=np.float64)
    # The smaller of the two products has the same trace, and the same sum of squares.
    product = centred @ centred.T if len(z) < z.shape[1] else centred.T @ centred
    squares = float((product**2).sum())
    return float(np.trace(product)) ** 2 / squares if squares > 0 else 0.0
