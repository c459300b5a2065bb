"""Downsampling and upsampling without weights: the pools, and what undoes them.

Tensors are ``(n, channel, y, x)``, in memory channels last.
"""

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own abbreviation)
from torch import Tensor, nn

from geoae_torch.architecture import Padding
from geoae_torch.layers import Geometry, Pair, same_padding

__all__ = ["AveragePool", "BedOfNails", "Bilinear", "GlobalMaxPool", "MaxPool", "MaxUnpool", "Nearest"]


class MaxPool(nn.Module):
    """The maximum of every square; with `indices`, also its place in the flattened image, for `MaxUnpool`."""

    def __init__(
        self, size: int, image: Pair, *, padding: Padding = "valid", geometry: Geometry = "fast"
    ) -> None:
        super().__init__()
        self.size = size
        self.pads = _pool_padding(size, image, padding, geometry)

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``(n, channel, y, x)``."""
        pooled, _ = self._pool(x, indices=False)
        return pooled

    def with_indices(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pool, and tell where the maxima were."""
        return self._pool(x, indices=True)

    def _pool(self, x: Tensor, *, indices: bool) -> tuple[Tensor, Tensor]:
        (top, bottom), (left, right) = self.pads
        height, width = x.shape[-2:]
        if top or bottom or left or right:
            x = F.pad(x, (left, right, top, bottom), value=float("-inf"))
        if not indices:
            return F.max_pool2d(x, self.size), x
        pooled, places = F.max_pool2d(x, self.size, return_indices=True)
        padded = x.shape[-1]
        # Back to places in the image without its padding.
        places = (places // padded - top) * width + (places % padded - left)
        return pooled, places.clamp_(0, height * width - 1)


class AveragePool(nn.Module):
    """The mean of every square; of its pixels within the image, where it reaches beyond."""

    def __init__(
        self, size: int, image: Pair, *, padding: Padding = "valid", geometry: Geometry = "fast"
    ) -> None:
        super().__init__()
        self.size = size
        self.pads = _pool_padding(size, image, padding, geometry)

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``(n, channel, y, x)``."""
        (top, bottom), (left, right) = self.pads
        if not (top or bottom or left or right):
            return F.avg_pool2d(x, self.size)
        inside = F.pad(x.new_ones(1, 1, *x.shape[-2:]), (left, right, top, bottom))
        padded = F.pad(x, (left, right, top, bottom))
        return F.avg_pool2d(padded, self.size) / F.avg_pool2d(inside, self.size)


def _pool_padding(size: int, image: Pair, padding: Padding, geometry: Geometry) -> tuple[Pair, Pair]:
    if padding == "valid":
        return (0, 0), (0, 0)
    return same_padding(image[0], size, size, geometry), same_padding(image[1], size, size, geometry)


class GlobalMaxPool(nn.Module):
    """The maximum of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``(n, channel, y, x)`` to ``(n, channel)``."""
        return x.amax(dim=(2, 3))


class Nearest(nn.Module):
    """Repeat every pixel."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``(n, channel, y, x)``."""
        return F.interpolate(x, scale_factor=float(self.factor), mode="nearest")


class Bilinear(nn.Module):
    """Interpolate between pixel centres; beyond the outermost ones the image is constant."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``(n, channel, y, x)``."""
        return F.interpolate(x, scale_factor=float(self.factor), mode="bilinear", align_corners=False)


class BedOfNails(nn.Module):
    """Put every pixel at the upper left of a square of zeros."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge ``(n, channel, y, x)``."""
        n, channels, height, width = x.shape
        shape = (n, channels, height * self.factor, width * self.factor)
        enlarged = torch.zeros(shape, dtype=x.dtype, device=x.device).contiguous(
            memory_format=torch.channels_last
        )
        enlarged[..., :: self.factor, :: self.factor] = x
        return enlarged


class MaxUnpool(nn.Module):
    """Put every pixel where the maximum was that `MaxPool` took, zeros elsewhere."""

    def __init__(self, image: Pair) -> None:
        super().__init__()
        self.image = image

    def forward(self, x: Tensor, indices: Tensor) -> Tensor:
        """Enlarge ``(n, channel, y, x)`` to the size that was pooled."""
        n, channels = x.shape[:2]
        flat = x.new_zeros(n, channels, self.image[0] * self.image[1])
        flat = flat.scatter(2, indices.flatten(2), x.flatten(2))
        return flat.view(n, channels, *self.image)
