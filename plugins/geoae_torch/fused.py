"""Sigmoid, error and gradient in one pass.

The last activation, the error and its gradient, as separate steps, each read and write a tensor of the size
of the batch; on a processor that costs more than the matrix products. Here a piece of the batch that fits the
cache goes through all of them, and the gradient takes the place of the logits.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["ErrorKind", "band_sums", "sigmoid_error", "with_bias_gradient"]

ErrorKind = Literal["mae", "mse", "bce"]

_PIECE = 1 << 20
"""Numbers that go through all steps together: 4 MB of float32. Smaller pieces stay in nearer caches, but at
the end of each step of each piece all cores wait for the slowest, which other programs may have taken."""


def sigmoid_error(logits: Tensor, target: Tensor, weight: Tensor | None, kind: ErrorKind) -> Tensor:
    """Compute the error of ``sigmoid(logits)``, band by band, and destroy the logits.

    Parameters
    ----------
    logits
        ``(n, channel, y, x)``, overwritten by the gradient: nothing else may need them. Free where they are
        channels last; else they are copied.
    target
        Of the same shape, float32.
    weight
        ``(n, 1, y, x)`` or like the target: 1 where the target is known, 0 elsewhere. None: everywhere.
    kind
        ``mae``, ``mse``, or ``bce``, the cross entropy in nats of a target in 0..1.

    Returns
    -------
    torch.Tensor
        ``(channel,)`` float32: what each band adds to the mean over all known pixels of all bands.
    """
    result: Tensor = _SigmoidError.apply(logits, target, weight, kind)  # type: ignore[no-untyped-call]
    return result


class _SigmoidError(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, weight: Tensor | None, kind: ErrorKind) -> Tensor:
        # Shares memory and version counter with the logits: if something needs them, autograd says so.
        gradient = logits.detach().contiguous(memory_format=torch.channels_last)
        target = target.contiguous(memory_format=torch.channels_last)
        n, bands, y, x = gradient.shape
        exact = torch.float64 if gradient.dtype == torch.float64 else torch.float32
        if weight is None:
            known = float(n * bands * y * x)
        else:
            shared = bands if weight.shape[1] == 1 else 1
            known = max(float(weight.sum(dtype=torch.float64)) * shared, 1.0)
        total = torch.zeros(bands, dtype=torch.float64, device=gradient.device)
        rows = max(_PIECE // max(bands * y * x, 1), 1)
        for start in range(0, n, rows):
            piece = gradient[start : start + rows]
            goal = target[start : start + rows]
            mask = None if weight is None else weight[start : start + rows]
            values = piece if piece.dtype == exact else piece.to(exact)
            error, slope = _steps(values, goal, mask, kind, known)
            total += band_sums(error)
            if slope is not piece:
                piece.copy_(slope)
        ctx.save_for_backward(gradient)
        return (total / known).to(exact)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        if not bool((grad_output == 1).all()):
            gradient = gradient * grad_output.to(gradient.dtype).view(1, -1, 1, 1)
        return gradient, None, None, None


def _steps(
    values: Tensor, target: Tensor, mask: Tensor | None, kind: ErrorKind, known: float
) -> tuple[Tensor, Tensor]:
    """Return the error, and the gradient of its mean by the logits, pixel by pixel; `values` is used up."""
    if kind == "bce":
        # log(1 + exp(x)) - t x, which never overflows
        error = torch.nn.functional.softplus(values).sub_(target * values)
        slope = values.sigmoid_().sub_(target).mul_(1 / known)
        return (error, slope) if mask is None else (error.mul_(mask), slope.mul_(mask))
    image = values.sigmoid_()
    difference = image - target
    if mask is not None:
        difference.mul_(mask)
    # What the mean of the errors changes by with the image; nothing where there is no difference.
    outer = difference.mul(2 / known) if kind == "mse" else difference.sign().mul_(1 / known)
    error = difference.mul_(difference) if kind == "mse" else difference.abs_()
    return error, torch.ops.aten.sigmoid_backward.grad_input(outer, image, grad_input=image)


def band_sums(x: Tensor) -> Tensor:
    """Add up ``(n, channel, y, x)``, channels last, by channel.

    Few interleaved numbers are slow to add, and so are long columns by several threads: first many numbers
    beside each other and in parts, then the few that are left.
    """
    flat = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).contiguous()
    together = next(k for k in (32, 16, 8, 4, 2, 1) if len(flat) % k == 0)
    wide = flat.view(-1, together * x.shape[1])
    parts = next(k for k in (64, 32, 16, 8, 4, 2, 1) if len(wide) % k == 0)
    return wide.view(parts, -1, wide.shape[1]).sum(1).view(parts * together, -1).sum(0)


def with_bias_gradient(output: Tensor, bias: Tensor) -> Tensor:
    """Give a bias that was added already its gradient, which torch's convolutions sum up slowly.

    Parameters
    ----------
    output
        ``(n, channel, y, x)``, made with the bias detached; returned.
    bias
        ``(channel,)``.
    """
    if not (bias.requires_grad and torch.is_grad_enabled()):
        return output
    result: Tensor = _Biased.apply(output, bias)  # type: ignore[no-untyped-call]
    return result


class _Biased(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, bias: Tensor) -> Tensor:
        del bias
        ctx.mark_dirty(output)  # what comes next may overwrite it
        return output

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, band_sums(gradient)
