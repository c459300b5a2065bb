"""Principal components of more rows than fit in memory.

The rows are read a few times from front to back; memory holds some blocks of vectors as long as a
row, never the rows. Each reading multiplies the scatter matrix

    S = sum over rows of (x - mean) (x - mean)^T

by a block of vectors B_i. Every block starts from the one before, ``B_(i+1) = orth(S B_i)``, and all are
kept: together they span a block Krylov space, which holds the leading eigenvectors far sooner than the
last block alone (the power iteration that randomized solvers use). With ``B = [B_1 ... B_q]`` and
``Y = S B``, Nystrom's approximation

    S  ~  Y (B^T Y)^-1 Y^T

is one multiplication by S better than the projection on B and needs no further reading. Its
eigenvalues never exceed those of S but for rounding, so a fit understates what it explains.

The first block is a random mixture of a quarter of the rows, which is worth about one reading.

References
----------
.. [1] C. Musco and C. Musco, Randomized block Krylov methods for stronger and faster approximate
   singular value decomposition, NeurIPS 2015.
.. [2] J. Tropp, A. Yurtsever, M. Udell, V. Cevher, Fixed-rank approximation of a positive-semidefinite
   matrix from streaming data, NeurIPS 2017.
.. [3] N. Halko, P.-G. Martinsson, J. Tropp, Finding structure with randomness, SIAM Review 53 (2011).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

__all__ = ["PrincipalComponents", "principal_components"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

START_FRACTION = 4  # the first block mixes one row in so many
FADING = 0.1  # what a pass gains, times this, is what is left to gain: on images 0.02 to 0.15 was seen
LOST = 1e-6  # a vector that keeps less of its length after projection is rounding error
COLUMNS = 8192  # float64 copies are made of so many columns at a time


@dataclass(frozen=True)
class PrincipalComponents:
    """Leading eigenvectors of a covariance matrix.

    Parameters
    ----------
    mean
        ``(feature,)`` float32.
    components
        ``(component, feature)`` float32, orthonormal, by decreasing variance; the entry of largest
        magnitude is positive.
    variances
        ``(component,)`` float64, with divisor ``rows - 1``.
    total_variance
        Sum of the variances of all features.
    rows
        How many rows there were.
    passes
        How often they were read.
    missed
        Estimate of the share of the total variance that more passes would add; 0 where the result is exact.
    """

    mean: Float32
    components: Float32
    variances: Float64
    total_variance: float
    rows: int
    passes: int
    missed: float


def principal_components(
    read: Callable[[int | None], Iterator[Float32]],
    rows: int,
    features: int,
    wanted: int,
    *,
    seed: int,
    tolerance: float,
    max_passes: int,
    progress: Callable[[int, float, int], None],
) -> PrincipalComponents:
    """Find the leading principal components of rows that are streamed.

    Parameters
    ----------
    read
        ``read(None)`` yields all rows in blocks ``(n, feature)`` float32, ``read(seed)`` in a shuffled order.
    rows, features
        Size of the matrix; at least two rows.
    wanted
        Number of components. Fewer come back where the rows span fewer directions.
    seed
        Seed of the first block.
    tolerance
        Stop when more passes would add less than this share of the total variance.
    max_passes
        Stop at the latest after so many passes over all rows.
    progress
        Called as ``progress(pass, share of variance explained before it, rows done)``.

    Returns
    -------
    PrincipalComponents
        Without components where all rows are equal.

    Raises
    ------
    FloatingPointError
        If a row holds NaN or infinity, or numbers too large to be squared.
    """
    generator = np.random.default_rng(seed)
    wanted = min(wanted, rows - 1, features)
    # Blocks smaller than the number of components reach further for the same work; multiples of eight
    # suit the matrix kernels. With one pass there is one block, which must hold everything.
    size = max(16, -(-wanted * 7 // 64) * 8) if max_passes > 1 else wanted + 10
    size = min(size, features)
    block, centre = _first_block(read, rows, features, size, seed, generator)
    basis = images = np.empty((0, features), np.float32)
    overlap = scatter = np.empty((0, 0))
    state = _State(rows, centre)
    values: Float64 = np.empty(0)
    weights: Float64 = np.empty((0, 0))
    explained, missed, passes = 0.0, 0.0, 0
    while len(block):
        passes += 1
        image = state.multiply(read(None), block, partial(progress, passes, explained))
        if state.total <= 0:
            break
        basis, images = np.concatenate([basis, block]), np.concatenate([images, image])
        overlap = _border(overlap, _products(basis, image))
        scatter = _border(scatter, _products(images, image))
        values, weights = _nystrom(overlap, scatter, size)
        before, explained = explained, float(values[:wanted].sum() / state.total)
        gain = max(explained - before, 0.0)
        missed = gain * max(FADING, gain / explained)  # noise without structure fades slowly
        if passes >= max_passes or (passes > 1 and len(basis) >= wanted and missed < tolerance):
            break
        block = _orthonormal(image, basis)[: features - len(basis)]
    else:
        missed = 0.0  # nothing is left outside the basis
    progress(passes, explained, rows)
    components = _vectors(images, values[:wanted], weights[:, :wanted])
    return PrincipalComponents(
        mean=state.centre.astype(np.float32),
        components=components,
        variances=values[:wanted] / (rows - 1),
        total_variance=state.total / (rows - 1),
        rows=rows,
        passes=passes,
        missed=missed,
    )


def _first_block(
    read: Callable[[int | None], Iterator[Float32]],
    rows: int,
    features: int,
    size: int,
    seed: int,
    generator: np.random.Generator,
) -> tuple[Float32, Float64]:
    """Mix some rows at random into an orthonormal block; also return the mean of those rows."""
    wanted = min(rows, max(rows // START_FRACTION, 2 * size))
    mixed = np.zeros((size, features), np.float32)
    total, weight, seen = np.zeros(features), np.zeros(size), 0
    for part in read(seed):
        part = part[: wanted - seen]
        factors = generator.standard_normal((len(part), size), dtype=np.float32)
        mixed += factors.T @ part
        weight += factors.sum(axis=0, dtype=np.float64)
        total += np.ones(len(part), np.float32) @ part
        seen += len(part)
        if seen >= wanted:
            break
    centre = total / max(seen, 1)
    mixed -= np.outer(weight, centre).astype(np.float32)
    block = _orthonormal(mixed, mixed[:0])
    # Rows that hardly differ mix into few directions. Random ones fill the block.
    while len(block) < size:
        more = generator.standard_normal((size - len(block), features), dtype=np.float32)
        block = np.concatenate([block, _orthonormal(more, block)])
    return block, centre


class _State:
    """The mean and the total scatter, which the first pass finds while it multiplies."""

    def __init__(self, rows: int, centre: Float64) -> None:
        self.rows = rows
        self.centre = centre  # of some rows at first, of all after one pass
        self.total = -1.0  # sum of the squared distances from the mean; unknown before the first pass

    def multiply(self, parts: Iterator[Float32], block: Float32, done: Callable[[int], None]) -> Float32:
        """Multiply the scatter matrix by a block ``(vector, feature)``, reading all rows once."""
        first = self.total < 0
        image = np.zeros_like(block)
        buffer = np.empty_like(block)
        offset = (block @ self.centre).astype(np.float32)
        weight, total, squares, seen = np.zeros(len(block)), np.zeros(block.shape[1]), 0.0, 0
        for part in parts:
            scores = part @ block.T  # (row, vector)
            scores -= offset
            image += np.matmul(scores.T, part, out=buffer)
            weight += scores.sum(axis=0, dtype=np.float64)
            if first:
                total += np.ones(len(part), np.float32) @ part
                squares += float(np.vecdot(part, part).sum(dtype=np.float64))
            seen += len(part)
            done(seen)
        if seen != self.rows:
            raise ValueError(f"the source promised {self.rows} patches and gave {seen}")
        image -= np.outer(weight, self.centre).astype(np.float32)
        if first:
            # Scores were centred on a first guess: a correction of rank one moves them to the mean.
            mean = total / self.rows
            shift = mean - self.centre
            image -= np.outer(self.rows * (block @ shift), shift).astype(np.float32)
            self.centre = mean
            size = float(self.rows * (mean @ mean))
            left = squares - size
            self.total = left if left > LOST * squares else 0.0
        _check_finite(image)
        return image


def _check_finite(block: Float32) -> None:
    # One look at a block of products finds a bad number in any row, far cheaper than looking at the rows.
    if not np.isfinite(block).all():
        raise FloatingPointError("the rows hold numbers that are not finite")


def _products(a: Float32, b: Float32) -> Float64:
    """Return ``a @ b.T`` summed in float64, without float64 copies of whole arrays."""
    result = np.zeros((len(a), len(b)))
    for start in range(0, a.shape[1], COLUMNS):
        part = slice(start, start + COLUMNS)
        left = a[:, part].astype(np.float64)
        # The product of an array and its own transpose takes half the work.
        right = left if a is b else b[:, part].astype(np.float64)
        result += left @ right.T
    return result


def _border(matrix: Float64, columns: Float64) -> Float64:
    """Extend a symmetric matrix by columns ``(all, new)``."""
    old = len(matrix)
    grown = np.empty((len(columns), len(columns)))
    grown[:old, :old] = matrix
    grown[:, old:] = columns
    grown[old:, :old] = columns[:old].T
    return grown


def _orthonormal(vectors: Float32, basis: Float32) -> Float32:
    """Make vectors orthonormal, and orthogonal to those of a basis; drop what vanishes."""
    block: Float32 = vectors
    length = np.linalg.norm(block, axis=1)
    for _ in range(2):  # twice is enough to be orthogonal to working precision
        block = (block - (block @ basis.T) @ basis).astype(np.float32, copy=False)
        now = np.linalg.norm(block, axis=1)
        kept = now > LOST * length
        block = (block[kept] / now[kept, np.newaxis]).astype(np.float32, copy=False)
        if not len(block):
            return block
        size, turn = np.linalg.eigh(_products(block, block))
        kept = size > LOST**2 * 100 * size[-1]
        block = (turn[:, kept] / np.sqrt(size[kept])).T.astype(np.float32) @ block
        length = np.ones(len(block), np.float32)
    return block


def _nystrom(overlap: Float64, scatter: Float64, size: int) -> tuple[Float64, Float64]:
    """Solve the small eigenproblem of Nystrom's approximation.

    Parameters
    ----------
    overlap
        ``(vector, vector)``: basis times images; its first block is symmetric but for rounding.
    scatter
        ``(vector, vector)``: images times images.
    size
        Vectors of the first block.

    Returns
    -------
    values, weights
        Eigenvalues in decreasing order, and ``(vector, value)`` such that ``weights.T @ images`` are
        the eigenvectors times the square roots of the eigenvalues.
    """
    # How far the first block is from symmetry tells how large rounding is; what is below it is not data.
    first = overlap[:size, :size]
    noise = float(np.linalg.norm(first - first.T, 2))
    values, vectors = np.linalg.eigh((overlap + overlap.T) / 2)
    kept = values > max(10 * noise, 1e-12 * values[-1])
    half = vectors[:, kept] / np.sqrt(values[kept])
    values, vectors = np.linalg.eigh(half.T @ scatter @ half)
    kept = values > 10 * noise
    values, vectors = values[kept][::-1], vectors[:, kept][:, ::-1]
    return values, half @ vectors


def _vectors(images: Float32, values: Float64, weights: Float64) -> Float32:
    """Combine images into orthonormal components with the sign that geoae promises."""
    if not len(values):
        return np.empty((0, images.shape[1]), np.float32)
    vectors = (weights / np.sqrt(values)).T.astype(np.float32) @ images
    size, turn = np.linalg.eigh(_products(vectors, vectors))
    # The inverse square root is the least change that makes them orthonormal; it keeps their order.
    vectors = ((turn / np.sqrt(size)) @ turn.T).astype(np.float32) @ vectors
    largest = np.abs(vectors).argmax(axis=1)
    signs = np.where(vectors[np.arange(len(vectors)), largest] < 0, -1, 1).astype(np.float32)
    return np.asarray(vectors * signs[:, np.newaxis], np.float32)
