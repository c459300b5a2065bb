"""Checkpoints: the best and the last state of a training, in its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geoae.errors import PluginError
from geoae_torch.weights import check_tensors, read_tensors, write_tensors

__all__ = ["BEST", "LAST", "Checkpoints"]

BEST, LAST = "best.safetensors", "last.safetensors"


class Checkpoints:
    """Writes and reads the checkpoints of a training.

    Parameters
    ----------
    folder
        Where; None keeps nothing.
    network, optimiser
        What is written, and what is restored.
    """

    def __init__(self, folder: Path | None, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self._folder = folder
        self._network = network
        self._optimiser = optimiser

    def write_last(self, state: Mapping[str, Any]) -> None:
        """Write all that is needed to go on; `state` are JSON values."""
        if self._folder is None:
            return
        tensors = {f"network.{name}": tensor for name, tensor in self._network.state_dict().items()}
        for number, parameter in enumerate(self._parameters()):
            for name, value in self._optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser.{number}.{name}"] = value
        write_tensors(self._folder / LAST, tensors, dict(state))

    def write_best(self, step: int) -> None:
        """Write the weights alone."""
        if self._folder is not None:
            write_tensors(self._folder / BEST, self._network.state_dict(), {"step": step})

    def read_last(self) -> tuple[dict[str, Any] | None, str]:
        """Restore network and optimiser.

        Returns
        -------
        tuple of dict and str
            The state, None if there is none; and what a user must know, or nothing.
        """
        if self._folder is None or not (self._folder / LAST).exists():
            return None, ""
        try:
            tensors, state = read_tensors(self._folder / LAST)
            network = {n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")}
            check_tensors(network, self._network.state_dict(), LAST)
            if not isinstance(state, dict):
                raise PluginError(f"{LAST} holds no state")
        except PluginError as error:
            return None, f"the training began anew, its checkpoint cannot be used: {error.message}"
        self._network.load_state_dict(network)
        self._restore_optimiser(tensors)
        return state, ""

    def read_best(self) -> dict[str, Tensor]:
        """Return the best weights.

        Raises
        ------
        PluginError
            If they are missing or damaged.
        """
        if self._folder is None:
            raise ValueError("no folder, no checkpoints")
        tensors, _ = read_tensors(self._folder / BEST)
        expected = self._network.state_dict()
        check_tensors(tensors, expected, BEST)
        return {name: tensor.to(expected[name].device) for name, tensor in tensors.items()}

    def _parameters(self) -> list[Tensor]:
        return [p for group in self._optimiser.param_groups for p in group["params"]]

    def _restore_optimiser(self, tensors: Mapping[str, Tensor]) -> None:
        """Give every parameter its state, laid out in memory as the parameter is."""
        self._optimiser.state.clear()
        for number, parameter in enumerate(self._parameters()):
            prefix = f"optimiser.{number}."
            for name, tensor in tensors.items():
                if not name.startswith(prefix):
                    continue
                value = tensor.to(parameter.device)
                if value.shape == parameter.shape:
                    value = torch.empty_like(parameter).copy_(value)
                self._optimiser.state[parameter][name.removeprefix(prefix)] = value
