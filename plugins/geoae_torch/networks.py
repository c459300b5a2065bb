"""Networks built from a plan.

An `Autoencoder` maps images ``(n, band, y, x)`` to codes and back. Trainable parameters are those of the
plan. Memory is channels last throughout.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geoae.errors import UsageError
from geoae_torch import layers, resampling
from geoae_torch.architecture import (
    Activation,
    Conv,
    Crop,
    Dense,
    DepthToSpace,
    Flatten,
    Pool,
    Recurrent,
    Reshape,
    Residual,
    SpaceToDepth,
    TransposedConv,
    Upsample,
)
from geoae_torch.axes import PrincipalAxes
from geoae_torch.initialisation import initialise
from geoae_torch.layers import Geometry
from geoae_torch.products import Linear
from geoae_torch.shapes import Plan, Step

__all__ = ["Autoencoder", "Code", "build"]

EPSILON = 1e-3
MOMENTUM = 0.01
"""Of batch normalisation: Keras's 1e-3, and its 0.99 as torch counts it."""


@dataclass(frozen=True)
class Code:
    """What an encoder makes of images.

    Parameters
    ----------
    mean
        ``(n, latent_dim)``: the code, or its mean.
    log_var
        ``(n, latent_dim)``: logarithm of its variance; None in a plain network.
    indices
        Places of maxima, of pools that are undone by unpooling.
    """

    mean: Tensor
    log_var: Tensor | None = None
    indices: tuple[Tensor, ...] = ()


def build(
    plan: Plan,
    *,
    seed: int = 0,
    geometry: Geometry = "fast",
    mirrored: bool = False,
    device: torch.device | str | None = None,
    draw: bool = True,
) -> "Autoencoder":
    """Build a network and draw its weights.

    Parameters
    ----------
    plan
        From `geoae_torch.shapes.plan`.
    seed
        Seed of the weights, which do not depend on the device.
    geometry
        ``fast``, or ``literal``: Keras's edges, at less speed.
    mirrored
        For weights that Keras trained, in the fast geometry; see `geoae_torch.keras`.
    device
        Where it ends up. On ``meta`` it has no weights.
    draw
        False leaves weights to be loaded.
    """
    if device is not None and torch.device(device).type == "meta":
        return Autoencoder(plan, geometry=geometry, mirrored=mirrored, device=device)
    fresh = draw or plan.architecture.principal_axes  # which are not all in a file
    network = Autoencoder(plan, geometry=geometry, mirrored=mirrored, device=None if fresh else "meta")
    if not fresh:
        network.to_empty(device="cpu")
    if draw:
        initialise(network, plan, seed)
    # torch leaves this overload out of its types
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.to(device=device)
    return network


class Autoencoder(nn.Module):
    """An encoder, a code and a decoder. `build` makes one with weights.

    Parameters
    ----------
    plan
        The sizes.
    geometry, mirrored, device
        As for `build`.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        geometry: Geometry = "fast",
        mirrored: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if mirrored and geometry != "fast":
            raise ValueError("only the fast geometry is mirrored")
        self.plan = plan
        self.geometry = geometry
        self.mirrored = mirrored
        last = plan.architecture.output_place
        self.output_activation: Activation = (
            "linear" if last is None else getattr(plan.decoder[last].layer, "activation", "linear")
        )
        self.encoder = nn.ModuleList(Stage(step, plan, geometry, mirrored, device) for step in plan.encoder)
        self.mean: nn.Module = nn.Identity()
        self.log_var: nn.Module | None = None
        if plan.heads:
            heads = [Stage(step, plan, geometry, mirrored, device) for step in plan.heads]
            self.mean = heads[0]
            self.log_var = heads[1] if plan.variational else None
        self.axes: PrincipalAxes | None = None
        if plan.architecture.principal_axes:
            self.axes = PrincipalAxes(plan.patch, plan.bands, plan.out_bands, plan.latent_dim, device)
        self.decoder = nn.ModuleList(
            Stage(step, plan, geometry, mirrored, device, activated=place != last, decodes=True)
            for place, step in enumerate(plan.decoder)
        )

    def encode(self, images: Tensor) -> Code:
        """Compute codes.

        Parameters
        ----------
        images
            ``(n, band, y, x)``; without a copy if channels last already.
        """
        first = next((stage.body for stage in self.encoder), None)
        free = isinstance(first, layers.Conv2d) and not self.mirrored and first.takes_any_order(images)
        x = images if free else images.contiguous(memory_format=torch.channels_last)
        if self.mirrored:
            x = _mirror(x)
        indices: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x, indices)
        if not self.plan.heads:  # the code is the encoder's map
            return Code(layers.flatten(_mirror(x) if self.mirrored else x), None, tuple(indices))
        if self.axes is not None:
            # Adam moves every weight by the rate, and so a sum of n features by n rates: too far for codes
            # that are right already.
            x = x / math.sqrt(x.shape[1])
        mean = self.mean(x)
        if self.axes is not None:
            mean = mean + self.axes.encode(images)
        return Code(mean, None if self.log_var is None else self.log_var(x), tuple(indices))

    def logits(self, z: Tensor, indices: Sequence[Tensor] = ()) -> Tensor:
        """Compute images before the last activation, ``(n, band, y, x)``.

        Parameters
        ----------
        z
            ``(n, latent_dim)``.
        indices
            ``Code.indices``, for a network that unpools.

        Raises
        ------
        UsageError
            If the network unpools and no indices are given.
        """
        if self.plan.needs_indices and not indices:
            raise UsageError(
                f"network {self.plan.architecture.name} undoes its pooling with places that only its "
                "encoder knows: it makes no image of a latent vector alone",
                hint="choose a network without unpool",
            )
        x = z
        if self.axes is not None:
            x = self.axes.picture(z)
        elif len(self.plan.code_shape) == 3:
            x = layers.spread(z, *self.plan.code_shape[:2])
            x = _mirror(x) if self.mirrored else x
        elif len(self.plan.code_shape) == 2:
            x = z.view(len(z), *self.plan.code_shape)
        left = list(indices)
        for stage in self.decoder:
            x = stage(x, left)
        if self.axes is not None:
            x = self.axes.enlarge(x + self.axes.picture(z))
        return _mirror(x) if self.mirrored else x

    def decode(self, z: Tensor, indices: Sequence[Tensor] = ()) -> Tensor:
        """Compute images ``(n, band, y, x)``; as `logits`, then the last activation."""
        return layers.activate(self.logits(z, indices), self.output_activation)

    def forward(self, images: Tensor) -> Tensor:
        """Encode and decode, without noise."""
        code = self.encode(images)
        return self.decode(code.mean, code.indices)


class Stage(nn.Module):
    """One layer of a plan: the layer, its activation, its batch normalisation.

    Parameters
    ----------
    step
        The layer with its sizes.
    plan
        The whole, for the patch.
    activated
        Whether the activation is applied here.
    decodes
        Whether it is one of the decoder's.
    """

    def __init__(
        self,
        step: Step,
        plan: Plan,
        geometry: Geometry,
        mirrored: bool,
        device: torch.device | str | None,
        *,
        activated: bool = True,
        decodes: bool = False,
    ) -> None:
        super().__init__()
        self.step = step
        self.patch = plan.picture if decodes else plan.patch
        self.mirrored = mirrored
        self.body = _body(step, geometry, device)
        self.activation: Activation = getattr(step.layer, "activation", "linear")
        if not activated or isinstance(step.layer, Residual):  # which has it inside
            self.activation = "linear"
        self.norm: nn.Module | None = None
        if getattr(step.layer, "batch_norm", False):
            kind = nn.BatchNorm2d if len(step.outputs) == 3 else nn.BatchNorm1d
            self.norm = kind(step.outputs[-1], eps=EPSILON, momentum=MOMENTUM, device=device)

    def forward(self, x: Tensor, indices: list[Tensor] | None = None) -> Tensor:
        """Apply the layer; pools push their places to `indices`, unpooling takes them off."""
        layer = self.step.layer
        if isinstance(layer, Flatten):
            return layers.flatten(_mirror(x) if self.mirrored else x)
        if isinstance(layer, Reshape):
            x = layers.spread(x, *self.step.outputs[:2])
            return _mirror(x) if self.mirrored else x
        if isinstance(layer, Crop):
            top, left = ((n - side) // 2 for n, side in zip(x.shape[-2:], self.patch, strict=True))
            return x[..., top : top + self.patch[0], left : left + self.patch[1]]
        if isinstance(self.body, resampling.MaxPool) and isinstance(layer, Pool) and layer.indices:
            x, places = self.body.with_indices(x)
            if indices is not None:
                indices.append(places)
            return x
        if isinstance(self.body, resampling.MaxUnpool):
            if not indices:
                raise ValueError("unpooling needs the places of the maxima")
            return self.body(x, indices.pop())  # type: ignore[no-any-return]
        x = layers.activate(self.body(x), self.activation)
        return x if self.norm is None else self.norm(x)


def _body(step: Step, geometry: Geometry, device: torch.device | str | None) -> nn.Module:
    layer, inputs, outputs = step.layer, step.inputs, step.outputs
    size = (inputs[0], inputs[1]) if len(inputs) == 3 else (1, 1)
    match layer:
        case Conv():
            return layers.Conv2d(
                inputs[2],
                outputs[2],
                layer.kernel,
                layer.stride,
                size,
                padding=layer.padding,
                geometry=geometry,
                device=device,
            )
        case TransposedConv():
            return layers.TransposedConv2d(
                inputs[2],
                outputs[2],
                layer.kernel,
                layer.stride,
                padding=layer.padding,
                geometry=geometry,
                device=device,
            )
        case Residual():
            return layers.Residual(
                inputs[2],
                layer.filters,
                layer.kernel,
                layer.activation,
                size,
                geometry=geometry,
                device=device,
            )
        case Dense():
            return Linear(inputs[-1], outputs[-1], device=device)
        case Recurrent():
            steps = outputs[0] if layer.returns == "all" else inputs[0]
            rows = inputs[1] * inputs[2] if len(inputs) == 3 else inputs[-1]
            return layers.Rows(
                rows, layer.units, layer.cell, steps, every=layer.returns == "all", device=device
            )
        case Pool(how="global-max"):
            return resampling.GlobalMaxPool()
        case Pool(how="max"):
            return resampling.MaxPool(layer.size, size, padding=layer.padding, geometry=geometry)
        case Pool():
            return resampling.AveragePool(layer.size, size, padding=layer.padding, geometry=geometry)
        case Upsample(how="unpool"):
            return resampling.MaxUnpool((outputs[0], outputs[1]))
        case Upsample():
            kinds = {
                "nearest": resampling.Nearest,
                "bilinear": resampling.Bilinear,
                "bed-of-nails": resampling.BedOfNails,
            }
            return kinds[layer.how](layer.factor)
        case SpaceToDepth():
            return nn.PixelUnshuffle(layer.factor)
        case DepthToSpace():
            return nn.PixelShuffle(layer.factor)
        case _:
            return nn.Identity()


def _mirror(x: Tensor) -> Tensor:
    """Mirror images in y and x."""
    return x.flip(2, 3) if x.dim() == 4 else x
