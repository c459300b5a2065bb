"""Tensors in safetensors files: reading one runs no code, and what does not fit is refused."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from geoae.errors import PluginError

__all__ = ["check_tensors", "digest", "read_tensors", "write_tensors"]

_HINT = "fit the encoder again, or restore the model folder from a copy"
_KEY = "geoae"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], state: Any = None) -> str:
    """Write tensors by name, in one step: a reader finds the old file or the new one.

    Parameters
    ----------
    path
        The file.
    tensors
        By name; equal tensors give equal bytes.
    state
        JSON values that belong to them.

    Returns
    -------
    str
        Digest of the file.
    """
    # contiguous: channels last is how a network is laid out in memory, not what it is
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = None if state is None else {_KEY: json.dumps(state, sort_keys=True, allow_nan=False)}
    content = save(plain, metadata)
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(content)
    fresh.replace(path)
    return "sha256:" + hashlib.sha256(content).hexdigest()


def digest(path: Path) -> str:
    """Return the digest of a file.

    Raises
    ------
    PluginError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PluginError(f"{path.name}: {error.strerror}", hint=_HINT) from None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read what `write_tensors` wrote.

    Returns
    -------
    tuple of dict and values
        The tensors, and the state, None if there is none.

    Raises
    ------
    PluginError
        If the file is missing, cut off, or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            metadata = file.metadata() or {}
        state = json.loads(metadata[_KEY]) if _KEY in metadata else None
    except FileNotFoundError:
        raise PluginError(f"{path.name} is missing", hint=_HINT) from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise PluginError(f"{path.name} is no readable safetensors file: {error}", hint=_HINT) from None
    return tensors, state


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Refuse tensors that are not what a network needs.

    Parameters
    ----------
    found
        From a file.
    expected
        Of the network; only names, dtypes and shapes count.
    where
        Begins the message.

    Raises
    ------
    PluginError
        If one is missing, unknown, of another shape or dtype, or not finite; names the first.
    """
    missing = sorted(expected.keys() - found.keys())
    unknown = sorted(found.keys() - expected.keys())
    if missing or unknown:
        which = f"lacks {missing[0]}" if missing else f"holds {unknown[0]}, which the network has not"
        raise PluginError(f"{where} {which}", hint=_HINT)
    for name, wanted in expected.items():
        tensor = found[name]
        if tensor.shape != wanted.shape or tensor.dtype != wanted.dtype:
            kinds = [f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for t in (tensor, wanted)]
            raise PluginError(f"{where} holds {name} as {kinds[0]}, not {kinds[1]}", hint=_HINT)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise PluginError(f"{where} holds {name} with numbers that are not finite", hint=_HINT)
