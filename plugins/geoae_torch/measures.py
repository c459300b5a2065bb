"""Measures of a trained network: the errors of its images, and what its code is like."""

import numpy as np
import numpy.typing as npt
import torch

from geoae_torch.feed import Feed
from geoae_torch.networks import Autoencoder, Code
from geoae_torch.objectives import kl_divergence

__all__ = ["ACTIVE_NATS", "measure", "participation_ratio"]

ACTIVE_NATS = 0.05
"""Divergence from which on a unit carries something; its variance alone says less."""

_BATCH = 64


def participation_ratio(covariance: npt.NDArray[np.float64]) -> float:
    """Return how many directions share the variance: ``trace(C)^2 / trace(C^2)``; 0 without any variance.

    Parameters
    ----------
    covariance
        ``(unit, unit)``.

    Examples
    --------
    >>> round(participation_ratio(np.eye(5)), 9), round(participation_ratio(np.diag([1.0, 0.0])), 9)
    (5.0, 1.0)
    """
    squares = float((covariance**2).sum())
    return float(np.trace(covariance)) ** 2 / squares if squares > 0 else 0.0


def measure(
    network: Autoencoder, feed: Feed, device: torch.device
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Measure a network on patches, which it sees as they are.

    Returns
    -------
    tuple of dicts
        ``mae`` and ``mse`` over known pixels in normalised units, ``participation_ratio`` of the code's
        covariance, and of a variational network ``kl``, the mean divergence of a patch's distribution from a
        standard normal in nats, and ``active_units``, those of more than `ACTIVE_NATS`. The lists are
        ``band_mae``, and ``kl_spectrum``, the divergence of each unit, descending.
    """
    network.eval()
    size = network.plan.latent_dim
    absolute = torch.zeros(network.plan.out_bands, dtype=torch.float64, device=device)
    squared, known = torch.zeros_like(absolute), torch.zeros_like(absolute)
    total = torch.zeros(size, dtype=torch.float64, device=device)
    divergence = torch.zeros_like(total)
    # Of fewer patches than units the codes are kept: their products with each other say the same as the
    # units', which of a large map of codes are gigabytes.
    few = len(feed) < size
    codes: list[torch.Tensor] = []
    products = torch.zeros((0 if few else size,) * 2, dtype=torch.float64, device=device)
    shift: torch.Tensor | None = None
    with torch.inference_mode():
        for patches in feed.batches(_BATCH):
            code = network.encode(patches.image)
            difference = network.decode(code.mean, code.indices).float() - patches.target
            ones = patches.target_valid
            if ones is not None:
                difference = difference * ones
                known += ones.expand_as(difference).sum((0, 2, 3), dtype=torch.float64)
            else:
                known += difference[:, 0].numel()
            absolute += difference.abs().sum((0, 2, 3), dtype=torch.float64)
            squared += difference.square().sum((0, 2, 3), dtype=torch.float64)
            z = code.mean.double()
            if shift is None:
                shift = z.mean(0)  # near the mean, so that the products lose nothing
            z = z - shift
            total += z.sum(0)
            if few:
                codes.append(z)
            else:
                products += z.T @ z
            if code.log_var is not None:
                divergence += kl_divergence(Code(code.mean, code.log_var)).double().sum(0)
    count = len(feed)
    if few:
        centred = torch.cat(codes) - total / count
        covariance = centred @ centred.T / count  # another shape, with the same trace and sum of squares
    else:
        covariance = products / count - torch.outer(total / count, total / count)
    figures = {
        "mae": float(absolute.sum() / known.sum().clamp(min=1)),
        "mse": float(squared.sum() / known.sum().clamp(min=1)),
        "participation_ratio": participation_ratio(covariance.cpu().numpy()),
    }
    curves = {"band_mae": (absolute / known.clamp(min=1)).tolist()}
    if network.plan.variational:
        spectrum = (divergence / count).sort(descending=True).values
        figures["kl"] = float(spectrum.sum())
        figures["active_units"] = float((spectrum > ACTIVE_NATS).sum())
        curves["kl_spectrum"] = spectrum.tolist()
    return figures, curves
