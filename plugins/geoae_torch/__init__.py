"""Autoencoders that torch trains: networks as data, and the encoders that use them.

Importing the package imports no torch, and describing networks needs none: `plan` works sizes and parameters
out by arithmetic. Whatever computes is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geoae.errors import PluginError
from geoae_torch.architecture import Architecture
from geoae_torch.description import load_architecture
from geoae_torch.presets import preset_names
from geoae_torch.protocols import sweep_protocols
from geoae_torch.shapes import Plan, plan
from geoae_torch.tables import describe_networks

if TYPE_CHECKING:
    from geoae_torch.dataset import CubeDataset
    from geoae_torch.encoders import (
        AutoencoderEncoder,
        ContractiveEncoder,
        ConvEncoder,
        DenoisingEncoder,
        DenseEncoder,
        SparseEncoder,
        VAEEncoder,
    )
    from geoae_torch.networks import Autoencoder, build

__all__ = [
    "Architecture",
    "Autoencoder",
    "AutoencoderEncoder",
    "ContractiveEncoder",
    "ConvEncoder",
    "CubeDataset",
    "DenoisingEncoder",
    "DenseEncoder",
    "Plan",
    "SparseEncoder",
    "VAEEncoder",
    "build",
    "describe_networks",
    "load_architecture",
    "plan",
    "preset_names",
    "sweep_protocols",
]

_NEEDS_TORCH = {
    "Autoencoder": "geoae_torch.networks",
    "AutoencoderEncoder": "geoae_torch.encoders",
    "ContractiveEncoder": "geoae_torch.encoders",
    "ConvEncoder": "geoae_torch.encoders",
    "CubeDataset": "geoae_torch.dataset",
    "DenoisingEncoder": "geoae_torch.encoders",
    "DenseEncoder": "geoae_torch.encoders",
    "SparseEncoder": "geoae_torch.encoders",
    "VAEEncoder": "geoae_torch.encoders",
    "build": "geoae_torch.networks",
}


def __getattr__(name: str) -> Any:
    module = _NEEDS_TORCH.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise PluginError(
            f"{name} needs torch, which is not installed", hint="pip install 'geoae[torch]'"
        ) from error
