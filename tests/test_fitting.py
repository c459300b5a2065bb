"""Fitting: what is learned from which patches and channels, and what cannot be learned from."""

import numpy as np
import pytest
import zarr
from cube_scenes import catalog_of, scene_pixels, write_scene
from small_cubes import small_cube

from geoae.cube import Cube
from geoae.encoding import encode
from geoae.errors import GeoaeError, InputError, UsageError
from geoae.fitting import fit
from geoae.ingestion import ingest
from geoae.models import models_folder
from geoae.splits import split

WORLDVIEW = ("coastal", "blue", "green", "yellow", "red", "red_edge", "nir1", "nir2")


@pytest.fixture
def cube(cube_copy):
    return Cube.open(cube_copy)


# --- what is learned from -------------------------------------------------------------------------


def poison(cube, row):
    """Change the pixels of a patch in the store."""
    array = zarr.open_array(f"{cube.path}/rgb", mode="r+")
    array[row] = 255 - array[row]


@pytest.mark.parametrize(("part", "changes"), [(0, True), (1, False), (2, False)])
def test_only_training_patches_are_learned_from(cube, part, changes):
    split(cube)
    first = fit(cube, plugin="pca", options={"latent_dim": 4})
    poison(cube, int(np.flatnonzero(cube.layer("splits/default")["split"].to_numpy() == part)[0]))
    second = fit(cube, plugin="pca", options={"latent_dim": 4}, overwrite=True)
    assert (first.digest != second.digest) == changes
    assert (first.spec.normalisation != second.spec.normalisation) == changes


def test_the_default_split_is_made_and_named_in_the_records(cube):
    assert not cube.layers()
    encode(cube, plugin="random-projection", options={"latent_dim": 2})
    paths = [info.path for info in cube.layers()]
    assert paths == ["splits/default", "latents/random-projection"]
    record = cube.layer_info("latents/random-projection").record
    assert record.inputs == {"cube": cube.cube_id, "splits/default": cube.layer_digest("splits/default")}


def test_another_split_can_be_learned_from(cube):
    split(cube, name="omaha", by="city", test=("OMA",))
    model = fit(cube, plugin="pca", options={"latent_dim": 2}, split="omaha")
    assert model.spec.report["patches"] == (cube.layer("splits/omaha")["split"] == 0).sum()
    assert "splits/omaha" in model.spec.inputs
    with pytest.raises(UsageError, match="no split 'nope'"):
        fit(cube, plugin="pca", split="nope")


# --- input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        (None, ["rgb.red", "rgb.green", "rgb.blue"]),
        ("agl", ["agl"]),
        (
            "msi,agl",
            [*(f"msi.{band}" for band in WORLDVIEW), "agl"],
        ),
        ("msi.red", ["msi.red"]),
        (" msi.nir1 , msi.red ", ["msi.nir1", "msi.red"]),
    ],
)
def test_channels(cube, text, channels):
    model = fit(cube, plugin="random-projection", options={"latent_dim": 2}, input=text)
    assert [str(c.channel) for c in model.spec.channels] == channels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label", "labels, which no encoder may see"),
        ("lidar", "no 'lidar'"),
        ("msi.swir", "no band 'swir'"),
        ("rgb,rgb", "twice"),
        ("rgb.red,rgb", "twice"),
        (",", "names no channel"),
        ("agl.x", "no band 'x'"),
    ],
)
def test_channels_that_are_none(cube, text, message):
    with pytest.raises(UsageError, match=message):
        encode(cube, plugin="pca", input=text)
    assert not cube.layers(), "a refused command has written something"


def test_a_cube_without_images_asks_for_the_heights(tmp_path):
    catalog = catalog_of(modalities={"msi": None, "rgb": None})
    cube = small_cube(tmp_path, catalog=catalog, kinds=("AGL", "CLS"))
    with pytest.raises(UsageError, match="no image to encode") as error:
        encode(cube, plugin="pca")
    assert "--input: agl" in error.value.hint
    assert encode(cube, plugin="pca", input="agl", options={"latent_dim": 2}).encoded == cube.n_patches


# --- odd data -------------------------------------------------------------------------------------


def test_one_patch_cannot_be_fitted_but_says_why(tmp_path):
    cube = small_cube(tmp_path, scenes=1, side=8)
    assert cube.n_patches == 1
    with pytest.raises(GeoaeError, match="at least 2 patches to fit, there are 1"):
        encode(cube, plugin="pca")
    assert encode(cube, plugin="random-projection", options={"latent_dim": 3}).encoded == 1


def test_constant_channels_stay_finite(tmp_path):
    """A height of one value everywhere, and a band that is black: deviations of zero, or nearly."""
    for number in range(6):
        pixels = scene_pixels((16, 16), number, void=0)
        pixels["AGL"][...] = np.float32(3.7)
        pixels["MSI"][1] = 1234
        write_scene(tmp_path / "scenes", f"JAX_{number:03d}_001", pixels)
    ingest(tmp_path / "scenes", catalog=catalog_of(), out=tmp_path / "c.zarr", patch=8)
    cube = Cube.open(tmp_path / "c.zarr")
    model = fit(cube, plugin="pca", input="msi,agl", options={"latent_dim": 3})
    assert model.spec.normalisation.scale[1:] == (1.0, 1.0)
    encode(cube, model="pca")
    layer = cube.layer("latents/pca")
    assert np.isfinite(layer["z"]).all()
    assert float(layer["error"].max()) < 2
    with pytest.raises(GeoaeError, match="do not differ"):
        fit(cube, plugin="pca", input="agl", name="flat")


def test_no_usable_patch_is_said_with_the_reason(cube):
    zarr.open_array(f"{cube.path}/valid_fraction", mode="r+")[...] = 0.2
    message = r"no patch of the split 'default' can be learned from: of 144, 0 have 50% valid pixels in agl"
    with pytest.raises(InputError, match=message):
        encode(Cube.open(cube.path), plugin="pca", input="agl")


def test_an_unknown_option_suggests_the_right_one(cube):
    with pytest.raises(UsageError, match="no option --latent-dims") as error:
        encode(cube, plugin="pca", options={"latent_dims": 3})
    assert error.value.hint == "did you mean --latent-dim?"
    assert not cube.layers()


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "a b"])
def test_names_that_would_leave_the_models_folder(cube, name):
    with pytest.raises(UsageError, match="cannot name a layer"):
        encode(cube, plugin="pca", name=name)
    assert not cube.layers()
    assert not models_folder(cube).exists()
