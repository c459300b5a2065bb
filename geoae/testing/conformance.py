"""The contract of encoders as a test that anyone can run on their class.

::

    from geoae.testing import check_encoder

    def test_my_encoder_keeps_the_contract():
        check_encoder(MyEncoder)

Built-in and foreign encoders pass the same checks.
"""

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from geoae.encoder import Encoder, EncoderConfig, FitContext, FitReport, PatchBatch, PatchSource
from geoae.errors import GeoaeError, PluginError
from geoae.registry import check_class, describe
from geoae.testing.arrays import ArrayPatches, synthetic_patches

__all__ = ["TOLERANCE", "check_encoder"]

TOLERANCE = 1e-4
"""Largest difference between a patch's vectors in two batches, as a share of the largest number in ``z``:
matrix kernels sum in an order that depends on the batch."""

T = TypeVar("T")


def check_encoder(
    encoder: type[Encoder],
    *,
    config: EncoderConfig | None = None,
    shapes: Sequence[tuple[int, int, int]] = ((3, 16, 16), (1, 16, 12)),
    patches: int = 40,
) -> None:
    """Check that an encoder keeps the contract.

    On small synthetic patches it is fitted, used, saved and loaded: shapes, dtype, finite values, batch
    independence, determinism, threads, unknown options refused, patches without valid pixels, few patches,
    damaged weights, other shapes refused, no state outside the encoder.

    Parameters
    ----------
    encoder
        The class.
    config
        Options that make a fit quick; the defaults with a latent size of 4 if None.
    shapes
        Patches ``(channel, y, x)`` to try. Give others if the encoder needs them.
    patches
        How many patches to fit on.

    Raises
    ------
    PluginError
        Naming the first promise that is broken.
    """
    name = getattr(encoder, "__name__", repr(encoder))
    check_class(encoder, name)
    _check_options(encoder, name)
    if config is None:
        config = encoder.Config.model_validate({"latent_dim": 4})
    for shape in shapes:
        with tempfile.TemporaryDirectory(prefix="geoae-") as folder:
            subject = _Subject(encoder, f"{name}, patches {shape}", config, shape, Path(folder))
            fitted = _check_fit(subject, synthetic_patches(patches, shape))
            _check_transform(subject, fitted)
            _check_batches(subject, fitted)
            _check_decoder(subject, fitted)
            _check_threads(subject, fitted)
            _check_other_shapes(subject, fitted)
            _check_files(subject, fitted)
            _check_few_patches(subject)


@dataclass(frozen=True)
class _Subject:
    """What is checked; `name` begins every message."""

    encoder: type[Encoder]
    name: str
    config: EncoderConfig
    shape: tuple[int, int, int]
    folder: Path

    def broken(self, what: str, hint: str | None = None) -> PluginError:
        return PluginError(f"{self.name}: {what}", hint=hint)

    def call(self, what: str, function: Callable[..., T], *arguments: Any) -> T:
        """Call the plugin; whatever it raises becomes the message."""
        try:
            return function(*arguments)
        except Exception as error:
            raise self.broken(f"{what} raised {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class _Fitted:
    """A fitted encoder, the patches, and the vectors of all of them in one batch."""

    encoder: Encoder
    source: ArrayPatches
    z: npt.NDArray[np.float32]


def _check_options(encoder: type[Encoder], name: str) -> None:
    for option in describe(encoder):
        if option.required:
            raise PluginError(f"{name}: option {option.field} has no default")
        if not option.description.strip():
            raise PluginError(f"{name}: option {option.field} has no description")
    config = encoder.Config.model_validate({})
    try:
        again = encoder.Config.model_validate(json.loads(config.model_dump_json()))
    except (ValidationError, ValueError) as error:
        raise PluginError(f"{name}: its options do not survive JSON: {error}") from error
    if again != config:
        raise PluginError(f"{name}: its options change when they are stored as JSON")
    try:
        encoder.Config.model_validate({"no_such_option": 1})
    except ValidationError:
        pass
    else:
        raise PluginError(f"{name}: accepts an unknown option", hint='keep extra="forbid" in Config')
    if encoder.normalisation not in ("standard", "unit"):
        raise PluginError(f"{name}: normalisation {encoder.normalisation!r} is neither standard nor unit")
    if encoder.has_decoder and encoder.reconstruct is Encoder.reconstruct:
        raise PluginError(f"{name}: has_decoder is set, but reconstruct is not implemented")


def _check_fit(subject: _Subject, source: ArrayPatches) -> _Fitted:
    """Fit two instances, one of them twice; all must agree."""
    with _untouched_random_state(subject):
        first = _fit(subject, source, subject.encoder(subject.config), "first")
    z = _transform(subject, first, source.batch())
    other = subject.encoder(subject.config)
    for which in ("second", "third"):
        np.random.standard_normal(7)  # noqa: NPY002 (whoever draws from the global state gives other results now)
        _fit(subject, source, other, which)
        again = _transform(subject, other, source.batch())
        if subject.encoder.deterministic and again.tobytes() != z.tobytes():
            what = "equal seeds give different" if which == "second" else "fitting twice gives other"
            raise subject.broken(
                f"{what} latent vectors", hint="seed everything random; or deterministic = False"
            )
        if again.shape != z.shape:
            raise subject.broken(f"equal fits give latent sizes {z.shape[1]} and {again.shape[1]}")
    return _Fitted(first, source, z)


def _fit(subject: _Subject, source: PatchSource, encoder: Encoder, which: str) -> Encoder:
    calls: list[tuple[Any, ...]] = []
    folder = subject.folder / f"checkpoints-{which}"
    folder.mkdir()
    context = FitContext(
        validation=synthetic_patches(8, subject.shape, seed=1),
        folder=folder,
        progress=lambda *values: calls.append(values),
        device="cpu",
    )
    report = subject.call("fit", encoder.fit, source, context)
    if not isinstance(report, FitReport):
        raise subject.broken(f"fit returns {type(report).__name__}, not a FitReport")
    numbers = [*report.metrics.values(), *(value for curve in report.curves.values() for value in curve)]
    if not all(isinstance(value, float | int) and np.isfinite(value) for value in numbers):
        raise subject.broken("the report of fit holds what is no finite number")
    if subject.encoder.needs_fit and report.patches != len(source):
        raise subject.broken(f"fit reports {report.patches} patches of {len(source)}")
    for call in calls:
        if not (len(call) == 4 and isinstance(call[0], str) and 0 <= call[1] <= call[2]):
            raise subject.broken(f"progress is called with {call!r}, not (stage, done, total, values)")
    size: Any = encoder.latent_dim
    if not isinstance(size, int) or not 1 <= size <= subject.config.latent_dim:
        raise subject.broken(f"latent_dim is {size!r} after fit, of {subject.config.latent_dim} asked for")
    return encoder


@contextmanager
def _untouched_random_state(subject: _Subject) -> Iterator[None]:
    def state() -> Any:
        name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 (the state others may share)
        return name, np.asarray(keys).tobytes(), rest, random.getstate()

    before = state()
    yield
    if state() != before:
        raise subject.broken(
            "fit draws from or seeds the global random state",
            hint="use numpy.random.default_rng(config.seed)",
        )


def _transform(subject: _Subject, encoder: Encoder, batch: PatchBatch) -> npt.NDArray[np.float32]:
    """Call transform and check its result."""
    z = subject.call("transform", encoder.transform, batch)
    _check_array(subject, "transform", z, (len(batch), encoder.latent_dim))
    return z


def _check_array(subject: _Subject, what: str, array: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray):
        raise subject.broken(f"{what} returns {type(array).__name__}, not a numpy array")
    if array.shape != shape:
        raise subject.broken(f"{what} returns shape {array.shape}, expected {shape}")
    if array.dtype != np.float32:
        raise subject.broken(f"{what} returns {array.dtype}, expected float32")
    if not np.isfinite(array).all():
        rows = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
        raise subject.broken(
            f"{what} returns NaN or infinity for patches {rows[:5].tolist()}",
            hint="patch 0 of the check has no valid pixel, patch 1 is constant",
        )


def _check_transform(subject: _Subject, fitted: _Fitted) -> None:
    """Transform leaves its input alone, and `variables` agrees with it."""
    batch = fitted.source.batch()
    variables = subject.call("variables", fitted.encoder.variables, batch)
    if not isinstance(variables, Mapping) or "z" not in variables:
        raise subject.broken("variables returns no mapping with z")
    for key, array in variables.items():
        _check_array(subject, f"variables: {key}", array, fitted.z.shape)
    if variables["z"].tobytes() != fitted.z.tobytes():
        raise subject.broken(
            "z of variables is not what transform returns", hint="use the mean, draw nothing"
        )
    fresh = fitted.source.batch()
    if batch.image.tobytes() != fresh.image.tobytes() or batch.valid.tobytes() != fresh.valid.tobytes():
        raise subject.broken("transform changes the batch that it is given")


def _check_batches(subject: _Subject, fitted: _Fitted) -> None:
    """Compare each patch's vector in one batch with its vector in others."""
    count = len(fitted.source)
    whole = np.arange(count)
    splits = {
        "one patch at a time": [whole[i : i + 1] for i in range(min(count, 9))],
        "batches of seven": [whole[i : i + 7] for i in range(0, count, 7)],
        "the opposite order": [whole[::-1]],
    }
    for what, parts in splits.items():
        for rows in parts:
            # The place in the cube says nothing about a patch.
            batch = replace(fitted.source.batch(rows), index=rows + 1000)
            _compare(subject, fitted.z[rows], _transform(subject, fitted.encoder, batch), what)
    rows = whole[3:7]
    batch = fitted.source.batch(rows)
    plain = replace(batch, valid=np.broadcast_to(np.True_, batch.image.shape))
    _transform(subject, fitted.encoder, plain)  # sources give read-only masks where all is valid


def _compare(subject: _Subject, expected: npt.NDArray[Any], found: npt.NDArray[Any], what: str) -> None:
    scale = float(np.abs(expected).max(initial=0)) or 1.0
    worst = float(np.abs(expected - found).max(initial=0)) / scale
    if worst > TOLERANCE:
        raise subject.broken(
            f"a latent vector depends on the batch: {what} differs by {worst:.2g} of the largest number",
            hint="no statistics of the batch, no randomness in transform",
        )


def _check_decoder(subject: _Subject, fitted: _Fitted) -> None:
    if subject.encoder.has_decoder:
        images = subject.call("reconstruct", fitted.encoder.reconstruct, fitted.z)
        _check_array(subject, "reconstruct", images, (len(fitted.z), *subject.shape))


def _check_threads(subject: _Subject, fitted: _Fitted) -> None:
    """Where several threads may encode at a time, they get what one thread gets."""
    encoder, count = fitted.encoder, len(fitted.source)
    alone = subject.call("single_threaded", encoder.single_threaded)
    if alone is None:
        return

    def encode(start: int) -> bytes:
        with alone:
            z = _transform(subject, encoder, fitted.source.batch(np.arange(start, min(start + 5, count))))
            return z.tobytes() + (encoder.reconstruct(z).tobytes() if encoder.has_decoder else b"")

    starts = [*range(0, count, 5)] * 5
    with ThreadPoolExecutor(4) as pool:
        if list(pool.map(encode, starts)) != [encode(start) for start in starts]:
            raise subject.broken("threads get other numbers than one alone", hint="keep nothing of a call")


def _check_other_shapes(subject: _Subject, fitted: _Fitted) -> None:
    """Patches with other channels are refused; those of another size too, unless any size will do."""
    channels, height, width = subject.shape
    wrong = {
        "more channels": (channels + 1, height, width),
        "larger patches": (channels, height + 4, width + 4),
    }
    for what, shape in wrong.items():
        batch = synthetic_patches(3, shape).batch()
        try:
            z = fitted.encoder.transform(batch)
        except (ValueError, GeoaeError):
            continue
        except Exception as error:
            raise subject.broken(
                f"{what}: transform raised {type(error).__name__}, expected ValueError"
            ) from error
        if shape[0] != channels:
            raise subject.broken(f"transform accepts {what} than fit saw", hint="raise ValueError")
        _check_array(subject, f"transform of {what}", z, (3, fitted.encoder.latent_dim))


def _check_files(subject: _Subject, fitted: _Fitted) -> None:
    """Save, load, compare; then damage what was saved."""
    place = subject.folder / "save"
    saved = _save(subject, fitted.encoder, place / "model")
    if sorted(path.name for path in place.iterdir()) != ["model"]:
        raise subject.broken("save writes outside the folder that it is given")
    for path, content in saved.items():
        if len(content) > 1 and content[0] == 0x80 and 2 <= content[1] <= 5:
            raise subject.broken(f"save writes a pickle ({path})", hint="safetensors and JSON run no code")
    loaded = subject.call("load", subject.encoder.load, place / "model", subject.config)
    if not isinstance(loaded, subject.encoder) or loaded.config != subject.config:
        raise subject.broken("load returns no encoder of this class with the options that it was given")
    if loaded.latent_dim != fitted.encoder.latent_dim:
        raise subject.broken(
            f"the latent size is {loaded.latent_dim} after load, was {fitted.encoder.latent_dim}"
        )
    z = _transform(subject, loaded, fitted.source.batch())
    if z.tobytes() != fitted.z.tobytes():
        raise subject.broken("save and load change the latent vectors")
    if subject.encoder.has_decoder:
        before, after = fitted.encoder.reconstruct(z), subject.call("reconstruct", loaded.reconstruct, z)
        if before.tobytes() != after.tobytes():
            raise subject.broken("save and load change the reconstruction")
    if _save(subject, loaded, subject.folder / "again") != saved:
        raise subject.broken("an encoder that was loaded saves other bytes")
    _check_damage(subject, place / "model", saved)


def _save(subject: _Subject, encoder: Encoder, folder: Path) -> dict[str, bytes]:
    folder.mkdir(parents=True)
    subject.call("save", encoder.save, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _check_damage(subject: _Subject, model: Path, saved: Mapping[str, bytes]) -> None:
    for path, content in saved.items():
        for what, damaged in {"missing": None, "cut off": content[: len(content) // 2]}.items():
            copy = subject.folder / "damaged"
            shutil.copytree(model, copy)
            if damaged is None:
                (copy / path).unlink()
            else:
                (copy / path).write_bytes(damaged)
            try:
                subject.encoder.load(copy, subject.config)
            except GeoaeError:
                pass
            except Exception as error:
                kind = type(error).__name__
                raise subject.broken(
                    f"load raised {kind} with {path} {what}, expected PluginError"
                ) from error
            else:
                raise subject.broken(f"load accepts a model with {path} {what}")
            shutil.rmtree(copy)


def _check_few_patches(subject: _Subject) -> None:
    """None, one, or equal patches: a fit works, or says in one line why it cannot."""
    one = synthetic_patches(3, subject.shape).batch([2])
    cases = {
        "no patch": one.image[:0],
        "one patch": one.image,
        "two equal patches": np.concatenate([one.image, one.image]),
    }
    for number, (what, image) in enumerate(cases.items()):
        encoder = subject.encoder(subject.config)
        source = ArrayPatches(image)
        folder = subject.folder / f"checkpoints-few-{number}"
        folder.mkdir()
        try:
            encoder.fit(source, FitContext(folder=folder, device="cpu"))
        except GeoaeError:
            continue
        except Exception as error:
            kind = type(error).__name__
            raise subject.broken(f"fit on {what} raised {kind}: {error}, expected GeoaeError") from error
        if len(source):
            _transform(subject, encoder, source.batch())
