"""Patches as sums of smooth cosines: what images look like from afar.

The cosines of a side of n pixels are ``cos(pi (y + 1/2) j / n)``, scaled to length 1: those of the discrete
cosine transform, and orthonormal. A patch's coefficients are its products with the slowest ones along y
and x. Neighbouring pixels of images resemble each other, so that some hundred coefficients hold most of
what differs between patches.

References
----------
.. [1] N. Ahmed, T. Natarajan, K. Rao, Discrete cosine transform, IEEE Transactions on Computers 23 (1974).
"""

import numpy as np
import numpy.typing as npt

__all__ = ["Cosines"]

Float32 = npt.NDArray[np.float32]


class Cosines:
    """The slowest cosines of patches of one shape.

    Parameters
    ----------
    shape
        ``(channel, y, x)`` of a patch.
    about
        How many coefficients a patch should have; there are as many as pixels where it has fewer, and
        else somewhat more, since both sides get the same share of their cosines.

    Examples
    --------
    >>> cosines = Cosines((1, 4, 4), 4)
    >>> cosines.forward(np.full((1, 16), 2, np.float32)).round(3)
    array([[8., 0., 0., 0.]], dtype=float32)
    """

    def __init__(self, shape: tuple[int, int, int], about: int) -> None:
        channels, height, width = shape
        share = min(1.0, (about / (channels * height * width)) ** 0.5)
        self._y, self._x = _cosines(height, share), _cosines(width, share)
        self._shape = shape
        self.count = channels * self._y.shape[1] * self._x.shape[1]

    def forward(self, rows: Float32) -> Float32:
        """Return the coefficients ``(n, count)`` of patches ``(n, channel * y * x)``."""
        channels, height, width = self._shape
        # In this order both products are of long rows, which the matrix kernels like.
        along_x = self._x.T @ rows.reshape(-1, width).T  # (cosine of x, n * channel * y)
        along_both = along_x.reshape(-1, height) @ self._y  # (cosine of x * n * channel, cosine of y)
        coefficients = along_both.reshape(len(along_x), len(rows), channels, -1).transpose(1, 2, 3, 0)
        return np.asarray(coefficients, np.float32).reshape(len(rows), self.count)

    def back(self, coefficients: Float32) -> Float32:
        """Return the patches ``(n, channel * y * x)`` that are these sums ``(n, count)`` of cosines."""
        channels = self._shape[0]
        images = coefficients.reshape(len(coefficients) * channels, self._y.shape[1], -1)
        rows = np.asarray(self._y @ images @ self._x.T, np.float32)
        return rows.reshape(len(coefficients), -1)


def _cosines(length: int, share: float) -> Float32:
    """Return the slowest cosines of a side, ``(pixel, cosine)``."""
    number = np.arange(max(1, int(np.ceil(share * length))))
    pixel = np.arange(length) + 0.5
    values = np.cos(np.pi / length * np.outer(pixel, number))
    return np.asarray(values / np.linalg.norm(values, axis=0), np.float32)
