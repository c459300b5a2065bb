"""Encoders of strangers: what breaks the contract is named in one line, and is in nobody's way."""

import json

import numpy as np
import pytest
from fake_encoders import Constant, lay
from small_cubes import train_rows

from geoae.calls import compute
from geoae.cube import Cube
from geoae.encoder import EncoderConfig, PatchBatch
from geoae.encoding import encode
from geoae.errors import PluginError
from geoae.models import load_model, models_folder


@pytest.fixture
def fakes(tmp_path_factory, monkeypatch):
    """Install the encoders of `fake_encoders`."""
    monkeypatch.syspath_prepend(lay(tmp_path_factory.mktemp("site")))


@pytest.fixture
def cube(cube_copy):
    return Cube.open(cube_copy)


# --- faults of plugins ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        ("wrongshape", r"returns z of shape \(\d+, 63\), not an array of shape \(\d+, 64\)"),
        ("toofewrows", r"returns z of shape \(\d+, 64\), not an array of shape \(\d+, 64\)"),
        ("wrongtype", "returns z of float64, not float32"),
        ("notfinite", r"returns z that is not finite for patch \d+"),
        ("noarray", "returns z as list"),
        ("nolatents", "returns no 'z'"),
        ("raisesinfit", "failed in fit: ZeroDivisionError: no variance in the second line"),
        ("raisesintransform", "failed in transform: KeyError: 'weights'"),
        ("raiseslater", "failed in transform: RuntimeError: patch beyond 100"),
        ("raisesinsave", "failed in save: TypeError"),
        ("raisesinreconstruct", "failed in reconstruct: ValueError: wrong decoder"),
        ("wrongimage", "reconstructs images of shape"),
        ("wrongreport", "failed in fit, in its report: TypeError"),
        ("noreport", "returns NoneType from fit, not FitReport"),
    ],
)
def test_a_plugin_that_breaks_the_contract_is_named_in_one_line(cube, fakes, plugin, message):
    with pytest.raises(PluginError, match=message) as error:
        encode(cube, plugin=plugin)
    assert f"encoder {plugin} of fake-encoders 1.0" in error.value.message
    assert "\n" not in error.value.message
    assert "latents" not in {info.kind for info in cube.layers()}
    # Nothing is in the way of the next attempt.
    encode(cube, plugin="pca", options={"latent_dim": 2}, name=plugin, overwrite=True)


def test_the_cause_is_kept_for_the_traceback(cube, fakes):
    with pytest.raises(PluginError) as error:
        encode(cube, plugin="raisesinfit")
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_a_plugin_that_cannot_load_its_weights(cube, fakes):
    encode(cube, plugin="raisesinload")
    with pytest.raises(PluginError, match="failed in load: AttributeError: no such weights"):
        encode(cube, model="raisesinload", name="other")


@pytest.mark.parametrize("plugin", ["oddreport", "reportsprogressoddly"])
def test_odd_figures_are_kept_as_unknown(cube, fakes, plugin):
    calls = []
    report = encode(cube, plugin=plugin, progress=lambda *args: calls.append(args))
    assert report.encoded == 144
    text = (models_folder(cube) / plugin / "model.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    load_model(cube, plugin)


def test_progress_is_reported_to_the_end(cube, fakes):
    calls = []
    encode(cube, plugin="means", progress=lambda *args: calls.append(args))
    stages = {stage: (done, total) for stage, done, total, _ in calls}
    assert stages["encode"] == (144, 144)
    assert any(done == total == len(train_rows(cube)) for _, done, total, _ in calls)


# --- errors of reconstructions --------------------------------------------------------------------


class Given(Constant):
    """A decoder that gives the images that it was given."""

    def __init__(self, images):
        super().__init__(EncoderConfig(latent_dim=2))
        self.images = images

    def reconstruct(self, z):
        del z
        return self.images


def some_batch(shared):
    rng = np.random.default_rng(5)
    image = rng.random((5, 3, 8, 6), np.float32)
    valid = rng.random((5, 1 if shared else 3, 8, 6)) > 0.3
    valid[0], valid[1] = True, False
    return PatchBatch(np.arange(10, 15), np.where(valid, image, 0), np.broadcast_to(valid, image.shape))


@pytest.mark.parametrize("shared", [True, False])
def test_errors_are_those_of_numpy(shared):
    batch = some_batch(shared)
    images = np.random.default_rng(6).random(batch.image.shape, np.float32)
    found = compute(Given(images), batch, "it")
    squares = np.where(batch.valid, (images.astype(float) - batch.image) ** 2, 0)
    with np.errstate(invalid="ignore"):
        bands = np.sqrt(squares.sum((2, 3)) / batch.valid.sum((2, 3)))
        error = np.sqrt(squares.sum((1, 2, 3)) / batch.valid.sum((1, 2, 3)))
    np.testing.assert_allclose(found["band_error"], bands, rtol=1e-6)
    np.testing.assert_allclose(found["error"], error, rtol=1e-6)
    assert np.isnan(found["error"]).tolist() == [False, True, False, False, False]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_an_image_that_is_not_finite_is_refused_even_where_nothing_is_known(shared, known):
    batch = some_batch(shared)
    images = np.zeros_like(batch.image)
    y, x = np.argwhere(batch.valid[3, 1] == known)[0]
    images[3, 1, y, x] = np.inf
    with pytest.raises(PluginError, match=r"it reconstructs images that is not finite for patch 13"):
        compute(Given(images), batch, "it")
