"""Layers with weights: what torch's own leave open about edges and the order of a flattened image.

Tensors are ``(n, channel, y, x)``, in memory channels last.

**Edges.** Keras and TensorFlow pad a strided "same" convolution by ``t = max((ceil(n/s) - 1) s + k - n, 0)``
pixels, ``t // 2`` before and the rest after. Where t is odd that needs a padded copy of every image. The
*fast* geometry pads the larger half before instead, which torch does without a copy. Both are the same
network seen in a mirror: with kernels mirrored in y and x, the fast geometry gives, for the mirrored image,
the mirror of what the literal one gives.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own abbreviation)
from torch import Tensor, nn

from geoae_torch.architecture import Activation, Padding
from geoae_torch.fused import with_bias_gradient
from geoae_torch.strided import convolve, convolve_transposed, few_channels

__all__ = [
    "Activate",
    "Conv2d",
    "Residual",
    "Rows",
    "TransposedConv2d",
    "activate",
    "flatten",
    "same_padding",
    "spread",
]

Geometry: TypeAlias = Literal["fast", "literal"]
Pair: TypeAlias = tuple[int, int]

_FUNCTIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": lambda x: F.relu(x, inplace=True),
    "leaky-relu": lambda x: F.leaky_relu(x, 0.3, inplace=True),
    "elu": lambda x: F.elu(x, inplace=True),
    "selu": lambda x: F.selu(x, inplace=True),
    "gelu": F.gelu,
    "silu": lambda x: F.silu(x, inplace=False),
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def activate(x: Tensor, activation: Activation) -> Tensor:
    """Apply an activation; the tensor may be overwritten, which saves a copy of every feature map."""
    return _FUNCTIONS[activation](x)


class Activate(nn.Module):
    """An activation as a module."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Apply it; may overwrite `x`."""
        return activate(x, self.activation)

    def extra_repr(self) -> str:
        """Name the activation."""
        return self.activation


def same_padding(n: int, kernel: int, stride: int, geometry: Geometry) -> Pair:
    """Return the pixels that "same" pads before and after one side.

    Examples
    --------
    >>> same_padding(128, 3, 2, "literal"), same_padding(128, 3, 2, "fast"), same_padding(128, 3, 1, "fast")
    ((0, 1), (1, 0), (1, 1))
    """
    total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
    before, after = total // 2, total - total // 2
    return (before, after) if geometry == "literal" else (after, before)


class Conv2d(nn.Conv2d):
    """A convolution with Keras's edges.

    Parameters
    ----------
    inputs, filters
        Channels.
    kernel, stride
        Along both sides.
    size
        ``(y, x)`` pixels of the images.
    padding
        ``same`` or ``valid``.
    geometry
        How "same" divides an odd number of pixels.
    """

    def __init__(
        self,
        inputs: int,
        filters: int,
        kernel: int,
        stride: int,
        size: Pair,
        *,
        padding: Padding = "same",
        geometry: Geometry = "fast",
        device: torch.device | str | None = None,
    ) -> None:
        pads = [same_padding(n, kernel, stride, geometry) if padding == "same" else (0, 0) for n in size]
        # One pixel too many after the image makes no further output where the stride jumps over it.
        plain = all(before == after or (before == after + 1 and stride > 1) for before, after in pads)
        super().__init__(
            inputs,
            filters,
            kernel,
            stride,
            padding=(pads[0][0], pads[1][0]) if plain else 0,
            device=device,
        )
        self.copied = None if plain else (*pads[1], *pads[0])
        self._halves = (kernel, stride, self.padding) == (3, 2, (1, 1)) and all(n % 2 == 0 for n in size)

    def takes_any_order(self, input: Tensor) -> bool:
        """Say whether images that are not channels last cost nothing here."""
        return self._halves and self.bias is not None and few_channels(input, self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve ``(n, inputs, y, x)``."""
        if self.copied is not None:
            input = F.pad(input, self.copied)
        if self.bias is None:
            return super().forward(input)
        if self.takes_any_order(input):
            return convolve(input, self.weight, self.bias)
        output: Tensor = self._conv_forward(input, self.weight, self.bias.detach())
        return with_bias_gradient(output, self.bias)


class TransposedConv2d(nn.ConvTranspose2d):
    """A transposed convolution with Keras's edges; "same" gives ``n * stride`` pixels.

    Parameters
    ----------
    inputs, filters, kernel, stride, padding, geometry
        As for `Conv2d`.
    """

    def __init__(
        self,
        inputs: int,
        filters: int,
        kernel: int,
        stride: int,
        *,
        padding: Padding = "same",
        geometry: Geometry = "fast",
        device: torch.device | str | None = None,
    ) -> None:
        total = max(kernel - stride, 0) if padding == "same" else 0
        before, after = total // 2, total - total // 2
        if geometry == "fast":
            before, after = after, before
        missing = max(stride - kernel, 0)
        # torch takes `padding` away on both sides and can put less than a stride back at the end.
        both = before if before - after < stride else after
        super().__init__(
            inputs,
            filters,
            kernel,
            stride,
            padding=both,
            output_padding=missing + max(both - after, 0),
            device=device,
        )
        self.cropped = (before - both, max(after - both, 0))
        self._doubles = (kernel, stride, both, self.output_padding, self.cropped) == (3, 2, 1, (1, 1), (0, 0))

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve ``(n, inputs, y, x)``."""
        if output_size is None and self.bias is not None:
            if self._doubles and few_channels(input, self.weight):
                return convolve_transposed(input, self.weight, self.bias)
            output = F.conv_transpose2d(
                input,
                self.weight,
                self.bias.detach(),
                self.stride,
                self.padding,  # type: ignore[arg-type]
                self.output_padding,
                self.groups,
                self.dilation,
            )
            output = with_bias_gradient(output, self.bias)
        else:
            output = super().forward(input, output_size)
        start, end = self.cropped
        if not (start or end):
            return output
        return output[..., start : output.shape[-2] - end, start : output.shape[-1] - end]


class Residual(nn.Module):
    """Add ``conv(activation(conv(x)))`` to ``x``."""

    def __init__(
        self,
        inputs: int,
        filters: int,
        kernel: int,
        activation: Activation,
        size: Pair,
        *,
        geometry: Geometry = "fast",
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.first = Conv2d(inputs, filters, kernel, 1, size, geometry=geometry, device=device)
        self.second = Conv2d(filters, filters, kernel, 1, size, geometry=geometry, device=device)
        self.shortcut: nn.Conv2d | None = None
        if inputs != filters:
            self.shortcut = nn.Conv2d(inputs, filters, kernel_size=1, bias=False, device=device)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``(n, filters, y, x)``."""
        shortcut: Tensor = x if self.shortcut is None else self.shortcut(x)
        added: Tensor = self.second(activate(self.first(x), self.activation))
        return added + shortcut


class Rows(nn.Module):
    """A recurrent layer over the rows of an image, or over a vector that is repeated.

    Parameters
    ----------
    inputs, units
        Numbers in a row, and in the state.
    cell
        ``gru`` or ``lstm``.
    steps
        Rows.
    every
        Whether to return the state at every row rather than the last.
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        cell: Literal["gru", "lstm"],
        steps: int,
        *,
        every: bool,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        kind = nn.GRU if cell == "gru" else nn.LSTM
        self.cell = kind(inputs, units, batch_first=True, device=device)
        self.steps = steps
        self.every = every

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``(n, step, units)`` or ``(n, units)``."""
        if x.dim() == 4:
            x = x.permute(0, 2, 3, 1).flatten(2)  # (n, y, x * channel)
        elif x.dim() == 2:
            x = x[:, None].expand(-1, self.steps, -1)
        states: Tensor = self.cell(x)[0]
        return states if self.every else states[:, -1]


def flatten(x: Tensor) -> Tensor:
    """Make vectors of images in the order y, x, channel, as Keras does; a view in channels-last memory."""
    return x.permute(0, 2, 3, 1).flatten(1) if x.dim() == 4 else x.flatten(1)


def spread(x: Tensor, height: int, width: int) -> Tensor:
    """Make images ``(n, channel, y, x)`` of vectors in the order y, x, channel; a view, channels last."""
    return x.reshape(len(x), height, width, -1).permute(0, 3, 1, 2)
