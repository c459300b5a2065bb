"""Principal components of more patches than fit in memory.

The patches are read a few times from front to back; memory holds some blocks of vectors as long as a
patch, never the patches. Each pass multiplies the scatter matrix

    S = sum over patches of (x - mean) (x - mean)^T

by a block of vectors B_i. Every block starts from the one before, ``B_(i+1) = orth(S B_i)``, and all are
kept: together they span a block Krylov space, which holds the leading eigenvectors far sooner than the
last block alone (the power iteration that randomized solvers use). With ``B = [B_1 ... B_q]`` and
``Y = S B``, Nystrom's approximation

    S  ~  Y (B^T Y)^-1 Y^T

is one multiplication by S better than the projection on B and needs no further reading. Its
eigenvalues never exceed those of S but for rounding, so a fit understates what it explains.

The first block comes from a first look at all patches: the principal components of their low frequencies
(`geoae_pca.cosines`), which need a small matrix only and are close to those of images, and some random
mixtures of patches, which show what low frequencies hide, such as stripes: then the first pass gains much
over its block, and another one follows. Of images one pass is enough.

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
from typing import Any

import numpy as np
import numpy.typing as npt

from geoae_pca.look import LOST, MIXTURES, Look
from geoae_pca.sections import Sections

__all__ = ["PrincipalComponents", "principal_components"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

FADING = 0.1  # what a pass gains, times this, is what is left to gain: on images 0.02 to 0.15 was seen
TILE = 8192  # columns of a product that is added to a sum
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
        How often they were read after the first look.
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
    sections: Sections,
    shape: tuple[int, int, int],
    wanted: int,
    *,
    seed: int,
    tolerance: float,
    max_passes: int,
    progress: Callable[[int, float, int], None],
) -> PrincipalComponents:
    """Find the leading principal components of patches that are streamed.

    Parameters
    ----------
    sections
        The patches, at least two.
    shape
        ``(channel, y, x)`` of a patch; their product is the number of features.
    wanted
        Number of components. Fewer come back where the patches span fewer directions.
    seed
        Seed of the mixtures.
    tolerance
        Stop when more passes would add less than this share of the total variance.
    max_passes
        Stop at the latest after so many passes over all patches, beside the first look.
    progress
        Called as ``progress(pass, share of variance explained before it, patches done)``; the first look
        is pass 0.

    Returns
    -------
    PrincipalComponents
        Without components where all patches are equal.

    Raises
    ------
    FloatingPointError
        If a patch holds NaN or infinity, or numbers too large to be squared.
    """
    rows, features = sections.rows, int(np.prod(shape))
    wanted = min(wanted, rows - 1, features)
    look = Look(rows, shape, wanted, seed)
    look.read(sections, partial(progress, 0, 0.0))
    basis = images = np.empty((0, features), np.float32)
    overlap = scatter = np.empty((0, 0))
    values: Float64 = np.empty(0)
    weights: Float64 = np.empty((0, 0))
    explained, missed, passes = 0.0, 0.0, 0
    block = _first_block(look, seed) if look.total > 0 else basis
    size = len(block)
    while len(block):
        passes += 1
        image = _multiply(sections, block, look, partial(progress, passes, explained))
        basis, images = np.concatenate([basis, block]), np.concatenate([images, image])
        overlap = _border(overlap, _products(basis, image))
        scatter = _border(scatter, _products(images, image))
        # The first pass improves on what its own block explains, the others on the pass before.
        before = explained if passes > 1 else _leading(np.linalg.eigvalsh(overlap), wanted) / look.total
        values, weights = _nystrom(overlap, scatter, size)
        explained = _leading(values, wanted) / look.total
        gain = max(explained - before, 0.0)
        # Noise without structure fades slowly.
        missed = gain * max(FADING, gain / explained) if gain else 0.0
        if passes >= max_passes or (len(basis) >= wanted and missed < tolerance):
            break
        block = _orthonormal(image, basis)[: features - len(basis)]
    else:
        missed = 0.0  # nothing is left outside the basis
    components = _vectors(images, values[:wanted], weights[:, :wanted])
    progress(passes, explained, rows)
    return PrincipalComponents(
        mean=look.mean.astype(np.float32),
        components=components,
        variances=values[:wanted] / (rows - 1),
        total_variance=look.total / (rows - 1),
        rows=rows,
        passes=passes,
        missed=missed,
    )


def _leading(values: npt.NDArray[np.floating[Any]], wanted: int) -> float:
    """Add up the largest values."""
    return float(np.sort(values)[::-1][:wanted].sum())


def _first_block(look: Look, seed: int) -> Float32:
    """Return an orthonormal block: low frequencies, then mixtures."""
    features = len(look.mean)
    size = min(features, look.smooth + MIXTURES)
    block = look.low_frequencies()
    block = np.concatenate([block, _orthonormal(look.mixtures, block)])[:size]
    # Patches that hardly differ mix into few directions. Random ones fill the block.
    generator = np.random.default_rng(seed)
    while len(block) < size:
        more = generator.standard_normal((size - len(block), features), dtype=np.float32)
        block = np.concatenate([block, _orthonormal(more, block)])
    return block


def _multiply(sections: Sections, block: Float32, look: Look, done: Callable[[int], None]) -> Float32:
    """Multiply the scatter matrix by a block ``(vector, feature)``, reading all patches once."""
    image = np.zeros_like(block)
    offset = (block @ look.mean).astype(np.float32)
    weight = np.zeros(len(block))
    spare: list[Float32] = []  # fresh memory for each section would cost as much as a part of the products

    def find(_: int, parts: Iterator[Float32]) -> tuple[Float32, Float64]:
        try:
            image = spare.pop()
        except IndexError:
            image = np.empty_like(block)
        image[...] = 0
        weight = np.zeros(len(block))
        buffer = np.empty((len(block), min(TILE, block.shape[1])), np.float32)
        for part in parts:
            scores = part @ block.T  # (patch, vector)
            scores -= offset
            weight += scores.sum(axis=0, dtype=np.float64)
            # Few columns at a time: their product is added while it is in the processor's cache.
            for start in range(0, block.shape[1], TILE):
                here = image[:, start : start + TILE]
                here += np.matmul(scores.T, part[:, start : start + TILE], out=buffer[:, : here.shape[1]])
        return image, weight

    def add(found: tuple[Float32, Float64]) -> None:
        nonlocal weight
        image[...] += found[0]
        weight += found[1]
        spare.append(found[0])

    sections.add_up(find, add, done)
    image -= np.outer(weight, look.mean).astype(np.float32)
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
