"""Matrix products of dense layers.

torch multiplies matrices of float32 by the library that it was built with, which on some processors uses half
of their vectors; its convolutions go through oneDNN, which uses all. The dense layers are four fifths of the
arithmetic of the thesis' networks, so here they go through oneDNN too.
"""

import platform
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Linear", "product", "through_onednn"]


class Linear(nn.Linear):
    """A dense layer."""

    def forward(self, input: Tensor) -> Tensor:
        """Compute ``(n, units)``."""
        if input.dim() != 2 or not through_onednn(input, self.weight):
            return super().forward(input)
        output = product(input, self.weight)
        return output if self.bias is None else output + self.bias


def product(a: Tensor, b: Tensor) -> Tensor:
    """Compute ``a @ b.T`` through oneDNN, and so its derivatives, of any order.

    Parameters
    ----------
    a, b
        ``(n, k)`` and ``(m, k)`` float32 of the CPU; either may be a transposed view.

    Returns
    -------
    torch.Tensor
        ``(n, m)``.
    """
    result: Tensor = _Product.apply(a, b)  # type: ignore[no-untyped-call]
    return result


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        result: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        wants_a, wants_b = ctx.needs_input_grad
        return (
            product(gradient, b.T) if wants_a else None,
            product(gradient.T, a.T) if wants_b else None,
        )


def _has_onednn() -> bool:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_linear_pointwise")


_ONEDNN = _has_onednn()


def through_onednn(x: Tensor, weight: Tensor) -> bool:
    """Say whether a layer's arithmetic is float32 on a processor that oneDNN knows well."""
    return (
        _ONEDNN
        and x.numel() > 0
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )
