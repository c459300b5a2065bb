"""Optimisers, and schedules of the learning rate."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

__all__ = ["KerasRMSprop", "OptimiserName", "ScheduleName", "make_optimiser", "rate_factor"]

OptimiserName = Literal["adam", "rmsprop", "rmsprop-keras"]
ScheduleName = Literal["constant", "constant-then-linear", "exponential", "plateau"]

_MEMORY = 0.9
"""Of RMSprop's mean of squares: Keras's and the thesis's."""


def make_optimiser(
    name: OptimiserName, parameters: Iterable[nn.Parameter], rate: float, epsilon: float
) -> torch.optim.Optimizer:
    """Make an optimiser.

    Parameters
    ----------
    name
        ``adam``; ``rmsprop`` adds epsilon to the root; ``rmsprop-keras`` adds it inside, where it rules as
        long as gradients are smaller than its own root.
    parameters
        What it changes.
    rate
        Learning rate.
    epsilon
        Keeps divisions finite.
    """
    if name == "adam":
        return torch.optim.Adam(parameters, lr=rate, eps=epsilon, fused=True)
    if name == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=rate, eps=epsilon, alpha=_MEMORY, foreach=True)
    return KerasRMSprop(parameters, rate, epsilon)


class KerasRMSprop(torch.optim.Optimizer):
    """RMSprop as Keras 3 has it: ``p -= rate * g / sqrt(v + epsilon)``, ``v`` the running mean of ``g**2``.

    Parameters
    ----------
    parameters
        What it changes.
    lr, eps
        Learning rate, and epsilon.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, eps: float) -> None:
        super().__init__(parameters, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Change the parameters once."""
        if closure is not None:
            raise ValueError("no closure is called here")
        for group in self.param_groups:
            with_gradient = [p for p in group["params"] if p.grad is not None]
            if not with_gradient:
                continue
            gradients: list[Tensor] = [p.grad for p in with_gradient]
            for p in with_gradient:
                if not self.state[p]:
                    self.state[p]["square_avg"] = torch.zeros_like(p)
            squares: list[Tensor] = [self.state[p]["square_avg"] for p in with_gradient]
            torch._foreach_mul_(squares, _MEMORY)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - _MEMORY)
            roots: Any = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(roots)
            torch._foreach_addcdiv_(with_gradient, gradients, roots, -group["lr"])


def rate_factor(schedule: ScheduleName, done: float, final: float, hold: float) -> float:
    """Return what the learning rate is multiplied by.

    Parameters
    ----------
    schedule
        ``constant-then-linear`` falls in a line from `hold` on; ``exponential`` by equal factors all the
        time; both to `final`. ``plateau`` depends on more than `done`, and is 1 here.
    done
        Share of the steps that are done.
    final
        The factor at the end.
    hold
        Share of the steps at the full rate.

    Examples
    --------
    >>> [round(rate_factor("constant-then-linear", t, 0.02, 0.5), 3) for t in (0, 0.5, 0.75, 1)]
    [1.0, 1.0, 0.51, 0.02]
    >>> [round(rate_factor("exponential", t, 0.01, 0), 3) for t in (0, 0.5, 1)]
    [1.0, 0.1, 0.01]
    """
    if schedule == "exponential":
        return float(final**done)
    if schedule == "constant-then-linear" and done > hold:
        return 1 - (1 - final) * (done - hold) / (1 - hold)
    return 1.0
