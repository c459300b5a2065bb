"""Corruption: what is done to a patch before the encoder sees it, while the target stays clean.

Also flips and quarter turns, which image and target share.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geoae.errors import UsageError

__all__ = [
    "Corruption",
    "corrupt",
    "cut_out",
    "gaussian",
    "parse_corruption",
    "salt_and_pepper",
    "turn",
    "variants",
]

Corruption: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]
"""A function of images ``(n, channel, y, x)`` in 0..1 and a generator on their device, to other images."""

SIGMA = 0.1
"""Deviation of the noise, as a share of the channel's range."""

RATE = 0.05
"""Share of the numbers that salt and pepper replace."""

HOLES = 3
HOLE = 12 / 64
"""Cut-outs of a patch, and their side as a share of the patch's: 12 pixels of 64, 24 of 128."""


def gaussian(images: Tensor, generator: torch.Generator, sigma: float = SIGMA) -> Tensor:
    """Add normal noise."""
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return noise.mul_(sigma).add_(images)


def cut_out(
    images: Tensor, generator: torch.Generator, holes: int = HOLES, side: int | None = None
) -> Tensor:
    """Blacken squares at random places, wholly inside the patch.

    Parameters
    ----------
    images
        ``(n, channel, y, x)``.
    generator
        Of their places.
    holes
        Squares of a patch; they may overlap.
    side
        Pixels of a square; three sixteenths of the patch by default.
    """
    n, _, height, width = images.shape
    side = max(round(min(height, width) * HOLE), 1) if side is None else side
    device = images.device
    hidden = torch.zeros((n, height, width), dtype=torch.bool, device=device)
    for _ in range(holes):
        top = torch.randint(0, height - side + 1, (n, 1, 1), generator=generator, device=device)
        left = torch.randint(0, width - side + 1, (n, 1, 1), generator=generator, device=device)
        y = torch.arange(height, device=device).view(1, -1, 1)
        x = torch.arange(width, device=device).view(1, 1, -1)
        hidden |= (y >= top) & (y < top + side) & (x >= left) & (x < left + side)
    return images.masked_fill(hidden[:, None], 0)


def salt_and_pepper(images: Tensor, generator: torch.Generator, rate: float = RATE) -> Tensor:
    """Replace numbers, channel by channel, by 0 or 1 with equal chances."""
    draw = torch.rand(images.shape, generator=generator, device=images.device)
    return images.masked_fill(draw < rate / 2, 0).masked_fill_(draw > 1 - rate / 2, 1)


_KINDS: dict[str, Corruption] = {
    "gaussian": gaussian,
    "cutout": cut_out,
    "salt-pepper": salt_and_pepper,
}


def parse_corruption(text: str) -> tuple[tuple[Corruption, ...], ...]:
    """Read what to do to patches.

    Parameters
    ----------
    text
        Kinds joined by ``+`` follow one another on a patch; of alternatives parted by commas, every patch
        gets one at random. ``mixture`` is every combination of the three.

    Returns
    -------
    tuple of tuples
        The alternatives.

    Raises
    ------
    UsageError
        If a kind is unknown.

    Examples
    --------
    >>> [len(kinds) for kinds in parse_corruption("gaussian,cutout+salt-pepper")]
    [1, 2]
    >>> len(parse_corruption("mixture"))
    7
    """
    if text.strip() == "mixture":
        names = ("cutout", "gaussian", "salt-pepper")
        return tuple(
            tuple(_KINDS[name] for name in chosen)
            for length in (1, 2, 3)
            for chosen in itertools.combinations(names, length)
        )
    alternatives = []
    for part in text.split(","):
        names_here = [name.strip() for name in part.split("+")]
        unknown = [name for name in names_here if name not in _KINDS]
        if unknown:
            raise UsageError(
                f"no corruption {unknown[0]!r}",
                hint=f"one of {', '.join(_KINDS)}, joined by + or commas, or mixture",
            )
        alternatives.append(tuple(_KINDS[name] for name in names_here))
    return tuple(alternatives)


def corrupt(
    images: Tensor, alternatives: Sequence[Sequence[Corruption]], generator: torch.Generator
) -> Tensor:
    """Corrupt images, each by one of the alternatives at random.

    Returns
    -------
    torch.Tensor
        New images; the input is left alone.
    """
    if len(alternatives) == 1:
        return _apply(images, alternatives[0], generator)
    choice = torch.randint(len(alternatives), (len(images),), generator=generator, device=images.device).cpu()
    result = torch.empty_like(images)
    for number, kinds in enumerate(alternatives):
        rows = (choice == number).nonzero()[:, 0].to(images.device)
        if len(rows):
            result[rows] = _apply(images[rows], kinds, generator)
    return result


def _apply(images: Tensor, kinds: Sequence[Corruption], generator: torch.Generator) -> Tensor:
    for kind in kinds:
        images = kind(images, generator)
    return images


def variants(count: int, square: bool, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw a flip or turn for each of some patches, ``(count,)``; ascending, so that equal ones lie together.

    Only patches drawn at random may be given them in this order.

    Parameters
    ----------
    count
        Number of patches.
    square
        Whether quarter turns keep their shape.
    generator
        Of the draws.
    """
    return np.sort(generator.integers(0, 8 if square else 4, count))


def turn(images: Tensor, variant: int) -> Tensor:
    """Flip or turn images ``(n, channel, y, x)``.

    Parameters
    ----------
    images
        Any images; square ones if they are to be transposed.
    variant
        0..7, bit by bit: mirror x, mirror y, transpose. Together all symmetries of a square.

    Examples
    --------
    >>> image = torch.tensor([[[[1, 2], [3, 4]]]])
    >>> turn(image, 1).tolist(), turn(image, 2).tolist(), turn(image, 4).tolist()
    ([[[[2, 1], [4, 3]]]], [[[[3, 4], [1, 2]]]], [[[[1, 3], [2, 4]]]])
    """
    if variant & 4:
        images = images.transpose(2, 3)
    flipped = [axis for axis, bit in ((3, 1), (2, 2)) if variant & bit]
    return images.flip(flipped) if flipped else images
