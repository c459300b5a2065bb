"""An encoder in one file: the mean and the standard deviation of every channel, and of its gradients.

Copy this folder, rename it, and put your own mathematics into `fit` and `transform`.
"""

import json
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field

from geoae.encoder import (
    Encoder,
    EncoderConfig,
    FitContext,
    FitReport,
    FloatArray,
    PatchBatch,
    PatchSource,
)
from geoae.errors import GeoaeError, PluginError

FILE = "scale.json"


class BandStatisticsConfig(EncoderConfig):
    """Options. Each field becomes an option of ``geoae encode`` and is listed by ``geoae plugins``."""

    gradients: bool = Field(True, description="Add the mean strength of edges in each channel.")


class BandStatisticsEncoder(Encoder):
    """Describe a patch by simple statistics of its valid pixels.

    Each channel gives its mean, its standard deviation and, if asked for, the mean absolute difference of
    neighbouring pixels. Each number is divided by its deviation over the training patches.
    """

    Config: ClassVar[type[EncoderConfig]] = BandStatisticsConfig
    config: BandStatisticsConfig

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self._channels = 0
        self._scale: FloatArray | None = None  # (latent_dim,)

    @property
    def latent_dim(self) -> int:
        """As many numbers as there are statistics, at most as many as were asked for."""
        return self.config.latent_dim if self._scale is None else len(self._scale)

    def fit(self, patches: PatchSource, context: FitContext) -> FitReport:
        """Measure how much each statistic varies. Batches come and go: nothing is kept of them."""
        if not len(patches):
            raise GeoaeError("band-statistics needs at least 1 patch to fit, there are 0")
        self._channels = len(patches.channels)
        size = self._channels * (3 if self.config.gradients else 2)
        total, squares = np.zeros(size), np.zeros(size)
        done = 0
        for batch in patches.batches(256):
            numbers = self._statistics(batch)
            total += numbers.sum(axis=0)
            squares += (numbers**2).sum(axis=0)
            done += len(batch)
            context.progress("statistics", done, len(patches), {})
        deviation = np.sqrt(np.maximum(squares / done - (total / done) ** 2, 0))
        deviation[deviation < 1e-6] = 1  # a statistic that never changes
        self._scale = deviation[: self.config.latent_dim].astype(np.float32)
        notes: tuple[str, ...] = ()
        if size < self.config.latent_dim:
            notes = (
                f"latent size reduced from {self.config.latent_dim} to {size}: there are no more statistics",
            )
        return FitReport(patches=done, notes=notes)

    def _statistics(self, batch: PatchBatch) -> np.ndarray:
        """Compute ``(n, statistic)`` float64 over valid pixels; 0 where there are none."""
        image, valid = batch.image.astype(np.float64), batch.valid

        def mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
            count = np.maximum(where.sum(axis=(2, 3)), 1)
            average: np.ndarray = (values * where).sum(axis=(2, 3)) / count  # (n, channel)
            return average

        average = mean(image, valid)
        deviation = np.sqrt(mean((image - average[:, :, None, None]) ** 2, valid))
        parts = [average, deviation]
        if self.config.gradients:
            step = np.abs(np.diff(image, axis=3))  # (n, channel, y, x - 1)
            parts.append(mean(step, valid[..., 1:] & valid[..., :-1]))
        return np.concatenate(parts, axis=1)

    def transform(self, batch: PatchBatch) -> FloatArray:
        """Compute ``(n, latent_dim)`` float32."""
        if self._scale is None:
            raise ValueError("band-statistics is not fitted: call fit or load first")
        if batch.image.shape[1] != self._channels:
            raise ValueError(f"fitted on {self._channels} channels, not {batch.image.shape[1]}")
        z: FloatArray = (self._statistics(batch)[:, : self.latent_dim] / self._scale).astype(np.float32)
        return z

    def save(self, folder: Path) -> None:
        """Write the weights; JSON is enough for a few numbers, safetensors suits many."""
        if self._scale is None:
            raise ValueError("band-statistics is not fitted: call fit or load first")
        weights = {"channels": self._channels, "scale": self._scale.tolist()}
        (folder / FILE).write_text(json.dumps(weights), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, config: Any) -> Self:
        """Read what `save` wrote; whatever is wrong with it is one clear line."""
        encoder = cls(config)
        try:
            weights = json.loads((folder / FILE).read_text(encoding="utf-8"))
            encoder._channels = int(weights["channels"])
            encoder._scale = np.array(weights["scale"], np.float32)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise PluginError(f"{folder / FILE}: no weights of band-statistics: {error}") from error
        size = min(config.latent_dim, encoder._channels * (3 if config.gradients else 2))
        if encoder._scale.shape != (size,) or not (encoder._scale > 0).all():
            raise PluginError(
                f"{folder / FILE}: does not fit the options, {size} positive numbers are expected"
            )
        return encoder
