"""Model folders: what a model fits, and that nobody uses one that was changed or half-written."""

import hashlib
import json
import random
import shutil

import numpy as np
import pytest
from cube_scenes import catalog_of, scene_pixels, tree, write_scene
from small_cubes import small_cube

from geoae.batches import CubePatches, parse_input
from geoae.cube import Cube
from geoae.encoding import encode
from geoae.errors import InputError, IntegrityError, LockedError, PluginError, UsageError
from geoae.fitting import fit
from geoae.ingestion import ingest
from geoae.models import list_models, load_model, model_lock, models_folder


@pytest.fixture
def cube(cube_copy):
    return Cube.open(cube_copy)


# --- models elsewhere -----------------------------------------------------------------------------


def test_a_model_encodes_another_cube(cube, us3d_folder, tmp_path):
    """The patches of one city, once in the cube that the model comes from, once in their own."""
    from geoae.planning import Selection

    encode(cube, plugin="pca", options={"latent_dim": 4})
    ingest(us3d_folder, out=tmp_path / "other" / "oma.zarr", patch=32, selection=Selection(cities=("OMA",)))
    other = Cube.open(tmp_path / "other" / "oma.zarr")
    report = encode(other, model=str(models_folder(cube) / "pca"), name="borrowed")
    assert (report.path, report.model, report.created) == ("latents/borrowed", "pca", True)
    omaha = (cube.table()["city"] == "OMA").to_numpy()
    expected = cube.layer("latents/pca")["z"].to_numpy()[omaha]
    assert np.array_equal(other.layer("latents/borrowed")["z"], expected)
    record = other.layer_info("latents/borrowed").record
    assert record.inputs == {"cube": other.cube_id}
    assert record.options["fitted_on"] == cube.cube_id
    assert not other.layer_info("latents/borrowed").stale
    assert [info.path for info in other.layers()] == ["latents/borrowed"], "no split is needed"


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A cube with heights and two bands at 0.5 m, and the folder of a model of it."""
    cube = small_cube(tmp_path_factory.mktemp("origin"))
    fit(cube, plugin="pca", input="msi,agl", options={"latent_dim": 2}, name="origin")
    return models_folder(cube) / "origin"


OTHER_BANDS = [{"name": "green", "wavelength": 545}, {"name": "nir", "wavelength": 830}]


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {}, None),
        ({}, {"patch": 16}, "patches of 16 pixels, not 8"),
        ({"msi": {"bands": OTHER_BANDS}}, {}, "'msi' has no band 'red'"),
        ({"agl": None}, {}, "no 'agl'"),
        ({"msi": {"dtype": "uint8"}}, {"kind": np.uint8}, "msi.red of uint8, not uint16"),
        ({"msi": {"range": [0, 10000]}}, {}, "msi.red of range 0 to 10000, not 0 to 2047"),
        ({}, {"transform": 1.0}, "pixels of 1 m, not 0.5 m"),
        ({}, {"transform": 0.54}, None),
        ({}, {"crs": None}, None),
    ],
)
def test_a_model_is_refused_by_a_cube_that_differs(origin, tmp_path, changes, options, message):
    from affine import Affine

    pixels = scene_pixels((32, 32), 0)
    pixels["MSI"] = pixels["MSI"].astype(options.get("kind", np.uint16))
    size = options.get("transform", 0.5)
    place = {"transform": Affine(size, 0, 434_000, 0, -size, 3_354_000)}
    write_scene(tmp_path / "scenes", "JAX_001_001", pixels, **({"crs": None} if "crs" in options else place))
    catalog = catalog_of(modalities=changes)
    ingest(tmp_path / "scenes", catalog=catalog, out=tmp_path / "c.zarr", patch=options.get("patch", 8))
    if message is None:
        assert encode(tmp_path / "c.zarr", model=str(origin)).encoded > 0
        return
    with pytest.raises(UsageError, match=message) as error:
        encode(tmp_path / "c.zarr", model=str(origin))
    assert "model origin does not fit c.zarr" in error.value.message
    assert not Cube.open(tmp_path / "c.zarr").layers()


def test_bands_are_found_by_name_whatever_their_order(origin, tmp_path):
    """The same scene with its two bands exchanged in file and catalog has the same latents."""
    pixels = scene_pixels((32, 32), 0)
    write_scene(tmp_path / "one", "JAX_001_001", pixels)
    write_scene(tmp_path / "two", "JAX_001_001", {**pixels, "MSI": pixels["MSI"][::-1]})
    bands = catalog_of().modalities["msi"].model_dump(mode="json")["bands"]
    latents = []
    for name, order in (("one", bands), ("two", bands[::-1])):
        catalog = catalog_of(modalities={"msi": {"bands": order}})
        ingest(tmp_path / name, catalog=catalog, out=tmp_path / f"{name}.zarr", patch=8)
        encode(tmp_path / f"{name}.zarr", model=str(origin))
        latents.append(Cube.open(tmp_path / f"{name}.zarr").layer("latents/origin")["z"].to_numpy())
    assert np.array_equal(*latents)


# --- folders --------------------------------------------------------------------------------------


@pytest.fixture
def fitted(cube):
    """A cube with a model, and the model's folder."""
    fit(cube, plugin="pca", options={"latent_dim": 4})
    return models_folder(cube) / "pca"


def test_a_model_that_is_loaded_is_the_one_that_was_fitted(cube):
    first = fit(cube, plugin="pca", options={"latent_dim": 4})
    second = load_model(cube, "pca")
    assert (second.name, second.digest, second.spec) == (first.name, first.digest, first.spec)
    batch = CubePatches(cube, parse_input(cube, None), first.spec.normalisation).read(np.arange(5))
    assert np.array_equal(first.encoder.transform(batch), second.encoder.transform(batch))
    assert load_model(None, models_folder(cube) / "pca").digest == first.digest
    assert list_models(cube) == ("pca",)


def test_equal_fits_are_equal_folders(cube, tmp_path):
    fit(cube, plugin="pca", options={"latent_dim": 4}, name="one")
    fit(cube, plugin="pca", options={"latent_dim": 4}, name="two")
    assert tree(models_folder(cube) / "one") == tree(models_folder(cube) / "two")
    text = (models_folder(cube) / "one" / "model.json").read_text()
    assert str(tmp_path) not in text
    assert sorted(p.name for p in models_folder(cube).iterdir()) == ["one", "two"]


def test_no_flipped_bit_of_a_model_escapes(cube, fitted):
    rng = random.Random(5)
    for file in sorted(p for p in fitted.rglob("*") if p.is_file()):
        content = file.read_bytes()
        for position in rng.sample(range(len(content)), 12):
            changed = bytearray(content)
            changed[position] ^= 1 << rng.randrange(8)
            file.write_bytes(changed)
            with pytest.raises(IntegrityError) as error:
                load_model(cube, "pca")
            assert "--overwrite" in error.value.hint
        file.write_bytes(content)
    load_model(cube, "pca")


@pytest.mark.parametrize("name", ["model.json", "manifest.json", "weights/components.safetensors"])
def test_a_file_that_is_missing(cube, fitted, name):
    (fitted / name).unlink()
    with pytest.raises(IntegrityError, match="model pca"):
        load_model(cube, "pca")


def test_a_file_that_was_added(cube, fitted):
    (fitted / "weights" / "more.bin").write_bytes(b"more")
    with pytest.raises(IntegrityError, match=r"model pca was changed: weights/more\.bin"):
        encode(cube, model="pca")


def test_a_damaged_model_is_in_the_way_until_it_is_overwritten(cube, fitted):
    (fitted / "model.json").write_text("{}")
    with pytest.raises(IntegrityError):
        fit(cube, plugin="pca", options={"latent_dim": 4})
    fit(cube, plugin="pca", options={"latent_dim": 4}, overwrite=True)
    assert load_model(cube, "pca").encoder.latent_dim == 4


def resign(folder, **changes):
    """Change a model's description and its manifest with it, as a newer version might have written them."""
    document = {**json.loads((folder / "model.json").read_text()), **changes}
    (folder / "model.json").write_text(json.dumps(document))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["model.json"] = hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"format": 99}, InputError, "newer"),
        ({"format": 99, "new_key": 1}, InputError, "newer"),
        ({"new_key": 1}, InputError, "cannot be read"),
        ({"options": {"latent_dim": 4, "gone": 1}}, PluginError, "option gone"),
        ({"plugin": "gone"}, PluginError, "needs the encoder gone of geoae .* not installed"),
    ],
)
def test_models_of_other_versions(cube, fitted, changes, kind, message):
    resign(fitted, **changes)
    with pytest.raises(kind, match=message):
        load_model(cube, "pca")


def test_models_that_are_not_there(cube, fitted, tmp_path):
    for name in ("nope", "", tmp_path, ".pca.next", fitted / "weights"):
        with pytest.raises((InputError, IntegrityError)):
            load_model(cube, name)
    with pytest.raises(InputError, match="no model 'nope'") as error:
        load_model(cube, "nope")
    assert "models of the cube: pca" in error.value.hint


@pytest.mark.parametrize("complete", [True, False])
def test_a_replacement_that_died_between_its_renames(cube, fitted, complete):
    """The new model if it was complete, else the old one; nobody is left without."""
    old, fresh = fitted.with_name(".pca.old"), fitted.with_name(".pca.next")
    digest = load_model(cube, "pca").digest
    other = fit(cube, plugin="pca", options={"latent_dim": 3}, name="other").digest
    fitted.rename(old)
    shutil.copytree(fitted.with_name("other"), fresh)
    if not complete:
        (fresh / "manifest.json").unlink()
    assert load_model(cube, "pca").digest == (other if complete else digest)


def test_a_model_is_made_by_one_run_at_a_time(cube):
    with (
        model_lock(cube, "pca"),
        pytest.raises(LockedError, match="another run is writing"),
    ):
        fit(cube, plugin="pca")
    assert fit(cube, plugin="pca", options={"latent_dim": 2}).encoder.latent_dim == 2
