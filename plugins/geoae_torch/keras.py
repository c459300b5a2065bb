"""Weights that Keras trained, in networks of ours.

Kernels are ``(y, x, in, out)`` in Keras, and ``(y, x, out, in)`` of transposed convolutions: both become
torch's by the same change of axes, and nothing is turned over in the literal geometry. In the fast geometry
(`geoae_torch.layers`) kernels are mirrored in y and x, and the network mirrors images on their
way in and out.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from geoae_torch.architecture import (
    Conv,
    Crop,
    DepthToSpace,
    Pool,
    Recurrent,
    Residual,
    SpaceToDepth,
    TransposedConv,
    Upsample,
)
from geoae_torch.networks import Autoencoder, Stage
from geoae_torch.shapes import Plan, Step

__all__ = ["load_keras_weights", "unmirrored"]


def load_keras_weights(network: Autoencoder, weights: Sequence[npt.NDArray[Any]]) -> None:
    """Copy weights from Keras into a network.

    Parameters
    ----------
    network
        In the literal geometry, or in the fast one and built with ``mirrored=True``.
    weights
        Arrays in the order of Keras's ``get_weights()``: the encoder's, the mean's, the log-variance's, the
        decoder's; of every layer kernel and bias, then of its batch normalisation gamma, beta, moving mean,
        moving variance.

    Raises
    ------
    ValueError
        If number or shapes differ, if the network would need mirroring and is not built so, or has layers
        that cannot be mirrored.
    """
    mirror = network.geometry == "fast"
    if mirror != network.mirrored:
        raise ValueError("Keras's weights need geometry='literal', or geometry='fast' with mirrored=True")
    if mirror and (layers := unmirrored(network.plan)):
        raise ValueError(f"layers {', '.join(layers)} differ in a mirror; use geometry='literal'")
    slots = list(_slots(network))
    if len(slots) != len(weights):
        raise ValueError(f"{len(weights)} arrays for a network of {len(slots)}")
    with torch.no_grad():
        for place, ((name, slot, is_kernel), array) in enumerate(zip(slots, weights, strict=True)):
            values = torch.from_numpy(np.asarray(array, dtype=np.float32))
            if values.dim() == 4:
                values = values.permute(3, 2, 0, 1)
                values = values.flip(2, 3) if mirror else values
            elif is_kernel:
                values = values.T
            if values.shape != slot.shape:
                raise ValueError(f"array {place} of shape {array.shape} does not fit {name}")
            slot.copy_(values)


def _slots(network: Autoencoder) -> Iterator[tuple[str, Tensor, bool]]:
    """Name, tensor, and whether it is a kernel, in Keras's order."""
    heads = [head for head in (network.mean, network.log_var) if isinstance(head, Stage)]
    for stage in (*network.encoder, *heads, *network.decoder):
        if not isinstance(stage, Stage):
            continue
        body, norm, name = stage.body, stage.norm, stage.step.name
        if isinstance(stage.step.layer, Residual | Recurrent):
            raise ValueError(f"{name} is not copied from Keras: {stage.step.layer.layer}")  # noqa: TRY004
        if isinstance(body, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            yield name, body.weight, True
            if body.bias is not None:
                yield name, body.bias, False
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            for part in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                if part is not None:
                    yield f"{name} (normalisation)", part, False


def unmirrored(plan: Plan) -> tuple[str, ...]:
    """Return the names of layers that do not commute with mirroring an image.

    Examples
    --------
    >>> from geoae_torch.description import load_architecture
    >>> from geoae_torch.shapes import plan
    >>> unmirrored(plan(load_architecture("thesis-a8")))
    ()
    """
    return tuple(step.name for step in plan.steps if not _commutes(step))


def _commutes(step: Step) -> bool:
    match step.layer:
        case Conv(padding="valid", kernel=k, stride=s):
            return all((n - k) % s == 0 for n in step.inputs[:2])
        case Conv(kernel=k, stride=s):
            # Else a remainder at the lower right is not looked at.
            return all((-(-n // s) - 1) * s + k >= n for n in step.inputs[:2])
        case TransposedConv(kernel=k, stride=s):
            return k >= s  # else zeros are added at the lower right
        case Pool(how="global-max"):
            return True
        case Pool(padding="valid", size=size):
            return all(n % size == 0 for n in step.inputs[:2])
        case Upsample(how=how):
            return how in ("nearest", "bilinear")
        case Crop():
            return all((n - m) % 2 == 0 for n, m in zip(step.inputs[:2], step.outputs[:2], strict=True))
        case SpaceToDepth() | DepthToSpace() | Recurrent():
            return False
        case _:
            return True
