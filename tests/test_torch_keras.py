"""Networks with Keras's weights give Keras's outputs (`scripts/keras_fixtures.py` computed them)."""

from pathlib import Path

import numpy as np
import pytest

# ruff: noqa: E402 (the modules below import torch)
torch = pytest.importorskip("torch", reason="needs the extra [torch]")

from geoae_torch.architecture import Conv, Dense, TransposedConv
from geoae_torch.description import load_architecture, parse_architecture
from geoae_torch.keras import load_keras_weights, unmirrored
from geoae_torch.networks import build
from geoae_torch.shapes import plan

FIXTURES = Path(__file__).parent / "data" / "keras"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.npz"))
SEED = 20190801
TOLERANCE = 1e-5


def network_plan(name):
    if name in ("platos", "report-fcae"):
        return plan(load_architecture(name))
    patch = 128 if name == "thesis-a1" else 64
    return plan(load_architecture(name), patch=patch, latent_dim=64 if name == "harwood" else 16)


def draw(steps, rng):
    """Weights as `scripts/keras_fixtures.py` draws them, from our layers instead of Keras's."""
    for step in steps:
        layer, inputs, outputs = step.layer, step.inputs[-1], step.outputs[-1]
        if isinstance(layer, Conv):
            shape = (layer.kernel, layer.kernel, inputs, outputs)
        elif isinstance(layer, TransposedConv):
            shape = (layer.kernel, layer.kernel, outputs, inputs)
        elif isinstance(layer, Dense):
            shape = (inputs, outputs)
        else:
            continue
        yield rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))
        yield 0.1 * rng.standard_normal(outputs)
        if layer.batch_norm:
            yield rng.uniform(0.5, 1.5, outputs)
            yield 0.1 * rng.standard_normal(outputs)
            yield 0.1 * rng.standard_normal(outputs)
            yield rng.uniform(0.5, 1.5, outputs)


def patch_and_weights(network):
    rng = np.random.default_rng(SEED)
    patch = rng.uniform(0, 1, (1, *network.patch, network.bands)).astype(np.float32)
    weights = list(draw(network.steps, rng))
    return torch.from_numpy(patch).permute(0, 3, 1, 2), weights


def outputs(network, geometry):
    patch, weights = patch_and_weights(network)
    module = build(network, geometry=geometry, mirrored=geometry == "fast").eval()
    load_keras_weights(module, weights)
    with torch.no_grad():
        code = module.encode(patch)
        found = {"mean": code.mean, "image": module.decode(code.mean, code.indices).permute(0, 2, 3, 1)}
        if code.log_var is not None:
            found["log_var"] = code.log_var
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize("geometry", ["literal", "fast"])
@pytest.mark.parametrize("name", NAMES)
def test_the_outputs_are_those_of_keras(name, geometry):
    with np.load(FIXTURES / f"{name}.npz") as expected:
        found = outputs(network_plan(name), geometry)
        assert sorted(found) == sorted(expected.files)
        for key in expected.files:
            assert found[key].shape == expected[key].shape
            assert np.abs(expected[key]).std() > 1e-3  # not all alike
            np.testing.assert_allclose(found[key], expected[key], rtol=0, atol=TOLERANCE, err_msg=key)


def test_every_document_with_a_listing_has_a_fixture():
    assert {name.split("-")[0] for name in NAMES} == {"thesis", "harwood", "platos", "report"}


def test_the_fast_geometry_without_a_mirror_is_another_network():
    network = network_plan("thesis-a8")
    patch, weights = patch_and_weights(network)
    module = build(network, geometry="literal").eval()
    load_keras_weights(module, weights)
    with torch.no_grad():
        literal = module.encode(patch).mean
        fast = build(network).eval()
        fast.load_state_dict(module.state_dict())
        assert (fast.encode(patch).mean - literal).abs().max() > 0.1


def test_weights_that_do_not_fit_are_refused():
    network = network_plan("thesis-a8")
    _, weights = patch_and_weights(network)
    literal = build(network, geometry="literal")
    with pytest.raises(ValueError, match=r"need geometry='literal'"):
        load_keras_weights(build(network), weights)
    with pytest.raises(ValueError, match=r"17 arrays for a network of 18"):
        load_keras_weights(literal, weights[:-1])
    with pytest.raises(ValueError, match=r"array 0 of shape \(3, 3, 3, 9\) does not fit encoder.0"):
        load_keras_weights(literal, [np.zeros((3, 3, 3, 9)), *weights[1:]])
    with pytest.raises(ValueError, match="only the fast geometry"):
        build(network, geometry="literal", mirrored=True)


def test_layers_that_differ_in_a_mirror_are_named():
    source = """
name: mine
encoder: [{layer: conv, filters: 4, kernel: 1, stride: 2}, {layer: flatten}]
latent_dim: 4
decoder:
- {layer: dense}
- {layer: reshape, channels: 4}
- {layer: upsample, how: bed-of-nails}
- {layer: transposed-conv, filters: 2, kernel: 1, stride: 2}
- {layer: conv, filters: bands}
"""
    network = plan(parse_architecture(source, "mine"), patch=16)
    assert unmirrored(network) == ("encoder.0", "decoder.2", "decoder.3")
    with pytest.raises(ValueError, match=r"encoder\.0, decoder\.2, decoder\.3 differ in a mirror"):
        load_keras_weights(build(network, mirrored=True), [])
