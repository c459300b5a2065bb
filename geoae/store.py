"""Zarr stores: where they lie, how their arrays are written, and how they become visible.

The order of every write is: arrays without their group's ``zarr.json``; whole shards, each by one
writer; verification; then the group's ``zarr.json`` by one atomic put. Until that last step no reader
can open the node. `docs/cube-format.md` is normative. This is the only module that writes Zarr.
"""

import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.config import BadConfigError

from geoae.chunks import chunk_codecs, encode_chunk, encode_shard, shard_key, text_codecs
from geoae.errors import GeoaeError, IntegrityError, UsageError
from geoae.location import Location
from geoae.provenance import digest_of

__all__ = [
    "METADATA",
    "METADATA_DIGEST",
    "ArraySpec",
    "array_digest",
    "check_shards",
    "consolidated",
    "create_array",
    "group_document",
    "is_array",
    "metadata_digest",
    "open_array",
    "read_group",
    "shard_key",
    "stored_bytes",
    "write_array",
    "write_shard",
]

METADATA = "zarr.json"

METADATA_DIGEST = "geoae_metadata"
"""Attribute that holds the digest of a group's other attributes."""


@dataclass(frozen=True)
class ArraySpec:
    """An array to be made: everything that its ``zarr.json`` says.

    Parameters
    ----------
    shape, dims
        Shape and the names of the dimensions.
    dtype
        A numpy dtype's name, or ``str`` for strings of variable length.
    shard, chunk
        Rows of the first dimension in a file, and in a compressed unit; the other dimensions are
        whole. None stores the array as one chunk.
    attributes
        Attributes of the array.
    fill
        Value of what was never written. Complete stores have none of it.
    """

    shape: tuple[int, ...]
    dims: tuple[str, ...]
    dtype: str
    shard: int | None = None
    chunk: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    fill: Any = None

    @property
    def n_shards(self) -> int:
        """Number of files that a complete array has."""
        if not all(self.shape):
            return 0
        return 1 if self.shard is None else -(-self.shape[0] // self.shard)


def create_array(location: Location, spec: ArraySpec) -> None:
    """Create an array at a location without touching the groups above it.

    A store of its own is opened at the array's place: creating it below a group's store would write
    that group's ``zarr.json`` and publish it.

    Raises
    ------
    GeoaeError
        If the disk is full or the place cannot be written.
    """
    shape = spec.shape
    rest = shape[1:]
    common: dict[str, Any] = {
        "shape": shape,
        "dimension_names": list(spec.dims),
        "attributes": dict(spec.attributes),
        "overwrite": True,
    }
    if spec.dtype == "str":
        common |= {"dtype": "string", "fill_value": "", "compressors": text_codecs()}
    else:
        dtype = np.dtype(spec.dtype)
        fill = spec.fill if spec.fill is not None else (np.nan if dtype.kind == "f" else 0)
        codecs = chunk_codecs(dtype.itemsize)
        common |= {"dtype": dtype, "fill_value": fill, "filters": None, "compressors": codecs}
    if spec.shard is None:
        common["chunks"] = tuple(max(n, 1) for n in shape)
    else:
        common |= {"chunks": (spec.chunk, *rest), "shards": (spec.shard, *rest)}
    with _writing(location), _settings(), _whole():
        zarr.create_array(location.zarr(read_only=False), **common)


def open_array(location: Location, *, read_only: bool = True) -> "zarr.Array[Any]":
    """Open an array at its own location, committed or not.

    Raises
    ------
    UsageError
        If zarr is set to a codec pipeline that is not installed.
    """
    with _settings():
        array = zarr.open_array(location.zarr(read_only=read_only), mode="r" if read_only else "r+")
    # A missing chunk reads as data, so chunks that hold only the fill value are written too. zarr 3.1
    # drops the `config` argument of `open_array`.
    return array.with_config({"write_empty_chunks": True})


def is_array(location: Location) -> bool:
    """Say whether an array was made here; a power cut may leave a ``zarr.json`` without its bytes."""
    try:
        return location.get_json(METADATA) is not None
    except IntegrityError:
        return False


def write_shard(
    location: Location, array: "zarr.Array[Any]", number: int, values: npt.NDArray[Any]
) -> tuple[str, int]:
    """Write one whole shard.

    Parameters
    ----------
    location
        Place of the array.
    array
        The array, which `create_array` made with a shard length.
    number
        Which shard.
    values
        All its rows; the last shard may have fewer.

    Returns
    -------
    tuple of str and int
        sha256 (hexadecimal) and length of the file.

    Raises
    ------
    ValueError
        If the values are not exactly the shard's rows: two writers of one shard lose rows silently.
    GeoaeError
        If the disk is full or the place cannot be written.
    """
    length = (array.shards or array.chunks)[0]
    start = number * length
    stop = min(start + length, array.shape[0])
    if values.shape != (stop - start, *array.shape[1:]):
        raise ValueError(f"shard {number} of {location.name} has shape {(stop - start, *array.shape[1:])}")
    key = shard_key(number, array.ndim)
    pieces = encode_shard(np.asarray(values, array.dtype), length, array.chunks[0], array.fill_value)
    # Of what was meant to be written, not of what a broken disk gives back.
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    with _writing(f"{location}/{key}"):
        # The commit waits for the disk, once. A shard that a power cut loses before has another digest than
        # the journal says, and is made again.
        location.put(key, *pieces, durable=False)
    return digest.hexdigest(), sum(map(len, pieces))


def write_array(location: Location, spec: ArraySpec, values: npt.NDArray[Any]) -> None:
    """Create a small array, one without shards, and write all its values.

    Raises
    ------
    ValueError
        If the values have another shape than the array, or it has shards.
    GeoaeError
        If the disk is full or the place cannot be written.
    """
    if values.shape != spec.shape or (spec.n_shards and spec.shard is not None):
        raise ValueError(f"{location.name} takes {spec.shape} in one chunk, not {values.shape}")
    create_array(location, spec)
    if spec.n_shards:
        dtype = np.dtypes.StringDType() if spec.dtype == "str" else np.dtype(spec.dtype)
        # Not through zarr, whose settings are the user's: with another codec pipeline the bytes are
        # others, and a chunk of nothing but the fill value may be left out.
        location.put(shard_key(0, values.ndim), *encode_chunk(np.asarray(values, dtype)), durable=False)


@contextmanager
def _settings() -> Iterator[None]:
    """Turn what zarr says of its own settings into one line."""
    try:
        yield
    except BadConfigError as error:
        raise UsageError(
            f"zarr's settings do not work here: {error}",
            hint="unset ZARR_CODEC_PIPELINE__PATH, or pip install 'geoae[zarrs]'",
        ) from None


@contextmanager
def _whole() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM until a small write is done.

    zarr writes in a thread of its own, which goes on after the interruption of the thread that waits for
    it: behind our back, without the lock, and loudly when the process ends meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is interrupted
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler is not None}  # not Python's
    for number in before:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


@contextmanager
def _writing(what: object) -> Iterator[None]:
    """Turn what the operating system says of a write into one line."""
    try:
        yield
    except OSError as error:
        raise GeoaeError(
            f"cannot write {what}: {error.strerror or error}",
            hint="make room or choose another place, then run the same command again: it resumes",
        ) from error


def array_digest(
    location: Location, *, shards: Mapping[str, str] | None = None
) -> tuple[str, dict[str, str]]:
    """Compute the digest of an array: of its ``zarr.json`` and all its files.

    Parameters
    ----------
    location
        Place of the array.
    shards
        Digests by key that are known already; the others are read.

    Returns
    -------
    tuple of str and dict
        The digest ``sha256:...`` over ``(key, sha256)``, and the sha256 of each key.
    """
    known = shards or {}
    digests: dict[str, str] = {}
    for key in location.find():
        if key in known:
            digests[key] = known[key]
            continue
        content = location.get(key)
        if content is not None:
            digests[key] = hashlib.sha256(content).hexdigest()
    return digest_of(sorted(digests.items())), digests


def check_shards(location: Location, spec: ArraySpec, sizes: Mapping[str, int] | None = None) -> list[str]:
    """Compare an array's files with what a complete array has.

    Parameters
    ----------
    location, spec
        The array.
    sizes
        Expected bytes by key, where known.

    Returns
    -------
    list of str
        One line for each missing, foreign or wrongly sized file; empty if complete.
    """
    found = location.find()
    expected = {shard_key(i, len(spec.shape)) for i in range(spec.n_shards)} | {METADATA}
    problems = [f"{location.name}/{key} is missing" for key in sorted(expected - set(found))]
    problems += [f"{location.name}/{key} does not belong there" for key in sorted(set(found) - expected)]
    for key, size in (sizes or {}).items():
        if key in found and found[key] != size:
            problems.append(f"{location.name}/{key} has {found[key]} bytes, not {size}")
    return problems


def stored_bytes(location: Location) -> int:
    """Add up the bytes of a node of a local store and of all below it.

    Of an array those files that its ``zarr.json`` says it has: of 178,112 patches there are 19,481 in
    45,000 folders, which take three times as long to list.
    """
    document = location.get_json(METADATA)
    if not isinstance(document, dict) or document.get("node_type") != "array":
        total = 0
        for name in location.names():
            is_folder = location.is_folder(name)
            total += stored_bytes(location / name) if is_folder else _size(location, name)
        return total
    shape, chunk = document["shape"], document["chunk_grid"]["configuration"]["chunk_shape"]
    number = -(-shape[0] // chunk[0]) if shape else 1
    keys = [METADATA, *(shard_key(i, len(shape)) for i in range(number))]
    return sum(_size(location, key) for key in keys)


def _size(location: Location, name: str) -> int:
    try:
        # Not Path.stat: of 19,481 files it takes a third longer.
        return os.stat(f"{location.root}/{name}").st_size  # noqa: PTH116
    except OSError:
        return 0  # `geoae verify` says what is missing


def metadata_digest(attributes: Mapping[str, Any]) -> str:
    """Return the digest of a group's attributes, without the one that holds it."""
    return digest_of({k: v for k, v in attributes.items() if k != METADATA_DIGEST})


def group_document(attributes: Mapping[str, Any], members: Mapping[str, Any] | None = None) -> bytes:
    """Return the ``zarr.json`` of a group with its consolidated members.

    Attributes that say anything get a digest of themselves.
    """
    signed = dict(attributes)
    if signed:
        signed[METADATA_DIGEST] = metadata_digest(signed)
    document: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": signed}
    if members is not None:
        document["consolidated_metadata"] = {
            "kind": "inline",
            "must_understand": False,
            "metadata": dict(members),
        }
    return json.dumps(document, indent=1, allow_nan=False).encode()


def consolidated(group: Location, arrays: Sequence[str]) -> dict[str, Any]:
    """Collect the ``zarr.json`` of the named arrays for a group's consolidated metadata.

    Raises
    ------
    IntegrityError
        If one is missing.
    """
    members: dict[str, Any] = {}
    for name in sorted(arrays):
        document = (group / name).get_json(METADATA)
        if document is None:
            raise IntegrityError(f"{group}/{name} has no {METADATA}")
        members[name] = document
    return members


def read_group(location: Location) -> dict[str, Any] | None:
    """Read the ``zarr.json`` of a group; None if there is none: the node was never committed."""
    document = location.get_json(METADATA)
    if document is None:
        return None
    if not isinstance(document, dict) or document.get("node_type") != "group":
        raise IntegrityError(f"{location}/{METADATA} does not describe a group")
    return document
