"""Calls into encoders: what a plugin returns is checked, what it raises becomes one line.

An encoder is a stranger's code. Whatever goes wrong in it must name it, and must not look like a fault
of the cube.
"""

import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geoae.encoder import Encoder, EncoderConfig, FitContext, FitReport, PatchBatch, PatchSource
from geoae.errors import GeoaeError, PluginError
from geoae.mixing import threads

__all__ = ["Wants", "calling", "compute", "fit_encoder", "report_document"]

_AUTHOR = "--debug shows where; tell the plugin's author"


@contextmanager
def calling(who: str, what: str) -> Iterator[None]:
    """Turn whatever a plugin raises into one line that names it.

    Parameters
    ----------
    who
        The encoder, such as ``encoder pca of geoae 0.1.0``.
    what
        What is being called.

    Raises
    ------
    PluginError
        If the plugin raises anything but an error of geoae. A lack of memory stays what it is.
    """
    try:
        yield
    except (GeoaeError, MemoryError):
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise PluginError(f"{who} failed in {what}: {text}", hint=_AUTHOR) from error


def fit_encoder(
    kind: type[Encoder], config: EncoderConfig, source: PatchSource, context: FitContext, who: str
) -> tuple[Encoder, FitReport]:
    """Make an encoder and fit it.

    Raises
    ------
    PluginError
        If it raises, or returns no `FitReport`.
    """
    with calling(who, "fit"):
        encoder = kind(config)
        report: Any = encoder.fit(source, context)
    if not isinstance(report, FitReport):
        raise PluginError(f"{who} returns {type(report).__name__} from fit, not FitReport", hint=_AUTHOR)
    with calling(who, "fit, in its report"):
        report_document(report)
    return encoder, report


@dataclass(frozen=True)
class Wants:
    """What is wanted of a decoder.

    Parameters
    ----------
    errors
        The errors of its images; without, they are NaN: there is nothing to compare with.
    images
        The images themselves.
    """

    errors: bool = True
    images: bool = False


def report_document(report: FitReport) -> dict[str, Any]:
    """Return a fit's report as JSON values; what is not finite becomes None."""
    return {
        "patches": int(report.patches),
        "metrics": {str(k): _number(v) for k, v in sorted(report.metrics.items())},
        "curves": {str(k): [_number(x) for x in v] for k, v in report.curves.items()},
        "notes": [str(note) for note in report.notes],
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def compute(
    encoder: Encoder, batch: PatchBatch, who: str, wants: Wants = Wants(), *, cores: int | None = None
) -> dict[str, npt.NDArray[np.float32]]:
    """Compute everything that is stored of some patches, and check it.

    Parameters
    ----------
    encoder
        A fitted encoder.
    batch
        The patches.
    who
        See `calling`.
    wants
        What is wanted of a decoder.
    cores
        How many threads measure errors; all cores if None.

    Returns
    -------
    dict
        ``z`` and what else the encoder gives, ``(n, latent_dim)``, and ``error (n,)``: the root mean
        square of the reconstruction's error over valid pixels in normalised units, NaN without a decoder or
        a valid pixel. With a decoder also ``band_error (n, target channel)``, and ``reconstruction
        (n, target channel, y, x)`` if wanted.

    Raises
    ------
    PluginError
        If it raises, or if shape, dtype or values break the contract.
    """
    with calling(who, "transform"):
        returned: Any = encoder.variables(batch)
        latent_dim = encoder.latent_dim
    if not isinstance(returned, Mapping) or "z" not in returned:
        raise PluginError(f"{who} returns no 'z' from variables", hint=_AUTHOR)
    values = dict(returned)
    for name, array in values.items():
        _check(array, (len(batch), latent_dim), batch, f"{who} returns {name}")
    values["error"] = np.full(len(batch), np.nan, np.float32)
    if encoder.has_decoder:
        values |= _images(encoder, batch, values["z"], who, wants, cores or threads())
    return values


def _check(array: Any, shape: tuple[int, ...], batch: PatchBatch, what: str) -> None:
    _check_form(array, shape, what)
    finite = np.isfinite(array.reshape(len(batch), -1)).all(axis=1)
    if not finite.all():
        raise PluginError(f"{what} that is not finite for patch {batch.index[~finite][0]}", hint=_AUTHOR)


def _check_form(array: Any, shape: tuple[int, ...], what: str) -> None:
    if not isinstance(array, np.ndarray) or array.shape != shape:
        found = f"of shape {array.shape}" if isinstance(array, np.ndarray) else f"as {type(array).__name__}"
        raise PluginError(f"{what} {found}, not an array of shape {shape}", hint=_AUTHOR)
    if array.dtype != np.float32:
        raise PluginError(f"{what} of {array.dtype}, not float32", hint=_AUTHOR)


def _images(
    encoder: Encoder, batch: PatchBatch, z: npt.NDArray[np.float32], who: str, wants: Wants, cores: int
) -> dict[str, npt.NDArray[np.float32]]:
    """Decode, and measure the errors over valid pixels."""
    target = batch.image if batch.target is None else batch.target
    valid = batch.valid if batch.target_valid is None else batch.target_valid
    what = f"{who} reconstructs images"
    with calling(who, "reconstruct"):
        image: Any = encoder.reconstruct(z)
    if not wants.errors:
        shape = image.shape if isinstance(image, np.ndarray) else ()
        _check(image, (*shape[:2], *target.shape[2:]), batch, what)
        lost = np.full((len(batch), image.shape[1]), np.nan, np.float32)
        found = {"error": lost[:, 0].copy(), "band_error": lost}
    else:
        _check_form(image, target.shape, what)
        found = _errors(image, target, valid, cores)
        if wants.images or not np.isfinite(found["error"]).all():
            _check(image, target.shape, batch, what)
    return found | ({"reconstruction": image} if wants.images else {})


def _errors(
    image: npt.NDArray[np.float32],
    target: npt.NDArray[np.float32],
    valid: npt.NDArray[np.bool_],
    cores: int,
) -> dict[str, npt.NDArray[np.float32]]:
    """Measure the errors of patches by threads, one patch at a time: it stays in the processor's cache.

    They are not finite for a patch without a valid pixel, and where a pixel is not.
    """
    squares = np.empty(image.shape[:2])
    known = np.empty(image.shape[:2], np.int64)
    shared = valid.strides[1] == 0  # one mask, which all channels show
    rows = range(len(image))

    def measure(part: range) -> None:
        difference = np.empty(image.shape[1:], np.float32)
        for row in part:
            mask = valid[row, :1] if shared else valid[row]
            known[row] = mask.sum(axis=(1, 2))
            np.subtract(image[row], target[row], out=difference)
            if not mask.all():
                if not np.isfinite(difference).all():  # which nobody would see where nothing is known
                    squares[row] = np.nan
                    continue
                difference *= mask.astype(np.float32)  # a product with bool is half as fast
            # Line by line in float32, and their sums in float64: as exact, and fast.
            lines = np.einsum("ijk,ijk->ij", difference, difference)
            squares[row] = lines.sum(axis=1, dtype=np.float64)

    if cores == 1:
        measure(rows)
    else:
        with ThreadPoolExecutor(cores) as pool:
            for done in [pool.submit(measure, rows[first::cores]) for first in range(cores)]:
                done.result()
    with np.errstate(invalid="ignore"):  # no valid pixel: 0 / 0 is NaN, which says so
        error, band_error = np.sqrt(squares.sum(axis=1) / known.sum(axis=1)), np.sqrt(squares / known)
    return {"error": error.astype(np.float32), "band_error": band_error.astype(np.float32)}
