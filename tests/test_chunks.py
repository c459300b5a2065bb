"""Chunks: the bytes of shards are zarr's, rows come back, and damage has a name."""

import threading
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import GzipCodec

from geoae.chunks import RowReader, chunk_codecs, encode_shard, shard_key
from geoae.errors import IntegrityError
from geoae.location import Location
from geoae.store import ArraySpec, create_array, open_array

LENGTH, CHUNK = 12, 4


def values_of(dtype: str, rows: int, *rest: int) -> np.ndarray:
    values = np.random.default_rng(rows).integers(0, 2000, (rows, *rest))
    made = (values % 2 if dtype == "bool" else values).astype(dtype)
    made[rows // 3 : rows // 2] = 0  # chunks of nothing but the fill value are written too
    return made


def by_zarr(place: Location, values: np.ndarray) -> zarr.Array:
    dims = ("patch", "msi_band", "y", "x")[: values.ndim]
    create_array(place, ArraySpec(values.shape, dims, values.dtype.name, LENGTH, CHUNK))
    array = open_array(place, read_only=False)
    for start in range(0, len(values), LENGTH):
        array[start : start + LENGTH] = values[start : start + LENGTH]
    return array


@pytest.fixture
def place(tmp_path: Path) -> Location:
    return Location.of(tmp_path / "msi")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64", "bool"])
@pytest.mark.parametrize("rest", [(), (6, 5), (3, 6, 5)])
@pytest.mark.parametrize("rows", [12, 13, 22, 29])
def test_shards_have_the_bytes_that_zarr_writes(
    place: Location, dtype: str, rest: tuple[int, ...], rows: int
) -> None:
    values = values_of(dtype, rows, *rest)
    array = by_zarr(place, values)
    for shard in range(-(-rows // LENGTH)):
        part = values[shard * LENGTH : (shard + 1) * LENGTH]
        pieces = encode_shard(part, LENGTH, CHUNK, array.fill_value)
        assert b"".join(pieces) == place.get(shard_key(shard, values.ndim))


def test_large_blocks_are_written_into_the_metadata(place: Location) -> None:
    by_zarr(place, values_of("uint16", 5))
    sharding = place.get_json("zarr.json")["codecs"][0]["configuration"]
    blosc = next(codec for codec in sharding["codecs"] if codec["name"] == "blosc")
    assert blosc["configuration"] == {
        "typesize": 2, "cname": "zstd", "clevel": 1, "shuffle": "bitshuffle", "blocksize": 512 * 1024,
    }  # fmt: skip


@pytest.mark.parametrize("dtype", ["uint16", "float32", "bool"])
def test_any_rows_come_back(place: Location, dtype: str) -> None:
    values = values_of(dtype, 29, 6, 5)
    reader = RowReader(place, by_zarr(place, values))
    for start in range(len(values) + 1):
        for stop in range(start, len(values) + 1):
            out = np.empty((stop - start, 6, 5), values.dtype)
            reader.read(start, stop, out)
            np.testing.assert_array_equal(out, values[start:stop])


def test_threads_share_a_reader(place: Location) -> None:
    values = values_of("uint16", 29, 3, 40, 40)
    reader = RowReader(place, by_zarr(place, values))
    found = np.empty((8, *values.shape), values.dtype)
    threads = [threading.Thread(target=reader.read, args=(0, 29, found[i])) for i in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in found:
        np.testing.assert_array_equal(one, values)


def test_what_does_not_fit_is_refused(place: Location) -> None:
    reader = RowReader(place, by_zarr(place, values_of("uint16", 12, 6, 5)))
    with pytest.raises(ValueError, match="rows 4 to 13 of 12"):
        reader.read(4, 13, np.empty((9, 6, 5), np.uint16))
    with pytest.raises(ValueError, match="out is uint16"):
        reader.read(0, 4, np.empty((3, 6, 5), np.uint16))
    with pytest.raises(ValueError, match="out is int16"):
        reader.read(0, 4, np.empty((4, 6, 5), np.int16))
    with pytest.raises(ValueError, match="in C order"):
        reader.read(0, 4, np.empty((4, 5, 6), np.uint16).transpose(0, 2, 1))


def test_other_codecs_are_left_to_zarr(place: Location) -> None:
    values = values_of("uint16", 12, 6, 5)
    array = zarr.create_array(
        place.zarr(read_only=False),
        data=values,
        chunks=(4, 6, 5),
        shards=(12, 6, 5),
        compressors=[GzipCodec()],
    )
    out = np.empty((3, 6, 5), np.uint16)
    RowReader(place, array).read(5, 8, out)
    np.testing.assert_array_equal(out, values[5:8])


def test_other_stores_are_left_to_zarr() -> None:
    place = Location.of("memory://chunks/msi")
    values = values_of("uint16", 13, 6, 5)
    out = np.empty((9, 6, 5), np.uint16)
    RowReader(place, by_zarr(place, values)).read(4, 13, out)
    np.testing.assert_array_equal(out, values[4:13])


def test_every_flipped_bit_is_found(place: Location) -> None:
    values = values_of("uint16", 12, 6, 5)
    reader = RowReader(place, by_zarr(place, values))
    file = place.path / shard_key(0, 3)
    good = file.read_bytes()
    out = np.empty_like(values)
    for position in range(0, len(good), 7):
        file.write_bytes(good[:position] + bytes([good[position] ^ 16]) + good[position + 1 :])
        with pytest.raises(IntegrityError, match=r"msi/c/0/0/0 is damaged"):
            reader.read(0, 12, out)


def test_missing_and_truncated_shards_are_named(place: Location) -> None:
    values = values_of("uint16", 24, 6, 5)
    reader = RowReader(place, by_zarr(place, values))
    file = place.path / shard_key(1, 3)
    out = np.empty((12, 6, 5), np.uint16)
    for length in (0, 3, 40, file.stat().st_size - 1):
        file.write_bytes(file.read_bytes()[:length])
        with pytest.raises(IntegrityError, match=r"msi/c/1/0/0 is damaged: its index is broken"):
            reader.read(12, 24, out)
    file.unlink()
    with pytest.raises(IntegrityError, match=r"msi/c/1/0/0 is missing"):
        reader.read(12, 24, out)
    reader.read(0, 12, out)  # the other shard is as it was
    np.testing.assert_array_equal(out, values[:12])


def test_a_chunk_that_is_not_there_is_not_read_as_fill(place: Location) -> None:
    values = values_of("uint16", 13, 6, 5)
    array = by_zarr(place, values[:5])  # one chunk and a row
    pieces = encode_shard(values[:4], LENGTH, CHUNK, 0)
    (place.path / shard_key(0, 3)).write_bytes(b"".join(pieces))
    with pytest.raises(IntegrityError, match="chunk 1 is missing"):
        RowReader(place, array).read(0, 5, np.empty((5, 6, 5), np.uint16))


def test_a_chunk_of_another_size_is_refused(place: Location) -> None:
    array = by_zarr(place, values_of("uint16", 12, 6, 5))
    pieces = encode_shard(values_of("uint16", 12, 6, 4), LENGTH, CHUNK, 0)
    (place.path / shard_key(0, 3)).write_bytes(b"".join(pieces))
    with pytest.raises(IntegrityError, match="a chunk has another size"):
        RowReader(place, array).read(0, 12, np.empty((12, 6, 5), np.uint16))


def test_codecs_say_the_size_of_an_item() -> None:
    assert [codec.to_dict()["name"] for codec in chunk_codecs(4)] == ["blosc", "crc32c"]
