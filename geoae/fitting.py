"""Fitting: learn an encoder on the training patches of a cube and keep the model."""

import contextlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geoae import schema
from geoae.batches import CubePatches, Normalisation, fit_normalisation, parse_input, usable_rows
from geoae.calls import calling, fit_encoder, report_document
from geoae.cube import Cube
from geoae.encoder import Channel, Encoder, EncoderConfig, FitContext
from geoae.errors import InputError, StoreExistsError, UsageError
from geoae.models import (
    ChannelSpec,
    Model,
    ModelSpec,
    load_model,
    model_lock,
    models_folder,
    read_spec,
    save_model,
)
from geoae.registry import encoder_info, load_encoder, parse_options
from geoae.splits import DEFAULT, TRAIN, VALIDATION, ensure_split, planned_rows

__all__ = ["FitPlan", "Progress", "channel_specs", "fit", "pixel_size", "plan_fit"]

Progress = Callable[[str, int, int, Mapping[str, float]], None]
"""Called as ``progress(stage, done, total, values)``."""


def channel_specs(cube: Cube, channels: tuple[Channel, ...]) -> tuple[ChannelSpec, ...]:
    """Describe channels as a cube has them, for comparison with what a model expects."""
    return tuple(
        ChannelSpec(
            modality=c.modality,
            band=c.band,
            units=c.units,
            dtype=str(cube.array(c.modality).dtype),
            range=cube.catalog.modalities[c.modality].range,
        )
        for c in channels
    )


def pixel_size(cube: Cube) -> float | None:
    """Return the median pixel size of a cube in metres; None if no scene has a CRS."""
    table = cube.table()
    sizes = np.sqrt((table["pixel_size_x"] * table["pixel_size_y"]).to_numpy())
    return float(np.nanmedian(sizes)) if np.isfinite(sizes).any() else None


@dataclass(frozen=True)
class FitPlan:
    """What a fit would do.

    Parameters
    ----------
    name
        Name of the model.
    kind, config
        The encoder and its options.
    spec
        What is known of the model before it is fitted.
    train, validation
        Patches to learn from, and patches held out.
    exists
        Whether a model of that name is there: an equal one, or one to be replaced.
    """

    name: str
    kind: type[Encoder]
    config: EncoderConfig
    spec: ModelSpec
    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    exists: bool

    @property
    def latent_dim(self) -> int:
        """Length of the latent vectors as asked for; a fit may find that there are fewer components."""
        with calling(self.spec.encoder_name, "its constructor"):
            return self.kind(self.config).latent_dim


def fit(
    cube: Cube | str,
    *,
    plugin: str,
    options: Mapping[str, Any] | None = None,
    input: str | None = None,
    target: str | None = None,
    split: str = DEFAULT,
    min_valid: float | None = None,
    name: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Fit an encoder on the training patches of a cube and store the model beside it.

    Parameters
    ----------
    cube
        The cube, or its path.
    plugin
        Name of the encoder, see ``geoae plugins``.
    options
        Its options by name; text values are converted.
    input
        Channels to read, see `geoae.batches.parse_input`; the picture if None.
    target
        Channels that a decoder should make of them; the same if None.
    split
        Name of the split; the default one is made if there is none.
    min_valid
        Leave out patches with a smaller share of valid pixels; the cube's own limit if None.
    name
        Name of the model; the plugin's if None.
    device
        Where to compute, for encoders that can choose.
    overwrite
        Replace a model of that name.
    progress
        Called as ``progress(stage, done, total, values)``.

    Returns
    -------
    Model
        An equal model that is there already is loaded instead of fitted again.

    Raises
    ------
    UsageError
        If options, input or split are wrong.
    InputError
        If no patch can be learned from.
    PluginError
        If the encoder breaks its contract.
    """
    cube = Cube.open(cube)
    plan = _request(cube, plugin, options, input, target, split, min_valid, name)
    path = ensure_split(cube, split)
    spec = plan.spec.model_copy(update={"inputs": {"cube": cube.cube_id, path: cube.layer_digest(path)}})
    name = plan.name
    with model_lock(cube, name):
        there = models_folder(cube) / name
        # Named by the request: nobody resumes from the checkpoints of other options.
        folder = models_folder(cube) / f".{name}.checkpoints" / spec.request()[-12:]
        logs = models_folder(cube) / ".logs" / name
        if there.exists() and not overwrite:
            _refuse_other(name, read_spec(there)[0], spec)
            if _fitted(folder).exists():  # a kill came after the model and before the tidying
                _tidy(folder, logs)
            return load_model(cube, there)
        folder.mkdir(parents=True, exist_ok=True)
        rows = plan.train, plan.validation
        fitted = _fit(cube, folder, plan.kind, plan.config, spec, rows, device, progress)
        _fitted(folder).touch()
        model = save_model(cube, name, *fitted, overwrite=overwrite)
        _tidy(folder, logs)
        return model


def plan_fit(
    cube: Cube | str,
    *,
    plugin: str,
    options: Mapping[str, Any] | None = None,
    input: str | None = None,
    target: str | None = None,
    split: str = DEFAULT,
    min_valid: float | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> FitPlan:
    """Say what `fit` would do with these arguments, and refuse what it would refuse. Writes nothing."""
    cube = Cube.open(cube)
    plan = _request(cube, plugin, options, input, target, split, min_valid, name)
    there = models_folder(cube) / plan.name
    if there.exists() and not overwrite:
        found = read_spec(there)[0]
        # A split that is not there yet is taken for the one that the model was fitted on.
        inputs = {**found.inputs, **plan.spec.inputs} if len(plan.spec.inputs) == 1 else plan.spec.inputs
        _refuse_other(plan.name, found, plan.spec.model_copy(update={"inputs": inputs}))
    return plan


def _request(
    cube: Cube,
    plugin: str,
    options: Mapping[str, Any] | None,
    input: str | None,
    target: str | None,
    split: str,
    min_valid: float | None,
    name: str | None,
) -> FitPlan:
    """Check what is asked for; nothing is written, a missing default split is not made."""
    kind = load_encoder(plugin)
    config = parse_options(kind, options or {})
    name = name or plugin
    schema.layer_path("latents", name)  # refused before anything is written
    channels = parse_input(cube, input)
    produced = None if target is None else parse_input(cube, target, "--target")
    if produced == channels:
        produced = None
    if produced is not None and not kind.has_decoder:
        raise UsageError(f"{plugin} makes no image, it has no --target")
    limit = cube.min_valid if min_valid is None else min_valid
    used = channels + (produced or ())
    rows = usable_rows(cube, used, limit)
    train, validation = (
        np.intersect1d(rows, planned_rows(cube, split, part)) for part in (TRAIN, VALIDATION)
    )
    if not len(train):
        raise InputError(
            f"no patch of the split {split!r} can be learned from: of {cube.n_patches}, {len(rows)} have "
            f"{limit:.0%} valid pixels in {', '.join(dict.fromkeys(c.modality for c in used))}",
            hint="a smaller --min-valid, another --input, or another split",
        )
    path = schema.layer_path("splits", split)
    inputs = {"cube": cube.cube_id}
    if any(layer.path == path for layer in cube.layers()):
        inputs[path] = cube.layer_digest(path)
    info = encoder_info(plugin)
    spec = ModelSpec(
        plugin=plugin,
        distribution=info.distribution,
        version=info.version,
        options=config.model_dump(mode="json"),
        channels=channel_specs(cube, channels),
        patch=cube.patch_size,
        pixel_size=pixel_size(cube),
        normalisation=Normalisation(kind=kind.normalisation, offset=(), scale=()),
        target=None if produced is None else channel_specs(cube, produced),
        inputs=inputs,
        part=schema.SPLIT_NAMES[TRAIN],
        min_valid=limit,
        report={},
    )
    exists = (models_folder(cube) / name).exists()
    return FitPlan(name, kind, config, spec, train, validation, exists)


def _fitted(folder: Path) -> Path:
    """Return the file that tells the checkpoints of a complete fit from those of an interrupted one."""
    return folder.with_suffix(".fitted")


def _tidy(folder: Path, logs: Path) -> None:
    """Keep the logs of a complete fit and remove its checkpoints; the next run ends what a kill leaves."""
    if (folder / "logs").exists():
        shutil.rmtree(logs, ignore_errors=True)
        logs.parent.mkdir(exist_ok=True)
        (folder / "logs").rename(logs)
    if folder.exists():
        shutil.rmtree(folder)
    _fitted(folder).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()  # unless other options wait there to be gone on with


def _refuse_other(name: str, there: ModelSpec, asked: ModelSpec) -> None:
    """Refuse, before hours of training, to replace a model that was fitted otherwise."""
    if there.request() == asked.request():
        return
    titles = {
        "plugin": "plugin",
        "version": "version of the plugin",
        "options": "set of options",
        "channels": "input",
        "target": "target",
        "min_valid": "--min-valid",
        "inputs": "cube or split",
    }
    differs = [title for field, title in titles.items() if getattr(there, field) != getattr(asked, field)]
    raise StoreExistsError(
        f"model {name!r} exists and was fitted otherwise: another {' and '.join(differs) or 'format'}",
        hint="--overwrite replaces it, --name makes another one",
    )


def _fit(
    cube: Cube,
    folder: Path,
    kind: type[Encoder],
    config: EncoderConfig,
    spec: ModelSpec,
    rows: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    device: str,
    progress: Progress | None,
) -> tuple[ModelSpec, Encoder]:
    """Measure the channels and fit; return the complete description and the encoder."""
    train, validation = rows
    channels = tuple(c.channel for c in spec.channels)
    target = None if spec.target is None else tuple(c.channel for c in spec.target)
    if progress is not None:
        progress("normalise", 0, len(train), {})
    normalisation = fit_normalisation(cube, channels, train, kind.normalisation)
    produced = None if target is None else fit_normalisation(cube, target, train, kind.normalisation)

    def patches(chosen: npt.NDArray[np.int64]) -> CubePatches:
        return CubePatches(
            cube,
            channels,
            normalisation,
            rows=chosen,
            target_channels=target,
            target_normalisation=produced,
        )

    source = patches(train)
    held_out = patches(validation) if len(validation) else None
    context = FitContext(validation=held_out, folder=folder, device=device)
    if progress is not None:
        context = replace(context, progress=progress)
    encoder, report = fit_encoder(kind, config, source, context, spec.encoder_name)
    known = {
        "normalisation": normalisation,
        "target_normalisation": produced,
        "report": report_document(report),
    }
    return spec.model_copy(update=known), encoder
