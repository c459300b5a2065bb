"""Objectives: what training makes small.

An objective is a function of a batch, the image that the network makes of it, and the code. It adds an error
of the image, over the pixels that are known, and penalties of the code.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from geoae_torch.architecture import Activation
from geoae_torch.fused import ErrorKind, sigmoid_error
from geoae_torch.layers import activate
from geoae_torch.networks import Code

__all__ = [
    "Batch",
    "KLScale",
    "Loss",
    "Objective",
    "Penalty",
    "image_error",
    "jacobian_penalty",
    "kl_divergence",
    "kl_penalty",
    "sparsity_penalty",
]

KLScale = Literal["calibrated", "thesis", "per-latent"]


@dataclass(frozen=True)
class Batch:
    """Patches on the device that computes.

    Parameters
    ----------
    image
        ``(n, channel, y, x)`` float32: what the encoder sees.
    target
        ``(n, target channel, y, x)`` float32: what the decoder should make of it.
    weight
        ``(n, 1 or target channel, y, x)`` float32: 1 where the target is known, else 0. None: everywhere.
    generator
        Of everything random in this step; None draws from torch's own.
    """

    image: Tensor
    target: Tensor
    weight: Tensor | None = None
    generator: torch.Generator | None = None

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class Loss:
    """What an objective says of a batch.

    Parameters
    ----------
    total
        The number that is made small, with its graph.
    parts
        The figures it is made of, without.
    """

    total: Tensor
    parts: Mapping[str, Tensor]


Penalty = Callable[[Batch, Code, Tensor], tuple[Tensor, Mapping[str, Tensor]]]
"""Adds to the error: of a batch, its code and its error (without graph), returns a number and figures."""


@dataclass(frozen=True)
class Objective:
    """The error of the image, and penalties.

    Parameters
    ----------
    kind
        ``mae``, ``mse`` or ``bce``.
    output
        Activation of the network's last layer, which is applied here.
    penalties
        Added to the error.
    balance
        Weight bands by the inverse of their error, so that a noisy band does not rule the others: the
        likelihood with a scale of each band's own.
    input_gradient
        Whether a penalty differentiates with respect to the input.
    """

    kind: ErrorKind = "mae"
    output: Activation = "sigmoid"
    penalties: tuple[Penalty, ...] = field(default=())
    balance: bool = False
    input_gradient: bool = False

    def __call__(self, batch: Batch, logits: Tensor, code: Code) -> Loss:
        """Compute the loss of a batch.

        Parameters
        ----------
        batch
            The batch.
        logits
            ``(n, target channel, y, x)``: the network's image before the last activation; may be destroyed.
        code
            The code that the image was made of.
        """
        bands = image_error(self.kind, logits, batch.target, batch.weight, self.output)
        error = bands.detach().sum()
        total = bands.sum()
        if self.balance:
            scale = bands.detach().mean() / bands.detach().clamp(min=1e-12)
            total = (bands * scale).sum()
        parts: dict[str, Tensor] = {self.kind: error}
        for penalty in self.penalties:
            value, figures = penalty(batch, code, error)
            total = total + value
            parts |= figures
        return Loss(total, {"loss": total.detach(), **parts})


def image_error(
    kind: ErrorKind, logits: Tensor, target: Tensor, weight: Tensor | None, output: Activation
) -> Tensor:
    """Compute what each band adds to the mean error over all known pixels, ``(channel,)``.

    Parameters
    ----------
    kind
        ``mae``, ``mse`` or ``bce``.
    logits
        ``(n, channel, y, x)`` before the last activation; destroyed on a processor.
    target, weight
        See `Batch`.
    output
        The last activation. ``bce`` needs ``sigmoid``.
    """
    if output == "sigmoid" and logits.device.type == "cpu":
        return sigmoid_error(logits, target, weight, kind)
    if kind == "bce":
        values = torch.nn.functional.softplus(logits.float()) - target * logits.float()
    else:
        difference = activate(logits.float(), output) - target
        values = difference.abs() if kind == "mae" else difference.square()
    if weight is None:
        return values.sum((0, 2, 3)) / values.numel()
    shared = values.shape[1] if weight.shape[1] == 1 else 1
    return (values * weight).sum((0, 2, 3)) / (weight.sum() * shared).clamp(min=1)


def kl_divergence(code: Code) -> Tensor:
    """Compute the divergence of every unit's distribution from a standard normal.

    Returns
    -------
    torch.Tensor
        ``(n, latent)``, nats.

    Raises
    ------
    ValueError
        If the code has no variance.

    Examples
    --------
    >>> kl_divergence(Code(torch.tensor([[1.0]]), torch.tensor([[0.0]])))
    tensor([[0.5000]])
    """
    if code.log_var is None:
        raise ValueError("the code has no variance: the network is not variational")
    log_var = code.log_var.float()
    return 0.5 * (code.mean.float().square() + log_var.exp() - 1 - log_var)


def kl_penalty(scale: KLScale, kind: ErrorKind, *, beta: float = 1, free_bits: float = 0) -> Penalty:
    """Make the penalty of a variational autoencoder.

    Parameters
    ----------
    scale
        How the divergence, summed over units in nats, stands beside the mean error of a pixel.
        ``thesis`` divides it by the numbers of a patch; ``per-latent`` by the units. ``calibrated`` divides
        it by the numbers of a patch and multiplies by the scale of the errors as they are at present, with no
        gradient through it: then the sum is the bound on the likelihood, per number of a patch, of Laplace
        (``mae``) or normal (``mse``) errors of the width that they have.
    kind
        The error that it stands beside; decides the calibrated scale.
    beta
        Multiplies it.
    free_bits
        Nats of every unit, averaged over the batch, that cost nothing more.

    References
    ----------
    .. [1] D. Kingma, M. Welling, Auto-encoding variational Bayes, 2014.
    .. [2] I. Higgins et al., beta-VAE, 2017.
    .. [3] D. Kingma et al., Improved variational inference with inverse autoregressive flow, 2016.
    .. [4] O. Rybkin et al., Simple and effective VAE training with calibrated decoders, 2021.
    """

    def penalty(batch: Batch, code: Code, error: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        units = kl_divergence(code).mean(0)
        nats = units.detach().sum()
        divergence = (units.clamp(min=free_bits) if free_bits else units).sum()
        if scale == "per-latent":
            weight = beta / len(units) * torch.ones_like(error)
        else:
            weight = beta / batch.target[0].numel() * torch.ones_like(error)
            if scale == "calibrated" and kind != "bce":  # which is a likelihood as it is
                weight = weight * (error if kind == "mae" else 2 * error)
        value = weight.to(divergence.dtype) * divergence
        return value, {"kl": nats, "kl_term": value.detach()}

    return penalty


def sparsity_penalty(kind: Literal["l1", "kl"], weight: float, activity: float = 0.05) -> Penalty:
    """Make the penalty of a sparse autoencoder.

    Parameters
    ----------
    kind
        ``l1``: the mean magnitude of the code. ``kl``: the divergence, summed over units, of a coin of
        probability `activity` from the unit's mean activity, which is its sigmoid averaged over the batch.
    weight
        Multiplies it.
    activity
        The activity aimed at.
    """

    def penalty(batch: Batch, code: Code, error: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        del batch, error
        z = code.mean.float()
        if kind == "l1":
            value = z.abs().mean()
        else:
            mean = z.sigmoid().mean(0).clamp(1e-6, 1 - 1e-6)
            on = activity * torch.log(activity / mean)
            value = (on + (1 - activity) * torch.log((1 - activity) / (1 - mean))).sum()
        return weight * value, {"sparsity": value.detach()}

    return penalty


def jacobian_penalty(weight: float, probes: int | None = 1) -> Penalty:
    """Make the penalty of a contractive autoencoder: the squared Frobenius norm of the code's Jacobian.

    Averaged over patches. With `probes`, it is estimated without bias from as many random projections of the
    code (Hutchinson), each of which costs a backward pass; exactly, it costs one for each unit.

    Parameters
    ----------
    weight
        Multiplies it.
    probes
        Number of projections; None for the exact norm.

    References
    ----------
    .. [1] S. Rifai et al., Contractive auto-encoders, 2011.
    .. [2] J. Hoffman, D. Roberts, S. Yaida, Robust learning with Jacobian regularization, 2019.
    """

    def penalty(batch: Batch, code: Code, error: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        del error
        mean = code.mean.float()
        if not torch.is_grad_enabled() or not mean.requires_grad:
            return mean.new_zeros(()), {}  # validation: nothing is differentiated
        if probes is None:
            directions = [unit.expand_as(mean) for unit in torch.eye(mean.shape[1], device=mean.device)]
        else:
            directions = [
                torch.randn(mean.shape, generator=batch.generator, device=mean.device) for _ in range(probes)
            ]
        norm = mean.new_zeros(())
        for direction in directions:
            (row,) = torch.autograd.grad(mean, batch.image, direction, create_graph=True)
            norm = norm + row.float().square().sum()
        norm = norm / (len(mean) * (1 if probes is None else probes))
        return weight * norm, {"jacobian": norm.detach()}

    return penalty
