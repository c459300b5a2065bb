"""Latents in arrays: npy, npz, Zarr."""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from geoae.attachments.matching import KEYS
from geoae.attachments.vectors import (
    BLOCK,
    CUBE_ID,
    NO_PICKLE,
    Float32,
    ForeignLatents,
    as_float32,
    check_length,
    check_width,
    choose,
    sha256_of,
)
from geoae.errors import InputError, UsageError
from geoae.provenance import ATTRIBUTE, digest_of

__all__ = ["from_npy", "from_npz", "from_zarr"]


# numpy


def from_npy(file: Path, wanted: str | None, most: int) -> ForeignLatents:
    """Read an ``.npy`` file; see `read_latents` for the parameters."""
    if wanted is not None:
        raise UsageError(f"{file.name} is one array: there is nothing to choose by --vector")
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    _check_shape(file, "the array", array.shape, most)
    z = _blocks(file, "the array", array)
    return ForeignLatents(file.name, f"sha256:{sha256_of(file)}", "", z, ordered=True)


def _check_shape(file: Path, name: str, shape: tuple[int, ...], most: int) -> None:
    if len(shape) != 2:
        raise InputError(f"{file.name}: {name} has the shape {shape}, not (patch, component)")
    check_length(file, shape[0], most)
    check_width(file, name, shape[1])


def _blocks(file: Path, name: str, array: Any) -> Float32:
    """Read an array block by block, so that only float32 is held whole."""
    z = np.empty(array.shape, np.float32)
    for start in range(0, len(z), BLOCK):
        z[start : start + BLOCK] = as_float32(file, name, np.asarray(array[start : start + BLOCK]), start)
    return z


def from_npz(file: Path, wanted: str | None, most: int) -> ForeignLatents:
    """Read an ``.npz`` file; see `read_latents` for the parameters."""
    with zipfile.ZipFile(file) as archive:
        shapes = dict(_npz_headers(archive))
        with np.load(file, allow_pickle=False) as arrays:
            return _from_arrays(file, wanted, most, shapes, lambda name: arrays[name], sha256_of(file))


def _npz_headers(archive: zipfile.ZipFile) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Return the arrays' names and shapes without reading them."""
    for member in archive.namelist():
        with archive.open(member) as opened:
            version = np.lib.format.read_magic(opened)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            yield member.removesuffix(".npy"), read(opened)[0]


def _from_arrays(
    file: Path,
    wanted: str | None,
    most: int,
    shapes: Mapping[str, tuple[int, ...]],
    array: Callable[[str], Any],
    digest: str,
    cube_id: str | None = None,
) -> ForeignLatents:
    vector = choose(file, wanted, [n for n, s in shapes.items() if len(s) == 2 and n not in KEYS], shapes)
    _check_shape(file, vector, shapes[vector], most)
    rows = shapes[vector][0]
    keys = {}
    for name in KEYS:
        if name in shapes:
            if shapes[name] != (rows,):
                raise InputError(f"{file.name}: {name} has the shape {shapes[name]}, {vector} {rows} rows")
            keys[name] = np.asarray(array(name)[...])
    if CUBE_ID in shapes and shapes[CUBE_ID] == ():
        cube_id = str(array(CUBE_ID)[()])
    z = _blocks(file, vector, array(vector))
    return ForeignLatents(file.name, f"sha256:{digest}", vector, z, keys, ordered=True, cube_id=cube_id)


def from_zarr(file: Path, wanted: str | None, most: int) -> ForeignLatents:
    """Read a Zarr array or group; see `read_latents` for the parameters."""
    files = {p.relative_to(file).as_posix(): p for p in sorted(file.rglob("*")) if p.is_file()}
    if outside := next((n for n, p in files.items() if not p.resolve().is_relative_to(file.resolve())), None):
        raise InputError(f"{file.name}: {outside} is a link that leaves the store")
    digest = digest_of({name: sha256_of(path) for name, path in files.items()}).removeprefix("sha256:")
    opened = zarr.open(file, mode="r")
    arrays = {"": opened} if isinstance(opened, zarr.Array) else dict(opened.arrays())
    for name, array in arrays.items():
        codecs = getattr(array.metadata, "filters", None) or (), getattr(array.metadata, "compressor", None)
        if any("pickle" in str(getattr(codec, "codec_id", "")) for codec in (*codecs[0], codecs[1])):
            raise InputError(f"{file.name} cannot be read: {name}: {NO_PICKLE}")
    if isinstance(opened, zarr.Array):
        if wanted is not None:
            raise UsageError(f"{file.name} is one array: there is nothing to choose by --vector")
        _check_shape(file, "the array", opened.shape, most)
        z = _blocks(file, "the array", opened)
        return ForeignLatents(file.name, f"sha256:{digest}", "", z, ordered=True)
    shapes = {name: array.shape for name, array in arrays.items()}
    return _from_arrays(file, wanted, most, shapes, arrays.__getitem__, digest, _cube_of(opened.attrs))


def _cube_of(attributes: Mapping[str, Any]) -> str | None:
    """Return the cube that a Zarr group says it is of; a layer of geoae says it in its record."""
    record = attributes.get(ATTRIBUTE)
    inputs = record.get("inputs") if isinstance(record, dict) else None
    said = attributes.get(CUBE_ID) or (inputs.get("cube") if isinstance(inputs, dict) else None)
    return said if isinstance(said, str) else None
