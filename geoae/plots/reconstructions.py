"""Reconstructions: patches beside what encoders make of them, and where they err."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geoae.batches import CubePatches, parse_input
from geoae.calls import Wants, compute
from geoae.cube import Cube
from geoae.errors import InputError, UsageError
from geoae.models import Model, list_models, load_model
from geoae.plots.figure import LINE, Page, wrapped
from geoae.plots.pictures import NO_DATA, choose_bands
from geoae.plots.style import SMALL, WIDTH, style
from geoae.schema import SPLIT_NAMES, layer_path
from geoae.splits import DEFAULT, rows_of

__all__ = ["plot_reconstructions"]

_MEASURED = 512
"""Most patches that the errors of the caption are of; a random sample where there are more."""

_BATCH = 64

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Images:
    """What one encoder makes of some patches, in the units of the cube."""

    name: str
    length: int
    target: FloatArray
    valid: npt.NDArray[np.bool_]
    made: FloatArray

    @property
    def difference(self) -> FloatArray:
        """``(n, channel, y, x)``; 0 where the target is not known."""
        return np.where(self.valid, self.made - self.target, np.float32(0))


def plot_reconstructions(
    cube: Cube | str | os.PathLike[str],
    latents: Sequence[str],
    *,
    count: int = 6,
    seed: int = 0,
) -> Figure:
    """Plot patches, the images that encoders make of their latent vectors, and the errors of these.

    The patches are chosen by the first encoder's error, from its best to its worst at equal steps of rank,
    from those that no encoder was trained on where a split says which these are.

    Parameters
    ----------
    cube
        The cube, or its path.
    latents
        Names of layers of latents of encoders with a decoder, whose models lie beside the cube and produce
        the same channels.
    count
        Patches, each a column.
    seed
        Of the sample that the errors of the caption are of, where there are many patches.

    Returns
    -------
    Figure
        Never shown; `geoae.plots.save_figure` writes it.

    Raises
    ------
    UsageError
        If a layer or its model is not there, or has no decoder, or they produce different channels.
    InputError
        If no patch has all of the latents.
    """
    if not latents or count < 1:
        raise ValueError("needs at least one layer of latents and one patch")
    cube = Cube.open(cube)
    models = [_model_of(cube, name) for name in latents]
    channels = [tuple(c.channel for c in m.spec.target or m.spec.channels) for m in models]
    if len(set(channels)) > 1:
        raise UsageError(
            f"latents/{latents[0]} and latents/{latents[1]} are of encoders that produce different channels",
            hint="draw them one by one",
        )
    rows, part = _rows(cube, latents)
    sample = rows
    if len(rows) > _MEASURED:
        sample = np.sort(np.random.default_rng(seed).choice(rows, _MEASURED, replace=False))
    made = [_images(cube, name, model, sample) for name, model in zip(latents, models, strict=True)]
    errors = [image.difference for image in made]
    rank = np.argsort(np.square(errors[0]).mean((1, 2, 3)), kind="stable")
    shown = rank[np.linspace(0, len(rank) - 1, min(count, len(rank))).round().astype(int)]
    modality = channels[0][0].modality
    places = [i for i, c in enumerate(channels[0]) if c.modality == modality]
    bands, title = choose_bands([channels[0][i].band for i in places])
    picked = [places[i] for i in bands]
    photograph = cube.array(modality).dtype == np.uint8 and len(cube.bands(modality)) == 3
    low, high = _limits(made[0], picked, photograph)
    valid = made[0].valid[shown][:, picked].all(1)
    pictures = [("input", _picture(made[0].target[shown][:, picked], valid, low, high))]
    for image in made:
        label = f"{image.name}\n{image.length} numbers"
        pictures.append((label, _picture(image.made[shown][:, picked], valid, low, high)))
    maps = [np.abs(error[shown][:, picked]).mean(1) for error in errors]
    side = cube.patch_size
    caption = (
        f"{len(shown)} of {len(sample):,} patches of {part}, from the smallest to the largest error of "
        f"latents/{latents[0]} at equal steps of rank; {modality}, {title}, {side} × {side} pixels. "
        "Numbers below: mean absolute error of the patch in units of the cube, over all channels. "
    )
    caption += " ".join(_sentence(image) for image in made)
    numbers = [np.abs(error[shown]).mean((1, 2, 3)) for error in errors]
    with style():
        return _page(pictures, list(zip(latents, maps, numbers, strict=True)), caption)


def _model_of(cube: Cube, name: str) -> Model:
    """Return the model that a layer was made with."""
    path = layer_path("latents", name)
    digest = cube.layer_info(path).record.options.get("model")
    for known in sorted(list_models(cube), key=lambda other: other != name):
        model = load_model(cube, known)
        if model.digest == digest:
            break
    else:
        raise UsageError(
            f"the model of {path} is not beside the cube", hint=f"geoae encode --overwrite --name {name} ..."
        )
    if not model.encoder.has_decoder:
        raise UsageError(f"{path} is of {model.spec.encoder_name}, which has no decoder")
    return model


def _rows(cube: Cube, latents: Sequence[str]) -> tuple[npt.NDArray[np.int64], str]:
    """Choose patches that have all latents, of the test part or else the validation part or else all."""
    usable = np.ones(cube.n_patches, bool)
    for name in latents:
        z = cube.layer(layer_path("latents", name))["z"].to_numpy()
        usable &= np.isfinite(z).all(axis=1)
    if not usable.any():
        raise InputError(f"no patch has all of the latents {', '.join(latents)}", hint="see `geoae info`")
    path = layer_path("splits", DEFAULT)
    if any(info.path == path for info in cube.layers()):
        for code, part in ((2, SPLIT_NAMES[2]), (1, SPLIT_NAMES[1])):
            rows = rows_of(cube, path, code)
            if usable[rows].any():
                return rows[usable[rows]], f"the {part} part of {path}"
    return np.flatnonzero(usable).astype(np.int64), "the cube, training patches among them"


def _images(cube: Cube, name: str, model: Model, rows: npt.NDArray[np.int64]) -> _Images:
    spec = model.spec

    def named(specs: Any) -> Any:
        words = (f"{c.modality}.{c.band}" if c.band != c.modality else c.modality for c in specs)
        return parse_input(cube, ",".join(words))

    source = CubePatches(
        cube,
        named(spec.channels),
        spec.normalisation,
        rows=rows,
        target_channels=None if spec.target is None else named(spec.target),
        target_normalisation=spec.target_normalisation,
    )
    scale = spec.target_normalisation or spec.normalisation
    parts = []
    for batch in source.batches(_BATCH):
        made = compute(model.encoder, batch, spec.encoder_name, Wants(images=True))["reconstruction"]
        target = batch.image if batch.target is None else batch.target
        valid = batch.valid if batch.target_valid is None else batch.target_valid
        parts.append((scale.denormalise(target), np.array(valid), scale.denormalise(made)))
    joined = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return _Images(name, model.encoder.latent_dim, joined[0], joined[1], joined[2])


def _limits(images: _Images, picked: list[int], photograph: bool) -> tuple[FloatArray, FloatArray]:
    """Return what is black and white in each channel: of a photograph 0 and 255, else percentiles."""
    if photograph:
        return np.zeros(len(picked), np.float32), np.full(len(picked), 255, np.float32)
    known = [images.target[:, i][images.valid[:, i]] for i in picked]
    limits = np.array([np.percentile(v, [2, 98]) if v.size else (0, 1) for v in known], np.float32)
    return limits[:, 0], np.maximum(limits[:, 1], limits[:, 0] + np.float32(1e-6))


def _picture(
    values: FloatArray, valid: npt.NDArray[np.bool_], low: FloatArray, high: FloatArray
) -> npt.NDArray[np.uint8]:
    """Make ``(n, y, x, 3)`` of ``(n, band, y, x)``."""
    shape = (1, -1, 1, 1)
    scaled = np.clip((values - low.reshape(shape)) / (high - low).reshape(shape) * 255, 0, 255).round()
    picture = np.moveaxis(scaled if scaled.shape[1] == 3 else np.repeat(scaled[:, :1], 3, 1), 1, -1)
    picture = np.ascontiguousarray(picture, np.uint8)
    picture[~valid] = NO_DATA
    return picture


def _sentence(image: _Images) -> str:
    known = max(int(image.valid.sum()), 1)
    absolute = float(np.abs(image.difference).sum(dtype=np.float64)) / known
    squared = float(np.square(image.difference).sum(dtype=np.float64)) / known
    return f"{image.name}: MAE {absolute:.4g}, RMSE {squared**0.5:.4g} over all of them."


def _page(
    pictures: list[tuple[str, npt.NDArray[np.uint8]]],
    errors: list[tuple[str, FloatArray, FloatArray]],
    caption: str,
) -> Figure:
    left, right, top, space, bar = 0.85, 0.1, 0.08, 0.05, 0.55
    columns = len(pictures[0][1])
    side = min((WIDTH - left - right - bar) / columns - space, 1.1)
    note = LINE * 1.1
    lines = wrapped(caption, WIDTH - 0.2)
    below = top + len(pictures) * (side + space) + len(errors) * (side + space + note)
    page = Page(below + 0.1 + len(lines) * LINE + 0.06)
    y = top
    for label, images in pictures:
        page.text_at(0.1, y + side / 2 - LINE, label)
        for j, image in enumerate(images):
            _bare(page.axes_at(left + j * (side + space), y, side, side)).imshow(image)
        y += side + space
    largest = max(float(np.percentile(maps, 99.5)) for _, maps, _ in errors) or 1.0
    drawn: Any = None
    for name, maps, numbers in errors:
        page.text_at(0.1, y + side / 2 - LINE, f"error of\n{name}")
        for j, values in enumerate(maps):
            ax = _bare(page.axes_at(left + j * (side + space), y, side, side))
            drawn = ax.imshow(values, cmap="magma", vmin=0, vmax=largest)
            page.text_at(left + (j + 0.5) * (side + space), y + side + 0.02, f"{numbers[j]:.3g}", ha="center")
        axes = page.axes_at(left + columns * (side + space) + 0.03, y, 0.08, side)
        page.colorbar(drawn, cax=axes).ax.tick_params(labelsize=SMALL - 0.5)
        y += side + space + note
    page.text_at(0.1, below + 0.1, "\n".join(lines), color="#333333")
    return page


def _bare(ax: Axes) -> Axes:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
