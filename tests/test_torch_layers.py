"""Pools, upsampling and edges, against worked examples and against loops that follow the definitions."""

import numpy as np
import pytest

# ruff: noqa: E402 (the modules below import torch)
torch = pytest.importorskip("torch", reason="needs the extra [torch]")

from geoae_torch import layers, resampling

ONE_TO_FOUR = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def image(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


# The worked examples of the slides on upsampling.


def test_nearest_repeats_every_element():
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert resampling.Nearest(2)(ONE_TO_FOUR)[0, 0].tolist() == expected


def test_bed_of_nails_puts_the_value_at_the_upper_left_of_zeros():
    expected = [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    assert resampling.BedOfNails(2)(ONE_TO_FOUR)[0, 0].tolist() == expected


def test_bilinear_interpolates_between_pixel_centres():
    tens = 10 * ONE_TO_FOUR
    exact = resampling.Bilinear(2)(tens)[0, 0]
    # By hand: centres at 1/4 and 3/4 between two pixels, constant beyond the outermost.
    rows = [10, 12.5, 17.5, 20]
    assert exact.tolist() == [[value + down for value in rows] for down in (0, 5, 15, 20)]
    # The slides print whole numbers, rounded down.
    expected = [[10, 12, 17, 20], [15, 17, 22, 25], [25, 27, 32, 35], [30, 32, 37, 40]]
    assert exact.floor().tolist() == expected


def test_a_transposed_convolution_adds_where_outputs_overlap():
    # 2 x 2 input, 2 x 2 kernel, stride 1, no padding: 3 x 3.
    layer = layers.TransposedConv2d(1, 1, 2, 1, padding="valid")
    kernel = torch.tensor([[5.0, 6.0], [7.0, 8.0]])
    with torch.no_grad():
        layer.weight.copy_(kernel[None, None])
        layer.bias.zero_()
        found = layer(ONE_TO_FOUR)[0, 0]
    by_hand = [
        [1 * 5, 1 * 6 + 2 * 5, 2 * 6],
        [1 * 7 + 3 * 5, 1 * 8 + 2 * 7 + 3 * 6 + 4 * 5, 2 * 8 + 4 * 6],
        [3 * 7, 3 * 8 + 4 * 7, 4 * 8],
    ]
    assert found.tolist() == by_hand


def test_max_unpooling_puts_maxima_where_they_were():
    values = torch.tensor(
        [[[[1.0, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]]]],
    )
    pool = resampling.MaxPool(2, (4, 4))
    pooled, places = pool.with_indices(values)
    assert pooled[0, 0].tolist() == [[5, 6], [7, 8]]
    assert places[0, 0].tolist() == [[5, 2], [12, 15]]
    back = resampling.MaxUnpool((4, 4))(ONE_TO_FOUR, places)
    assert back[0, 0].tolist() == [[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]


@pytest.mark.parametrize("geometry", ["literal", "fast"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (5, 4)])
def test_max_unpooling_undoes_max_pooling(height, width, padding, geometry):
    x = image(3, 2, height, width)
    pool = resampling.MaxPool(2, (height, width), padding=padding, geometry=geometry)
    pooled, places = pool.with_indices(x)
    assert torch.equal(pooled, pool(x))
    back = resampling.MaxUnpool((height, width))(pooled, places)
    kept = back != 0
    assert torch.equal(back[kept], x[kept])  # each at its own place
    assert kept.sum() == pooled.numel()
    assert torch.equal(pool(back.where(kept, torch.tensor(-9.0))), pooled)


def test_gradients_of_unpooling_reach_the_maxima_alone():
    x = image(1, 1, 4, 4).requires_grad_()
    pooled, places = resampling.MaxPool(2, (4, 4)).with_indices(x)
    resampling.MaxUnpool((4, 4))(pooled, places).sum().backward()
    assert x.grad.sum() == 4
    assert (x.grad.flatten()[places.flatten()] == 1).all()


# Keras's "same", by its definition, with loops.


def loop_conv(x, weight, bias, stride, before):
    """Cross-correlation at ``i * stride - before``; zeros outside."""
    n, _, height, width = x.shape
    filters, _, k, _ = weight.shape
    rows, columns = -(-height // stride), -(-width // stride)
    out = np.zeros((n, filters, rows, columns))
    for i in range(rows):
        for j in range(columns):
            for a in range(k):
                for b in range(k):
                    y, z = i * stride - before[0] + a, j * stride - before[1] + b
                    if 0 <= y < height and 0 <= z < width:
                        out[:, :, i, j] += x[:, :, y, z] @ weight[:, :, a, b].T
    return out + bias[:, None, None]


def keras_before(n, kernel, stride):
    """TensorFlow's pixels before the image."""
    return max((-(-n // stride) - 1) * stride + kernel - n, 0) // 2


@pytest.mark.parametrize("size", [(8, 8), (7, 6)])
@pytest.mark.parametrize(
    ("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (1, 2), (2, 1), (4, 2), (4, 1), (5, 3)]
)
def test_convolutions_have_the_edges_of_keras(kernel, stride, size):
    x = image(2, 3, *size)
    literal = layers.Conv2d(3, 4, kernel, stride, size, geometry="literal")
    before = [keras_before(n, kernel, stride) for n in size]
    expected = loop_conv(
        x.numpy(), literal.weight.detach().numpy(), literal.bias.detach().numpy(), stride, before
    )
    with torch.no_grad():
        np.testing.assert_allclose(literal(x).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (7, 6)])
@pytest.mark.parametrize(
    ("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (2, 1), (4, 2), (4, 1), (5, 3), (2, 2)]
)
def test_the_fast_convolution_is_the_mirror_of_the_literal_one(kernel, stride, size):
    if any(max((-(-n // stride) - 1) * stride + kernel - n, -1) < 0 for n in size):
        pytest.skip("a remainder is not looked at")
    x = image(2, 3, *size)
    literal = layers.Conv2d(3, 4, kernel, stride, size, geometry="literal")
    fast = layers.Conv2d(3, 4, kernel, stride, size, geometry="fast")
    with torch.no_grad():
        fast.weight.copy_(literal.weight.flip(2, 3))
        fast.bias.copy_(literal.bias)
        torch.testing.assert_close(fast(x.flip(2, 3)).flip(2, 3), literal(x))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (3, 1), (5, 1)])
def test_the_fast_convolution_copies_nothing_in_the_documents_sizes(kernel, stride):
    assert layers.Conv2d(3, 4, kernel, stride, (64, 64)).copied is None
    assert layers.TransposedConv2d(3, 4, kernel, stride).cropped == (0, 0)
    assert (layers.Conv2d(3, 4, kernel, stride, (64, 64), geometry="literal").copied is None) == (stride == 1)


@pytest.mark.parametrize(
    ("kernel", "stride"), [(3, 2), (5, 2), (3, 1), (5, 1), (2, 2), (4, 2), (4, 1), (2, 3), (7, 2)]
)
def test_transposed_convolutions_are_the_gradients_of_convolutions(kernel, stride):
    # Keras defines them so: as the gradient of the "same" convolution that gives their input's size.
    x = image(2, 4, 5, 6).requires_grad_(False)
    size = (5 * stride, 6 * stride)
    literal = layers.TransposedConv2d(4, 3, kernel, stride, geometry="literal")
    forward = layers.Conv2d(3, 4, kernel, stride, size, geometry="literal")
    with torch.no_grad():
        forward.weight.copy_(literal.weight)
        forward.bias.zero_()
        literal.bias.zero_()
    inputs = torch.zeros(2, 3, *size, requires_grad=True)
    (expected,) = torch.autograd.grad(forward(inputs), inputs, x)
    with torch.no_grad():
        torch.testing.assert_close(literal(x), expected)
        if kernel < stride:
            return
        fast = layers.TransposedConv2d(4, 3, kernel, stride)
        fast.weight.copy_(literal.weight.flip(2, 3))
        fast.bias.zero_()
        torch.testing.assert_close(fast(x.flip(2, 3)).flip(2, 3), expected)


def test_transposed_convolution_without_padding():
    layer = layers.TransposedConv2d(2, 3, 2, 3, padding="valid")
    assert layer(image(1, 2, 4, 5)).shape == (1, 3, 12, 15)  # (n - 1) s + max(k, s)
    layer = layers.TransposedConv2d(2, 3, 5, 2, padding="valid")
    assert layer(image(1, 2, 4, 5)).shape == (1, 3, 11, 13)


@pytest.mark.parametrize("geometry", ["literal", "fast"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", [2, 3])
def test_pools_take_the_pixels_that_are_there(size, padding, geometry):
    x = image(2, 3, 7, 8)
    maximum = resampling.MaxPool(size, (7, 8), padding=padding, geometry=geometry)(x)
    average = resampling.AveragePool(size, (7, 8), padding=padding, geometry=geometry)(x)
    starts = []
    for n in (7, 8):
        count = -(-n // size) if padding == "same" else n // size
        missing = max(count * size - n, 0) if padding == "same" else 0
        before = missing // 2 if geometry == "literal" else missing - missing // 2
        starts.append([i * size - before for i in range(count)])
    assert maximum.shape == average.shape == (2, 3, len(starts[0]), len(starts[1]))
    for i, y in enumerate(starts[0]):
        for j, z in enumerate(starts[1]):
            part = x[:, :, max(y, 0) : y + size, max(z, 0) : z + size]
            assert torch.equal(maximum[:, :, i, j], part.amax((2, 3)))
            torch.testing.assert_close(average[:, :, i, j], part.mean((2, 3)))


def test_global_maximum():
    x = image(2, 3, 5, 4)
    assert torch.equal(resampling.GlobalMaxPool()(x), x.flatten(2).max(-1).values)


# Order and memory.


def test_vectors_are_in_the_order_y_x_channel_without_a_copy():
    x = image(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    flat = layers.flatten(x)
    assert flat.data_ptr() == x.data_ptr()
    np.testing.assert_array_equal(flat.numpy(), x.numpy().transpose(0, 2, 3, 1).reshape(2, -1))
    back = layers.spread(flat, 4, 5)
    assert back.data_ptr() == x.data_ptr()
    assert torch.equal(back, x)
    assert back.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("linear", [-1.0, 0.0, 2.0]),
        ("relu", [0.0, 0.0, 2.0]),
        ("leaky-relu", [-0.3, 0.0, 2.0]),
        ("elu", [np.expm1(-1), 0.0, 2.0]),
        ("selu", [1.05070098 * 1.67326324 * np.expm1(-1), 0.0, 1.05070098 * 2]),
        ("silu", [-1 / (1 + np.e), 0.0, 2 / (1 + np.exp(-2))]),
        ("tanh", np.tanh([-1.0, 0.0, 2.0])),
        ("sigmoid", [1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-2))]),
    ],
)
def test_activations(activation, expected):
    found = layers.Activate(activation)(torch.tensor([-1.0, 0.0, 2.0]))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_a_residual_layer_adds():
    layer = layers.Residual(3, 4, 3, "relu", (5, 5))
    x = image(2, 3, 5, 5)
    with torch.no_grad():
        inner = torch.relu(layer.first(x))
        expected = layer.shortcut(x) + layer.second(inner)
        torch.testing.assert_close(layer(x.clone()), expected)
    assert layers.Residual(4, 4, 3, "relu", (5, 5)).shortcut is None


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_rows_are_read_in_order(cell):
    layer = layers.Rows(5 * 2, 7, cell, 4, every=False)
    x = image(3, 2, 4, 5)
    with torch.no_grad():
        rows = x.permute(0, 2, 3, 1).reshape(3, 4, 10)
        torch.testing.assert_close(layer(x), layer.cell(rows)[0][:, -1])
        repeated = layers.Rows(6, 7, cell, 4, every=True)
        z = image(3, 6)
        assert repeated(z).shape == (3, 4, 7)
        torch.testing.assert_close(repeated(z), repeated.cell(z[:, None].repeat(1, 4, 1))[0])
