"""Protocols: the lists of trainings that an encoder's package offers for a sweep over networks.

A package offers them by a function ``sweep_protocols``, as it offers its networks by
``describe_networks``; the core knows neither what a network is nor who computes it.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geoae.errors import PluginError, UsageError
from geoae.registry import encoder_info

__all__ = ["Protocol", "ProtocolTrial", "find_protocol"]


class ProtocolTrial(BaseModel):
    """A network of a protocol: who trains it, and with which options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str
    plugin: str
    options: Mapping[str, Any] = Field(default_factory=dict)


class Protocol(BaseModel):
    """A list of networks with the way they are trained.

    Parameters
    ----------
    title
        Whose it is.
    patches, validation
        How many sections they are trained on and measured on.
    trials
        The networks.
    quick
        Options that make them small, for tests.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    patches: int = Field(ge=1)
    validation: int = Field(ge=1)
    trials: tuple[ProtocolTrial, ...] = Field(min_length=1)
    quick: Mapping[str, Any] = Field(default_factory=dict)


def find_protocol(plugin: str, name: str) -> Protocol:
    """Return a protocol of the package that offers an encoder.

    Raises
    ------
    UsageError
        If the package offers no protocols, or none of that name.
    PluginError
        If it cannot be imported, or the protocol is not understood.
    """
    package = encoder_info(plugin).target.partition(":")[0].partition(".")[0]
    try:
        offered = getattr(import_module(package), "sweep_protocols", None)
        protocols = None if offered is None else dict(offered())
    except Exception as error:  # whatever a stranger's module raises becomes one line
        raise PluginError(f"{package} offers no protocols: {type(error).__name__}: {error}") from error
    if protocols is None:
        raise UsageError(f"encoder {plugin} has no networks to sweep over", hint="--plugin vae")
    if name not in protocols:
        raise UsageError(f"there is no protocol {name!r}", hint=f"one of {', '.join(protocols)}")
    try:
        return Protocol.model_validate(protocols[name])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PluginError(f"protocol {name} of {package} cannot be read: {where}: {first['msg']}") from None
