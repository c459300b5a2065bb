"""Stores: whole shards with every chunk in them, checksums, and groups that appear by one write."""

import contextlib
import hashlib
import resource
import signal
import struct
import threading

import numpy as np
import pytest
import xarray as xr
import zarr
from cube_scenes import tree

from geoae.errors import GeoaeError, IntegrityError
from geoae.location import Location
from geoae.store import (
    METADATA,
    ArraySpec,
    array_digest,
    check_shards,
    consolidated,
    create_array,
    group_document,
    open_array,
    read_group,
    shard_key,
    stored_bytes,
    write_array,
    write_shard,
)

SPEC = ArraySpec((22, 3, 5, 5), ("patch", "msi_band", "y", "x"), "uint16", shard=8, chunk=4)


def filled(location, spec=SPEC, values=None):
    """An array of three shards, the last one of six rows, and its values."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2048, spec.shape).astype(spec.dtype) if values is None else values
    create_array(location, spec)
    array = open_array(location, read_only=False)
    written = [
        write_shard(location, array, n, values[n * spec.shard : (n + 1) * spec.shard])
        for n in range(spec.n_shards)
    ]
    return values, written


def index_of(content, chunks):
    """The index at the end of a shard file as the specification of the sharding codec lays it out."""
    *numbers, _ = struct.unpack(f"<{2 * chunks}QI", content[-(16 * chunks + 4) :])
    return np.array(numbers, np.uint64).reshape(chunks, 2)


@pytest.fixture
def place(tmp_path):
    return Location.of(tmp_path / "cube.zarr")


# --- arrays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_waits_for_a_small_write(number, place, monkeypatch):
    """zarr's thread would go on with the write after the lock is gone."""
    before = signal.signal(number, signal.default_int_handler)
    whole = zarr.create_array
    came = []

    def interrupted(*arguments, **options):
        signal.raise_signal(number)
        array = whole(*arguments, **options)
        came.append(array.shape)
        return array

    monkeypatch.setattr(zarr, "create_array", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            write_array(place / "a", ArraySpec((3,), ("patch",), "int32"), np.arange(3, dtype=np.int32))
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert came == [(3,)]
    assert zarr.open_array(place.path / "a", mode="r").shape == (3,)


def test_small_writes_in_other_threads_leave_signals_alone(place):
    failed = []

    def write():
        try:
            write_array(place / "a", ArraySpec((3,), ("patch",), "int32"), np.arange(3, dtype=np.int32))
        except ValueError as error:  # Python's, where another thread sets a handler
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert not failed
    assert zarr.open_array(place.path / "a", mode="r")[:].tolist() == [0, 1, 2]


def test_an_array_appears_without_the_groups_above_it(place, tmp_path):
    create_array(place / "msi", SPEC)
    assert place.get(METADATA) is None
    assert (place / "msi").exists(METADATA)
    with pytest.raises(FileNotFoundError):
        xr.open_zarr(place.root)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64", "bool"])
@pytest.mark.parametrize("n", [1, 7, 8, 16, 22])
def test_plain_zarr_reads_what_was_written(place, dtype, n):
    spec = ArraySpec((n, 4, 4), ("patch", "y", "x"), dtype, shard=8, chunk=4)
    rng = np.random.default_rng(n)
    values = (rng.random(spec.shape) * 200).astype(dtype)
    filled(place, spec, values)
    read = zarr.open_array(place.root, mode="r")
    assert read.dtype == np.dtype(dtype)
    assert np.array_equal(read[:], values)


def test_digest_and_length_are_those_of_the_file(place):
    _, written = filled(place)
    for number, (digest, size) in enumerate(written):
        content = place.get(shard_key(number, 4))
        assert (digest, size) == (hashlib.sha256(content).hexdigest(), len(content))


@pytest.mark.parametrize("fill", [False, True], ids=["random", "fill only"])
@pytest.mark.parametrize("dtype", ["uint16", "float32", "bool"])
def test_every_shard_holds_every_inner_chunk(place, dtype, fill):
    spec = ArraySpec((22, 3, 5, 5), SPEC.dims, dtype, shard=8, chunk=4)
    value = np.nan if dtype == "float32" else 0
    values = np.full(spec.shape, value, dtype) if fill else np.ones(spec.shape, dtype)
    filled(place, spec, values)
    for number, inside in enumerate((2, 2, 2)):  # 8, 8 and 6 rows: two chunks each, the last one of two rows
        index = index_of(place.get(shard_key(number, 4)), 2)
        assert (index != np.iinfo(np.uint64).max).all(axis=1).sum() == inside
    assert check_shards(place, spec) == []


def test_chunks_beyond_the_last_row_are_the_only_empty_ones(place):
    spec = ArraySpec((9, 4, 4), ("patch", "y", "x"), "uint8", shard=16, chunk=4)
    filled(place, spec, np.zeros(spec.shape, np.uint8))
    there = (index_of(place.get(shard_key(0, 3)), 4) != np.iinfo(np.uint64).max).all(axis=1)
    assert there.tolist() == [True, True, True, False]


def test_equal_values_make_equal_bytes_whatever_was_there_before(tmp_path):
    one, two = Location.of(tmp_path / "one"), Location.of(tmp_path / "two")
    values, written = filled(one)
    filled(two, values=np.zeros_like(values))
    array = open_array(two, read_only=False)
    again = [write_shard(two, array, n, values[n * 8 : (n + 1) * 8]) for n in (2, 0, 1)]
    assert again == [written[2], written[0], written[1]]
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_shard_that_was_damaged_can_be_written_again(place, tmp_path):
    values, written = filled(place)
    for number in range(3):  # the last one is not full: zarr would read what is there first
        for content in (b"", b"garbage" * 100, place.get(shard_key(number, 4))[:-7]):
            (tmp_path / "cube.zarr" / shard_key(number, 4)).write_bytes(content)
            array = open_array(place, read_only=False)
            assert write_shard(place, array, number, values[number * 8 : (number + 1) * 8]) == written[number]
    assert np.array_equal(open_array(place)[:], values)


@pytest.mark.parametrize("rows", [7, 9, 1, 0])
def test_only_whole_shards_are_written(place, rows):
    create_array(place, SPEC)
    with pytest.raises(ValueError, match="shard 0 of cube"):
        write_shard(place, open_array(place, read_only=False), 0, np.zeros((rows, 3, 5, 5), np.uint16))
    assert place.find().keys() == {METADATA}


def test_values_of_another_type_are_converted_not_reinterpreted(place):
    create_array(place, SPEC)
    values = np.arange(8 * 75).reshape(8, 3, 5, 5)
    for given in (
        values.astype(np.float64),
        values.astype(">u2"),
        np.asfortranarray(values.astype(np.uint16)),
    ):
        write_shard(place, open_array(place, read_only=False), 1, given)
        assert np.array_equal(zarr.open_array(place.root, mode="r")[8:16], values)


def test_arrays_are_opened_for_reading_only(place):
    filled(place)
    with pytest.raises(ValueError, match=r"read.only"):
        open_array(place)[0] = 1


@contextlib.contextmanager
def largest_file(n_bytes):
    """Let the operating system refuse more bytes in a file, as it does on a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_full_disk_is_one_line(place):
    create_array(place / "msi", SPEC)
    array = open_array(place / "msi", read_only=False)
    numbers = np.random.default_rng(0).random(1000)
    with largest_file(300):
        with pytest.raises(GeoaeError, match=r"cannot write .*msi.*: File too large") as caught:
            write_shard(
                place / "msi", array, 0, (numbers[:600] * 60_000).astype(np.uint16).reshape(8, 3, 5, 5)
            )
        assert caught.value.exit_code == 1
        with pytest.raises(GeoaeError, match=r"cannot write .*rgb.*: File too large"):
            create_array(place / "rgb", SPEC)
    with largest_file(3000), pytest.raises(GeoaeError, match=r"cannot write .*row.*: File too large"):
        write_array(place / "row", ArraySpec((1000,), ("patch",), "float64"), numbers)
    assert not [name for name in place.find() if "partial" in name]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("str", np.array(["JAX", "", "ä ü\n", "x" * 300], np.dtypes.StringDType())),
        ("int64", np.arange(4)),
        ("float64", np.array([1.5, np.nan, -np.inf, 0])),
        ("int8", np.array([-1, 0, 1, 2], np.int8)),
        ("bool", np.array([True, False, True, False])),
    ],
)
def test_small_arrays(place, dtype, values):
    spec = ArraySpec((4,), ("patch",), dtype, attributes={"long_name": "x"})
    write_array(place, spec, values)
    write_array(place, spec, values)
    read = zarr.open_array(place.root, mode="r")
    assert np.array_equal(read[:], values, equal_nan=dtype == "float64")
    assert read.attrs.asdict() == {"long_name": "x"}
    assert read.metadata.dimension_names == ("patch",)
    assert sorted(place.find()) == ["c/0", METADATA]
    assert check_shards(place, spec) == []


@pytest.mark.parametrize("dtype", ["str", "uint8", "int16", "int64", "float32", "float64", "bool"])
@pytest.mark.parametrize("shape", [(), (5,), (5, 2), (300, 400)])
def test_small_arrays_have_the_bytes_that_zarr_writes(place, dtype, shape):
    numbers = np.random.default_rng(1).integers(0, 2, shape)
    values = numbers.astype(np.dtypes.StringDType() if dtype == "str" else dtype)
    dims = ("patch", "component")[: len(shape)]
    write_array(place / "ours", ArraySpec(shape, dims, dtype), values)
    create_array(place / "zarrs", ArraySpec(shape, dims, dtype))
    open_array(place / "zarrs", read_only=False)[...] = values
    names = (place / "ours").find()
    assert len(names) == 2
    assert {n: (place / "ours").get(n) for n in names} == {n: (place / "zarrs").get(n) for n in names}


def test_a_small_array_of_nothing_but_the_fill_value_is_written(place):
    write_array(place, ArraySpec((4,), ("patch",), "float64"), np.full(4, np.nan))
    assert check_shards(place, ArraySpec((4,), ("patch",), "float64")) == []


def test_a_small_array_takes_all_its_values_at_once(place):
    with pytest.raises(ValueError, match=r"takes \(4,\) in one chunk, not \(3,\)"):
        write_array(place, ArraySpec((4,), ("patch",), "int64"), np.arange(3))
    with pytest.raises(ValueError, match="in one chunk"):
        write_array(place, ArraySpec((4,), ("patch",), "int64", shard=2, chunk=2), np.arange(4))


def test_an_array_without_elements_has_no_files(place):
    spec = ArraySpec((0, 3), ("patch", "component"), "float32", shard=8, chunk=4)
    write_array(place, spec, np.zeros((0, 3), np.float32))
    assert open_array(place)[:].shape == (0, 3)
    assert check_shards(place, spec) == []


# --- damage ---------------------------------------------------------------------------------------


def test_every_flipped_bit_of_a_shard_is_noticed(place, tmp_path):
    values, _ = filled(place)
    path = tmp_path / "cube.zarr" / shard_key(1, 4)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for position in [*rng.integers(0, len(whole), 40), 0, len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        with pytest.raises(Exception, match=r"(?i)checksum|crc|decod|index|blosc|out of"):
            open_array(place)[8:16]
    path.write_bytes(whole)
    assert np.array_equal(open_array(place)[:], values)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [("int64", np.arange(500)), ("str", np.array(["JAX_004"] * 500, np.dtypes.StringDType()))],
)
def test_every_flipped_bit_of_a_small_array_is_noticed(place, tmp_path, dtype, values):
    write_array(place, ArraySpec((500,), ("patch",), dtype), values)
    path = tmp_path / "cube.zarr" / "c" / "0"
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for position in rng.integers(0, len(whole), 30):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        try:
            read = open_array(place)[:]
        except Exception:  # noqa: BLE001 (each codec raises its own)
            continue
        # A bit of zstd's header that means nothing may change nothing; data must never change in silence.
        assert np.array_equal(read, values)


def test_missing_foreign_and_shortened_files_are_named(place, tmp_path):
    _, written = filled(place)
    sizes = {shard_key(n, 4): size for n, (_, size) in enumerate(written)}
    assert check_shards(place, SPEC, sizes) == []
    folder = tmp_path / "cube.zarr"
    (folder / shard_key(1, 4)).unlink()
    (folder / "c/9/0/0").mkdir(parents=True)
    (folder / "c/9/0/0/0").write_bytes(b"x")
    (folder / shard_key(2, 4)).write_bytes(b"short")
    assert check_shards(place, SPEC, sizes) == [
        "cube.zarr/c/1/0/0/0 is missing",
        "cube.zarr/c/9/0/0/0 does not belong there",
        f"cube.zarr/c/2/0/0/0 has 5 bytes, not {written[2][1]}",
    ]
    (folder / METADATA).unlink()
    assert f"cube.zarr/{METADATA} is missing" in check_shards(place, SPEC)


def test_the_digest_of_an_array_covers_metadata_and_every_file(place, tmp_path):
    _, written = filled(place)
    digest, files = array_digest(place)
    assert files == tree(tmp_path / "cube.zarr")
    known = {shard_key(n, 4): sha for n, (sha, _) in enumerate(written)}
    assert array_digest(place, shards=known)[0] == digest
    for name in [METADATA, *known]:
        path = tmp_path / "cube.zarr" / name
        whole = path.read_bytes()
        path.write_bytes(whole + b" ")
        assert array_digest(place)[0] != digest
        path.write_bytes(whole)
    assert array_digest(place)[0] == digest


def test_stored_bytes_are_those_of_the_files_that_belong_there(place, tmp_path):
    folder = tmp_path / "cube.zarr"
    filled(place / "msi")
    write_array(place / "latents/a/z", ArraySpec((4,), ("patch",), "float32"), np.zeros(4, np.float32))
    write_array(place / "scalar", ArraySpec((), (), "int64"), np.array(3))
    place.put(METADATA, group_document({"title": "three arrays"}))
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 4 + 2 + 2 + 1
    assert stored_bytes(place) == sum(files)
    (folder / "msi" / "c/0/foreign").write_bytes(b"123")
    assert stored_bytes(place) == sum(files)
    lost = folder / "msi" / shard_key(1, 4)
    size = lost.stat().st_size
    lost.unlink()
    assert stored_bytes(place) == sum(files) - size


# --- groups ---------------------------------------------------------------------------------------


def test_a_group_is_what_its_document_says(place):
    values, _ = filled(place / "msi")
    digests = {"msi": array_digest(place / "msi")[0]}
    place.put(METADATA, group_document({"geoae_arrays": digests}, consolidated(place, ["msi"])))
    with xr.open_zarr(place.root) as opened:
        assert np.array_equal(opened.msi, values)
    assert read_group(place)["attributes"]["geoae_arrays"].keys() == {"msi"}
    assert read_group(place / "nowhere") is None
    with pytest.raises(IntegrityError, match="does not describe a group"):
        read_group(place / "msi")
    with pytest.raises(IntegrityError, match=r"rgb has no zarr\.json"):
        consolidated(place, ["msi", "rgb"])
