"""Networks as torch builds them have the sizes, counts, order and first weights that their plans say."""

import subprocess
import sys

import numpy as np
import pytest

# ruff: noqa: E402 (the modules below import torch)
torch = pytest.importorskip("torch", reason="needs the extra [torch]")

from torch import nn

from geoae.errors import UsageError
from geoae_torch.description import parse_architecture
from geoae_torch.initialisation import initialise
from geoae_torch.networks import Autoencoder, Stage, build
from geoae_torch.presets import preset, preset_names
from geoae_torch.shapes import plan


def small(name, **options):
    """A network at a size that computes at once."""
    described = preset(name)
    defaults = {"patch": {"platos": 28, "thesis-a1": 64, "thesis-a2": 64}.get(name, 32)}
    if name not in ("platos", "report-fcae", "unpool"):
        defaults["latent_dim"] = 16
    return plan(described, **(defaults | options))


def images(network, n=3, seed=0):
    values = np.random.default_rng(seed).uniform(0, 1, (n, network.bands, *network.patch))
    return torch.from_numpy(values.astype(np.float32))


def shape_of(tensor):
    """Shape of one patch with channels last."""
    rest = tuple(tensor.shape[1:])
    return (*rest[1:], rest[0]) if len(rest) == 3 else rest


@pytest.mark.parametrize("name", preset_names())
def test_every_layer_has_the_size_and_the_parameters_of_the_plan(name):
    network = plan(preset(name))  # whole, on a device that holds no numbers
    module = build(network, device="meta").eval()
    seen = []

    def look(stage, inputs, output):
        seen.append((stage.step.name, shape_of(inputs[0]), shape_of(output)))

    stages = [m for m in module.modules() if isinstance(m, Stage)]
    for stage in stages:
        stage.register_forward_hook(look)
    output = module(torch.empty(2, network.bands, *network.patch, device="meta"))
    assert output.shape == (2, network.out_bands, *network.patch)
    assert seen == [(s.name, s.inputs, s.outputs) for s in network.steps]
    counts = {s.step.name: sum(p.numel() for p in s.parameters() if p.requires_grad) for s in stages}
    assert counts == {s.name: s.parameters for s in network.steps}
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) == network.parameters


@pytest.mark.parametrize("geometry", ["fast", "literal"])
@pytest.mark.parametrize("name", ["thesis-a7", "thesis-a14", "platos", "report-net2", "unpool", "residual"])
def test_images_go_through_in_both_geometries(name, geometry):
    network = small(name)
    module = build(network, geometry=geometry)
    x = images(network)
    code = module.encode(x)
    assert code.mean.shape == (3, network.latent_dim)
    assert (code.log_var is None) == (not network.variational)
    output = module.decode(code.mean, code.indices)
    assert output.shape == (3, network.out_bands, *network.patch)
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert ((output > 0) & (output < 1)).all()
    heads = code.mean.sum() if code.log_var is None else code.mean.sum() + code.log_var.sum()
    (output.sum() + heads).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())


def test_other_bands_out_than_in():
    network = small("thesis-a8", bands=1, out_bands=4)
    assert build(network)(images(network)).shape == (3, 4, 32, 32)


@pytest.mark.parametrize("name", ["thesis-a8", "residual", "dense", "recurrent", "report-net1"])
def test_a_patch_does_not_depend_on_its_batch(name):
    network = small(name)
    module = build(network).eval()
    x = images(network, n=5)
    with torch.no_grad():
        torch.testing.assert_close(module(x)[2:3], module(x[2:3]))


def test_logits_are_the_image_before_its_activation():
    network = small("thesis-a8")
    module = build(network).eval()
    z = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    assert module.output_activation == "sigmoid"
    with torch.no_grad():
        torch.testing.assert_close(torch.sigmoid(module.logits(z)), module.decode(z))
    # The image's layer may be followed by what only changes its shape.
    assert build(small("dense")).output_activation == "sigmoid"
    linear = plan(preset("dense").with_output("linear"), patch=8, latent_dim=3)
    assert build(linear).output_activation == "linear"


def test_an_activation_before_a_normalisation_stays_there():
    source = """
name: mine
latent_dim: 4
encoder: [{layer: flatten}]
decoder:
- {layer: dense}
- {layer: reshape, channels: 2}
- {layer: conv, filters: bands, activation: sigmoid, batch_norm: true}
"""
    network = plan(parse_architecture(source, "mine"), patch=8)
    module = build(network).train()
    assert module.output_activation == "linear"
    z = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    normed = module.decode(z)
    assert abs(float(normed.detach().mean())) < 1e-5


def test_a_network_that_unpools_makes_no_image_of_a_code_alone():
    network = small("unpool")
    module = build(network)
    x = images(network)
    code = module.encode(x)
    assert len(code.indices) == 3
    with pytest.raises(UsageError, match="it makes no image of a latent vector alone"):
        module.decode(code.mean)
    # Places are used from the innermost pool outwards: a maximum returns to its place.
    torch.testing.assert_close(module(x), module.decode(code.mean, code.indices))


def test_the_code_of_a_map_is_in_the_order_y_x_channel():
    network = small("platos")
    module = build(network)
    x = images(network)
    with torch.no_grad():
        h = x.contiguous(memory_format=torch.channels_last)
        for stage in module.encoder:
            h = stage(h)
        assert torch.equal(module.encode(x).mean, h.permute(0, 2, 3, 1).reshape(3, -1))


# First weights.


def kernels(module, kind):
    return [m.weight.detach() for m in module.modules() if isinstance(m, kind)]


def test_weights_follow_the_seed_alone():
    network = small("report-net1")
    torch.manual_seed(1)
    one = build(network, seed=3).state_dict()
    torch.manual_seed(2)
    two = build(network, seed=3).state_dict()
    other = build(network, seed=4).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["mean.body.weight"], other["mean.body.weight"])


def test_drawing_again_undoes_what_was_learned():
    network = small("report-net1")
    module = build(network, seed=3)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with torch.no_grad():
        for value in module.parameters():
            value.add_(1)
    module.train()(images(network))  # moves the running averages
    initialise(module, network, 3)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_glorot_is_uniform_within_its_limit():
    module = build(plan(preset("thesis-a8"), patch=64, latent_dim=256))
    for weight in kernels(module, nn.Linear):
        limit = (6 / sum(weight.shape)) ** 0.5
        assert weight.abs().max() <= limit
        assert float(weight.std()) == pytest.approx(limit / 3**0.5, rel=0.01)
    weight = kernels(module, nn.ConvTranspose2d)[0]  # (32, 16, 3, 3)
    assert float(weight.abs().max()) == pytest.approx((6 / (9 * 48)) ** 0.5, rel=0.01)


def test_lecun_is_a_truncated_normal_with_its_variance_kept():
    module = build(plan(preset("thesis-a8-text"), patch=64, latent_dim=256))
    for weight in kernels(module, nn.Linear):
        expected = weight.shape[1] ** -0.5
        assert float(weight.std()) == pytest.approx(expected, rel=0.01)
        assert float(weight.abs().max()) == pytest.approx(2 * expected / 0.8796256610342398, rel=0.02)
    # Keras counts a transposed convolution's fan-in from its filters.
    weight = kernels(module, nn.ConvTranspose2d)[0]  # (32, 16, 3, 3): fan-in 16 * 9
    assert float(weight.std()) == pytest.approx((16 * 9) ** -0.5, rel=0.05)
    biases = [m.bias for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    assert all((bias == 0).all() for bias in biases)


def test_recurrent_kernels_are_orthogonal_gate_by_gate():
    cell = build(small("recurrent")).encoder[0].body.cell
    gate = cell.weight_hh_l0.detach()[256:512]
    torch.testing.assert_close(gate @ gate.T, torch.eye(256), atol=1e-4, rtol=0)


def test_batch_normalisation_has_the_numbers_of_keras():
    norms = [
        m for m in build(small("report-net1")).modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)
    ]
    assert len(norms) == 6 + 1 + 1 + 3
    assert {(n.eps, n.momentum) for n in norms} == {(1e-3, 0.01)}


def test_stored_weights_give_the_same_network():
    network = small("residual")
    module = build(network, seed=1)
    again = Autoencoder(network)
    again.load_state_dict(module.state_dict())
    x = images(network)
    with torch.no_grad():
        torch.testing.assert_close(again(x), module(x))


def test_selu_in_place_can_be_differentiated_twice():
    network = small("thesis-a8", patch=16, latent_dim=4)
    module = build(network)
    x = images(network, n=1).requires_grad_()
    (first,) = torch.autograd.grad(module.encode(x).mean.square().sum(), x, create_graph=True)
    first.square().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert module.encoder[0].body.weight.grad.abs().sum() > 0


def test_describing_imports_no_torch_and_missing_torch_says_what_to_install():
    code = """
import sys
sys.modules["torch"] = None  # as if it were not installed
import geoae_torch
from geoae.errors import PluginError
assert geoae_torch.plan(geoae_torch.load_architecture("thesis-a8")).parameters == 25_188_099
assert geoae_torch.describe_networks()[0]
try:
    geoae_torch.build
except PluginError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() == "build needs torch, which is not installed (pip install 'geoae[torch]')"
