"""Encoding: which numbers are written, for which patches, and when nothing is done."""

import numpy as np
import pytest
from cube_scenes import tree
from fake_encoders import lay
from safetensors.numpy import load_file
from sklearn.decomposition import PCA
from small_cubes import small_cube, train_rows

from geoae.cube import Cube
from geoae.encoding import encode
from geoae.errors import StoreExistsError, UsageError
from geoae.fitting import fit
from geoae.models import models_folder
from geoae.splits import split

EXACT = {"latent_dim": 8, "tolerance": 1e-9, "max_passes": 40}


@pytest.fixture
def fakes(tmp_path_factory, monkeypatch):
    """Install the encoders of `fake_encoders`."""
    monkeypatch.syspath_prepend(lay(tmp_path_factory.mktemp("site")))


@pytest.fixture
def cube(cube_copy):
    return Cube.open(cube_copy)


def normalised(cube, rows, train):
    """``(row, feature)`` of the RGB of some patches, scaled by the valid pixels of the training patches."""
    rgb, valid = cube.array("rgb")[...].astype(float), cube.array("rgb_valid")[...]
    image = np.zeros((len(rows), *rgb.shape[1:]))
    for band in range(rgb.shape[1]):
        values = rgb[train, band][valid[train]]
        image[:, band] = np.where(valid[rows], (rgb[rows, band] - values.mean()) / values.std(), 0)
    return image.reshape(len(rows), -1), valid[rows]


# --- numbers --------------------------------------------------------------------------------------


def test_latents_are_those_of_scikit_learn(cube):
    """On the same matrix, normalised here by hand; all patches of this cube are usable."""
    report = encode(cube, plugin="pca", options=EXACT)
    assert (report.path, report.latent_dim, report.encoded, report.unusable) == ("latents/pca", 8, 144, 0)
    z = cube.layer("latents/pca")["z"].to_numpy()
    train = train_rows(cube)
    assert 0 < len(train) < 144
    matrix, _ = normalised(cube, np.arange(144), train)
    reference = PCA(8, svd_solver="full").fit(matrix[train])
    expected = reference.transform(matrix)
    expected *= np.sign((expected * z).sum(axis=0))
    scale = np.abs(expected).max()
    assert np.abs(z - expected).max() < 1e-3 * scale
    ratio = reference.explained_variance_ratio_.sum()
    assert report.metrics["explained_variance_ratio"] == pytest.approx(ratio, rel=1e-4)


def test_the_error_is_the_root_mean_square_over_valid_pixels(cube):
    encode(cube, plugin="pca", options=EXACT)
    layer = cube.layer("latents/pca")
    weights = load_file(models_folder(cube) / "pca" / "weights" / "components.safetensors")
    matrix, valid = normalised(cube, np.arange(144), train_rows(cube))
    guess = layer["z"].to_numpy() @ weights["components"] + weights["mean"]
    mask = np.repeat(valid.reshape(144, 1, -1), 3, axis=1).reshape(144, -1)
    expected = np.sqrt(np.where(mask, (guess - matrix) ** 2, 0).sum(axis=1) / mask.sum(axis=1))
    assert np.allclose(layer["error"], expected, rtol=1e-3)
    assert not mask.all(), "no invalid pixel: the test proves nothing"


def test_the_error_of_a_constant_prediction(cube, fakes):
    """Unit scale: uint8 by 255; everything is predicted as one half."""
    encode(cube, plugin="constant")
    rgb, valid = cube.array("rgb")[...] / 255.0, cube.array("rgb_valid")[...]
    square = np.where(valid[:, None], (rgb - 0.5) ** 2, 0).sum(axis=(1, 2, 3))
    expected = np.sqrt(square / (3 * valid.sum(axis=(1, 2))))
    assert np.allclose(cube.layer("latents/constant")["error"], expected, rtol=1e-5)


def test_without_a_decoder_the_error_is_not_known(cube):
    encode(cube, plugin="random-projection", options={"latent_dim": 4})
    assert np.isnan(cube.layer("latents/random-projection")["error"]).all()


def test_the_latents_do_not_depend_on_how_they_were_asked_for(cube):
    """Fitted and used at once, or fitted before and used by name: the same numbers."""
    encode(cube, plugin="pca", options=EXACT)
    fit(cube, plugin="pca", options=EXACT, name="two")
    encode(cube, model="two")
    first, second = (cube.layer(f"latents/{name}")["z"].to_numpy() for name in ("pca", "two"))
    assert np.array_equal(first, second)


def test_unusable_patches_are_nan_and_counted(cube):
    """Heights with holes: 97 % must be known."""
    report = encode(cube, plugin="pca", input="agl", options={"latent_dim": 3}, min_valid=0.97)
    known = np.isfinite(cube.array("agl")[...]).mean(axis=(1, 2)) >= 0.97
    assert 0 < known.sum() < 144
    assert (report.encoded, report.unusable) == (known.sum(), (~known).sum())
    layer = cube.layer("latents/pca")
    assert np.isfinite(layer["z"][known]).all()
    assert np.isnan(layer["z"][~known]).all()
    assert np.array_equal(np.isfinite(layer["error"]), known)
    assert cube.layer_info("latents/pca").record.counts == {
        "encoded": int(known.sum()),
        "unusable": int((~known).sum()),
    }


def test_the_latent_size_is_capped_with_a_note(tmp_path):
    cube = small_cube(tmp_path, scenes=2, side=16)
    report = encode(cube, plugin="pca", options={"latent_dim": 500})
    trained = len(train_rows(cube))
    assert report.latent_dim == trained - 1 < 8
    assert report.notes[0].startswith(f"latent size reduced from 500 to {trained - 1}")
    assert cube.layer("latents/pca").sizes["component"] == trained - 1
    again = encode(cube, plugin="pca", options={"latent_dim": 500})
    assert (again.created, again.notes) == (False, report.notes)


# --- again ----------------------------------------------------------------------------------------


def test_an_equal_command_does_nothing(cube):
    first = encode(cube, plugin="pca", options={"latent_dim": 4})
    before = tree(models_folder(cube).parent)
    second = encode(cube, plugin="pca", options={"latent_dim": "4", "whiten": "false"})
    assert (first.created, second.created) == (True, False)
    assert second.metrics == first.metrics
    assert list(second.metrics) == list(first.metrics)
    assert tree(models_folder(cube).parent) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"options": {"latent_dim": 5}}, "set of options"),
        ({"input": "agl"}, "input"),
        ({"min_valid": 0.1}, "--min-valid"),
        ({"plugin": "random-projection"}, "plugin"),
    ],
)
def test_other_options_are_refused_before_anything_is_fitted(cube, change, named, monkeypatch):
    encode(cube, plugin="pca", options={"latent_dim": 4}, name="mine")
    before = tree(models_folder(cube).parent)
    monkeypatch.setattr("geoae.fitting.fit_encoder", lambda *_: pytest.fail("it was fitted first"))
    with pytest.raises(StoreExistsError, match=rf"model 'mine' exists .*{named}"):
        encode(cube, **{"plugin": "pca", "options": {"latent_dim": 4}, "name": "mine", **change})
    assert tree(models_folder(cube).parent) == before


def test_a_new_split_asks_for_a_new_model(cube):
    encode(cube, plugin="pca", options={"latent_dim": 4})
    split(cube, seed=1, overwrite=True)
    (latents,) = [info for info in cube.layers() if info.kind == "latents"]
    assert latents.stale == ("splits/default",)
    with pytest.raises(StoreExistsError, match="cube or split"):
        encode(cube, plugin="pca", options={"latent_dim": 4})
    encode(cube, plugin="pca", options={"latent_dim": 4}, overwrite=True)
    assert all(not info.stale for info in cube.layers())


def test_overwriting_makes_dependants_stale_and_pixels_stay(cube):
    from geoae.clusters import cluster
    from geoae.summaries import summarize

    summarize(cube)
    encode(cube, plugin="pca", options={"latent_dim": 4})
    cluster(cube, latents="pca", k=3)
    pixels = {k: v for k, v in tree(cube.location.path).items() if k.split("/")[0] in ("rgb", "summaries")}
    encode(cube, plugin="pca", options={"latent_dim": 5}, overwrite=True)
    stale = {info.path: info.stale for info in cube.layers() if info.stale}
    assert stale == {"clusters/pca": ("latents/pca",)}
    assert pixels.items() <= tree(cube.location.path).items()
    cluster(cube, latents="pca", k=3, overwrite=True)
    assert not any(info.stale for info in cube.layers())


def test_overwriting_by_the_same_leaves_dependants_alone(cube):
    from geoae.clusters import cluster

    encode(cube, plugin="pca", options={"latent_dim": 4})
    cluster(cube, latents="pca", k=3)
    before = tree(cube.location.path)
    encode(cube, plugin="pca", options={"latent_dim": 4}, overwrite=True)
    assert tree(cube.location.path) == before
    assert not any(info.stale for info in cube.layers())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a plugin or a model"),
        ({"plugin": "pca", "model": "pca"}, "either a plugin or a model"),
        ({"model": "pca", "options": {"latent_dim": 3}}, "its own options"),
        ({"model": "pca", "input": "agl"}, "its own options"),
        ({"model": "pca", "split": "mine"}, "its own options"),
    ],
)
def test_options_that_contradict_each_other(cube, arguments, message):
    with pytest.raises(UsageError, match=message):
        encode(cube, **arguments)
