"""Normalisation: how the channels of a cube are scaled for an encoder, and back."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from geoae.mixing import Piece

__all__ = ["ChannelGroup", "Normalisation", "normalise_rows"]

_ROWS = 8
"""Patches that are normalised at a time."""


class Normalisation(BaseModel):
    """Scale channels: ``(value - offset) / scale``.

    Parameters
    ----------
    kind
        ``standard`` or ``unit``, see `geoae.encoder.Encoder`.
    offset, scale
        One number a channel, in the units of the cube.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["standard", "unit"]
    offset: tuple[float, ...]
    scale: tuple[float, ...]

    def denormalise(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Turn ``(n, channel, y, x)`` back into the units of the cube."""
        shape = (1, -1, 1, 1)
        result: npt.NDArray[np.float32] = image * np.array(self.scale, np.float32).reshape(shape)
        result += np.array(self.offset, np.float32).reshape(shape)
        return result


@dataclass(frozen=True)
class ChannelGroup:
    """The channels of one modality: how their values come from the stored array into the image.

    Parameters
    ----------
    modality
        Name of the array.
    place
        Their places in the image: a slice where they lie side by side, which is faster.
    bands
        Which bands of the array they are; None adds the dimension that a height lacks.
    mask
        Name of the array that says which pixels are valid; None for heights, where NaN says it.
    scale
        Two arrays ``(channel, 1, 1)`` float32: values are multiplied by one, then the other is taken
        away. None leaves them as they are.
    """

    modality: str
    place: slice | list[int]
    bands: slice | list[int] | None
    mask: str | None
    scale: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None

    @property
    def count(self) -> int:
        """Number of the channels."""
        return self.place.stop - self.place.start if isinstance(self.place, slice) else len(self.place)


def normalise_rows(
    picture: tuple[ChannelGroup, ...],
    image: npt.NDArray[np.float32],
    valid: npt.NDArray[np.bool_],
    piece: Piece,
    positions: npt.NDArray[np.int64],
) -> None:
    """Normalise rows into their places, few enough at a time to stay in the processor's cache.

    Parameters
    ----------
    picture
        The modalities of the image.
    image, valid
        ``(n, channel, y, x)``: where to. The mask has one channel where there is one modality.
    piece
        The stored values.
    positions
        ``(n,)``: which rows of the piece.
    """
    # Threads that make short calls wait for each other, so rows that lie side by side go together.
    # Others would have to be copied together first.
    step = _ROWS if (np.diff(positions) == 1).all() else 1
    for first in range(0, len(positions), step):
        rows = slice(first, first + step)
        start = int(positions[first])
        here = slice(start, start + len(positions[rows]))
        for part in picture:
            mask = _normalise(part, image[rows], piece, here)
            valid[rows, part.place if len(picture) > 1 else slice(1)] = mask


def _normalise(
    part: ChannelGroup,
    image: npt.NDArray[np.float32],
    piece: Piece,
    here: slice,
) -> npt.NDArray[np.bool_]:
    """Normalise the channels of one modality in some rows; return their mask ``(n, 1, y, x)``."""
    raw = piece.values[part.modality][here]
    raw = raw[:, np.newaxis] if part.bands is None else raw[:, part.bands]  # (n, channel, y, x)
    if part.mask is None:
        mask = np.isfinite(raw[:, 0])
        raw = np.where(mask[:, np.newaxis], raw, np.float32(0))
    else:
        mask = piece.values[part.mask][here]
    values = image[:, part.place]
    np.copyto(values, raw, casting="unsafe")
    if part.scale is not None:
        values *= part.scale[0]
        values -= part.scale[1]
    if not mask.all():
        for row in np.flatnonzero(~mask.reshape(len(mask), -1).all(axis=1)):
            values[row] *= mask[row].astype(np.float32)  # a product with bool is half as fast
    if not isinstance(part.place, slice):
        image[:, part.place] = values  # it was a copy
    return mask[:, np.newaxis]
