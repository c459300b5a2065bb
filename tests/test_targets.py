"""Another target than the input, errors by channel, stored images, and what a fit leaves behind."""

import json
import shutil

import numpy as np
import pytest
from fake_encoders import Half, lay
from small_cubes import small_cube

from geoae import fitting
from geoae.batches import CubePatches, fit_normalisation, parse_input
from geoae.calls import Wants, compute
from geoae.cube import Cube
from geoae.dataset import open_cube
from geoae.encoder import PatchBatch
from geoae.encoding import encode
from geoae.errors import InputError, StoreExistsError, UsageError
from geoae.fitting import fit
from geoae.models import models_folder


@pytest.fixture
def half(tmp_path_factory, monkeypatch):
    """Install the encoders of `fake_encoders`."""
    monkeypatch.syspath_prepend(lay(tmp_path_factory.mktemp("site")))


@pytest.fixture(scope="module")
def some_cube(tmp_path_factory) -> Cube:
    return small_cube(tmp_path_factory.mktemp("targets"))


@pytest.fixture
def cube(some_cube, tmp_path):
    shutil.copytree(some_cube.path, tmp_path / "c.zarr")
    return Cube.open(tmp_path / "c.zarr")


# --- reading --------------------------------------------------------------------------------------


def test_input_and_target_are_rows_of_the_same_patches(some_cube):
    rgb, msi = parse_input(some_cube, "rgb"), parse_input(some_cube, "msi.nir,agl")
    source = CubePatches(some_cube, rgb, target_channels=msi)
    assert (len(source.channels), len(source.target_channels)) == (3, 2)
    pixels = {name: some_cube.array(name)[:] for name in ("rgb", "msi", "agl", "rgb_valid", "msi_valid")}
    nir = some_cube.bands("msi").index("nir")
    seen = []
    for batch in source.batches(7, shuffle_seed=3):
        assert np.array_equal(batch.image, pixels["rgb"][batch.index] * batch.valid)
        known = pixels["msi_valid"][batch.index]
        assert np.array_equal(batch.target[:, 0], pixels["msi"][batch.index, nir] * known)
        assert np.array_equal(batch.target_valid[:, 0], known)
        heights = pixels["agl"][batch.index]
        assert np.array_equal(batch.target[:, 1], np.nan_to_num(heights))
        assert np.array_equal(batch.target_valid[:, 1], np.isfinite(heights))
        seen += batch.index.tolist()
    assert sorted(seen) == source.rows.tolist()


def test_input_and_target_have_scales_of_their_own(some_cube):
    rgb, red = parse_input(some_cube, "rgb"), parse_input(some_cube, "rgb.red")
    plain = CubePatches(some_cube, rgb)
    scale = fit_normalisation(some_cube, red, plain.rows, "standard")
    both = CubePatches(some_cube, rgb, target_channels=red, target_normalisation=scale).read(plain.rows[:4])
    raw = plain.read(plain.rows[:4])
    expected = (raw.image[:, :1] - scale.offset[0]) / scale.scale[0] * raw.valid[:, :1]
    assert np.allclose(both.target, expected, atol=1e-5)
    assert np.array_equal(both.image, raw.image)


def test_the_same_target_is_no_target(some_cube):
    rgb = parse_input(some_cube, "rgb")
    batch = next(CubePatches(some_cube, rgb, target_channels=rgb).batches(3))
    assert batch.target is None
    assert batch.target_valid is None


# --- fitting and encoding -------------------------------------------------------------------------


def test_a_target_is_part_of_model_and_record(cube, half):
    encode(cube, plugin="half", options={"latent_dim": 2}, input="rgb", target="agl")
    model = json.loads((models_folder(cube) / "half" / "model.json").read_text())
    assert [c["modality"] for c in model["target"]] == ["agl"]
    assert len(model["target_normalisation"]["scale"]) == 1
    assert cube.layer_info("latents/half").record.options["target"] == ["agl"]
    layer = cube.layer("latents/half")
    scale = model["target_normalisation"]
    heights = (cube.array("agl")[:] - scale["offset"][0]) / scale["scale"][0]
    with np.errstate(invalid="ignore"):
        expected = np.sqrt(np.nanmean((heights - 0.5) ** 2, axis=(1, 2)))
    known = np.isfinite(layer["z"]).all("component").to_numpy()
    assert known.any()
    assert np.allclose(layer["error"][known], expected[known], rtol=1e-4, equal_nan=True)


def test_another_target_is_another_request(cube, half):
    fit(cube, plugin="half", input="rgb", target="agl")
    with pytest.raises(StoreExistsError, match="another target"):
        fit(cube, plugin="half", input="rgb", target="msi")


def test_the_input_named_as_target_is_no_other_request(cube, half):
    first = fit(cube, plugin="half", input="rgb")
    assert fit(cube, plugin="half", input="rgb", target="rgb").digest == first.digest
    assert first.spec.target is None


def test_labels_are_no_target(cube, half):
    with pytest.raises(UsageError, match="which no encoder may see"):
        fit(cube, plugin="half", target="label")


def test_an_encoder_without_decoder_has_no_target(cube):
    with pytest.raises(UsageError, match="random-projection makes no image"):
        fit(cube, plugin="random-projection", input="rgb", target="msi")


def test_a_model_encodes_a_cube_that_lacks_the_target(cube, half, tmp_path):
    fit(cube, plugin="half", input="rgb", target="agl")
    other = small_cube(tmp_path / "other", kinds=("RGB", "CLS"))
    encode(other, model=str(models_folder(cube) / "half"))
    layer = other.layer("latents/half")
    assert np.isfinite(layer["z"]).any()
    assert np.isnan(layer["error"]).all()
    assert layer["band_error"].shape == (other.n_patches, 1)


def test_errors_by_channel_make_the_error(cube, half):
    encode(cube, plugin="half", options={"latent_dim": 2})
    layer = cube.layer("latents/half")
    assert layer["band_error"].dims == ("patch", "channel")
    assert layer["band_error"].attrs["channels"] == ["rgb.red", "rgb.green", "rgb.blue"]
    # Equal masks in all channels: the square of the whole is the mean of the squares.
    assert np.allclose(layer["error"] ** 2, (layer["band_error"] ** 2).mean("channel"), equal_nan=True)
    assert "half_band_error" in open_cube(cube)


def test_reconstructions_are_stored_on_request_alone(cube, half):
    encode(cube, plugin="half", options={"latent_dim": 2})
    assert "reconstruction" not in cube.layer("latents/half")
    encode(cube, model="half", name="images", reconstructions=True)
    stored = cube.layer("latents/images")["reconstruction"]
    assert stored.dims == ("patch", "channel", "y", "x")
    assert stored.shape == (cube.n_patches, 3, 8, 8)
    known = np.isfinite(cube.layer("latents/images")["error"]).to_numpy()
    assert (stored.to_numpy()[known] == 0.5).all()
    assert np.isnan(stored.to_numpy()[~known]).all()
    assert stored.attrs["scale"] == [255.0] * 3
    fit(cube, plugin="random-projection")
    with pytest.raises(UsageError, match="no decoder"):
        encode(cube, model="random-projection", reconstructions=True)


def test_a_model_is_told_the_device(cube, half):
    fit(cube, plugin="half")
    with pytest.raises(InputError, match="no cuda"):
        encode(cube, model="half", device="cuda")


def test_a_patch_without_a_known_pixel_of_the_target_has_no_error():
    encoder = Half(Half.Config(latent_dim=1))
    encoder.shape, encoder.channels = (2, 1, 2), 1
    image = np.zeros((2, 1, 1, 2), np.float32)
    target = np.array([[[[1, 9]], [[0, 9]]], [[[9, 9]], [[9, 9]]]], np.float32)
    valid = np.array([[[[True, False]], [[True, False]]], [[[False] * 2]] * 2])
    batch = PatchBatch(np.arange(2), image, image == 0, target, valid)
    found = compute(encoder, batch, "half", Wants(images=True))
    assert np.allclose(found["error"], [0.5, np.nan], equal_nan=True)
    assert np.allclose(found["band_error"], [[0.5, 0.5], [np.nan] * 2], equal_nan=True)
    assert found["reconstruction"].shape == (2, 2, 1, 2)


def test_logs_of_a_fit_stay_and_its_checkpoints_go(cube, half):
    fit(cube, plugin="half")
    folder = models_folder(cube)
    assert (folder / ".logs" / "half" / "log.jsonl").read_text() == "{}\n"
    assert not (folder / ".half.checkpoints").exists()
    fit(cube, plugin="half", overwrite=True)
    assert (folder / ".logs" / "half" / "log.jsonl").exists()


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("moment", ["before its tidying", "within it"])
def test_what_a_kill_after_a_new_model_leaves_is_tidied_by_the_next_fit(cube, half, monkeypatch, moment):
    with monkeypatch.context() as patch:
        if moment == "before its tidying":
            patch.setattr(fitting, "_tidy", _killed)
        else:
            remove = shutil.rmtree
            patch.setattr(
                fitting.shutil,
                "rmtree",
                lambda path, **how: _killed() if "checkpoints" in str(path) else remove(path, **how),
            )
        with pytest.raises(KeyboardInterrupt):
            fit(cube, plugin="half")
    folder = models_folder(cube)
    assert (folder / ".half.checkpoints").exists()
    fit(cube, plugin="half")
    assert not (folder / ".half.checkpoints").exists()
    assert (folder / ".logs" / "half" / "log.jsonl").read_text() == "{}\n"


def test_checkpoints_of_an_interrupted_fit_stay_beside_the_model_that_is_used(cube, half, monkeypatch):
    fit(cube, plugin="half")
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "fit_encoder", _killed)
        with pytest.raises(KeyboardInterrupt):
            fit(cube, plugin="half", overwrite=True)
    fit(cube, plugin="half")
    assert list(models_folder(cube).glob(".half.checkpoints/*"))
