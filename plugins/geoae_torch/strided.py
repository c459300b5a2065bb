"""Convolutions of 3 x 3 pixels and stride 2 with few channels, on processors.

A transposed convolution of stride 2 adds one, two or four products to each output, by whether its row and
column are even or odd. oneDNN makes it line by line, at an eighth of the speed of a plain convolution where
channels are few. Here a plain convolution of 2 x 2 pixels makes the four outputs of a square at a time, as
four times the channels, and a copy puts them side by side. With more than eight channels the products with
zeros, seven of sixteen, cost more than that gains.

The gradient of a convolution of stride 2 by its input is such a transposed convolution.
"""

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own abbreviation)
from torch import Tensor

from geoae_torch.fused import band_sums
from geoae_torch.products import through_onednn

__all__ = ["convolve", "convolve_transposed", "few_channels"]

_MOST = 8
"""Channels of the larger image."""

_PIECE = 1 << 20
"""Numbers that are computed before they are put side by side: 4 MB of float32, which stay in a cache."""

_NONE = 9
# Of outputs in even and in odd lines: the kernel's line that meets the input's line, and the one after it.
_LINES = ((1, None), (2, 0))
_TAPS = torch.tensor([
    [_NONE if ky is None or kx is None else 3 * ky + kx for ky in down for kx in across]
    for down in _LINES
    for across in _LINES
])  # fmt: skip
"""By output of a square and input of a square: places in the kernel, `_NONE` for no product."""


def few_channels(x: Tensor, weight: Tensor) -> bool:
    """Say whether this module is faster than torch.

    Parameters
    ----------
    x
        ``(n, channel, y, x)``, what is convolved.
    weight
        ``(channel of the smaller image, channel of the larger one, 3, 3)``.
    """
    return weight.shape[1] <= _MOST and through_onednn(x, weight)


def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute ``F.conv2d(x, weight, bias, stride=2, padding=1)`` of images with even sides."""
    result: Tensor = _Convolution.apply(x, weight, bias, False)  # type: ignore[no-untyped-call]
    return result


def convolve_transposed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute ``F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1)``."""
    result: Tensor = _Convolution.apply(x, weight, bias, True)  # type: ignore[no-untyped-call]
    return result


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, transposed: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.transposed = transposed
        return _enlarged(x, weight, bias) if transposed else _halved(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        by_x, by_weight, by_bias, _ = ctx.needs_input_grad
        # A graph of the gradient is left to torch, which knows the derivatives of its own.
        own = by_x and not ctx.transposed and not torch.is_grad_enabled()
        larger = 1 if ctx.transposed else 0
        found = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, [2, 2], [1, 1], [1, 1], ctx.transposed, [larger, larger], 1,
            [by_x and not own, by_weight, False],
        )  # fmt: skip
        return (
            _enlarged(gradient, weight, None) if own else found[0],
            found[1],
            band_sums(gradient) if by_bias else None,
            None,
        )


def _halved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute the convolution, ``(n, channel, y / 2, x / 2)`` channels last."""
    if not x.is_contiguous():
        return F.conv2d(x, weight, bias, stride=2, padding=1)
    # oneDNN changes the order of axes on its way twice as fast as torch does before.
    smaller = F.conv2d(x, weight.contiguous(), bias, stride=2, padding=1)
    return smaller.contiguous(memory_format=torch.channels_last)


def _enlarged(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute the transposed convolution, ``(n, channel, 2 y, 2 x)`` channels last."""
    inputs, channels = weight.shape[:2]
    n, _, height, width = x.shape
    taps = F.pad(weight.reshape(inputs, channels, 9), (0, 1))[:, :, _TAPS]
    kernel = taps.permute(2, 1, 0, 3).reshape(4 * channels, inputs, 2, 2)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    biases = None if bias is None else bias.repeat(4)
    image = torch.empty(
        (n, channels, 2 * height, 2 * width), dtype=x.dtype, memory_format=torch.channels_last
    )  # and no view of anything: what comes next may overwrite it
    lines = image.permute(0, 2, 3, 1).view(n, height, 2, width, 2, channels).permute(0, 1, 3, 2, 4, 5)
    rows = max(_PIECE // (4 * channels * (height + 1) * (width + 1)), 1)
    for start in range(0, n, rows):
        squares = F.conv2d(x[start : start + rows], kernel, biases, padding=1).permute(0, 2, 3, 1)
        squares = squares.reshape(-1, height + 1, width + 1, 2, 2, channels)
        lines[start : start + rows].copy_(squares[:, 1:, 1:])  # the first begin before the image
    return image
