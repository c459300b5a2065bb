"""Patches as rows of numbers."""

import numpy as np
import numpy.typing as npt

__all__ = ["image_rows"]


def image_rows(image: npt.NDArray[np.float32], shape: tuple[int, ...], name: str) -> npt.NDArray[np.float32]:
    """Flatten images to rows, after checking that they are those the encoder was fitted for.

    Parameters
    ----------
    image
        ``(n, channel, y, x)`` float32.
    shape
        ``(channel, y, x)`` of the patches seen by the fit.
    name
        Name of the encoder, for the message.

    Returns
    -------
    numpy.ndarray
        ``(n, channel * y * x)`` float32.

    Raises
    ------
    ValueError
        If the images have another shape.

    Examples
    --------
    >>> image_rows(np.ones((2, 1, 2, 2), np.float32), (1, 2, 2), "pca").shape
    (2, 4)
    """
    if image.shape[1:] != shape:
        raise ValueError(f"{name} was fitted on patches (channel, y, x) of {shape}, not {image.shape[1:]}")
    return np.ascontiguousarray(image, np.float32).reshape(len(image), -1)
