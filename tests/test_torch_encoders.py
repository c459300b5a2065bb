"""The encoders of torch: the contract, their options, cubes, and what cannot work in one line."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pydantic import ValidationError
from small_cubes import small_cube

torch = pytest.importorskip("torch", reason="needs the extra [torch]")

import geoae_torch  # noqa: E402
from geoae import latents  # noqa: E402
from geoae.cube import Cube  # noqa: E402
from geoae.encoder import FitContext  # noqa: E402
from geoae.encoding import encode  # noqa: E402
from geoae.errors import GeoaeError, UsageError  # noqa: E402
from geoae.fitting import fit  # noqa: E402
from geoae.models import models_folder  # noqa: E402
from geoae.registry import describe, load_encoder, parse_options  # noqa: E402
from geoae.testing import ArrayPatches, check_encoder, synthetic_patches  # noqa: E402

NAMES = ("vae", "conv-ae", "denoising-ae", "sparse-ae", "contractive-ae", "dense-ae")
SHAPE = (3, 16, 16)


@pytest.fixture(autouse=True)
def one_thread():
    """Networks of a few numbers gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fitted(name, source, held_out=None, **options):
    kind = load_encoder(name)
    encoder = kind(parse_options(kind, {"latent_dim": 4, "steps": 4, **options}))
    return encoder, encoder.fit(source, FitContext(validation=held_out, device="cpu"))


@pytest.fixture(scope="module")
def source():
    return synthetic_patches(30, SHAPE)


# --- the contract -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_is_kept(name):
    kind = load_encoder(name)
    check_encoder(kind, config=parse_options(kind, {"latent_dim": 4, "steps": 3}))


def test_the_contract_is_kept_with_batch_normalisation():
    kind = load_encoder("conv-ae")
    config = parse_options(kind, {"preset": "report-net1", "latent_dim": 4, "steps": 2})
    check_encoder(kind, config=config, shapes=((2, 8, 8),))


@pytest.mark.parametrize("name", ["vae", "conv-ae"])
def test_latents_do_not_depend_on_the_number_of_threads(tmp_path, monkeypatch, name):
    """Neither on that of the caller, nor on torch's own: a thread computes a batch alone."""
    cube = small_cube(tmp_path, scenes=3, side=32)
    fit(cube, plugin=name, options={"latent_dim": 4, "steps": 2}, input="rgb", name="m")
    monkeypatch.setattr(latents, "_BATCH_BYTES", 1)
    seen = []
    for count in (1, 2, 4):
        torch.set_num_threads(count)
        monkeypatch.setattr(latents, "threads", lambda count=count: count)
        encode(cube, model="m", name=f"m{count}")
        assert torch.get_num_threads() == count, "threads were not given back"
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == count
        layer = cube.layer(f"latents/m{count}")
        seen.append({variable: layer[variable].to_numpy().tobytes() for variable in layer.data_vars})
    assert seen[0] == seen[1] == seen[2]


def test_on_a_gpu_one_batch_comes_after_the_other(source):
    encoder, _ = fitted("vae", source)
    assert encoder.single_threaded() is not None
    encoder._network.to("meta")
    assert encoder.single_threaded() is None


def test_listing_encoders_and_their_options_imports_no_torch():
    script = (
        "import sys; from geoae.registry import list_encoders; list_encoders(); import geoae_torch;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_described(name):
    for option in describe(load_encoder(name)):
        assert option.description.endswith((".", ")")), option.name


# --- what they are ----------------------------------------------------------------------------------


def test_a_vae_stores_mean_and_log_variance_and_reports_its_code(source):
    encoder, report = fitted("vae", source, synthetic_patches(8, SHAPE, seed=1))
    found = encoder.variables(source.batch())
    assert found.keys() == {"z", "log_var"}
    assert {"mae", "mse", "kl", "active_units", "participation_ratio", "parameters"} <= report.metrics.keys()
    assert len(report.curves["kl_spectrum"]) == 4
    assert "validation_mae" in report.curves
    assert fitted("conv-ae", source)[0].variables(source.batch()).keys() == {"z"}


def test_log_variances_are_read_by_the_sampler(source):
    """A large beta takes all information out of the code: the variance goes to one, the mean to nought."""
    options = {"steps": 400, "beta": 300, "kl": "thesis", "augment": False}
    encoder, report = fitted("vae", source, preset="dense", **options)
    found = encoder.variables(source.batch())
    assert abs(found["log_var"]).max() < 0.2
    assert abs(found["z"]).max() < 0.2
    assert report.metrics["active_units"] == 0
    assert report.metrics["kl"] < 0.05


def test_a_contractive_code_changes_less(source):
    images = torch.from_numpy(source.batch().image[:6])

    def norm(weight):
        encoder, _ = fitted("contractive-ae", source, contraction=weight, steps=60, learning_rate=3e-3)
        network = encoder._network
        jacobian = torch.autograd.functional.jacobian(lambda x: network.encode(x).mean, images)
        return float(jacobian.square().sum())

    assert norm(1e-1) < 0.5 * norm(0)


def test_a_sparse_code_is_smaller(source):
    sizes = [
        abs(fitted("sparse-ae", source, sparsity_weight=w, steps=60)[0].transform(source.batch())).mean()
        for w in (0, 1)
    ]
    assert sizes[1] < 0.5 * sizes[0]


def test_another_target_is_produced(source):
    batch = source.batch()
    grey = batch.image.mean(1, keepdims=True)
    colouring = ArrayPatches(grey, batch.valid[:, :1], target=batch.image, target_valid=batch.valid)
    encoder, report = fitted("conv-ae", colouring)
    z = encoder.transform(colouring.batch())
    assert encoder.reconstruct(z).shape == (30, *SHAPE)
    assert len(report.curves["band_mae"]) == 3


def test_a_network_of_ones_own_is_kept_in_the_model(tmp_path, source):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nencoder: [{layer: flatten}, {layer: dense, units: 5, activation: relu}]\n"
        "decoder: [{layer: dense, activation: sigmoid}, {layer: reshape, channels: bands}]\n"
    )
    kind = load_encoder("conv-ae")
    config = parse_options(kind, {"network": str(path), "latent_dim": "4", "steps": "2"})
    path.unlink()
    encoder = kind(kind.Config.model_validate(json.loads(config.model_dump_json())))
    encoder.fit(source, FitContext(device="cpu"))
    assert encoder._network.plan.architecture.name == "mine"


def test_the_code_of_a_map_has_the_length_that_the_patch_gives_it(source):
    encoder, _ = fitted("conv-ae", source, preset="report-fcae", latent_dim=None)
    assert encoder.latent_dim == 2 * 2 * 64
    assert encoder.transform(source.batch([0])).shape == (1, 256)


# --- what cannot work -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"preset": "thesis-a99"}, "no network 'thesis-a99'"),
        ({"preset": "mine.yaml"}, "a file is given with --network"),
        ({"network": "no-such.yaml"}, "No such file"),
        ({"network": "thesis-a8"}, "presets go to --preset"),
        ({"preset": "unpool"}, "makes no image of a latent vector alone"),
        ({"network": "unpool.yaml"}, "makes no image of a latent vector alone"),
        ({"corruption": "blur"}, "no corruption 'blur'"),
        ({"batch_size": "0"}, "greater than or equal to 1"),
        ({"beta": "-1"}, "greater than or equal to 0"),
        ({"learning_rate": "nan"}, "finite number"),
        ({"loss": "bce", "network": "tanh.yaml"}, "bce needs a network whose last activation is sigmoid"),
    ],
)
def test_options_that_cannot_be_are_one_line(options, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tanh.yaml").write_text(
        "name: t\nencoder: [{layer: flatten}]\ndecoder: [{layer: dense, activation: tanh}, "
        "{layer: reshape, channels: bands}]\n"
    )
    (tmp_path / "unpool.yaml").write_text(geoae_torch.describe_networks("unpool", as_yaml=True)[1])
    names = {"corruption": "denoising-ae", "beta": "vae"}
    kind = load_encoder(next((names[key] for key in options if key in names), "conv-ae"))
    with pytest.raises(UsageError, match=match) as error:
        parse_options(kind, options)
    assert "\n" not in error.value.message


def test_a_network_that_does_not_fit_the_patch_says_which_sizes_do():
    with pytest.raises(UsageError, match="thesis-a8 does not fit patches of 20 x 20 pixels") as error:
        fitted("vae", synthetic_patches(5, (3, 20, 20)), preset="thesis-a8")
    assert "24" in error.value.hint


def test_a_network_whose_code_is_a_map_is_no_vae(source):
    with pytest.raises(UsageError):
        fitted("vae", source, preset="report-fcae", latent_dim=None)


def test_a_latent_vector_that_is_too_long_is_said(source):
    notes = fitted("conv-ae", synthetic_patches(6, (1, 4, 4)), preset="dense", latent_dim=16)[1].notes
    assert any("16 numbers for 6 training patches: they can be learned by heart" in note for note in notes)
    assert any("not smaller than the patch, which has 16 numbers" in note for note in notes)


def test_one_patch_constant_bands_and_no_patch():
    one = ArrayPatches(np.full((1, 2, 8, 8), 0.5))
    encoder, report = fitted("vae", one, preset="thesis-a17")
    assert np.isfinite(encoder.transform(one.batch())).all()
    assert any("no validation patches" in note for note in report.notes)
    constant = ArrayPatches(np.full((9, 2, 8, 8), 0.25))
    assert np.isfinite(fitted("vae", constant)[0].transform(constant.batch())).all()
    with pytest.raises(GeoaeError, match="there is no patch to train on"):
        fitted("vae", ArrayPatches(np.empty((0, 2, 8, 8))))


def test_a_gpu_that_is_not_there(source):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    kind = load_encoder("vae")
    with pytest.raises(GeoaeError, match="--device cuda"):
        kind(kind.Config()).fit(source, FitContext(device="cuda"))
    encoder, _ = fitted("vae", source)
    with pytest.raises(GeoaeError, match="--device cuda"):
        encoder.use_device("cuda")
    encoder.use_device("auto")


def test_options_of_another_encoder_are_refused():
    with pytest.raises(ValidationError):
        load_encoder("conv-ae").Config(beta=1.0)


# --- cubes ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cube(tmp_path_factory) -> Cube:
    return small_cube(tmp_path_factory.mktemp("torch"))


TINY = {"latent_dim": 3, "steps": 6, "preset": "dense"}


def test_encode_writes_a_layer(cube):
    report = encode(cube, plugin="vae", options=TINY)
    layer = cube.layer("latents/vae")
    assert set(layer.data_vars) == {"z", "log_var", "error", "band_error"}
    known = np.isfinite(layer["z"]).all("component")
    assert int(known.sum()) == report.encoded > 0
    assert np.array_equal(np.isfinite(layer["log_var"]).all("component"), known)
    assert np.array_equal(np.isfinite(layer["error"]), known)
    rows = [
        json.loads(line) for line in (models_folder(cube) / ".logs/vae/log.jsonl").read_text().splitlines()
    ]
    assert rows[-1]["step"] == 6
    assert {"loss", "mae", "kl", "validation_loss", "learning_rate", "patches_per_second"} <= rows[-1].keys()


def test_equal_fits_make_equal_models(cube):
    first = fit(cube, plugin="conv-ae", options=TINY, name="first")
    assert fit(cube, plugin="conv-ae", options=TINY, name="second").digest == first.digest
    other = fit(cube, plugin="conv-ae", options={**TINY, "seed": 1}, name="third")
    assert other.digest != first.digest


def test_heights_from_colours(cube):
    encode(
        cube, plugin="conv-ae", options=TINY, input="rgb", target="agl", name="heights", reconstructions=True
    )
    layer = cube.layer("latents/heights")
    assert layer["reconstruction"].shape[1] == 1
    assert np.isfinite(layer["error"]).any()


SCRIPT = """
import os, signal, sys
from geoae.cli import main
from geoae_torch import training
training._PROGRESS_SECONDS = 0
class Marks:
    def isatty(self): return False
    def write(self, text):
        if sys.argv[1] == "cut" and text.startswith("Fitting") and ": 20 of 40" in text:
            os.kill(os.getpid(), signal.SIGINT)
        return sys.__stderr__.write(text)
    def flush(self): sys.__stderr__.flush()
sys.stderr = Marks()
main(sys.argv[2:])
"""


def test_ctrl_c_and_the_same_command_give_the_same_layer(tmp_path):
    cubes = {}
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        cubes[name] = small_cube(tmp_path / name)
    command = [
        "encode",
        "--plugin",
        "vae",
        "--preset",
        "dense",
        "--latent-dim",
        "3",
        "--steps",
        "40",
        "--cube",
    ]

    def geoae(name, how):
        arguments = [sys.executable, "-c", SCRIPT, how, *command, cubes[name].path]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(arguments, capture_output=True, text=True, env=environment)

    assert geoae("whole", "on").returncode == 0
    cut = geoae("cut", "cut")
    assert cut.returncode == 130
    assert "go on with: geoae encode --plugin vae" in cut.stderr
    assert not (models_folder(cubes["cut"]) / "vae").exists()
    assert list(models_folder(cubes["cut"]).glob(".vae.checkpoints/*/last.safetensors"))
    assert geoae("cut", "on").returncode == 0
    weights = [(models_folder(c) / "vae/weights/network.safetensors").read_bytes() for c in cubes.values()]
    assert weights[0] == weights[1]
    layers = [c.layer("latents/vae")["z"].to_numpy() for c in cubes.values()]
    assert layers[0].tobytes() == layers[1].tobytes()
    assert not (models_folder(cubes["cut"]) / ".vae.checkpoints").exists()


def test_a_kill_in_training_touches_nothing_else(tmp_path):
    cube = small_cube(tmp_path)
    encode(cube, plugin="pca", options={"latent_dim": 2})
    before = {p: p.read_bytes() for p in (tmp_path / "c.zarr").rglob("*") if p.is_file()}
    options = ["--preset", "dense", "--latent-dim", "3", "--steps", "100000"]
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from geoae.cli import main; main()",
            "encode",
            "--plugin",
            "vae",
            *options,
            "--cube",
            cube.path,
        ],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    checkpoint = models_folder(cube) / ".vae.checkpoints"
    while not list(checkpoint.glob("*/logs/log.jsonl")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert {p: p.read_bytes() for p in (tmp_path / "c.zarr").rglob("*") if p.is_file()} == before
    encode(cube, plugin="vae", options={**TINY})
    assert "latents/vae" in {info.path for info in cube.layers()}


def test_the_package_offers_what_it_says():
    for name in geoae_torch.__all__:
        assert getattr(geoae_torch, name) is not None
