"""Encoding: turn the patches of a cube into latent vectors and write them as a layer.

The core picks channels, splits, normalises, reads and writes; the encoder only sees `PatchBatch`es.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from geoae import schema
from geoae.batches import CubePatches, parse_input, usable_rows
from geoae.calls import Wants, calling, compute
from geoae.cube import Cube
from geoae.encoder import Channel
from geoae.errors import InputError, UsageError
from geoae.fitting import FitPlan, Progress, channel_specs, fit, pixel_size, plan_fit
from geoae.latents import compute_shards, latent_specs
from geoae.layers import LayerWriter, made_otherwise, would_write
from geoae.models import ChannelSpec, Model, ModelSpec, check_fits, load_model
from geoae.provenance import Record
from geoae.splits import DEFAULT
from geoae.store import ArraySpec

__all__ = ["EncodeReport", "encode"]

_PROBE = 2
"""Patches that are computed to see what an encoder returns."""


@dataclass(frozen=True)
class EncodeReport:
    """What `encode` did.

    Parameters
    ----------
    path
        The layer.
    model
        Name of the model that was used.
    latent_dim
        Length of the vectors.
    encoded, unusable
        Patches with a vector, and patches without enough valid pixels.
    metrics
        What the fit measured.
    notes
        What a user must read.
    created
        False if an equal layer was there, and in a dry run.
    n_bytes
        Size of the layer's arrays before compression; in a dry run without a model only of those that all
        encoders have.
    exists
        Whether a layer of that name was there.
    training
        In a dry run: the patches that a model would first be fitted on; None if the model is there.
    """

    path: str
    model: str
    latent_dim: int
    encoded: int
    unusable: int
    metrics: Mapping[str, float]
    notes: tuple[str, ...] = ()
    created: bool = True
    n_bytes: int = 0
    exists: bool = False
    training: int | None = None


def encode(
    cube: Cube | str,
    *,
    plugin: str | None = None,
    model: str | None = None,
    options: Mapping[str, Any] | None = None,
    input: str | None = None,
    target: str | None = None,
    split: str = DEFAULT,
    min_valid: float | None = None,
    name: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    reconstructions: bool = False,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> EncodeReport:
    """Compute a latent vector for every usable patch and write ``latents/<name>``.

    Fits first, see `fit`, unless a model is given.

    Parameters
    ----------
    cube
        The cube, or its path.
    plugin
        Name of the encoder to fit.
    model
        A fitted model instead: a name beside this cube, or a folder, also another cube's.
    options, input, target, split, min_valid, name, device, overwrite, progress
        See `fit`; `name` also names the layer. With a model, options, input, target and split are its own.
    reconstructions
        Also store what the decoder makes of every vector; as large as the pixels are in float32.
    dry_run
        Say what would be fitted and written, write nothing.

    Returns
    -------
    EncodeReport

    Raises
    ------
    UsageError
        If neither or both of plugin and model are given, or the model does not fit the cube.
    StoreExistsError
        If the layer exists, was made otherwise, and `overwrite` is off.
    PluginError
        If the encoder breaks its contract.
    """
    cube = Cube.open(cube)
    if (plugin is None) == (model is None):
        raise UsageError("encode needs either a plugin or a model", hint="--plugin pca, or --model NAME")
    if model is not None:
        if options or input is not None or target is not None or split != DEFAULT:
            given = [f"--{name.replace('_', '-')}" for name in options or ()]
            given += ["--input"] * (input is not None) + ["--target"] * (target is not None)
            given += ["--split"] * (split != DEFAULT)
            raise UsageError(
                f"a model has its own options, input and split: {', '.join(given)} cannot be given",
                hint="leave them out, or fit with --plugin",
            )
        fitted = load_model(cube, model)
        with calling(fitted.spec.encoder_name, "use_device"):
            fitted.encoder.use_device(device)
    elif dry_run:
        plan = plan_fit(
            cube,
            plugin=str(plugin),
            options=options,
            input=input,
            target=target,
            split=split,
            min_valid=min_valid,
            name=name,
            overwrite=overwrite,
        )
        if overwrite or not plan.exists:
            return _expected(cube, plan, overwrite, reconstructions)
        fitted = load_model(cube, plan.name)
    else:
        fitted = fit(
            cube,
            plugin=str(plugin),
            options=options,
            input=input,
            target=target,
            split=split,
            min_valid=min_valid,
            name=name,
            device=device,
            overwrite=overwrite,
            progress=progress,
        )
    if reconstructions and not fitted.encoder.has_decoder:
        raise _no_decoder(fitted.name)
    into = name or fitted.name
    return _write_latents(cube, fitted, into, min_valid, overwrite, reconstructions, progress, dry_run)


def _no_decoder(name: str) -> UsageError:
    return UsageError(f"model {name} has no decoder, there are no --reconstructions")


def _expected(cube: Cube, plan: FitPlan, overwrite: bool, reconstructions: bool) -> EncodeReport:
    """Say what encoding with a model that is still to be fitted would write."""
    spec = plan.spec
    if reconstructions and not plan.kind.has_decoder:
        raise _no_decoder(plan.name)
    rows = usable_rows(cube, tuple(c.channel for c in spec.channels), spec.min_valid)
    path = schema.layer_path("latents", plan.name)
    there = {info.path: info.record for info in cube.layers()}.get(path)
    if there is not None and not overwrite:
        # The model may come out as it was: all else must be the same.
        record = _record(cube, spec, str(there.options.get("model")), spec.min_valid, reconstructions)
        inputs = {**there.inputs, **record.inputs}
        if (there.options, there.inputs, there.software) != (record.options, inputs, record.software):
            raise made_otherwise(cube.location, path)
    numbers = plan.latent_dim + 1  # and the error
    if plan.kind.has_decoder:
        bands = len(spec.target or spec.channels)
        numbers += bands + bands * spec.patch**2 * reconstructions
    return EncodeReport(
        path=path,
        model=plan.name,
        latent_dim=plan.latent_dim,
        encoded=len(rows),
        unusable=cube.n_patches - len(rows),
        metrics={},
        created=False,
        n_bytes=4 * cube.n_patches * numbers,
        exists=there is not None,
        training=len(plan.train),
    )


def _write_latents(
    cube: Cube,
    model: Model,
    name: str,
    min_valid: float | None,
    overwrite: bool,
    reconstructions: bool,
    progress: Progress | None,
    dry_run: bool,
) -> EncodeReport:
    channels = _channels_of(cube, model, model.spec.channels)
    target = _target_of(cube, model)
    check_fits(model, cube, channel_specs(cube, channels + (target or ())), pixel_size(cube))
    limit = model.spec.min_valid if min_valid is None else min_valid
    rows = usable_rows(cube, channels, limit)
    if not len(rows):
        text = ", ".join(dict.fromkeys(c.modality for c in channels))
        raise InputError(f"no patch has {limit:.0%} valid pixels in {text}", hint="a smaller --min-valid")
    source = CubePatches(
        cube,
        channels,
        model.spec.normalisation,
        rows=rows,
        target_channels=target,
        target_normalisation=model.spec.target_normalisation,
    )
    who = model.spec.encoder_name
    first = next(source.only(rows[:_PROBE]).batches(_PROBE))
    # Without the target there is nothing to compare an image with.
    wants = Wants(errors=model.spec.target is None or target is not None, images=reconstructions)
    shapes = {n: v.shape[1:] for n, v in compute(model.encoder, first, who, wants).items()}
    record = _record(cube, model.spec, model.digest, limit, reconstructions)
    path = schema.layer_path("latents", name)
    specs = latent_specs(cube, model, shapes)
    report = EncodeReport(
        path=path,
        model=model.name,
        latent_dim=model.encoder.latent_dim,
        encoded=len(rows),
        unusable=cube.n_patches - len(rows),
        metrics=model.spec.report.get("metrics", {}),
        notes=tuple(model.spec.report.get("notes", ())),
        n_bytes=sum(4 * math.prod(spec.shape) for spec in specs.values()),
        exists=any(info.path == path for info in cube.layers()),
    )
    if dry_run:
        would_write(cube, path, record, specs, overwrite=overwrite)
        return replace(report, created=False)
    with LayerWriter(cube, path, record, specs, overwrite=overwrite) as writer:
        if not writer.exists:
            compute_shards(model, source, specs, writer, wants, progress)
            _, dtype, attributes = schema.PATCH_VARIABLES[schema.PATCH]
            index = np.arange(cube.n_patches, dtype=dtype)
            small = {
                schema.PATCH: (ArraySpec(index.shape, (schema.PATCH,), dtype, attributes=attributes), index)
            }
            counts = {"encoded": len(rows), "unusable": cube.n_patches - len(rows)}
            writer.commit(small, _attributes(cube, model), counts=counts)
        return replace(report, created=not writer.exists)


def _channels_of(cube: Cube, model: Model, specs: Sequence[ChannelSpec]) -> tuple[Channel, ...]:
    """Find a model's channels in a cube, by their names."""
    text = ",".join(f"{c.modality}.{c.band}" if c.band != c.modality else c.modality for c in specs)
    try:
        return parse_input(cube, text)
    except UsageError as error:
        raise UsageError(
            f"model {model.name} does not fit {cube.location.name}: {error.message}", hint=error.hint
        ) from None


def _target_of(cube: Cube, model: Model) -> tuple[Channel, ...] | None:
    """Find what a decoder should produce; None if it is the input, or if the cube has not all of it."""
    if model.spec.target is None:
        return None
    there = {(m, b) for m in cube.modalities for b in (cube.bands(m) if cube.role(m) != "label" else ())}
    known = all((c.modality, c.band) in there for c in model.spec.target)
    return _channels_of(cube, model, model.spec.target) if known else None


def _record(cube: Cube, spec: ModelSpec, model: str, min_valid: float, reconstructions: bool) -> Record:
    """Describe a layer of latents; `model` is the digest of its model."""
    inputs = {"cube": cube.cube_id}
    if spec.inputs.get("cube") == cube.cube_id:
        inputs |= dict(spec.inputs)  # the split too; another cube's split is that cube's business
    options = {
        "plugin": spec.plugin,
        "options": dict(spec.options),
        "input": [str(c.channel) for c in spec.channels],
        "model": model,
        "fitted_on": spec.inputs["cube"],
        "min_valid": min_valid,
    }
    if spec.target is not None:
        options["target"] = [str(c.channel) for c in spec.target]
    if reconstructions:
        options["reconstructions"] = True
    return Record(
        made_by="encode", options=options, inputs=inputs, software={spec.distribution: spec.version}
    )


def _attributes(cube: Cube, model: Model) -> dict[str, Any]:
    source = [cube.catalog.citation or cube.catalog.title]
    return {
        **schema.geoemb_attributes(
            dimensions=model.encoder.latent_dim,
            model=f"{model.spec.plugin} ({model.spec.distribution} {model.spec.version}, {model.digest})",
            source_data=source,
            patch=cube.patch_size,
            stride=cube.stride,
        ),
        "metrics": dict(model.spec.report.get("metrics", {})),
        "notes": list(model.spec.report.get("notes", [])),
    }
