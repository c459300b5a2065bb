"""Cubes as other implementations of Zarr read them: tensorstore, and zarrs as zarr's codec pipeline.

Warnings are errors in every test, so none of these readers warns.
"""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from command_line import runner
from cube_scenes import catalog_of, tree
from small_cubes import small_cube

import geoae
from geoae.chunks import RowReader, encode_shard, shard_key
from geoae.cube import Cube
from geoae.ingestion import ingest
from geoae.location import Location
from geoae.store import METADATA, ArraySpec, create_array, open_array
from geoae.verification import verify

ZARRS = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
ONE_THREAD = {
    **ZARRS,
    "threading.max_workers": 1,
    "codec_pipeline.chunk_concurrent_minimum": 1,
    "codec_pipeline.chunk_concurrent_maximum": 1,
}
"""With these a shard has the same bytes each time that it is written."""


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube of two shards without CRS, with a layer of every kind; never change it."""
    cube = small_cube(tmp_path_factory.mktemp("readers"), side=40, scenes=3, crs=None)
    geoae.split(cube)
    geoae.encode(cube, plugin="pca", options={"latent_dim": 3}, reconstructions=True)
    geoae.summarize(cube)
    geoae.cluster(cube, latents="pca", k=3)
    geoae.project(cube, latents="pca")
    return cube.location.path


@pytest.fixture
def zarrs() -> Any:
    return pytest.importorskip("zarrs", reason="zarrs is not installed (pip install 'geoae[dev]')")


@pytest.fixture
def tensorstore() -> Any:
    return pytest.importorskip(
        "tensorstore", reason="tensorstore is not installed (pip install 'geoae[dev]')"
    )


def arrays_of(cube: Path) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    """Values and dimensions of every array of the root and its layers, as plain xarray reads them."""
    groups = {p.parent.relative_to(cube).as_posix() for p in cube.glob(f"*/*/{METADATA}")}
    layers = {
        path for path in groups if json.loads((cube / path / METADATA).read_text())["node_type"] == "group"
    }
    found = {}
    for group in ["", *sorted(layers)]:
        with xr.open_zarr(cube, group=group, chunks=None) as opened:
            for name, variable in opened.variables.items():
                found[f"{group}/{name}".strip("/")] = variable.values, variable.dims
    on_disk = {
        p.parent.relative_to(cube).as_posix() for p in cube.rglob(METADATA) if (p.parent / "c").exists()
    }
    assert set(found) == on_disk
    return found


def is_text(values: np.ndarray) -> bool:
    return values.dtype.kind in "OTU"


def opened_by_tensorstore(tensorstore: Any, place: Path) -> Any:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(place)}}
    return tensorstore.open(spec, read=True, open=True).result()


def test_tensorstore_reads_every_number(cube: Path, tensorstore: Any) -> None:
    """It knows no strings; names, cities and CRS are not for it."""
    numbers = {name: found for name, found in arrays_of(cube).items() if not is_text(found[0])}
    assert {
        "rgb",
        "agl",
        "label_valid",
        "bounds",
        "latents/pca/reconstruction",
        "clusters/pca/cluster",
    } < set(numbers)
    for name, (values, dims) in numbers.items():
        array = opened_by_tensorstore(tensorstore, cube / name)
        assert array.domain.labels == dims, name
        assert array.dtype.numpy_dtype == values.dtype, name
        read = array.read().result()
        assert np.array_equal(read, values, equal_nan=values.dtype.kind == "f"), name


@pytest.mark.parametrize("settings", [ZARRS, ONE_THREAD], ids=["defaults", "one thread"])
def test_zarrs_reads_every_array(cube: Path, zarrs: Any, settings: dict[str, Any]) -> None:
    expected = arrays_of(cube)
    with zarr.config.set(settings):
        for name, (values, _) in expected.items():
            array = zarr.open_array(cube / name, mode="r")
            pipeline = array.async_array.codec_pipeline
            assert isinstance(pipeline, zarrs.ZarrsCodecPipeline)
            assert pipeline.impl is not None, name  # its own code, not zarr's
            read = np.asarray(array[...])
            assert np.array_equal(read, values, equal_nan=values.dtype.kind == "f"), name
        again = arrays_of(cube)
        with geoae.open_cube(cube) as opened:
            assert np.array_equal(opened.rgb.values, expected["rgb"][0])
            assert np.array_equal(opened.pca_z.values, expected["latents/pca/z"][0], equal_nan=True)
    assert all(
        np.array_equal(again[n][0], v, equal_nan=v.dtype.kind == "f") for n, (v, _) in expected.items()
    )


def test_readers_notice_flipped_bits(cube: Path, tensorstore: Any, zarrs: Any, tmp_path: Path) -> None:
    """The checksums are in the format, so it is not geoae alone that finds damage."""
    shutil.copytree(cube / "rgb", tmp_path / "rgb")
    file = tmp_path / "rgb" / shard_key(0, 4)
    content = file.read_bytes()
    rng = random.Random(7)
    for _ in range(25):
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"(?i)mismatch|checksum|index|byte range"):
            opened_by_tensorstore(tensorstore, tmp_path / "rgb").read().result()
        with zarr.config.set(ZARRS), pytest.raises(RuntimeError):
            zarr.open_array(tmp_path / "rgb", mode="r")[...]


def test_geoae_works_with_zarrs_and_finds_the_same_damage(cube: Path, zarrs: Any, tmp_path: Path) -> None:
    for path in cube.parent.glob("c.zarr*"):
        shutil.copytree(path, tmp_path / path.name)
    copy = tmp_path / "c.zarr"
    with zarr.config.set(ZARRS):
        assert verify(copy) == verify(Cube.open(copy))
        assert not verify(copy).findings
        for name in ("agl/c/0/0/0", "pixel_size_x/c/0", "city/c/0"):
            content = (copy / name).read_bytes()
            (copy / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            assert [finding.what.split(",")[0] for finding in verify(copy).findings] == [name.split("/")[0]]
            (copy / name).write_bytes(content)


def test_what_zarr_is_set_to_changes_no_byte_of_a_cube(cube: Path, zarrs: Any, tmp_path: Path) -> None:
    """The cube holds whole arrays of the fill value, the pixel sizes, which zarrs would not write."""
    with zarr.config.set(ZARRS):
        ingest(cube.parent / "scenes", catalog=catalog_of(), out=tmp_path / "c.zarr", patch=8)
        geoae.split(tmp_path / "c.zarr")
        geoae.summarize(tmp_path / "c.zarr")
    made, expected = tree(tmp_path / "c.zarr"), tree(cube)
    assert np.isnan(arrays_of(cube)["pixel_size_x"][0]).all()
    assert set(made) < set(expected)
    assert {n for n in made if made[n] != expected[n]} == {METADATA}  # it names the other layers


@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_pipeline_that_is_not_installed_is_one_line(
    cube: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with zarr.config.set({"codec_pipeline.path": "no_such_package.Pipeline"}):
        answer = runner(capsys)(command, cube)
    assert answer.code == 2
    assert "zarr's settings do not work here: Pipeline class 'no_such_package.Pipeline'" in answer.error
    assert "ZARR_CODEC_PIPELINE__PATH" in answer.advice


# --- writing through zarrs: what speaks for it and against it ---------------------------------------

ROWS, LENGTH, CHUNK = 29, 12, 4


def written_by_zarrs(place: Location, values: np.ndarray) -> None:
    dims = ("patch", "band", "y", "x")[: values.ndim]
    create_array(place, ArraySpec(values.shape, dims, values.dtype.name, LENGTH, CHUNK))
    with zarr.config.set(ONE_THREAD):
        array = open_array(place, read_only=False)
        for start in range(0, len(values), LENGTH):
            array[start : start + LENGTH] = values[start : start + LENGTH]


def some_values(dtype: str, rest: tuple[int, ...]) -> np.ndarray:
    values = np.random.default_rng(5).integers(1, 2000, (ROWS, *rest)).astype(dtype)
    values.reshape(ROWS, -1)[:, 0] = 1  # no chunk of nothing but the fill value
    return values


@pytest.mark.parametrize("dtype", ["uint8", "bool", "uint16", "float32", "float64"])
@pytest.mark.parametrize("rest", [(), (6, 5), (3, 60, 60)])
def test_shards_of_zarrs_are_those_of_geoae_up_to_the_release_of_zstd(
    zarrs: Any, tmp_path: Path, dtype: str, rest: tuple[int, ...]
) -> None:
    """zarrs and numcodecs bring a zstd each; where both choose alike, every byte is the same."""
    values = some_values(dtype, rest)
    place = Location.of(tmp_path / "a")
    written_by_zarrs(place, values)
    first = tree(tmp_path / "a")
    written_by_zarrs(place, values)
    assert tree(tmp_path / "a") == first  # the same bytes each time
    array = open_array(place)
    out = np.empty_like(values)
    RowReader(place, array).read(0, ROWS, out)  # index, checksums and headers as geoae demands them
    assert np.array_equal(out, values)
    for shard in range(-(-ROWS // LENGTH)):
        part = values[shard * LENGTH : (shard + 1) * LENGTH]
        ours = b"".join(encode_shard(part, LENGTH, CHUNK, array.fill_value))
        theirs = place.get(shard_key(shard, values.ndim)) or b""
        if values.dtype.kind in "ub" or values.nbytes < 10_000:
            assert theirs == ours
        assert [c[:12] for c in chunks_of(theirs)] == [c[:12] for c in chunks_of(ours)]  # blosc's headers


def chunks_of(shard: bytes) -> list[bytes]:
    index = np.frombuffer(shard[-(16 * LENGTH // CHUNK + 4) : -4], "<u8").reshape(-1, 2)
    return [shard[int(a) : int(a + n)] for a, n in index if a != 2**64 - 1]


def test_zarrs_leaves_out_chunks_of_the_fill_value(zarrs: Any, tmp_path: Path) -> None:
    """Even where it is told to write them: why geoae does not write through it."""
    values = some_values("uint16", (6, 5))
    values[CHUNK : 2 * CHUNK] = 0
    written_by_zarrs(Location.of(tmp_path / "a"), values)
    content = (tmp_path / "a" / shard_key(0, 3)).read_bytes()
    assert len(chunks_of(content)) == LENGTH // CHUNK - 1
    assert len(chunks_of(b"".join(encode_shard(values[:LENGTH], LENGTH, CHUNK, 0)))) == LENGTH // CHUNK
