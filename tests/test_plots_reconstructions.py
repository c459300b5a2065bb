"""Reconstructions: what is drawn are the patches, the images of the encoder, and their difference."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from latent_scenes import texts
from small_cubes import small_cube

from geoae.batches import CubePatches, parse_input
from geoae.cube import Cube
from geoae.encoding import encode
from geoae.errors import UsageError
from geoae.models import load_model
from geoae.plots import plot_reconstructions


@pytest.fixture(scope="module")
def cube(tmp_path_factory) -> Cube:
    made = small_cube(tmp_path_factory.mktemp("reconstructions"))
    encode(made, plugin="pca", options={"latent_dim": 4}, input="rgb")
    encode(made, plugin="pca", options={"latent_dim": 9}, input="rgb", name="more")
    encode(made, plugin="pca", options={"latent_dim": 4}, input="msi", name="other")
    encode(made, plugin="random-projection", options={"latent_dim": 4}, input="rgb", name="random")
    return made


def test_pictures_are_the_patches_and_what_the_encoder_makes_of_them(cube):
    figure = plot_reconstructions(cube, ["pca", "more"], count=3)
    pictures = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    images, maps = [p for p in pictures if p.ndim == 3], [p for p in pictures if p.ndim == 2 and len(p) == 8]
    assert len(images) == 9
    assert len(maps) == 6
    model = load_model(cube, "pca")
    rows = np.flatnonzero(cube.layer("splits/default")["split"].to_numpy() == 2)
    source = CubePatches(cube, parse_input(cube, "rgb"), model.spec.normalisation, rows=rows)
    batch = source.read(rows)
    made = model.spec.normalisation.denormalise(model.encoder.reconstruct(model.encoder.transform(batch)))
    target = model.spec.normalisation.denormalise(batch.image)
    error = np.where(batch.valid, made - target, 0)
    order = np.argsort(np.square(error).mean((1, 2, 3)), kind="stable")
    for column, row in enumerate((order[0], order[round((len(order) - 1) / 2)], order[-1])):
        known = batch.valid[row].all(0)
        found = np.asarray(images[column])[known]
        assert np.array_equal(found, np.moveaxis(target[row].round(), 0, -1)[known])
        expected = np.clip(made[row], 0, 255).round()
        assert np.array_equal(np.asarray(images[3 + column])[known], np.moveaxis(expected, 0, -1)[known])
        assert np.allclose(maps[column], np.abs(error[row]).mean(0), atol=1e-3)
    words = texts(figure)
    assert f"of {len(rows)} patches of the test part of splits/default" in words
    absolute = np.abs(error).sum(dtype=float) / batch.valid.sum()
    assert f"pca: MAE {absolute:.4g}" in words


def test_what_cannot_be_drawn_is_one_line(cube, tmp_path):
    with pytest.raises(UsageError, match="produce different channels"):
        plot_reconstructions(cube, ["pca", "other"])
    with pytest.raises(UsageError, match="no latents/nope"):
        plot_reconstructions(cube, ["nope"])
    models = Path(f"{cube.path}.models")
    shutil.move(models / "more", tmp_path / "more")
    with pytest.raises(UsageError, match="the model of latents/more is not beside the cube"):
        plot_reconstructions(cube, ["more"])
    shutil.move(tmp_path / "more", models / "more")
