"""Steps of training that go through memory less often; the loss is tested in test_torch_objectives."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [torch]")

from geoae_torch.fused import band_sums, with_bias_gradient  # noqa: E402
from geoae_torch.layers import Conv2d, TransposedConv2d  # noqa: E402


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(1, 3, 1, 1), (2, 3, 3, 5), (4, 8, 16, 16)])
def testband_sums_are_those_of_every_number(size):
    x = numbers(*size).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(band_sums(x), x.double().sum((0, 2, 3)).float())


@pytest.mark.parametrize("kind", ["conv", "transposed"])
def test_gradients_of_a_convolution_are_torchs(kind):
    if kind == "conv":
        layer = Conv2d(3, 5, 3, 2, (8, 8))
        plain = torch.nn.Conv2d(3, 5, 3, 2, padding=1)
    else:
        layer = TransposedConv2d(3, 5, 3, 2)
        plain = torch.nn.ConvTranspose2d(3, 5, 3, 2, padding=1, output_padding=1)
    plain.load_state_dict(layer.state_dict())
    x, results = numbers(2, 3, 8, 8), []
    for module in (layer, plain):
        inputs = x.clone().requires_grad_()
        output = torch.nn.functional.selu(module(inputs), inplace=True)  # which overwrites what the bias gave
        output.square().sum().backward()
        results.append((output, inputs.grad, module.weight.grad, module.bias.grad))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_bias_that_learns_nothing_is_left_alone():
    output, bias = numbers(1, 2, 3, 3), torch.zeros(2)
    assert with_bias_gradient(output, bias) is output
    with torch.no_grad():
        assert with_bias_gradient(output, bias.requires_grad_()) is output


def test_second_derivatives_reach_through_a_convolution():
    layer = Conv2d(2, 3, 3, 2, (4, 4)).double()
    x = numbers(1, 2, 4, 4).double().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda image: torch.tanh(layer(image)), (x,))
