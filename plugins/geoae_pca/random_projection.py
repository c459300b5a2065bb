"""Random projection of patches: the control that every learned encoder is compared to."""

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geoae.encoder import (
    Encoder,
    EncoderConfig,
    FitContext,
    FitReport,
    FloatArray,
    PatchBatch,
    PatchSource,
)
from geoae.errors import PluginError
from geoae_pca.rows import image_rows

__all__ = ["RandomProjectionConfig", "RandomProjectionEncoder"]

FILE = "projection.json"
BLOCK = 4096  # features whose vectors are drawn together


class RandomProjectionConfig(EncoderConfig):
    """Options of `RandomProjectionEncoder`."""


class _Stored(BaseModel):
    """What a model folder holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    patch_shape: tuple[int, int, int] = Field(strict=False)  # JSON has no tuples
    sha256: str


class RandomProjectionEncoder(Encoder):
    """Project patches on random vectors.

    ``z = R x / sqrt(k)`` with k latent components and independent standard normal numbers in R: squared
    distances between patches are kept in the mean, with a relative deviation of ``sqrt(2 / k)``
    (Johnson and Lindenstrauss). Nothing is learned from pixels, so what a learned encoder
    achieves beyond this is what it has learned. R is drawn from the seed and never stored.

    A patch's latent vector is the same in any batch up to rounding: 1e-5 of the largest number in it.

    Parameters
    ----------
    config
        Options.
    """

    Config: ClassVar[type[EncoderConfig]] = RandomProjectionConfig
    needs_fit: ClassVar[bool] = False

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self._shape: tuple[int, int, int] | None = None
        self._vectors: FloatArray | None = None

    def fit(self, patches: PatchSource, context: FitContext) -> FitReport:  # noqa: ARG002
        """Take note of the shape of the patches; no pixel is read."""
        height, width = patches.patch_shape
        self._prepare((len(patches.channels), height, width))
        return FitReport(patches=0)

    def _prepare(self, shape: tuple[int, int, int]) -> None:
        self._shape = shape
        self._vectors = random_vectors(self.config.latent_dim, int(np.prod(shape)), self.config.seed)

    def transform(self, batch: PatchBatch) -> FloatArray:
        """Project patches on the random vectors.

        Parameters
        ----------
        batch
            Patches with the channels and the shape that `fit` saw.

        Returns
        -------
        numpy.ndarray
            ``(n, latent_dim)`` float32 in normalised units.
        """
        if self._shape is None or self._vectors is None:
            raise ValueError("random-projection knows no shape yet: call fit or load first")
        return image_rows(batch.image, self._shape, "random-projection") @ self._vectors.T

    def save(self, folder: Path) -> None:
        """Write the shape of the patches, and a digest of the vectors that the seed gives."""
        if self._shape is None or self._vectors is None:
            raise ValueError("random-projection knows no shape yet: call fit or load first")
        stored = _Stored(patch_shape=self._shape, sha256=_digest(self._vectors))
        text = json.dumps(stored.model_dump(mode="json"), indent=2, sort_keys=True)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, config: Any) -> Self:
        """Draw the vectors again from the seed.

        Raises
        ------
        PluginError
            If the file is damaged, or this version of numpy draws other numbers.
        """
        path = folder / FILE
        try:
            stored = _Stored.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            raise PluginError(f"{path}: not a stored projection: {reason}") from error
        if min(stored.patch_shape) < 1 or np.prod(stored.patch_shape, dtype=np.float64) > 2**26:
            raise PluginError(f"{path}: patches of shape {stored.patch_shape} make no sense")
        encoder = cls(config)
        encoder._prepare(stored.patch_shape)
        if encoder._vectors is None or _digest(encoder._vectors) != stored.sha256:
            raise PluginError(
                f"{path}: the seed gives other vectors than when the model was made",
                hint="the file, the options or numpy's random numbers have changed; fit again",
            )
        return encoder


def random_vectors(count: int, features: int, seed: int) -> FloatArray:
    """Draw random vectors, block by block of features.

    Parameters
    ----------
    count
        Number of vectors.
    features
        Their length.
    seed
        Equal seeds give equal vectors.

    Returns
    -------
    numpy.ndarray
        ``(count, features)`` float32: normal numbers of mean 0 and variance ``1 / count``.

    Examples
    --------
    >>> random_vectors(4, 6, seed=0).shape
    (4, 6)
    """
    vectors = np.empty((count, features), np.float32)
    for number, start in enumerate(range(0, features, BLOCK)):
        part = vectors[:, start : start + BLOCK]
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, number))))
        part[:] = generator.standard_normal(part.shape, dtype=np.float32)
    vectors /= np.float32(np.sqrt(count))
    return vectors


def _digest(vectors: FloatArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(vectors, "<f4").tobytes()).hexdigest()
