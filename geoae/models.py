"""Model folders: a fitted encoder with everything that is needed to use it again, and to doubt it.

``<cube>.models/<name>/`` holds ``model.json`` (plugin, options, channels, normalisation, split, cube,
report), ``weights/`` (the plugin's own files) and ``manifest.json`` (sha256 of each file). It is made
aside and renamed into place when it is complete.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from geoae.batches import Normalisation
from geoae.calls import calling
from geoae.cube import Cube
from geoae.encoder import Channel, Encoder, EncoderConfig
from geoae.errors import InputError, IntegrityError, PluginError, StoreExistsError, UsageError
from geoae.flushing import flush
from geoae.location import Location, work_folder
from geoae.provenance import canonical_json, digest_of
from geoae.registry import load_encoder
from geoae.schema import layer_path

__all__ = [
    "ChannelSpec",
    "Model",
    "ModelSpec",
    "check_fits",
    "list_models",
    "load_model",
    "model_lock",
    "models_folder",
    "read_spec",
    "save_model",
    "unfinished_models",
]

FORMAT = 1
_MODEL, _MANIFEST, _WEIGHTS = "model.json", "manifest.json", "weights"

_AGAIN = "fit it again with --overwrite, or restore its folder from a copy"

_SIZE_TOLERANCE = 0.10
"""Relative difference of pixel sizes that a model is used across: the two cities differ by 8 %."""


class ChannelSpec(BaseModel):
    """A channel that a model expects, with what decides whether another cube's fits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: str
    band: str
    units: str
    dtype: str
    range: tuple[float, float] | None = None
    """Meaningful values that the catalog states: images of one dtype may be scaled differently."""

    @property
    def channel(self) -> Channel:
        """The channel itself."""
        return Channel(self.modality, self.band, self.units)


class ModelSpec(BaseModel):
    """All about a fitted model but its weights; the content of ``model.json``.

    Parameters
    ----------
    plugin, distribution, version
        Name of the encoder, and the package that provides it.
    options
        The encoder's options.
    channels
        Channels of the input, in order.
    patch
        Side of a patch in pixels.
    pixel_size
        Pixel size in metres of the training patches; None if unknown.
    normalisation
        How channels are scaled.
    target, target_normalisation
        Channels that the decoder produces and their scale, where they are not those of the input.
    inputs
        Digests of the cube and the split it was fitted on.
    part
        Part of the split that it was fitted on.
    min_valid
        Share of valid pixels that training patches had at least.
    report
        What the fit found out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    plugin: str
    distribution: str
    version: str
    options: Mapping[str, Any]
    channels: tuple[ChannelSpec, ...]
    patch: int
    pixel_size: float | None
    normalisation: Normalisation
    target: tuple[ChannelSpec, ...] | None = None
    target_normalisation: Normalisation | None = None
    inputs: Mapping[str, str]
    part: str
    min_valid: float
    report: Mapping[str, Any]

    @property
    def encoder_name(self) -> str:
        """The encoder and its package, for messages."""
        return f"encoder {self.plugin} of {self.distribution} {self.version}"

    def request(self) -> str:
        """Return a digest of what was asked for: equal requests on equal inputs give equal models."""
        asked = self.model_dump(mode="json", exclude={"report", "normalisation", "target_normalisation"})
        return digest_of(json.loads(canonical_json(asked)))


@dataclass(frozen=True)
class Model:
    """A fitted encoder, loaded.

    Parameters
    ----------
    name
        Name of its folder.
    spec
        All but the weights.
    encoder
        The encoder with its weights.
    digest
        Digest of all its files.
    """

    name: str
    spec: ModelSpec
    encoder: Encoder
    digest: str


def models_folder(cube: Cube) -> Path:
    """Return the folder beside a cube that holds its models; a local one also for remote cubes."""
    if cube.location.is_local:
        return cube.location.beside(".models").path
    return Path.cwd() / f"{cube.location.name}.models"


@contextmanager
def model_lock(cube: Cube, name: str) -> Iterator[None]:
    """Hold a model while it is made; end a replacement that a crash has cut in two.

    Raises
    ------
    UsageError
        If the name cannot name a folder.
    LockedError
        If another run is making it.
    """
    layer_path("latents", name)  # a model's name is a layer's name too
    with work_folder(cube.location).lock(f"models/{name}"):
        root = models_folder(cube)
        target, fresh, old = _places(root, name)
        if old.exists() and not target.exists():
            # It died between its two renames: the new one is complete, or the old one still is.
            (fresh if (fresh / _MANIFEST).exists() else old).rename(target)
        yield


def _places(root: Path, name: str) -> tuple[Path, Path, Path]:
    """Return where a model lies, where it is made, and where its predecessor waits to be removed."""
    return root / name, root / f".{name}.next", root / f".{name}.old"


def list_models(cube: Cube) -> tuple[str, ...]:
    """Return the names of the models beside a cube."""
    return tuple(sorted(p.parent.name for p in models_folder(cube).glob(f"[!.]*/{_MODEL}")))


def unfinished_models(cube: Cube) -> tuple[str, ...]:
    """Return the names of models whose fit was begun and did not end."""
    begun = (*models_folder(cube).glob(".*.next"), *models_folder(cube).glob(".*.checkpoints"))
    return tuple(sorted({p.stem[1:] for p in begun}))


def _find(cube: Cube | None, name_or_path: str | os.PathLike[str]) -> Path:
    path = Path(name_or_path)
    if cube is not None and not (path / _MODEL).exists():
        name = str(name_or_path)
        path = models_folder(cube) / name
        if not path.exists() and name in _cut_in_two(cube):
            with model_lock(cube, name):
                pass  # taking the lock mends it
    if not path.is_dir():
        there = ", ".join(list_models(cube) if cube is not None else ()) or "none"
        raise InputError(
            f"no model {str(name_or_path)!r}",
            hint=f"models of the cube: {there}; another cube's is named by its folder",
        )
    return path


def _cut_in_two(cube: Cube) -> set[str]:
    """Name the models whose replacement died between its two renames."""
    return {p.name[1:].removesuffix(".old") for p in models_folder(cube).glob(".*.old")}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): _sha256(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != _MANIFEST
    }


def read_spec(folder: Path) -> tuple[ModelSpec, str]:
    """Read a model's description after checking every file against the manifest.

    Returns
    -------
    tuple of ModelSpec and str
        The description, and the digest of the model.

    Raises
    ------
    IntegrityError
        If a file is missing, added or changed.
    InputError
        If the description is not one of this version.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
        found = _files(folder)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"model {folder.name} has no readable manifest: {error}", hint=_AGAIN) from None
    if not isinstance(manifest, dict):
        raise IntegrityError(f"model {folder.name} has another manifest", hint=_AGAIN)
    if found != manifest:
        changed = sorted(k for k in {*found, *manifest} if found.get(k) != manifest.get(k))
        raise IntegrityError(f"model {folder.name} was changed: {', '.join(changed[:3])}", hint=_AGAIN)
    document = json.loads((folder / _MODEL).read_bytes())
    if document.get("format", 0) > FORMAT:
        raise InputError(
            f"model {folder.name} has format {document['format']}, newer than {FORMAT}", hint="update geoae"
        )
    try:
        spec = ModelSpec.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"model {folder.name} cannot be read: {where}: {first['msg']}") from None
    return spec, digest_of(manifest)


def load_model(cube: Cube | None, name_or_path: str | os.PathLike[str]) -> Model:
    """Load a model of a cube by name, or any by its folder.

    Raises
    ------
    InputError
        If there is none.
    IntegrityError
        If its files changed.
    PluginError
        If its encoder is not installed or refuses the weights.
    """
    folder = _find(cube, name_or_path)
    spec, digest = read_spec(folder)
    try:
        kind = load_encoder(spec.plugin)
    except UsageError:
        raise PluginError(
            f"model {folder.name} needs the {spec.encoder_name}, which is not installed",
            hint=f"pip install {spec.distribution}",
        ) from None
    config = validated(kind, spec.options)
    with calling(spec.encoder_name, "load"):
        encoder: Any = kind.load(folder / _WEIGHTS, config)
    if not isinstance(encoder, kind):
        raise PluginError(f"{spec.encoder_name} returns {type(encoder).__name__} from load")
    return Model(folder.name, spec, encoder, digest)


def validated(kind: type[Encoder], options: Mapping[str, Any]) -> EncoderConfig:
    """Make an encoder's options from stored values.

    Raises
    ------
    PluginError
        If the installed version of the encoder does not accept them.
    """
    try:
        return kind.Config.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PluginError(
            f"{kind.__name__} does not accept the model's option {where}: {first['msg']}"
        ) from None


def save_model(cube: Cube, name: str, spec: ModelSpec, encoder: Encoder, *, overwrite: bool) -> Model:
    """Store a fitted encoder. Hold its `model_lock`.

    Raises
    ------
    StoreExistsError
        If a model of that name exists and `overwrite` is off.
    PluginError
        If the plugin cannot save it.
    GeoaeError
        If another cube has taken the cube's place since the fit began.
    """
    cube.check_there()
    target, fresh, old = _places(models_folder(cube), name)
    if target.exists() and not overwrite:
        raise StoreExistsError(
            f"model {name!r} exists", hint="--overwrite replaces it, --name makes another one"
        )
    shutil.rmtree(fresh, ignore_errors=True)
    weights = fresh / _WEIGHTS
    weights.mkdir(parents=True)
    with calling(spec.encoder_name, "save"):
        encoder.save(weights)
    (fresh / _MODEL).write_text(json.dumps(spec.model_dump(mode="json"), indent=1, sort_keys=True), "utf-8")
    manifest = _files(fresh)
    (fresh / _MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), "utf-8")
    Location.of(fresh).flush()  # before it gets the name under which it is believed
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    flush(target.parent)
    flush(target.parent.parent)  # the first model's folder of models
    shutil.rmtree(old, ignore_errors=True)
    return Model(name, spec, encoder, digest_of(manifest))


def check_fits(model: Model, cube: Cube, channels: tuple[ChannelSpec, ...], pixel_size: float | None) -> None:
    """Refuse a model whose channels, patch size, pixel size or scaling another cube does not have.

    Parameters
    ----------
    model
        The model.
    cube
        The cube.
    channels
        The cube's channels of the model's input, then of its target if it has another and the cube has it.
    pixel_size
        Of the cube in metres.

    Raises
    ------
    UsageError
        Naming all that differs.
    """
    spec = model.spec
    differs: list[str] = []
    if spec.patch != cube.patch_size:
        differs.append(f"patches of {cube.patch_size} pixels, not {spec.patch}")
    # The target is compared only if the cube has it.
    for expected, found in zip(spec.channels + (spec.target or ()), channels, strict=False):
        if expected.units != found.units:
            differs.append(f"{found.channel} in {found.units}, not {expected.units}")
        if expected.dtype != found.dtype:
            differs.append(f"{found.channel} of {found.dtype}, not {expected.dtype}")
        if expected.range != found.range:
            differs.append(f"{found.channel} of range {_interval(found)}, not {_interval(expected)}")
    known = spec.pixel_size is not None and pixel_size is not None
    if known and abs(pixel_size / spec.pixel_size - 1) > _SIZE_TOLERANCE:  # type: ignore[operator]
        differs.append(f"pixels of {pixel_size:.3g} m, not {spec.pixel_size:.3g} m")
    if differs:
        raise UsageError(
            f"model {model.name} does not fit {cube.location.name}, which has {'; '.join(differs[:4])}",
            hint="fit a model on this cube, or ingest it as the model expects",
        )


def _interval(channel: ChannelSpec) -> str:
    return "unknown" if channel.range is None else f"{channel.range[0]:g} to {channel.range[1]:g}"
