"""Weights in files: nothing is run, nothing that does not fit is taken."""

import json
import pickle
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [torch]")

from geoae.encoder import FitContext  # noqa: E402
from geoae.errors import PluginError  # noqa: E402
from geoae.testing import synthetic_patches  # noqa: E402
from geoae_torch import ConvEncoder, VAEEncoder  # noqa: E402
from geoae_torch.encoders import NETWORK, WEIGHTS  # noqa: E402
from geoae_torch.weights import check_tensors, digest, read_tensors, write_tensors  # noqa: E402

SHAPE = (3, 16, 16)


@pytest.fixture(scope="module")
def fitted():
    config = VAEEncoder.Config(latent_dim=4, steps=2)
    encoder = VAEEncoder(config)
    encoder.fit(synthetic_patches(20, SHAPE), FitContext(device="cpu"))
    return encoder


@pytest.fixture
def folder(fitted, tmp_path):
    (tmp_path / "model").mkdir()
    fitted.save(tmp_path / "model")
    return tmp_path / "model"


def refused(folder, config, match):
    with pytest.raises(PluginError, match=match) as error:
        VAEEncoder.load(folder, config)
    assert "\n" not in error.value.message


def test_tensors_and_state_come_back(tmp_path):
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3)}
    path = tmp_path / "x.safetensors"
    assert write_tensors(path, tensors, {"step": 7}) == digest(path)
    found, state = read_tensors(path)
    assert state == {"step": 7}
    assert {n: t.tolist() for n, t in found.items()} == {n: t.tolist() for n, t in tensors.items()}
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_layout_in_memory_does_not_change_the_bytes(tmp_path):
    kernel = torch.rand(4, 3, 2, 2)
    first = write_tensors(tmp_path / "a", {"k": kernel})
    assert write_tensors(tmp_path / "b", {"k": kernel.to(memory_format=torch.channels_last)}) == first


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return (open, ("pickle-was-run", "w"))


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_is_not_run(folder, fitted, tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    if how == "pickle":
        (folder / WEIGHTS).write_bytes(pickle.dumps(Payload()))
    else:
        torch.save({"x": Payload()}, folder / WEIGHTS)
    refused(folder, fitted.config, "no readable safetensors file")
    assert not (tmp_path / "pickle-was-run").exists()


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_a_cut_file_is_refused(folder, fitted, keep):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:keep])
    refused(folder, fitted.config, "network.safetensors is no readable safetensors file")


def test_a_flipped_bit_is_refused(folder, fitted):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-100] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    refused(folder, fitted.config, "changed after it was written")


def test_a_missing_file_is_named(folder, fitted):
    (folder / WEIGHTS).unlink()
    refused(folder, fitted.config, "network.safetensors is missing")
    (folder / NETWORK).unlink()
    refused(folder, fitted.config, "network.json cannot be read")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.pop("mean.body.bias"), "lacks mean.body.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "holds extra, which the network has not"),
        (lambda t: t.update({"mean.body.bias": torch.zeros(5)}), r"as float32 \(5,\), not float32 \(4,\)"),
        (lambda t: t.update({"mean.body.bias": torch.zeros(4).double()}), r"as float64 \(4,\), not float32"),
        (
            lambda t: t["mean.body.bias"].fill_(float("nan")),
            "mean.body.bias with numbers that are not finite",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(folder, fitted, change, match):
    tensors, _ = read_tensors(folder / WEIGHTS)
    change(tensors)
    write_tensors(folder / WEIGHTS, tensors)
    refused(folder, fitted.config, match)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("bands", 4, "holds .* not float32"),
        ("latent_dim", 5, "latent size of 5, the options 4"),
        ("variational", False, "another kind of network than VAEEncoder"),
        ("architecture", {"name": "x"}, "network.json cannot be read"),
        ("patch", [17], "network.json cannot be read"),
        ("weights", "sha256:0", "changed after it was written"),
    ],
)
def test_a_changed_description_is_refused(folder, fitted, key, value, match):
    document = json.loads((folder / NETWORK).read_text())
    document[key] = value
    (folder / NETWORK).write_text(json.dumps(document))
    refused(folder, fitted.config, match)


def test_the_files_of_another_encoder_are_refused(folder, tmp_path):
    with pytest.raises(PluginError, match="another kind of network than ConvEncoder"):
        ConvEncoder.load(folder, ConvEncoder.Config(latent_dim=4))


def test_what_is_loaded_computes_the_same(folder, fitted, tmp_path):
    batch = synthetic_patches(5, SHAPE, seed=3).batch()
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    loaded = VAEEncoder.load(copy, fitted.config)
    for name, values in fitted.variables(batch).items():
        assert np.array_equal(loaded.variables(batch)[name], values)


def test_tensors_of_a_network_pass():
    tensors = {"a": torch.zeros(2), "count": torch.tensor(1)}
    check_tensors(tensors, tensors, "x")
