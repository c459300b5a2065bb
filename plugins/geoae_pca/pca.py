"""Principal component analysis of patches, streamed."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from geoae.encoder import (
    Encoder,
    EncoderConfig,
    FitContext,
    FitReport,
    FloatArray,
    PatchBatch,
    PatchSource,
    SectionedSource,
)
from geoae.errors import GeoaeError, PluginError, UsageError
from geoae_pca.krylov import PrincipalComponents, principal_components
from geoae_pca.look import MIXTURES
from geoae_pca.rows import image_rows
from geoae_pca.sections import Sections, blas_threads, one_blas_thread
from geoae_pca.weights import read_arrays, write_arrays

__all__ = ["PCAConfig", "PCAEncoder"]

FILE = "components.safetensors"
BATCH_BYTES = 24 * 2**20
"""Most bytes of a batch: enough to keep the matrix kernels busy. malloc takes what is larger than 32 MiB
fresh from the system each time, which costs more than to read the patches."""

SECTION = 512
"""Least patches of a section. Results depend on it in their last bits."""

THREAD_BYTES = 512 * 2**20
"""Most bytes of the batches and sums of all threads; fewer threads read where patches are large."""


class PCAConfig(EncoderConfig):
    """Options of `PCAEncoder`."""

    whiten: bool = Field(False, description="Scale every component to variance 1.")
    tolerance: float = Field(
        0.001,
        gt=0,
        lt=1,
        description="Stop reading when another pass would explain less than this share of variance more.",
    )
    max_passes: int = Field(
        6, ge=1, description="Read the patches at most so often, after a first look at all of them."
    )


@dataclass(frozen=True)
class _Fitted:
    """What a fit learned; ``rows`` are features in the order channel, y, x."""

    shape: tuple[int, int, int]  # channel, y, x
    mean: FloatArray  # (feature,)
    components: FloatArray  # (component, feature)
    variances: npt.NDArray[np.float64]  # (component,)


class PCAEncoder(Encoder):
    """Project patches on their principal components.

    The components ``w_j`` are the orthonormal directions of greatest variance of the training
    patches, seen as vectors of channel x y x x numbers; ``z_j = w_j . (x - mean)``. They are found by a block
    Krylov method that begins with the low frequencies and reads the patches twice, or more often where
    they are not smooth, in memory bounded by a few blocks of components (`geoae_pca.krylov`). Signs are
    fixed: the entry of largest magnitude in a component is positive.

    A patch's latent vector is the same in any batch up to rounding: 1e-5 of the largest number in it.

    Parameters
    ----------
    config
        Options.
    """

    Config: ClassVar[type[EncoderConfig]] = PCAConfig
    has_decoder: ClassVar[bool] = True
    config: PCAConfig

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self._fitted: _Fitted | None = None

    @property
    def latent_dim(self) -> int:
        """Number of components; fewer than asked for where the patches span fewer directions."""
        return self.config.latent_dim if self._fitted is None else len(self._fitted.components)

    def fit(self, patches: PatchSource, context: FitContext) -> FitReport:
        """Find the principal components of the patches.

        Parameters
        ----------
        patches
            The training patches.
        context
            Its `progress` is called once a batch.

        Returns
        -------
        FitReport
            ``explained_variance_ratio`` and ``total_variance``; the ratio and the singular value of each
            component as curves.

        Raises
        ------
        GeoaeError
            If there are fewer than two patches, or all are equal, or pixels are not finite.
        UsageError
            If another target than the input is asked for.
        """
        shape = (len(patches.channels), *patches.patch_shape)
        if patches.target_channels != patches.channels:
            raise UsageError("pca reconstructs the channels that it reads, it has no other target")
        if len(patches) < 2:
            raise GeoaeError(
                f"pca needs at least 2 patches to fit, there are {len(patches)}",
                hint="lower --min-valid, or use another split",
            )
        try:
            # Products with NaN would warn; they are found and reported as an error instead.
            with np.errstate(invalid="ignore", over="ignore"):
                found = self._find(patches, shape, context)
        except FloatingPointError as error:
            raise GeoaeError("pca cannot be fitted: some pixels are not finite") from error
        if not len(found.components):
            raise GeoaeError(
                f"pca cannot be fitted: the {len(patches)} patches do not differ",
                hint="choose other channels with --input",
            )
        self._fitted = _Fitted(shape, found.mean, found.components, found.variances)
        return self._report(found)

    def _find(
        self, patches: PatchSource, shape: tuple[int, int, int], context: FitContext
    ) -> PrincipalComponents:
        features = int(np.prod(shape))
        size = max(1, min(8192, BATCH_BYTES // (4 * features), len(patches)))

        def section(source: PatchSource, size: int) -> Iterator[FloatArray]:
            for batch in source.batches(size):
                yield image_rows(batch.image, shape, "pca")

        if isinstance(patches, SectionedSource):
            parts = patches.sections(max(size, SECTION))
            each = 4 * features * (size + self.config.latent_dim + MIXTURES)
            threads = max(1, min(blas_threads(), THREAD_BYTES // each))
            cores = one_blas_thread
        else:
            parts, threads, cores = (patches,), 1, contextlib.nullcontext
        sections = Sections([partial(section, part) for part in parts], len(patches), size, threads)

        def progress(number: int, explained: float, done: int) -> None:
            stage = f"pass {number}" if number else "first look"
            context.progress(stage, done, len(patches), {"explained_variance_ratio": explained})

        with cores():
            return principal_components(
                sections,
                shape,
                self.config.latent_dim,
                seed=self.config.seed,
                tolerance=self.config.tolerance,
                max_passes=self.config.max_passes,
                progress=progress,
            )

    def _report(self, found: PrincipalComponents) -> FitReport:
        notes = []
        wanted, got = self.config.latent_dim, len(found.components)
        bound = min(found.rows - 1, found.components.shape[1])
        if got < wanted:
            why = (
                f"{found.rows} patches of {found.components.shape[1]} numbers have no more than {bound}"
                if got == bound
                else "the patches differ in no more directions, up to rounding"
            )
            notes.append(f"latent size reduced from {wanted} to {got}: {why}")
        if found.missed > self.config.tolerance:
            notes.append(
                f"stopped after {found.passes} passes: more passes (--max-passes) may explain about "
                f"{found.missed:.1%} of the variance more"
            )
        ratios = found.variances / found.total_variance
        return FitReport(
            patches=found.rows,
            metrics={
                "explained_variance_ratio": float(ratios.sum()),
                "total_variance": found.total_variance,
                "passes": float(found.passes),
            },
            curves={
                "explained_variance_ratio": ratios.tolist(),
                "singular_value": np.sqrt(found.variances * (found.rows - 1)).tolist(),
            },
            notes=tuple(notes),
        )

    def _need(self) -> _Fitted:
        if self._fitted is None:
            raise ValueError("pca is not fitted: call fit or load first")
        return self._fitted

    def _scale(self) -> FloatArray:
        """Return what a component's score is divided by, ``(component,)``."""
        fitted = self._need()
        deviations = np.sqrt(fitted.variances) if self.config.whiten else np.ones(len(fitted.variances))
        return deviations.astype(np.float32)

    def transform(self, batch: PatchBatch) -> FloatArray:
        """Project patches on the components.

        Parameters
        ----------
        batch
            Patches with the channels and the shape that `fit` saw.

        Returns
        -------
        numpy.ndarray
            ``(n, latent_dim)`` float32; in normalised units, or with variance 1 where whitened.
        """
        fitted = self._need()
        rows = image_rows(batch.image, fitted.shape, "pca")
        offset = fitted.components.astype(np.float64) @ fitted.mean  # (component,)
        z = (rows @ fitted.components.T - offset) / self._scale()
        return z.astype(np.float32)

    def reconstruct(self, z: FloatArray) -> FloatArray:
        """Compute the patches nearest to given latent vectors.

        Parameters
        ----------
        z
            ``(n, latent_dim)`` float32.

        Returns
        -------
        numpy.ndarray
            ``(n, channel, y, x)`` float32 in normalised units.
        """
        fitted = self._need()
        rows = (np.asarray(z, np.float32) * self._scale()) @ fitted.components
        rows += fitted.mean
        return rows.astype(np.float32, copy=False).reshape(-1, *fitted.shape)

    def save(self, folder: Path) -> None:
        """Write the components, the mean and the variances as one safetensors file."""
        fitted = self._need()
        arrays: dict[str, npt.NDArray[Any]] = {
            "mean": fitted.mean,
            "components": fitted.components,
            "variances": fitted.variances,
            "patch_shape": np.array(fitted.shape, np.int64),
        }
        write_arrays(folder / FILE, arrays)

    @classmethod
    def load(cls, folder: Path, config: Any) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        PluginError
            If the file is damaged or holds something else.
        """
        path = folder / FILE
        arrays = read_arrays(
            path,
            {
                "mean": ("float32", (None,)),
                "components": ("float32", (None, None)),
                "variances": ("float64", (None,)),
                "patch_shape": ("int64", (3,)),
            },
        )
        channels, height, width = (int(length) for length in arrays["patch_shape"])
        count, features = arrays["components"].shape
        sizes = {"mean": len(arrays["mean"]), "patch_shape": channels * height * width}
        wrong = [f"{name} {size}" for name, size in sizes.items() if size != features]
        if len(arrays["variances"]) != count:
            wrong.append(f"{len(arrays['variances'])} variances of {count} components")
        if count > config.latent_dim:
            wrong.append(f"{count} components for a latent size of {config.latent_dim}")
        if wrong:
            raise PluginError(f"{path}: does not fit {features} features: {', '.join(wrong)}")
        products = arrays["components"] @ arrays["components"].T
        if not np.allclose(products, np.eye(count), atol=1e-3) or (arrays["variances"] <= 0).any():
            raise PluginError(
                f"{path}: the components are not orthonormal or a variance is not positive",
                hint="the file was changed; fit the encoder again",
            )
        encoder = cls(config)
        encoder._fitted = _Fitted(
            (channels, height, width), arrays["mean"], arrays["components"], arrays["variances"]
        )
        return encoder
