"""Matrix products of dense layers."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [torch]")

from geoae_torch import products  # noqa: E402
from geoae_torch.products import Linear, product  # noqa: E402

needs_onednn = pytest.mark.skipif(not products._ONEDNN, reason="needs a torch with oneDNN on x86")


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layers(inputs=37, units=19):
    ours, plain = Linear(inputs, units), torch.nn.Linear(inputs, units)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


@needs_onednn
def test_a_product_is_that_of_the_transposed_matrix():
    a, b = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[5.0, 6.0], [7.0, 8.0], [9.0, 10.0]])
    assert product(a, b).tolist() == [[17.0, 23.0, 29.0], [39.0, 53.0, 67.0]]


@needs_onednn
@pytest.mark.parametrize("n", [1, 7, 128])
def test_a_dense_layer_and_its_gradients_are_those_of_torch(n, monkeypatch):
    called = []
    monkeypatch.setattr(products, "product", lambda a, b: called.append(a) or product(a, b))
    ours, plain = layers()
    x, wanted = numbers(n, 37, seed=1), numbers(n, 19, seed=2)
    results = []
    for layer in (ours, plain):
        inputs = x.clone().requires_grad_()
        output = layer(inputs)
        output.backward(wanted)
        results.append((output, inputs.grad, layer.weight.grad, layer.bias.grad))
    assert called
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@needs_onednn
def test_gradients_can_be_differentiated_once_more():
    ours, plain = layers(5, 3)
    x = numbers(4, 5, seed=1)
    second = []
    for layer in (ours, plain):
        inputs = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(layer(inputs).square().sum(), inputs, create_graph=True)
        first.square().sum().backward()
        second.append((inputs.grad, layer.weight.grad))
    for found, expected in zip(*second, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["float64", "autocast", "three axes", "no rows"])
def test_what_onednn_is_not_asked_for_is_torchs_own(kind, monkeypatch):
    monkeypatch.setattr(products, "product", lambda *_: pytest.fail("asked"))
    ours, plain = layers()
    shape = {"three axes": (2, 3, 37), "no rows": (0, 37)}.get(kind, (3, 37))
    x = numbers(*shape)
    if kind == "float64":
        ours, plain, x = ours.double(), plain.double(), x.double()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == "autocast"):
        assert torch.equal(ours(x), plain(x))
