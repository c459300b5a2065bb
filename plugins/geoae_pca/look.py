"""A first look at all patches: their mean, their total scatter, and in which directions to begin."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from geoae_pca.cosines import Cosines
from geoae_pca.sections import Sections

__all__ = ["LOST", "MIXTURES", "Look"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

COEFFICIENTS = 768  # of low frequencies, at least; at most about four for each component
MIXTURES = 8  # of patches in the first block, beside the low frequencies
GATHERED = 1024  # coefficients of so many patches are multiplied together, which is faster
STRIDE = 4  # one patch in so many is mixed
LOST = 1e-6  # a vector that keeps less of its length after projection is rounding error


class _Scatter:
    """Mean of rows and the scatter around it, ``(coefficient, coefficient)``.

    References
    ----------
    Chan, Golub and LeVeque (1979), Updating formulae and a pairwise algorithm for computing sample
    variances, Stanford STAN-CS-79-773.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Float64 = np.empty(0)
        self.matrix: Float64 = np.empty((0, 0))

    def add_rows(self, rows: Float32) -> None:
        """Add rows ``(n, coefficient)``, which are changed."""
        mean = rows.mean(axis=0, dtype=np.float64)
        near = mean.astype(np.float32)  # squares of what is near zero lose no digits
        rows -= near
        # The product of an array and its own transpose takes half the work.
        self.add(len(rows), mean, rows.T @ rows)

    def add(self, count: int, mean: Float64, matrix: npt.NDArray[np.floating]) -> None:
        """Add rows of which the same is known; the first ones' arrays are taken over."""
        if not self.count:
            self.count, self.mean, self.matrix = count, mean, matrix.astype(np.float64, copy=False)
            return
        total = self.count + count
        away = mean - self.mean
        self.matrix += matrix
        self.matrix += np.outer(away, away * (self.count * count / total))
        self.mean += away * (count / total)
        self.count = total


@dataclass
class _Found:
    """What was found in a section; sums are of its patches."""

    total: Float64  # (feature,)
    squares: float
    scatter: _Scatter
    mixed: Float32  # (mixture, feature)
    weight: Float64  # (mixture,): how often a mixture holds the mean


class Look:
    """What one reading finds out.

    Parameters
    ----------
    rows
        Number of patches.
    shape
        ``(channel, y, x)`` of a patch.
    wanted
        Number of components.
    seed
        Seed of the mixtures.
    """

    def __init__(self, rows: int, shape: tuple[int, int, int], wanted: int, seed: int) -> None:
        self.rows = rows
        self.mean: Float64 = np.zeros(int(np.prod(shape)))
        self.total = 0.0
        """Sum of the squared distances from the mean."""
        self.mixtures: Float32 = np.zeros((MIXTURES, len(self.mean)), np.float32)
        """Sums of some patches with random factors, less what they hold of the mean."""
        self.smooth = -(-wanted // 8) * 8
        """Directions of low frequencies to begin with; multiples of eight suit the matrix kernels."""
        self._cosines = Cosines(shape, max(COEFFICIENTS, 4 * self.smooth))
        self._scatter = _Scatter()
        self._stride = max(1, min(STRIDE, rows // (2 * self.smooth)))
        self._seed = seed

    def read(self, sections: Sections, done: Callable[[int], None]) -> None:
        """Read all patches once."""
        weight, squares = np.zeros(MIXTURES), 0.0

        def add(found: _Found) -> None:
            nonlocal squares
            self.mean += found.total
            squares += found.squares
            self._scatter.add(found.scatter.count, found.scatter.mean, found.scatter.matrix)
            self.mixtures += found.mixed
            weight[...] += found.weight

        sections.add_up(self._find, add, done)
        self.mean /= self.rows
        self.mixtures -= np.outer(weight, self.mean).astype(np.float32)
        if not np.isfinite(squares):
            raise FloatingPointError("the patches hold numbers that are not finite, or too large")
        left = squares - float(self.rows * (self.mean @ self.mean))
        self.total = left if left > LOST * squares else 0.0

    def _find(self, number: int, parts: Iterator[Float32]) -> _Found:
        """Look at a section."""
        found = _Found(
            np.zeros_like(self.mean),
            0.0,
            _Scatter(),
            np.zeros_like(self.mixtures),
            np.zeros(MIXTURES),
        )
        generator = np.random.default_rng((self._seed, number))
        buffer = np.empty_like(found.mixed)
        gathered: list[Float32] = []
        seen = 0
        for part in parts:
            found.total += np.ones(len(part), np.float32) @ part
            found.squares += float(np.vecdot(part, part).sum(dtype=np.float64))
            gathered.append(self._cosines.forward(part))
            if sum(map(len, gathered)) >= GATHERED:
                found.scatter.add_rows(np.concatenate(gathered))
                gathered.clear()
            some = part[-seen % self._stride :: self._stride]
            factors = generator.standard_normal((len(some), MIXTURES), dtype=np.float32)
            found.mixed += np.matmul(factors.T, some, out=buffer)
            found.weight += factors.sum(axis=0, dtype=np.float64)
            seen += len(part)
        if gathered:
            found.scatter.add_rows(np.concatenate(gathered))
        return found

    def low_frequencies(self) -> Float32:
        """Return their leading directions, orthonormal, ``(direction, feature)``; to be called once."""
        count = len(self._scatter.matrix)
        leading = (max(0, count - self.smooth), count - 1)
        values, vectors = eigh(self._scatter.matrix, subset_by_index=leading)
        self._scatter = _Scatter()  # of many components it is large
        kept = np.flatnonzero(values > LOST * values[-1])[::-1]
        return self._cosines.back(np.ascontiguousarray(vectors[:, kept].T, np.float32))
