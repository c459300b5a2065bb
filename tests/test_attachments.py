"""Attachments: latents made elsewhere become a layer, or one line says why not."""

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from command_line import runner

import geoae
from geoae.cube import Cube
from geoae.errors import InputError, StoreExistsError, UsageError

DIM = 5


@pytest.fixture
def table(us3d_cube: Path) -> pd.DataFrame:
    """The patches of the cube with the keys as columns."""
    return Cube.open(us3d_cube).table().reset_index()


@pytest.fixture
def vectors(table: pd.DataFrame) -> np.ndarray:
    """A vector for each patch, exactly representable: its patch number and component."""
    return (np.arange(len(table))[:, None] + np.arange(DIM) / 8).astype(np.float32)


def _stored(cube: Path, name: str) -> np.ndarray:
    return Cube.open(cube).layer(f"latents/{name}")["z"].to_numpy()


def _parquet(path: Path, vectors: Any, **columns: Any) -> Path:
    pq.write_table(pa.table({**columns, "embedding": list(vectors)}), path)
    return path


def _npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def _zarr(path: Path, **arrays: Any) -> Path:
    group = zarr.create_group(path)
    for name, values in arrays.items():
        group.create_array(name, data=np.asarray(values))
    return path


def _texts(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=str)


WAYS = {
    "patch": {"patch": "patch_id"},
    "cell": {"scene_id": "scene_id", "row": "row", "col": "col"},
    "window": {"scene": "scene_id", "row_off": "y_start", "col_off": "x_start"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["parquet", "columns", "npz"])
def test_rows_find_their_patches_in_any_order(
    cube_copy: Path, tmp_path: Path, table: pd.DataFrame, vectors: np.ndarray, way: str, kind: str
) -> None:
    order = np.random.default_rng(1).permutation(len(table))
    rows, z = table.iloc[order], vectors[order]
    keys = {column: rows[source].to_numpy() for column, source in WAYS[way].items()}
    if kind == "parquet":
        file = _parquet(tmp_path / "e.parquet", z, **keys)
    elif kind == "columns":
        numbered = {f"e{i}": z[:, i] for i in reversed(range(DIM))}
        file = tmp_path / "e.parquet"
        pd.DataFrame({**keys, **numbered, "year2020": 1.0}).to_parquet(file)
    else:
        plain = {k: _texts(v) if v.dtype == object else v for k, v in keys.items()}
        file = _npz(tmp_path / "e.npz", emb=z, **plain)
    report = geoae.attach(cube_copy, file, name="mine")
    assert (report.matched_by, report.attached, report.missing) == (way, len(table), 0)
    assert report.latent_dim == DIM
    np.testing.assert_array_equal(_stored(cube_copy, "mine"), vectors)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_zarr_group_and_a_bare_array(
    cube_copy: Path, tmp_path: Path, table: pd.DataFrame, vectors: np.ndarray, zarr_format: Any
) -> None:
    group = zarr.create_group(tmp_path / "e.zarr", zarr_format=zarr_format)
    group.create_array("emb", data=vectors[::-1].astype("f8"), chunks=(7, 2))
    group.create_array("patch", data=np.arange(len(table))[::-1].copy())
    assert geoae.attach(cube_copy, tmp_path / "e.zarr", name="group").matched_by == "patch"
    zarr.create_array(tmp_path / "bare", data=vectors, zarr_format=zarr_format)
    assert geoae.attach(cube_copy, tmp_path / "bare", name="bare").matched_by == "order"
    for name in ("group", "bare"):
        np.testing.assert_array_equal(_stored(cube_copy, name), vectors)


def test_an_array_is_all_patches_in_order(cube_copy: Path, tmp_path: Path, vectors: np.ndarray) -> None:
    for name, dtype in (("half", "f2"), ("bytes", "i1"), ("big", ">f8")):
        np.save(tmp_path / "e.npy", vectors.astype(dtype))
        geoae.attach(cube_copy, tmp_path / "e.npy", name=name)
        np.testing.assert_array_equal(_stored(cube_copy, name), vectors.astype(dtype))


@pytest.mark.parametrize("width", ["list", "fixed"])
def test_patches_without_a_row_and_without_a_vector_are_missing(
    cube_copy: Path, tmp_path: Path, vectors: np.ndarray, width: str
) -> None:
    rows = np.arange(3, len(vectors))
    lists: list[Any] = [None if p in (3, 9) else vectors[p].tolist() for p in rows]
    lists[5] = [float("nan")] * DIM  # patch 8
    kind = pa.list_(pa.float32(), DIM) if width == "fixed" else pa.large_list(pa.float64())
    pq.write_table(pa.table({"patch": rows, "v": pa.array(lists, kind)}), tmp_path / "e.parquet")
    report = geoae.attach(cube_copy, tmp_path / "e.parquet", name="some")
    gone = np.isin(np.arange(len(vectors)), [0, 1, 2, 3, 8, 9])
    assert (report.attached, report.missing) == (len(vectors) - 6, 6)
    stored = _stored(cube_copy, "some")
    assert np.isnan(stored[gone]).all()
    np.testing.assert_array_equal(stored[~gone], vectors[~gone])
    (info,) = Cube.open(cube_copy).layers()
    assert info.record.counts == {"attached": len(vectors) - 6, "missing": 6}


def test_the_record_says_where_it_is_from(cube_copy: Path, tmp_path: Path, vectors: np.ndarray) -> None:
    import hashlib

    file = _parquet(tmp_path / "e.parquet", vectors, patch=np.arange(len(vectors)))
    report = geoae.attach(cube_copy, file, name="clay", origin="Clay 1.5, class token")
    cube = Cube.open(cube_copy)
    (info,) = cube.layers()
    digest = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert report.sha256 == digest
    assert info.record.made_by == "attach"
    assert info.record.options == {
        "file": "e.parquet",
        "sha256": digest,
        "matched_by": "patch",
        "vector": "embedding",
        "origin": "Clay 1.5, class token",
    }
    assert info.record.inputs == {"cube": cube.cube_id}
    attributes = cube.layer("latents/clay").attrs
    assert attributes["geoemb:model"] == "Clay 1.5, class token"
    assert attributes["geoemb:dimensions"] == DIM


def test_it_is_a_layer_like_any_other(
    us3d_cube: Path, cube_copy: Path, tmp_path: Path, vectors: np.ndarray
) -> None:
    np.save(tmp_path / "e.npy", vectors)
    geoae.attach(cube_copy, tmp_path / "e.npy", name="mine")
    geoae.summarize(cube_copy)
    assert geoae.cluster(cube_copy, latents="mine", k=2).used == len(vectors)
    geoae.project(cube_copy, latents="mine")
    geoae.export_geopackage(cube_copy, tmp_path / "c.gpkg", projection="mine_pca")
    assert geoae.open_cube(cube_copy)["mine_z"].shape == vectors.shape
    assert geoae.verify(cube_copy).findings == ()
    assert "latents/mine only in the second" in geoae.diff(us3d_cube, cube_copy).lines
    other = tmp_path / "other"
    other.mkdir()
    for path in us3d_cube.parent.iterdir():
        shutil.copytree(path, other / path.name)
    np.save(tmp_path / "e.npy", vectors + 1)
    geoae.attach(other / cube_copy.name, tmp_path / "e.npy", name="mine")
    (line,) = [x for x in geoae.diff(cube_copy, other / cube_copy.name).lines if x.startswith("latents/")]
    assert line.startswith("latents/mine differs: sha256: sha256:")


def test_equal_work_is_done_once_and_another_file_is_refused(
    cube_copy: Path, tmp_path: Path, vectors: np.ndarray
) -> None:
    file = tmp_path / "e.npy"
    np.save(file, vectors)
    assert geoae.attach(cube_copy, file, name="mine").created
    assert not geoae.attach(cube_copy, file, name="mine").created
    np.save(file, vectors + 1)
    with pytest.raises(StoreExistsError, match="exists and was made otherwise"):
        geoae.attach(cube_copy, file, name="mine")
    geoae.attach(cube_copy, file, name="mine", overwrite=True)
    np.testing.assert_array_equal(_stored(cube_copy, "mine"), vectors + 1)


def test_damage_is_found_and_mended_from_the_file(
    cube_copy: Path, tmp_path: Path, vectors: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "my e.npz", emb=vectors, patch=np.arange(len(vectors)))
    run = runner(capsys)
    attach = ("attach", tmp_path / "my e.npz", "--name", "mine", "--cube", cube_copy, "--origin", "a lab")
    assert run(*attach).code == 0
    geoae.cluster(cube_copy, latents="mine", k=2)
    written = {p: p.read_bytes() for p in cube_copy.rglob("*") if p.is_file()}
    shard = cube_copy / "latents/mine/z/c/0/0"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert run("verify", cube_copy).code == 5
    repaired = run("repair", cube_copy)
    assert repaired.code == 5
    assert "it needs the file that it was attached from, my e.npz (sha256:" in repaired.out
    hint = "geoae attach 'my e.npz' --name mine --vector emb --by patch --origin 'a lab' --overwrite"
    assert hint in repaired.out
    again = run(*attach, "--vector", "emb", "--by", "patch", "--overwrite")
    assert again.code == 0
    # The bytes that were there: what was made from it is not stale.
    assert {p: p.read_bytes() for p in cube_copy.rglob("*") if p.is_file()} == written


def _write_text(path: Path) -> Path:
    path.write_text("version https://git-lfs.github.com/spec/v1")
    return path


def _pickled(path: Path) -> Path:
    np.save(path, np.array([{}, {}], dtype=object), allow_pickle=True)
    return path


def _pickled_member(path: Path) -> Path:
    np.savez(path, emb=np.zeros((2, 2)), patch=np.array([0, {}], dtype=object))
    return path


class _Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def _pickled_chunks(path: Path) -> Path:
    path.mkdir()
    meta = {
        "zarr_format": 2, "shape": [2, 2], "chunks": [2, 2], "dtype": "|O", "order": "C", "fill_value": "",
        "compressor": None, "filters": [{"id": "vlen-utf8"}, {"id": "pickle", "protocol": 5}],
    }  # fmt: skip
    (path / ".zarray").write_text(json.dumps(meta))
    (path / "0.0").write_bytes(pickle.dumps(_Payload(path / "run")))
    return path


def _bomb(path: Path) -> Path:
    """A header that claims 8 TB, followed by nothing."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("emb.npy", header.getvalue())
    return path


def _wide(path: Path) -> Path:
    np.save(path, np.zeros((1, 70_000)))
    return path


def _saved(array: Any) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        np.save(path, np.asarray(array))
        return path

    return write


def _p(vectors: Any, **columns: Any) -> Callable[[Path], Path]:
    return lambda path: _parquet(path, vectors, **columns)


ONE, TWO = [[1.0, 2.0]], [[1.0, 2.0], [3.0, 4.0]]
NAN, INF = float("nan"), float("inf")

WRONG: dict[str, tuple[str, Any, type[Exception], str]] = {
    "no file": ("e.npy", lambda path: path, InputError, "there is no file"),
    "folder": ("e", lambda path: path.mkdir() or path, InputError, "is a folder without Zarr metadata"),
    "format": ("e.csv", _write_text, UsageError, "attach reads no '.csv'"),
    "text as npy": ("e.npy", _write_text, InputError, "e.npy cannot be read"),
    "text as npz": ("e.npz", _write_text, InputError, "e.npz cannot be read: File is not a zip file"),
    "text as parquet": ("e.parquet", _write_text, InputError, "e.parquet cannot be read: Parquet magic"),
    "pickle": ("e.npy", _pickled, InputError, "Python objects"),
    "pickle in npz": ("e.npz", _pickled_member, InputError, "Python objects"),
    "pickle in zarr": ("e.zarr", _pickled_chunks, InputError, "Python objects"),
    "bomb": ("e.npz", _bomb, InputError, "e.npz has 1000000 rows, the cube 144 patches"),
    "wide": ("e.npy", _wide, InputError, "70000 components, not 1 to 65536"),
    "short array": ("e.npy", _saved(TWO), InputError, "has 2 rows, the cube 144 patches"),
    "long array": ("e.npy", _saved(np.zeros((145, 2))), InputError, "has 145 rows, the cube 144"),
    "no rows": ("e.npy", _saved(np.zeros((0, 2))), InputError, "has no rows"),
    "one dimension": ("e.npy", _saved(np.zeros(144)), InputError, r"the shape \(144,\), not"),
    "text values": ("e.npy", _saved(np.full((144, 2), "a")), InputError, "holds <U1, not real numbers"),
    "complex values": ("e.npy", _saved(np.ones((144, 2), complex)), InputError, "not real numbers"),
    "all NaN": ("e.npy", _saved(np.full((144, 2), NAN)), InputError, "has no row with a vector"),
    "too large": ("e.npy", _saved(np.full((144, 2), 1e39)), InputError, "row 0: component 0 .* is 1e[+]39"),
    "key shape": (
        "e.npz", lambda p: _npz(p, z=TWO, patch=[1]), InputError, r"patch has the shape \(1,\), z 2 rows",
    ),
    "choice": ("e.npz", lambda p: _npz(p, a=TWO, b=TWO), UsageError, "several that could be .*: a, b"),
    "nothing": ("e.npz", lambda p: _npz(p, a=[1]), InputError, "no vectors of numbers: it has a"),
    "no key": ("e.parquet", _p(TWO), InputError, "does not say which patch a row is"),
    "half a key": ("e.parquet", _p(TWO, row=[0, 1]), InputError, "which patch a row is: it has row"),
    "text in lists": ("e.parquet", _p([["a"]], patch=[0]), InputError, "no vectors of numbers"),
    "ragged": ("e.parquet", _p([[1.0], [1.0, 2.0]], patch=[0, 1]), InputError, "row 1: 2 components in"),
    "inf": ("e.parquet", _p([*ONE, [1, INF]], patch=[0, 1]), InputError, "row 1: component 1 .* is inf"),
    "part NaN": ("e.parquet", _p([*ONE, [NAN, 1]], patch=[0, 1]), InputError, "row 1: component 0 .* NaN"),
    "twice": ("e.parquet", _p(TWO, patch=[7, 7]), InputError, "rows 0 and 1 are both patch 7"),
    "unknown": ("e.parquet", _p(TWO, patch=[7, 144]), InputError, "row 1: the cube has no patch 144"),
    "negative": ("e.parquet", _p(TWO, patch=[-1, 1]), InputError, "row 0: the cube has no patch -1"),
    "fractions": ("e.parquet", _p(TWO, patch=[0.5, 1.0]), InputError, "patch does not hold whole numbers"),
    "null key": ("e.parquet", _p(TWO, patch=[None, 1]), InputError, "patch is empty in 1 rows"),
    "number as scene": (
        "e.parquet", _p(ONE, scene=[1], row=[0], col=[0]), InputError, "scene holds int64, not text",
    ),
    "unknown scene": (
        "e.parquet", _p(TWO, scene=["X", "Y"], row=[0, 0], col=[0, 0]), InputError,
        "row 0: the cube has no patch scene X row 0 col 0; nor those of 1 more rows",
    ),
    "contradiction": (
        "e.parquet", _p(ONE, patch=[0], scene=["JAX_001_001"], row=[0], col=[9]), InputError,
        "row 0: patch 0 is not scene JAX_001_001 row 0 col 9 in this cube",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_attached(
    us3d_cube: Path, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, write, kind, message = WRONG[what]
    file = write(tmp_path / name)
    with pytest.raises(kind, match=message):
        geoae.attach(us3d_cube, file, name="mine")
    assert not (file / "run").exists()
    answer = runner(capsys)("attach", file, "--name", "mine", "--cube", us3d_cube)
    assert answer.code == (2 if kind is UsageError else 3)
    assert answer.error
    assert Cube.open(us3d_cube).layers() == ()
    assert not (us3d_cube.parent / f"{us3d_cube.name}.work" / "layers").exists()


def test_a_file_of_another_cube(
    cube_copy: Path, us3d_folder: Path, tmp_path: Path, vectors: np.ndarray
) -> None:
    other = tmp_path / "other.zarr"
    geoae.ingest(us3d_folder, out=other, patch=32, edge="pad", min_valid=0.25)
    assert Cube.open(other).cube_id != Cube.open(cube_copy).cube_id
    np.save(tmp_path / "e.npy", vectors)
    geoae.attach(other, tmp_path / "e.npy", name="mine")
    layer = other / "latents" / "mine"
    with pytest.raises(InputError, match=r"mine is of the cube sha256:\w+, this is sha256:"):
        geoae.attach(cube_copy, layer, name="mine")
    assert geoae.attach(other, layer, name="twin").matched_by == "patch"
    file = _npz(tmp_path / "e.npz", z=vectors, patch=np.arange(len(vectors)), geoae_cube="sha256:0")
    with pytest.raises(InputError, match="is of the cube sha256:0, this is"):
        geoae.attach(cube_copy, file, name="mine")


def test_one_way_can_be_chosen(
    cube_copy: Path, tmp_path: Path, table: pd.DataFrame, vectors: np.ndarray
) -> None:
    keys = {name: table[name].to_numpy() for name in ("scene_id", "row", "col")}
    # Numbers of some other numbering; scenes and places are right.
    file = _parquet(tmp_path / "e.parquet", vectors, patch=table["patch_id"][::-1].to_numpy(), **keys)
    with pytest.raises(InputError, match="in this cube"):
        geoae.attach(cube_copy, file, name="mine")
    assert geoae.attach(cube_copy, file, name="mine", by="cell").matched_by == "cell"
    np.testing.assert_array_equal(_stored(cube_copy, "mine"), vectors)
    with pytest.raises(UsageError, match="no columns scene_id, y_start, x_start to go by"):
        geoae.attach(cube_copy, file, name="other", by="window")


def test_the_vectors_can_be_named(cube_copy: Path, tmp_path: Path, vectors: np.ndarray) -> None:
    file = _npz(tmp_path / "e.npz", a=vectors, b=-vectors, z=vectors * 2)
    geoae.attach(cube_copy, file, name="z")
    geoae.attach(cube_copy, file, name="b", vector="b")
    np.testing.assert_array_equal(_stored(cube_copy, "z"), vectors * 2)
    np.testing.assert_array_equal(_stored(cube_copy, "b"), -vectors)
    with pytest.raises(InputError, match="'c' is not there"):
        geoae.attach(cube_copy, file, name="c", vector="c")
    frame = pd.DataFrame({"patch": range(len(vectors)), "label": "x"})
    for family, sign in (("p", 1), ("q_", -1)):
        frame[[f"{family}{i}" for i in range(1, DIM + 1)]] = sign * vectors
    frame.to_parquet(tmp_path / "wide.parquet")
    with pytest.raises(UsageError, match=r"several that could be vectors: p\*, q_\*"):
        geoae.attach(cube_copy, tmp_path / "wide.parquet", name="wide")
    geoae.attach(cube_copy, tmp_path / "wide.parquet", name="wide", vector="q_*")
    np.testing.assert_array_equal(_stored(cube_copy, "wide"), -vectors)
    with pytest.raises(InputError, match="'label' is no list or array of numbers"):
        geoae.attach(cube_copy, tmp_path / "wide.parquet", name="label", vector="label")


def test_a_link_out_of_a_zarr_store_is_not_followed(us3d_cube: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(np.zeros(4, "f4").tobytes())
    array = zarr.create_array(tmp_path / "e.zarr", shape=(2, 2), chunks=(2, 2), dtype="f4", compressors=None)
    assert array.shape == (2, 2)
    (tmp_path / "e.zarr/c/0").mkdir(parents=True)
    (tmp_path / "e.zarr/c/0/0").symlink_to(secret)
    with pytest.raises(InputError, match="c/0/0 is a link that leaves the store"):
        geoae.attach(us3d_cube, tmp_path / "e.zarr", name="mine")


def test_the_command(
    cube_copy: Path, tmp_path: Path, vectors: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(capsys)
    file = _parquet(tmp_path / "e.parquet", vectors[4:], patch=np.arange(4, len(vectors)))
    common = ("attach", file, "--cube", cube_copy, "--name", "mine")
    before = sorted(tmp_path.rglob("*"))
    dry = run(*common, "--dry-run", "--json")
    assert (dry.code, dry.json["dry_run"], dry.json["created"], dry.json["missing"]) == (0, True, False, 4)
    assert sorted(tmp_path.rglob("*")) == before
    done = run(*common)
    assert done.code == 0
    assert (
        done.out
        == f"latents/mine: {len(vectors) - 4} patches, 5 components from e.parquet; 4 patches have none\n"
    )
    assert "--origin" in done.err
    assert "nothing done" in run(*common).out
    assert "attached, 4 missing" in run("info", cube_copy).out
    listed = run("ls", cube_copy).out
    for words in ("latents/mine", "attach from the cube", "file=e.parquet"):
        assert words in listed
    assert run(*common, "--by", "nothing").code == 2
    assert run("attach", file, "--cube", cube_copy, "--name", "a/b").code == 2
