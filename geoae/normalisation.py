"""Normalisation: how the channels of a cube are scaled for an encoder, and back."""

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

__all__ = ["Normalisation"]


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
