"""Convolutions of stride 2 with few channels: numbers, derivatives and memory of torch's own."""

import pytest

# ruff: noqa: E402 (the modules below import torch)
torch = pytest.importorskip("torch", reason="needs the extra [torch]")

import torch.nn.functional as F  # noqa: N812 (torch's own abbreviation)

from geoae_torch import layers, strided

CL = torch.channels_last


def tensors(inputs, channels, height, width, *, transposed, dtype=torch.float64, n=3):
    generator = torch.Generator().manual_seed(inputs * channels + height)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    size = (inputs, height, width) if transposed else (channels, 2 * height, 2 * width)
    x = draw(n, *size).contiguous(memory_format=CL)
    return x.requires_grad_(), draw(inputs, channels, 3, 3).requires_grad_()


def ours_and_torchs(transposed):
    if transposed:
        return strided.convolve_transposed, lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, 1)
    return strided.convolve, lambda x, w, b: F.conv2d(x, w, b, 2, 1)


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize(("inputs", "channels"), [(16, 8), (8, 3), (5, 1)])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (1, 1)])
def test_numbers_and_gradients_are_torchs(inputs, channels, shape, transposed, monkeypatch):
    monkeypatch.setattr(strided, "_PIECE", 4 * channels * (shape[0] + 1) * (shape[1] + 1) * 2)
    x, weight = tensors(inputs, channels, *shape, transposed=transposed)
    bias = torch.randn(channels if transposed else inputs, dtype=torch.float64, requires_grad=True)
    found, expected = (f(x, weight, bias) for f in ours_and_torchs(transposed))
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=CL) or not transposed
    upstream = torch.randn_like(expected)
    pairs = [torch.autograd.grad(y, (x, weight, bias), upstream) for y in (found, expected)]
    torch.testing.assert_close(pairs[0], pairs[1])


@pytest.mark.parametrize(("inputs", "channels"), [(16, 8), (8, 3), (5, 1)])
def test_images_that_are_not_channels_last_give_the_same(inputs, channels):
    x, weight = tensors(inputs, channels, 4, 6, transposed=False, dtype=torch.float32)
    bias = torch.randn(inputs)
    found = strided.convolve(x.contiguous(), weight.contiguous(memory_format=CL), bias)
    torch.testing.assert_close(found, F.conv2d(x, weight, bias, 2, 1))
    assert found.is_contiguous(memory_format=CL)


@pytest.mark.parametrize("transposed", [True, False])
def test_second_derivatives_are_there(transposed):
    x, weight = tensors(2, 2, 2, 2, transposed=transposed, n=1)
    bias = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(ours_and_torchs(transposed)[0], (x, weight, bias))


def test_what_comes_next_may_overwrite_the_output():
    x, weight = tensors(4, 3, 4, 4, transposed=True)
    bias = torch.ones(3, dtype=torch.float64)
    pairs = []
    for f in ours_and_torchs(transposed=True):
        F.selu(f(x, weight, bias), inplace=True).square().sum().backward()
        pairs.append((x.grad, weight.grad))
        x.grad = weight.grad = None
    torch.testing.assert_close(pairs[0], pairs[1])


def test_what_needs_no_gradient_gets_none():
    x, weight = tensors(4, 3, 4, 4, transposed=False)
    bias = torch.zeros(4, dtype=torch.float64)
    strided.convolve(x.detach(), weight, bias).sum().backward()
    assert weight.grad is not None
    assert x.grad is None
    assert bias.grad is None


@pytest.mark.parametrize(
    ("layer", "shape", "used"),
    [
        (layers.TransposedConv2d(16, 8, 3, 2), (1, 16, 4, 4), True),
        (layers.TransposedConv2d(32, 16, 3, 2), (1, 32, 4, 4), False),  # too many channels
        (layers.TransposedConv2d(16, 8, 3, 2, geometry="literal"), (1, 16, 4, 4), False),
        (layers.TransposedConv2d(16, 8, 5, 2), (1, 16, 4, 4), False),
        (layers.TransposedConv2d(16, 8, 3, 1), (1, 16, 4, 4), False),
        (layers.Conv2d(8, 16, 3, 2, (4, 4)), (1, 8, 4, 4), True),
        (layers.Conv2d(8, 16, 3, 2, (5, 4)), (1, 8, 5, 4), False),  # the mirror of an odd side is another
        (layers.Conv2d(8, 16, 3, 1, (4, 4)), (1, 8, 4, 4), False),
    ],
)
def test_layers_use_it_where_it_is_the_same(layer, shape, used, monkeypatch):
    x = torch.randn(shape).contiguous(memory_format=CL)
    expected = layer(x)
    called = []
    monkeypatch.setattr(layers, "few_channels", lambda x, w: called.append(1) or strided.few_channels(x, w))
    monkeypatch.setattr(strided, "through_onednn", lambda *_: True)
    for name in ("convolve", "convolve_transposed"):
        own = getattr(strided, name)
        monkeypatch.setattr(layers, name, lambda *a, own=own: called.append(2) or own(*a))
    torch.testing.assert_close(layer(x), expected)
    assert (2 in called) is used
