"""Faults on the way of an autoencoder: one line, the right exit code, nothing earlier lost."""

import json
import pickle
import shutil

import numpy as np
import pytest
from command_line import finish, runner, spawn
from cube_scenes import catalog_of, scene_pixels, tree, write_scene
from killing import Job, Killer

torch = pytest.importorskip("torch", reason="needs the extra [torch]")

from geoae.cube import Cube  # noqa: E402
from geoae.ingestion import ingest  # noqa: E402
from geoae.models import models_folder  # noqa: E402
from geoae.verification import verify  # noqa: E402
from geoae_torch.weights import read_tensors, write_tensors  # noqa: E402

TINY = ["--preset", "dense", "--latent-dim", "3", "--steps", "3", "--quiet"]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def one_thread():
    """Networks of a few numbers gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(capsys):
    return runner(capsys)


def make(folder, *, scenes=6, patch=8, side=32, change=None, **modalities):
    """A cube ``c.zarr`` of random scenes; `change` edits their pixels."""
    for number in range(scenes):
        pixels = scene_pixels((side, side), number)
        write_scene(folder / "scenes", f"JAX_{number:03d}_001", change(pixels) if change else pixels)
    ingest(folder / "scenes", catalog=catalog_of(**modalities), out=folder / "c.zarr", patch=patch)
    return Cube.open(folder / "c.zarr")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A cube with latents and a model of PCA, and a VAE's model; never change it."""
    folder = tmp_path_factory.mktemp("faults") / "before"
    cube = make(folder)
    for arguments in (["encode", "--plugin", "pca", "--latent-dim", "2"], ["fit", "--plugin", "vae", *TINY]):
        answer = finish(spawn(*arguments, "--cube", cube.path, folder=folder, environment=ONE_THREAD))
        assert answer.code == 0, answer
    return folder


@pytest.fixture
def here(prepared, tmp_path, monkeypatch):
    """The folder of a copy of it, to work in."""
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def results(folder):
    """Digests of everything but journals, locks, and logs, which tell the time."""
    return {n: d for n, d in tree(folder).items() if ".work/" not in n and "/.logs/" not in n}


# --- killed, and at once ----------------------------------------------------------------------------


def test_a_killed_encode_leaves_pixels_and_other_layers_alone(prepared, tmp_path):
    """Killed between its writes: while it trains, stores the model, writes the layer, commits."""
    arguments = ["encode", "--plugin", "vae", *TINY, "--name", "fresh"]
    with Killer("geoae_torch.encoders") as killer:
        shutil.copytree(prepared, tmp_path / "whole")
        (whole,) = killer.run([Job(str(tmp_path / "whole"), arguments)])
        assert whole.code == 0, whole.errors
        before, after = results(prepared), results(tmp_path / "whole")
        moments = sorted({2, whole.changes // 3, 2 * whole.changes // 3, whole.changes - 1, whole.changes})
        killed = [tmp_path / f"killed-{moment}" for moment in moments]
        for folder in killed:
            shutil.copytree(prepared, folder)
        jobs = [Job(str(f), arguments, moment) for f, moment in zip(killed, moments, strict=True)]
        for folder, outcome in zip(killed, killer.run(jobs), strict=True):
            assert outcome.code == -9, f"{folder.name}: {outcome}"
            assert verify(folder / "c.zarr").ok
            now = results(folder)
            # The root's metadata lists the layers; all else that was there has the bytes that it had.
            lost = {n for n, digest in before.items() if now.get(n) != digest} - {"c.zarr/zarr.json"}
            assert lost == set(), folder.name
        for folder, outcome in zip(killed, killer.run([Job(str(f), arguments) for f in killed]), strict=True):
            assert outcome.code == 0, outcome
            assert results(folder) == after, folder.name
            assert not verify(folder / "c.zarr").findings


def test_two_encodes_of_two_layers_at_once(here):
    kinds = ("vae", "conv-ae")
    processes = [
        spawn("encode", "--plugin", kind, *TINY, "--name", f"{kind}-2", folder=here, environment=ONE_THREAD)
        for kind in kinds
    ]
    answers = [finish(process) for process in processes]
    assert [answer.code for answer in answers] == [0, 0], answers
    there = {info.path for info in Cube.open(here / "c.zarr").layers()}
    assert {"latents/pca", "latents/vae-2", "latents/conv-ae-2"} <= there
    assert not verify(here / "c.zarr").findings


def test_two_encodes_of_one_layer_at_once(here):
    """One makes it; the other waits for it, finds it made, or is told that it is being made."""
    processes = [
        spawn("encode", "--plugin", "vae", *TINY, "--name", "one", folder=here, environment=ONE_THREAD)
        for _ in range(2)
    ]
    answers = [finish(process) for process in processes]
    assert 0 in [answer.code for answer in answers]
    for answer in answers:
        assert answer.code == 0 or (answer.code == 1 and "another run is writing" in answer.error), answer
    assert "latents/one" in {info.path for info in Cube.open(here / "c.zarr").layers()}
    assert not verify(here / "c.zarr").findings


# --- models -----------------------------------------------------------------------------------------


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return (open, ("pickle-was-run", "w"))


def _as_if_written(model):
    """Make the digests of a model's folder those of the files that are there now."""
    import hashlib

    def digest(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()

    network = model / "weights/network.json"
    document = json.loads(network.read_text())
    document["weights"] = "sha256:" + digest(model / "weights/network.safetensors")
    network.write_text(json.dumps(document))
    manifest = json.loads((model / "manifest.json").read_text())
    manifest = {name: digest(model / name) for name in manifest}
    (model / "manifest.json").write_text(json.dumps(manifest))


def _pickled(path):
    path.write_bytes(pickle.dumps(Payload()))


def _saved_by_torch(path):
    torch.save({"weights": Payload()}, path)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def _flipped(path):
    content = bytearray(path.read_bytes())
    content[-7] ^= 4
    path.write_bytes(content)


def _reshaped(path):
    tensors, _ = read_tensors(path)
    tensors["mean.body.bias"] = torch.zeros(4)
    write_tensors(path, tensors)


DAMAGES = [_pickled, _saved_by_torch, _cut, _flipped, _reshaped]


@pytest.mark.parametrize("damage", DAMAGES)
def test_weights_that_were_changed_are_not_used(run, here, damage):
    """The manifest says so before anything of them is read."""
    damage(here / "c.zarr.models/vae/weights/network.safetensors")
    before = results(here)
    answer = run("encode", "--model", "vae")
    assert (answer.code, answer.error) == (5, "model vae was changed: weights/network.safetensors")
    assert results(here) == before
    assert not (here / "pickle-was-run").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_pickled, "network.safetensors is no readable safetensors file"),
        (_saved_by_torch, "network.safetensors is no readable safetensors file"),
        (_cut, "network.safetensors is no readable safetensors file"),
        (_reshaped, "network.safetensors holds mean.body.bias as float32 (4,), not float32 (3,)"),
    ],
)
def test_weights_of_a_stranger_whose_digests_agree_run_nothing(run, here, damage, message):
    model = here / "c.zarr.models/vae"
    damage(model / "weights/network.safetensors")
    _as_if_written(model)
    answer = run("encode", "--model", "vae")
    assert answer.code == 1
    assert message in answer.error
    assert "fit the encoder again" in answer.advice
    assert not (here / "pickle-was-run").exists()
    assert "latents/vae" not in {info.path for info in Cube.open(here / "c.zarr").layers()}


def test_bands_in_another_order_are_found_by_name_and_others_refused(run, prepared, tmp_path):
    """The bands of another cube, exchanged in file and catalog, give the same latents."""
    pixels = scene_pixels((32, 32), 3)
    bands = catalog_of().modalities["msi"].model_dump(mode="json")["bands"]
    others = [{**bands[0], "name": "swir"}, bands[1]]
    cases = {
        "same": (bands, pixels),
        "exchanged": (bands[::-1], {**pixels, "MSI": pixels["MSI"][::-1]}),
        "others": (others, pixels),
    }
    for name, (named, values) in cases.items():
        write_scene(tmp_path / name / "scenes", "JAX_003_001", values)
        catalog = catalog_of(modalities={"msi": {"bands": named}})
        ingest(tmp_path / name / "scenes", catalog=catalog, out=tmp_path / name / "c.zarr", patch=8)
    shutil.copytree(prepared, tmp_path / "here")
    fit = ["fit", "--plugin", "conv-ae", *TINY, "--input", "msi", "--name", "bands"]
    assert run(*fit, "--cube", tmp_path / "here/c.zarr").code == 0
    model = tmp_path / "here/c.zarr.models/bands"
    answers = {n: run("encode", "--model", model, "--cube", tmp_path / n / "c.zarr") for n in cases}
    assert [answer.code for answer in answers.values()] == [0, 0, 2], answers
    same, exchanged = (
        Cube.open(tmp_path / n / "c.zarr").layer("latents/bands")["z"].to_numpy()
        for n in ("same", "exchanged")
    )
    assert np.array_equal(same, exchanged)
    assert "model bands does not fit c.zarr: 'msi' has no band 'red'" in answers["others"].error


# --- pixels -----------------------------------------------------------------------------------------


def test_heights_with_voids_and_a_void_patch(run, tmp_path):
    """NaN never reaches a network: a void patch has no latent vector, the others have one."""

    def holed(pixels):
        pixels["AGL"][:8, :8] = np.nan
        return pixels

    cube = make(tmp_path, change=holed)
    answer = run("encode", "--plugin", "vae", *TINY, "--input", "agl", "--cube", cube.path)
    assert answer.code == 0, answer
    known = np.isfinite(cube.layer("latents/vae")["z"]).all("component").to_numpy()
    assert (~known).sum() == 6
    assert not known[cube.table().query("row == 0 and col == 0").index].any()


def test_bands_that_are_constant(run, tmp_path):
    def flat(pixels):
        return {**pixels, "RGB": np.full_like(pixels["RGB"], 77)}

    cube = make(tmp_path, change=flat)
    answer = run("encode", "--plugin", "vae", *TINY, "--input", "rgb", "--cube", cube.path)
    assert answer.code == 0, answer
    layer = cube.layer("latents/vae")
    assert np.isfinite(layer["z"]).all()
    assert np.isfinite(layer["error"]).all()


@pytest.mark.parametrize("preset", ["principal", "residual", "thesis-a14"])
def test_one_patch_and_a_batch_of_one(run, tmp_path, preset):
    cube = make(tmp_path, scenes=1, side=8)
    options = ["--preset", preset, "--latent-dim", "2", "--steps", "2", "--cube", cube.path, "--quiet"]
    answer = run("encode", "--plugin", "vae", *options)
    assert answer.code == 0, answer
    assert np.isfinite(cube.layer("latents/vae")["z"]).all()
    assert cube.layer("latents/vae")["z"].shape == (1, 2)
    more = make(tmp_path / "more", scenes=5, side=8)
    options = [*options, "--batch-size", "1", "--cube", more.path]
    answer = run("encode", "--plugin", "vae", *options)
    assert answer.code == 0, answer
    assert np.isfinite(more.layer("latents/vae")["z"]).all()


def test_batch_normalisation_of_one_patch(run, here, tmp_path):
    """It has no variance of one number, and says so before it trains."""
    one = make(tmp_path / "one", scenes=1, side=8)
    normed = ["encode", "--plugin", "vae", "--preset", "report-net1", "--latent-dim", "2", "--steps", "2"]
    for arguments in (["--cube", one.path], ["--batch-size", "1"]):
        answer = run(*normed, "--name", "normed", *arguments)
        assert answer.code == 1
        assert answer.error == "a network with batch normalisation needs batches of 2 patches or more, not 1"
        assert "--batch-size" in answer.advice


def test_no_patch_to_train_on(run, tmp_path):
    def void(pixels):
        return {**pixels, "AGL": np.full_like(pixels["AGL"], np.nan)}

    cube = make(tmp_path, change=void)
    answer = run("encode", "--plugin", "vae", *TINY, "--input", "agl", "--cube", cube.path)
    assert answer.code == 3
    assert "no patch of the split 'default' can be learned from" in answer.error


def test_a_batch_larger_than_the_split_and_a_code_longer_than_the_data_allow(run, here):
    """Both work; the second is said, since such a code can hold every patch by heart."""
    options = ["--preset", "dense", "--steps", "2", "--batch-size", "5000", "--latent-dim", "100"]
    answer = run("encode", "--plugin", "vae", *options, "--name", "long", "--quiet")
    assert answer.code == 0, answer
    notes = Cube.open(here / "c.zarr").layer("latents/long").attrs["notes"]
    assert any("100 numbers for" in note and "learned by heart" in note for note in notes)


# --- what does not fit ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message", "advice"),
    [
        (["--preset", "harwood-x"], 2, "no network 'harwood-x'", None),
        (["--preset", "thesis-a1", "--latent-dim", "4"], 2, "thesis-a1 does not fit patches of 8", "64"),
        (["--preset", "unpool"], 2, "makes no image of a latent vector alone", None),
        (["--preset", "report-fcae"], 2, "report-fcae", None),
        (["--input", "lidar"], 2, "no 'lidar'", "rgb"),
        (["--target", "lidar"], 2, "no 'lidar'", "rgb"),
        (["--input", "label"], 2, "labels", "rgb"),
        (["--device", "tpu"], 1, "no device 'tpu'", "--device auto, cpu or cuda"),
        (["--loss", "psnr"], 2, "--loss", None),
        (["--steps", "0"], 2, "--steps", None),
        (["--learning-rate", "inf"], 2, "--learning-rate", None),
    ],
)
def test_one_line_and_nothing_is_written(run, here, arguments, code, message, advice):
    before = results(here)
    answer = run("encode", "--plugin", "vae", *arguments, "--name", "fresh")
    assert (answer.code, answer.out) == (code, ""), answer
    assert message in answer.error
    assert advice is None or advice in answer.advice
    assert results(here) == before


def test_a_gpu_that_is_not_there(run, here):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    before = results(here)
    for command in (["encode", "--plugin", "vae", *TINY, "--name", "x"], ["encode", "--model", "vae"]):
        answer = run(*command, "--device", "cuda")
        assert answer.code == 1
        assert answer.error.startswith("--device cuda: ")
        assert answer.advice == "--device cpu, or auto"
    assert results(here) == before


def test_a_modality_that_the_cube_has_not_got(run, tmp_path):
    """A model of heights, on a cube without."""
    with_heights, without = make(tmp_path / "with"), tmp_path / "without"
    fit = ["fit", "--plugin", "vae", *TINY, "--input", "rgb,agl", "--name", "both"]
    assert run(*fit, "--cube", with_heights.path).code == 0
    write_scene(without / "scenes", "JAX_001_001", scene_pixels((32, 32), 1, kinds=("MSI", "RGB", "CLS")))
    catalog = catalog_of(modalities={"agl": None})
    ingest(without / "scenes", catalog=catalog, out=without / "c.zarr", patch=8)
    model = models_folder(with_heights) / "both"
    answer = run("encode", "--model", model, "--cube", without / "c.zarr")
    assert answer.code == 2
    assert "model both does not fit c.zarr" in answer.error
    assert "no 'agl'" in answer.error


# --- again, and equal -------------------------------------------------------------------------------


def test_the_same_command_makes_the_same_bytes_and_then_nothing(run, prepared, tmp_path):
    command = ["encode", "--plugin", "vae", *TINY, "--seed", "5", "--name", "again"]
    found = []
    for name in ("one", "two"):
        shutil.copytree(prepared, tmp_path / name)
        assert run(*command, "--cube", tmp_path / name / "c.zarr").code == 0
        found.append(results(tmp_path / name))
    assert found[0] == found[1]
    assert run(*command, "--cube", tmp_path / "one/c.zarr").code == 0
    assert results(tmp_path / "one") == found[0]
    answer = run(*command, "--steps", "4", "--cube", tmp_path / "one/c.zarr")
    assert answer.code == 2
    assert "was fitted otherwise: another set of options" in answer.error
