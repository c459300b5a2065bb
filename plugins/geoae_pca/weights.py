"""Arrays in a safetensors file, checked when they are read back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from geoae.errors import PluginError

__all__ = ["read_arrays", "write_arrays"]


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays by name; equal arrays give equal bytes."""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def read_arrays(
    path: Path, expected: Mapping[str, tuple[str, tuple[int | None, ...]]]
) -> dict[str, npt.NDArray[Any]]:
    """Read arrays and check that they are what `write_arrays` wrote.

    Parameters
    ----------
    path
        A safetensors file; reading one runs no code, whatever is in it.
    expected
        By name, the dtype and the shape, None for any length.

    Returns
    -------
    dict
        The arrays.

    Raises
    ------
    PluginError
        If the file is missing, cut off or no safetensors file, or if an array is missing, of another
        dtype or shape, or not finite.
    """
    hint = "fit the encoder again, or restore the model folder from a backup"
    try:
        arrays = load_file(path)
    except FileNotFoundError:
        raise PluginError(f"{path}: the file is missing", hint=hint) from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise PluginError(f"{path}: not a readable safetensors file: {error}", hint=hint) from error
    if arrays.keys() != expected.keys():
        raise PluginError(f"{path}: holds {sorted(arrays)}, expected {sorted(expected)}", hint=hint)
    for name, (dtype, shape) in expected.items():
        array = arrays[name]
        if array.dtype != np.dtype(dtype):
            raise PluginError(f"{path}: {name} is {array.dtype}, expected {dtype}", hint=hint)
        if len(array.shape) != len(shape) or any(
            wanted not in (None, length) for length, wanted in zip(array.shape, shape, strict=True)
        ):
            wanted = tuple("any" if length is None else length for length in shape)
            raise PluginError(f"{path}: {name} has shape {array.shape}, expected {wanted}", hint=hint)
        if not np.isfinite(array).all():
            raise PluginError(f"{path}: {name} holds values that are not finite", hint=hint)
    return arrays
