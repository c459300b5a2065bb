"""Sizes of single layers: what a layer makes of a shape, and what it cannot take."""

from collections.abc import Sequence
from typing import TypeAlias

from geoae_torch.architecture import (
    Conv,
    Crop,
    DepthToSpace,
    Layer,
    Pool,
    SpaceToDepth,
    TransposedConv,
    Upsample,
)

__all__ = [
    "NUMBERS",
    "MismatchError",
    "PatchError",
    "Shape",
    "as_image",
    "as_rows",
    "length_of",
    "side_after",
    "side_before",
    "smaller",
    "text_of",
]

Shape: TypeAlias = tuple[int, ...]
"""``(y, x, channel)`` of an image, ``(step, channel)`` of a sequence, ``(channel,)`` of a vector."""

NUMBERS = 3072
"""Most numbers of a patch that is made smaller: 32 x 32 pixels of three bands."""

KINDS = {1: "a vector", 2: "a sequence", 3: "an image"}


class PatchError(Exception):
    """The patch has a size that the network cannot take."""


class MismatchError(Exception):
    """A layer cannot follow the one before, whatever the patch size."""


def as_image(shape: Shape) -> tuple[int, int, int]:
    """Return the three sides of an image.

    Raises
    ------
    MismatchError
        If it is none.
    """
    if len(shape) != 3:
        raise MismatchError(f"it needs an image, and gets {KINDS[len(shape)]} of {text_of(shape)}")
    y, x, channels = shape
    return y, x, channels


def as_rows(shape: Shape, steps: int) -> tuple[int, int]:
    """Return steps and channels of the sequence that a recurrent layer sees."""
    if len(shape) == 3:
        return shape[0], shape[1] * shape[2]
    return (steps, shape[0]) if len(shape) == 1 else (shape[0], shape[1])


def length_of(shape: Shape) -> int:
    """Return how many numbers a shape holds."""
    length = 1
    for side in shape:
        length *= side
    return length


def text_of(shape: Shape) -> str:
    """Return a shape as people write it.

    Examples
    --------
    >>> text_of((16, 16, 32))
    '16 x 16 x 32'
    """
    return " x ".join(str(side) for side in shape)


def side_after(layer: Layer, n: int) -> int:
    """Return the pixels along one side after a layer.

    Examples
    --------
    >>> side_after(Conv(filters=8, kernel=5, stride=2), 7), side_after(Pool(how="max"), 7)
    (4, 3)
    """
    match layer:
        case Conv(padding="same"):
            return -(-n // layer.stride)
        case Conv():
            return (n - layer.kernel) // layer.stride + 1
        case TransposedConv(padding="same"):
            return n * layer.stride
        case TransposedConv():
            return (n - 1) * layer.stride + max(layer.kernel, layer.stride)
        case Pool(padding="same"):
            return -(-n // layer.size)
        case Pool():
            return n // layer.size
        case Upsample() | DepthToSpace():
            return n * layer.factor
        case SpaceToDepth():
            return n // layer.factor
        case _:
            return n


def side_before(side: int, layers: Sequence[Layer]) -> int:
    """Return the pixels along one side from which layers reach `side`; at least `side`, if they crop.

    Raises
    ------
    PatchError
        If there is no such number.

    Examples
    --------
    >>> side_before(128, [TransposedConv(filters=8, stride=2)] * 3)
    16
    """
    cropped = any(isinstance(layer, Crop) for layer in layers)
    for n in range(1, side + 65):
        after = n
        for layer in layers:
            after = side_after(layer, after)
        if after == side or (cropped and after > side):
            return n
    raise PatchError(f"the decoder's layers reach {side} pixels from no size")


def smaller(patch: tuple[int, int], bands: int) -> tuple[int, int]:
    """Return the pixels to which a patch is reduced: whole squares become one, as few as will do.

    Examples
    --------
    >>> smaller((128, 128), 3), smaller((64, 64), 3), smaller((128, 128), 8), smaller((16, 16), 3)
    ((32, 32), (32, 32), (18, 18), (16, 16))
    """
    y, x = patch
    factor = 1
    while max(y // factor, 1) * max(x // factor, 1) * bands > NUMBERS and factor < max(y, x):
        factor += 1
    return max(y // factor, 1), max(x // factor, 1)
