"""Chunks: the compressed bytes of the patches in a shard, straight from and into memory of the caller.

A shard is a file: its chunks one after the other, then an index of ``(offset, length)`` as little-endian
uint64, then the index's crc32c. A chunk is some rows compressed by blosc, then the crc32c of that.

zarr writes and reads the same bytes (tests hold the two equal), but hands every chunk through an event
loop and several copies, which costs as much as the compression. What this module does not know (other
codecs, object stores) it leaves to zarr.
"""

import io
import os
import struct
import sys
import threading
from collections.abc import Iterator
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import zarr
from numcodecs import VLenUTF8, Zstd
from numcodecs.blosc import Blosc
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec
from zarr.codecs.sharding import ShardingCodecIndexLocation

from geoae.errors import IntegrityError
from geoae.location import Location

__all__ = ["RowReader", "chunk_codecs", "encode_chunk", "encode_shard", "shard_key", "text_codecs"]

Bytes = npt.NDArray[np.uint8]

_MISSING = 2**64 - 1
"""Offset and length in the index of a chunk that is not there."""

_CHECKSUM = 4
"""Bytes of a crc32c."""

_BLOCK = 512 * 1024
"""Bytes that blosc compresses at a time. On 8-band 11-bit images its own choice decodes at half the speed,
encodes at 0.7 of it, and compresses 3 % less; more than this gains little and leaves the processor's
cache."""

_BLOSC = Blosc(cname="zstd", clevel=1, shuffle=Blosc.BITSHUFFLE, blocksize=_BLOCK)


def chunk_codecs(itemsize: int) -> list[BloscCodec | Crc32cCodec]:
    """Return the codecs of a chunk as zarr's metadata says them.

    Blosc (zstd level 1, bit shuffle) and crc32c, since without a checksum most flipped bits are read as
    data.
    """
    blosc = BloscCodec(typesize=itemsize, cname="zstd", clevel=1, shuffle="bitshuffle", blocksize=_BLOCK)
    return [blosc, Crc32cCodec()]


def text_codecs() -> list[ZstdCodec]:
    """Return the codecs of a chunk of strings; no crc32c, since zstd has a checksum of its own."""
    return [ZstdCodec(level=1, checksum=True)]


def shard_key(number: int, ndim: int) -> str:
    """Name the file of a shard below its array.

    Examples
    --------
    >>> shard_key(7, 4), shard_key(0, 0)
    ('c/7/0/0/0', 'c')
    """
    return "/".join(["c", str(number), *["0"] * (ndim - 1)]) if ndim else "c"


def encode_chunk(values: npt.NDArray[Any]) -> list[bytes]:
    """Compress an array that is one chunk and no shard.

    Parameters
    ----------
    values
        Numbers in native byte order, or numpy's strings of variable length.

    Returns
    -------
    list of bytes
        The file in pieces.
    """
    if values.dtype.kind == "T":
        return [Zstd(level=1, checksum=True).encode(VLenUTF8().encode(values.astype(object)))]
    compressed = _BLOSC.encode(np.ascontiguousarray(values))
    return [compressed, _checksum(compressed)]


def encode_shard(values: npt.NDArray[Any], length: int, chunk: int, fill: Any) -> list[bytes]:
    """Compress the rows of one shard.

    Parameters
    ----------
    values
        ``(row, ...)``: all rows of the shard, in native byte order and C order.
    length, chunk
        Rows of a full shard and of a chunk.
    fill
        Value of the rows that a last chunk lacks.

    Returns
    -------
    list of bytes
        The file in pieces: they are written one by one, so that nobody copies them together.
    """
    index = np.full((length // chunk, 2), _MISSING, "<u8")
    pieces: list[bytes] = []
    position = 0
    for number, start in enumerate(range(0, len(values), chunk)):
        part = values[start : start + chunk]
        if len(part) < chunk:
            rest = np.full((chunk - len(part), *part.shape[1:]), fill, part.dtype)
            part = np.concatenate([part, rest])
        compressed = encode_chunk(part)
        pieces += compressed
        index[number] = position, sum(map(len, compressed))
        position += sum(map(len, compressed))
    listing = index.tobytes()
    return [*pieces, listing, _checksum(listing)]


def _checksum(content: bytes | Bytes) -> bytes:
    return struct.pack("<I", google_crc32c.value(content))


class _Scratch(threading.local):
    """Memory for compressed bytes, one piece a thread: fresh memory for each chunk costs a third more."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def take(self, size: int) -> Bytes:
        if len(self._memory) < size:
            self._memory = np.empty(size, np.uint8)
        return self._memory[:size]


_scratch = _Scratch()


class RowReader:
    """Read rows of an array, whole chunks of them straight into the caller's memory.

    Threads may share a reader: it keeps no file open and no buffer.

    Parameters
    ----------
    location
        Place of the array.
    array
        The array, open.
    """

    def __init__(self, location: Location, array: "zarr.Array[Any]") -> None:
        self.location = location
        self._array = array
        self.shape: tuple[int, ...] = array.shape
        self.dtype = np.dtype(array.dtype)
        self.chunk: int = array.chunks[0]
        self._length = (array.shards or array.chunks)[0]
        self._direct = location.is_local and _is_plain(array)

    def read(self, start: int, stop: int, out: npt.NDArray[Any]) -> None:
        """Read the rows from `start` to `stop`.

        Parameters
        ----------
        start, stop
            The rows.
        out
            ``(stop - start, ...)`` in C order and the array's dtype.

        Raises
        ------
        IntegrityError
            If a shard or a chunk is missing, or is not what was written.
        ValueError
            If `out` or the rows do not fit.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise ValueError(f"rows {start} to {stop} of {self.shape[0]}")
        shape = (stop - start, *self.shape[1:])
        if out.shape != shape or out.dtype != self.dtype or not out.flags.c_contiguous:
            raise ValueError(f"out is {out.dtype} {out.shape}, not {self.dtype} {shape} in C order")
        if not self._direct:
            out[...] = self._array[start:stop]
            return
        for shard in range(start // self._length, -(-stop // self._length)):
            first = max(start, shard * self._length)
            last = min(stop, (shard + 1) * self._length)
            self._read_shard(shard, first, last, out[first - start : last - start])

    def _read_shard(self, shard: int, start: int, stop: int, out: npt.NDArray[Any]) -> None:
        """Read rows of one shard."""
        what = f"{self.location}/{shard_key(shard, len(self.shape))}"
        origin = shard * self._length
        chunks = range((start - origin) // self.chunk, -(-(stop - origin) // self.chunk))
        try:
            with (self.location.path / shard_key(shard, len(self.shape))).open("rb", buffering=0) as file:
                for number, content in _chunks(file, chunks, self._length // self.chunk, what):
                    first = origin + number * self.chunk
                    begin, end = max(start, first), min(stop, first + self.chunk)
                    target = out[begin - start : end - start]
                    whole = end - begin == self.chunk
                    chunk = target if whole else np.empty((self.chunk, *self.shape[1:]), self.dtype)
                    _decode(content, chunk, what)
                    if not whole:
                        target[...] = chunk[begin - first : end - first]
        except FileNotFoundError:
            raise IntegrityError(f"{what} is missing", hint="run `geoae verify`") from None


def _decode(content: Bytes, out: npt.NDArray[Any], what: str) -> None:
    # The frame's header says how much it fills; blosc would leave the rest of `out` as it was.
    if int.from_bytes(content[4:8].tobytes(), "little") != out.nbytes:
        raise _damaged(what, "a chunk has another size")
    try:
        _BLOSC.decode(content, out=out)
    except (RuntimeError, ValueError) as error:
        raise _damaged(what, str(error)) from error


def _chunks(file: io.FileIO, numbers: range, n_chunks: int, what: str) -> Iterator[tuple[int, Bytes]]:
    """Read some chunks of a shard, one at a time, and compare them with their checksums."""
    size = 16 * n_chunks + _CHECKSUM
    total = file.seek(0, os.SEEK_END)
    file.seek(max(total - size, 0))
    listing = file.read()
    if len(listing) != size or _checksum(listing[:-_CHECKSUM]) != listing[-_CHECKSUM:]:
        raise _damaged(what, "its index is broken")
    index = np.frombuffer(listing[:-_CHECKSUM], "<u8").reshape(-1, 2).tolist()
    for number in numbers:
        offset, length = index[number]
        if offset == _MISSING or offset + length > total:
            raise _damaged(what, f"chunk {number} is missing")
        file.seek(offset)
        content = _scratch.take(length)
        read = file.readinto(content.data)
        if read != length or _checksum(content[:-_CHECKSUM]) != content[-_CHECKSUM:].tobytes():
            raise _damaged(what, f"chunk {number} has changed since it was written")
        yield number, content[:-_CHECKSUM]


def _damaged(what: str, why: str) -> IntegrityError:
    return IntegrityError(f"{what} is damaged: {why}", hint="run `geoae verify`")


def _is_plain(array: "zarr.Array[Any]") -> bool:
    """Say whether an array is coded as this module does it."""
    if sys.byteorder != "little" or array.shards is None or array.metadata.zarr_format != 3:
        return False
    codecs = array.metadata.codecs
    if len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec):
        return False
    sharding = codecs[0]
    return (
        [type(codec) for codec in sharding.codecs] == [BytesCodec, BloscCodec, Crc32cCodec]
        and [type(codec) for codec in sharding.index_codecs] == [BytesCodec, Crc32cCodec]
        and sharding.index_location == ShardingCodecIndexLocation.end
        and array.chunks[1:] == array.shards[1:] == array.shape[1:]
    )
