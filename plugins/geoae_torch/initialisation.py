"""Initial weights, as Keras draws them.

Kernels are uniform by Glorot, or a truncated normal by LeCun with the standard deviation corrected for the
truncation; biases are zero. For a transposed convolution, Keras counts the fan-in from its filters. Keras's
numbers cannot be had from torch's generator, their distribution can.

References
----------
.. [1] X. Glorot, Y. Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010.
.. [2] Y. LeCun et al., Efficient backprop, 1998.
"""

import math

import torch
from torch import Tensor, nn

from geoae_torch import layers
from geoae_torch.shapes import Plan

__all__ = ["initialise"]

TRUNCATED = 0.87962566103423978
"""Standard deviation of a standard normal that is cut off at two."""


def initialise(network: nn.Module, plan: Plan, seed: int) -> None:
    """Draw all weights of a network anew, in the order of its modules.

    Parameters
    ----------
    network
        On the CPU.
    plan
        Says which initialiser.
    seed
        Equal seeds give equal weights.
    """
    generator = torch.Generator().manual_seed(seed)
    lecun = plan.architecture.initialiser == "lecun"
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            _kernel(module.weight, *_fans(module), lecun=lecun, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.GRU | nn.LSTM):
            _recurrent(module, generator)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_parameters()
    # After all kernels are drawn: a residual layer begins as its shortcut.
    for module in network.modules():
        if isinstance(module, layers.Residual):
            nn.init.zeros_(module.second.weight)
    if plan.architecture.principal_axes:
        # They begin alone: the layers add nothing to them yet.
        for name in ("mean", "log_var", f"decoder.{plan.architecture.output_place}"):
            last = (
                getattr(network.get_submodule(name), "body", None)
                if name != "log_var" or plan.variational
                else None
            )
            if isinstance(last, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.zeros_(last.weight)


def _fans(module: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> tuple[int, int]:
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    area = module.kernel_size[0] * module.kernel_size[1]
    fans = module.in_channels * area, module.out_channels * area
    return (fans[1], fans[0]) if isinstance(module, nn.ConvTranspose2d) else fans


def _kernel(weight: Tensor, fan_in: int, fan_out: int, *, lecun: bool, generator: torch.Generator) -> None:
    # Numbers are drawn in the order of memory, which must not depend on the layout of a kernel.
    drawn = weight.data if weight.is_contiguous() else torch.empty(weight.shape)
    if lecun:
        deviation = math.sqrt(1 / fan_in) / TRUNCATED
        nn.init.trunc_normal_(drawn, 0, deviation, -2 * deviation, 2 * deviation, generator=generator)
    else:
        limit = math.sqrt(6 / (fan_in + fan_out))
        nn.init.uniform_(drawn, -limit, limit, generator=generator)
    if drawn.data_ptr() != weight.data_ptr():
        weight.data.copy_(drawn)


def _recurrent(module: nn.GRU | nn.LSTM, generator: torch.Generator) -> None:
    for name, weight in module.named_parameters():
        if name.startswith("weight_ih"):
            _kernel(weight, weight.shape[1], weight.shape[0], lecun=False, generator=generator)
        elif name.startswith("weight_hh"):
            for gate in torch.split(weight.data, weight.shape[1]):
                nn.init.orthogonal_(gate, generator=generator)
        else:
            nn.init.zeros_(weight)
