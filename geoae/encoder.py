"""The plugin contract: what an encoder is, and what it is given.

An encoder turns image patches into latent vectors. It owns its mathematics and its weights; geoae
picks modalities and bands, normalises, splits, reads, writes and records. Everything that crosses
this border is numpy.

A package offers encoders through the entry-point group ``geoae.encoders``; the key is the name that
users type. `geoae.testing.check_encoder` proves that a class keeps the contract.
"""

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "CONTRACT_VERSION",
    "Channel",
    "Encoder",
    "EncoderConfig",
    "FitContext",
    "FitReport",
    "FloatArray",
    "PatchBatch",
    "PatchSource",
    "SectionedSource",
]

CONTRACT_VERSION = 1
"""Version of this contract. A plugin states the one it was written for; geoae refuses others."""

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Channel:
    """One channel of the image that an encoder sees.

    Parameters
    ----------
    modality
        Name of the modality in the cube, such as ``msi``.
    band
        Name of the band, such as ``red_edge``; a height modality has one band of its own name.
    units
        Units of the values before normalisation, such as ``m``; ``1`` for raw digital numbers.
    """

    modality: str
    band: str
    units: str = "1"

    def __str__(self) -> str:
        return self.modality if self.band == self.modality else f"{self.modality}.{self.band}"


@dataclass(frozen=True)
class PatchBatch:
    """Some patches, as an encoder receives them.

    Parameters
    ----------
    index
        ``(n,)`` int64: rows of the cube.
    image
        ``(n, channel, y, x)`` float32, normalised; exactly zero where `valid` is False.
    valid
        ``(n, channel, y, x)`` bool: which pixels were measured.
    target, target_valid
        What the decoder should produce and where that is known, if it differs from `image`
        (colouring, inpainting, band recovery); None otherwise.
    """

    index: npt.NDArray[np.int64]
    image: FloatArray
    valid: npt.NDArray[np.bool_]
    target: FloatArray | None = None
    target_valid: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.index)


@runtime_checkable
class PatchSource(Protocol):
    """Patches that can be read as often as needed, in bounded memory.

    ``len()`` is the number of patches. Patches that cannot be used (too few valid pixels) are not
    part of a source.
    """

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Channels of ``PatchBatch.image``."""

    @property
    def target_channels(self) -> tuple[Channel, ...]:
        """Channels of the target image; those of the input where input and target are the same."""

    @property
    def patch_shape(self) -> tuple[int, int]:
        """``(y, x)`` pixels of a patch."""

    def __len__(self) -> int: ...

    def batches(self, size: int, shuffle_seed: int | None = None) -> Iterator[PatchBatch]:
        """Iterate over all patches once.

        Parameters
        ----------
        size
            Patches in a batch; the last one may be smaller.
        shuffle_seed
            None for the order of the cube; else equal seeds give equal orders.
        """


@runtime_checkable
class SectionedSource(PatchSource, Protocol):
    """A source that threads can share: each reads sections of its own. Those of cubes are.

    For encoders whose arithmetic needs every core. Other sources are read by `batches` alone.
    """

    def sections(self, size: int) -> Sequence[PatchSource]:
        """Divide the patches, in the order of the cube.

        The division depends on the patches and on `size` alone. Whoever adds up within sections, and then the
        sections in their order, gets the same bits from any number of threads.

        Parameters
        ----------
        size
            Least patches of a section, but for the last one.

        Returns
        -------
        sequence of PatchSource
            Each reads and normalises in the thread that iterates over its `batches`, and knows one order
            only. Unlike other batches these are no longer yours when you ask for the next one: its arrays
            are filled again, since fresh memory costs as much time as reading.
        """


class EncoderConfig(BaseModel):
    """Options of an encoder. Subclass it; each field becomes a command-line option and is documented.

    Give every field a default and a ``description``. Unknown options are refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    latent_dim: int = Field(default=64, ge=1, description="Length of the latent vector of a patch.")
    seed: int = Field(default=0, ge=0, description="Seed of everything random.")


def _silent(stage: str, done: int, total: int, values: Mapping[str, float]) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class FitContext:
    """What surrounds a fit.

    Parameters
    ----------
    validation
        Held-out patches for early stopping, or None if the split has none.
    folder
        A folder for checkpoints that outlives an interrupted fit and is removed after a complete one; its
        subfolder ``logs`` is kept. None if nothing is kept.
    progress
        Called as ``progress(stage, done, total, values)``; `values` are figures worth showing.
    device
        Where to compute, for encoders that can choose: ``auto``, ``cpu``, ``cuda``.
    """

    validation: PatchSource | None = None
    folder: Path | None = None
    progress: Callable[[str, int, int, Mapping[str, float]], None] = _silent
    device: str = "auto"


@dataclass(frozen=True)
class FitReport:
    """What a fit found out.

    Parameters
    ----------
    patches
        Number of patches that were learned from.
    metrics
        Figures by name, such as ``explained_variance_ratio``.
    curves
        Sequences by name, such as the loss of each epoch, or the variance of each component.
    notes
        Sentences that a user must read, such as a latent size that was reduced.
    """

    patches: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, list[float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Encoder(abc.ABC):
    """An encoder: fit it on patches, then turn patches into latent vectors.

    A subclass sets `Config` and implements `fit`, `transform`, `save` and `load`; one with a decoder
    also sets `has_decoder` and implements `reconstruct`.

    Parameters
    ----------
    config
        The options, an instance of `Config`.
    """

    contract_version: ClassVar[int] = CONTRACT_VERSION
    """Version of the contract that this class was written for."""

    Config: ClassVar[type[EncoderConfig]] = EncoderConfig
    """Type of the options."""

    normalisation: ClassVar[Literal["standard", "unit"]] = "standard"
    """How channels are scaled: ``standard`` to mean 0 and deviation 1 on the training patches,
    ``unit`` to 0..1 by the range that the catalog states (or the training patches' range)."""

    deterministic: ClassVar[bool] = True
    """Whether equal seeds give equal bytes on one machine."""

    needs_fit: ClassVar[bool] = True
    """Whether `fit` learns from pixels; a control such as a random projection only looks at shapes."""

    has_decoder: ClassVar[bool] = False
    """Whether `reconstruct` is implemented."""

    def __init__(self, config: EncoderConfig) -> None:
        if not isinstance(config, self.Config):
            raise TypeError(f"{type(self).__name__} needs a {self.Config.__qualname__}, not {type(config)}")
        self.config = config

    def use_device(self, device: str) -> None:
        """Choose where to compute from now on; called after `load`. Most encoders have no choice.

        Parameters
        ----------
        device
            ``auto``, ``cpu`` or ``cuda``, as in `FitContext`.

        Raises
        ------
        GeoaeError
            If there is no such device.
        """
        del device

    def single_threaded(self) -> AbstractContextManager[object] | None:
        """Allow several threads to encode at a time, each with one core. Most encoders do not.

        Returns
        -------
        context manager, or None
            None: calls come one after the other, and each may use all cores. Else several threads at a time
            call `variables` and `reconstruct`, each with patches of its own, and each enters the context
            around its calls and leaves it: what it computes there must be as in one thread alone, and use
            that thread and no other. Asked for once before a cube is encoded, after `use_device`.
        """
        return None

    @property
    def latent_dim(self) -> int:
        """Length of the latent vector; after `fit` it may be smaller than the option asked for."""
        return self.config.latent_dim

    @abc.abstractmethod
    def fit(self, patches: PatchSource, context: FitContext) -> FitReport:
        """Learn from patches. Called once on a new instance; twice must give the same as once.

        Parameters
        ----------
        patches
            The training patches; re-iterable.
        context
            Validation patches, a folder for checkpoints, progress, device.

        Raises
        ------
        GeoaeError
            If the patches cannot be learned from; one clear line.
        """

    @abc.abstractmethod
    def transform(self, batch: PatchBatch) -> FloatArray:
        """Compute latent vectors.

        Parameters
        ----------
        batch
            Patches with the channels and the shape that `fit` saw.

        Returns
        -------
        numpy.ndarray
            ``(n, latent_dim)`` float32, finite. A patch's vector depends on that patch alone.

        Raises
        ------
        ValueError
            If channels or shape are not those that `fit` saw.
        """

    def variables(self, batch: PatchBatch) -> Mapping[str, FloatArray]:
        """Compute everything that is stored per patch, in one pass.

        Returns
        -------
        mapping
            Contains ``z``, the result of `transform`, and may add arrays ``(n, latent_dim)`` such as
            ``log_var``.
        """
        return {"z": self.transform(batch)}

    def reconstruct(self, z: FloatArray) -> FloatArray:
        """Compute images from latent vectors.

        Parameters
        ----------
        z
            ``(n, latent_dim)`` float32.

        Returns
        -------
        numpy.ndarray
            ``(n, channel, y, x)`` float32 in the normalised scale of the target image.
        """
        raise NotImplementedError(f"{type(self).__name__} has no decoder")

    @abc.abstractmethod
    def save(self, folder: Path) -> None:
        """Write everything that `load` needs into an existing, empty folder; no pickle.

        The options are stored by geoae; write weights only. safetensors is a good format.
        """

    @classmethod
    @abc.abstractmethod
    def load(cls, folder: Path, config: Any) -> Self:
        """Make the encoder from a folder that `save` wrote and its options.

        Raises
        ------
        PluginError
            If a file is missing, damaged or does not fit the options.
        """
