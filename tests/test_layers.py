"""Layers: invisible before their commit, whole after it, whatever dies in between and whoever else writes."""

import contextlib
import json
import shutil
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr
from cube_scenes import SMALL, scene_pixels, tree, write_scene

from geoae.commits import finish_swaps
from geoae.cube import Cube
from geoae.errors import IntegrityError, LockedError, StoreExistsError, UsageError
from geoae.ingestion import ingest
from geoae.layers import LayerWriter, dependants, remove_layer, write_layer
from geoae.location import Location, work_folder
from geoae.provenance import Record
from geoae.store import METADATA, METADATA_DIGEST, ArraySpec
from geoae.verification import verify


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A cube of 100 patches, two shards, without layers; never change it."""
    root = tmp_path_factory.mktemp("source")
    write_scene(root / "s", "JAX_001_001", scene_pixels((80, 80), 1, kinds=("RGB",)))
    ingest(root / "s", catalog=SMALL, out=root / "c.zarr", patch=8)
    return root / "c.zarr"


@pytest.fixture
def cube(source, tmp_path):
    shutil.copytree(source, tmp_path / "c.zarr")
    return Cube.open(tmp_path / "c.zarr")


SPECS = {
    "z": ArraySpec((100, 3), ("patch", "component"), "float32", shard=64, chunk=16),
    "error": ArraySpec((100,), ("patch",), "float32", shard=64, chunk=16),
}


def record(cube, value=0, **options):
    return Record(made_by="test", options={"value": value, **options}, inputs={"cube": cube.cube_id})


def clusters(value=0):
    return xr.Dataset({"cluster": ("patch", np.full(100, value, np.int32))}, attrs={"title": f"all {value}"})


def shard_values(shard, value=0):
    n = (64, 36)[shard]
    return {
        "z": np.full((n, 3), value + shard, np.float32),
        "error": np.full(n, np.nan, np.float32),
    }


def write_latents(cube, value=0, shards=(0, 1), overwrite=False, commit=True):
    with LayerWriter(cube, "latents/a", record(cube, value), SPECS, overwrite=overwrite) as writer:
        if writer.exists:
            return "exists"
        done = writer.done()
        for shard in shards:
            if shard not in done:
                writer.write(shard, shard_values(shard, value))
        if commit:
            writer.commit({}, {"title": "latents"}, counts={"used": 100})
        return done


def visible(cube):
    """Layers that plain xarray finds from the root, and those that it opens by name."""
    with xr.open_datatree(cube.path, engine="zarr") as opened:
        listed = {g.strip("/") for g in opened.groups if opened[g].data_vars} - {""}
    named = set()
    for path in ("latents/a", "clusters/a", "clusters/b"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # xarray warns before it fails
            try:
                xr.open_zarr(cube.path, group=path).close()
            except (FileNotFoundError, KeyError):
                continue
        named.add(path)
    return listed, named


def consistent(cube):
    """Everything belongs, nothing is left over, both ways of finding layers agree."""
    report = verify(cube)
    assert report.ok, report.findings
    listed, named = visible(cube)
    assert listed == named == {info.path for info in Cube.open(cube.path).layers()}
    return listed


# --- writing --------------------------------------------------------------------------------------


def test_a_layer_is_what_was_written(cube):
    pixels = {n: d for n, d in tree(cube.location.path).items() if n != METADATA}
    dataset = xr.Dataset(
        {
            "cluster": ("patch", np.arange(100, dtype=np.int32), {"flag_values": np.array([1, 2])}),
            "distance": ("patch", np.linspace(0, 1, 100, dtype=np.float32)),
            "center": (("cluster_id", "component"), np.ones((2, 3), np.float32)),
            "used": ("patch", np.arange(100) % 2 == 0),
        },
        {"cluster_id": [0, 1], "name": ("cluster_id", np.array(["a", "ä b"], object)), "k": 2},
        {"title": "t"},
    )
    write_layer(cube, "clusters/a", dataset, record(cube))
    with xr.open_zarr(cube.path, group="clusters/a") as opened:
        assert set(opened.data_vars) == {"cluster", "distance", "center", "used"}
        assert set(opened.coords) == {"patch", "cluster_id", "name", "k"}
        for name, variable in dataset.variables.items():
            assert np.array_equal(opened[name].values.astype(variable.dtype), variable.values), name
        assert opened.used.dtype == bool
        assert opened.cluster.attrs["flag_values"] == [1, 2]
        assert opened.attrs["title"] == "t"
        assert opened.attrs["Conventions"] == "CF-1.11"
        assert Record.from_attributes(opened.attrs) == record(cube)
    assert pixels.items() <= tree(cube.location.path).items()
    assert consistent(cube) == {"clusters/a"}


def test_equal_work_makes_equal_bytes_in_any_order(source, tmp_path):
    trees = []
    for number, order in enumerate((("a", "b"), ("b", "a"))):
        shutil.copytree(source, tmp_path / str(number) / "c.zarr")
        cube = Cube.open(tmp_path / str(number) / "c.zarr")
        for name in order:
            write_layer(cube, f"clusters/{name}", clusters(ord(name)), record(cube))
        write_latents(cube, shards=(order == ("a", "b") and (0, 1)) or (1, 0))
        trees.append(tree(cube.location.path))
    assert trees[0] == trees[1]


def test_a_patch_dimension_of_another_length_is_refused(cube):
    with pytest.raises(ValueError, match="has 99 patches, the cube 100"):
        write_layer(cube, "clusters/a", clusters().isel(patch=slice(99)), record(cube))


@pytest.mark.parametrize("path", ["clusters/../../x", "clusters/.", "clusters/", "clusters/a/b"])
def test_names_that_leave_the_cube_are_refused(cube, path):
    before = tree(cube.location.path.parent)
    with pytest.raises(UsageError, match="cannot name a layer"):
        write_layer(cube, path, clusters(), record(cube))
    with pytest.raises(ValueError, match="unknown kind"):
        write_layer(cube, "rgb/a", clusters(), record(cube))
    with pytest.raises(UsageError):
        remove_layer(cube, path)
    assert tree(cube.location.path.parent) == before


def test_an_equal_record_is_not_written_again(cube):
    write_layer(cube, "clusters/a", clusters(1), record(cube))
    before = tree(cube.location.path)
    write_layer(cube, "clusters/a", clusters(2), record(cube))
    assert tree(cube.location.path) == before
    write_latents(cube)
    assert write_latents(cube) == "exists"


def test_another_record_needs_overwrite(cube):
    write_layer(cube, "clusters/a", clusters(1), record(cube))
    before = tree(cube.location.path)
    with pytest.raises(
        StoreExistsError, match=r"clusters/a of c\.zarr exists and was made otherwise"
    ) as caught:
        write_layer(cube, "clusters/a", clusters(2), record(cube, 2))
    assert caught.value.exit_code == 2
    assert tree(cube.location.path) == before
    write_layer(cube, "clusters/a", clusters(2), record(cube, 2), overwrite=True)
    assert (cube.layer("clusters/a").cluster == 2).all()
    assert consistent(cube) == {"clusters/a"}


def test_counts_are_results_and_no_part_of_the_work(cube):
    write_latents(cube)
    assert cube.layer_info("latents/a").record.counts == {"used": 100}


# --- by shards ------------------------------------------------------------------------------------


def test_nothing_is_visible_before_the_commit(cube):
    with LayerWriter(cube, "latents/a", record(cube), SPECS) as writer:
        assert writer.n_shards == 2
        for shard in (1, 0):
            writer.write(shard, shard_values(shard))
            assert visible(cube) == (set(), set())
            assert cube.layers() == ()
        assert np.array_equal(writer.read("z")[:, 0], np.repeat([0, 1], [64, 36]))
        writer.commit({}, {})
    assert consistent(cube) == {"latents/a"}
    group = zarr.open_group(cube.path, mode="r")["latents/a"]
    assert np.array_equal(group["z"][:, 0], np.repeat([0, 1], [64, 36]))
    assert np.isnan(group["error"][:]).all()


def test_a_missing_shard_is_not_committed(cube):
    with LayerWriter(cube, "latents/a", record(cube), SPECS) as writer:
        writer.write(1, shard_values(1))
        with pytest.raises(
            IntegrityError, match=r"latents/a: z/c/0/0 is missing .*run the same command again"
        ):
            writer.commit({}, {})
    assert visible(cube) == (set(), set())


@pytest.mark.parametrize(
    "values",
    [
        {"z": np.zeros((64, 3), np.float32)},
        {"z": np.zeros((63, 3), np.float32), "error": np.zeros(64, np.float32)},
        {"z": np.zeros((64, 4), np.float32), "error": np.zeros(64, np.float32)},
        {**shard_values(0), "log_var": np.zeros((64, 3), np.float32)},
    ],
    ids=["missing", "short", "wide", "unknown"],
)
def test_only_whole_shards_of_all_arrays_are_written(cube, values):
    with (
        LayerWriter(cube, "latents/a", record(cube), SPECS) as writer,
        pytest.raises(ValueError, match=r"shard 0"),
    ):
        writer.write(0, values)


def test_a_run_that_died_is_resumed(cube, source, tmp_path):
    write_latents(cube, shards=(0,), commit=False)
    (cube.location.path / "latents/a/z/zarr.0123.partial").write_bytes(b"x")
    (cube.location.path / "latents/a/z/c/0/.partial-0123").write_bytes(b"x")
    assert write_latents(cube) == {0}
    shutil.copytree(source, tmp_path / "other" / "c.zarr")
    other = Cube.open(tmp_path / "other" / "c.zarr")
    assert write_latents(other) == set()
    assert tree(cube.location.path) == tree(other.location.path)
    assert not (work_folder(cube.location) / "layers/latents/a").exists()


def test_what_was_damaged_meanwhile_is_written_again(cube):
    write_latents(cube, commit=False)
    path = cube.location.path / "latents/a/z/c/0/0"
    path.write_bytes(path.read_bytes()[:-1])
    assert write_latents(cube) == {1}
    assert consistent(cube) == {"latents/a"}


def test_what_other_work_left_is_thrown_away(cube):
    write_latents(cube, 5, shards=(0,), commit=False)
    assert write_latents(cube, 6) == set()
    assert float(cube.layer("latents/a").z[0, 0]) == 6


def test_a_layer_stays_readable_while_its_successor_is_written(cube):
    write_latents(cube, 1)
    write_latents(cube, 2, shards=(0,), overwrite=True, commit=False)
    assert float(cube.layer("latents/a").z[0, 0]) == 1
    assert consistent(cube) == {"latents/a"}
    assert write_latents(cube, 2, overwrite=True) == {0}
    assert cube.layer("latents/a").z[:, 0].values.tolist() == [2.0] * 64 + [3.0] * 36
    assert consistent(cube) == {"latents/a"}
    assert not any((work_folder(cube.location) / name).exists() for name in ("replaced", "swap.json"))


# --- deaths in the commit -------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a process that ends here."""


def dying(monkeypatch, name, number):
    count = [0]
    original = getattr(Location, name)

    def call(self, *arguments, **options):
        count[0] += 1
        if count[0] > number:
            raise Killed
        return original(self, *arguments, **options)

    monkeypatch.setattr(Location, name, call)


@pytest.mark.parametrize("method", ["move_to", "put", "remove_file", "remove"])
@pytest.mark.parametrize("number", range(4))
def test_a_replacement_that_dies_leaves_the_old_layer_or_the_new_one(cube, monkeypatch, method, number):
    write_latents(cube, 1)
    write_latents(cube, 2, overwrite=True, commit=False)
    with monkeypatch.context() as patched:
        dying(patched, method, number)
        with contextlib.suppress(Killed):
            write_latents(cube, 2, overwrite=True)
    again = Cube.open(cube.path)  # ends what was cut in two
    assert float(again.layer("latents/a").z[0, 0]) in (1, 2)
    assert consistent(again) == {"latents/a"}
    write_latents(again, 2, overwrite=True)
    assert float(again.layer("latents/a").z[0, 0]) == 2
    assert consistent(again) == {"latents/a"}


@pytest.mark.parametrize("method", ["put", "remove_file", "remove"])
@pytest.mark.parametrize("number", range(4))
def test_a_first_commit_that_dies_is_done_or_undone(cube, monkeypatch, method, number):
    with monkeypatch.context() as patched:
        dying(patched, method, number)
        with contextlib.suppress(Killed):
            write_layer(cube, "clusters/a", clusters(1), record(cube))
    again = Cube.open(cube.path)
    assert {info.path for info in again.layers()} == visible(again)[0] == visible(again)[1]
    write_layer(again, "clusters/a", clusters(1), record(cube))
    assert consistent(again) == {"clusters/a"}
    assert not (work_folder(cube.location) / "layers/clusters/a").exists()


@pytest.mark.parametrize("method", ["move_to", "put", "remove_file", "remove"])
@pytest.mark.parametrize("number", range(3))
def test_a_removal_that_dies_is_done_or_undone(cube, monkeypatch, method, number):
    write_layer(cube, "clusters/a", clusters(1), record(cube))
    with monkeypatch.context() as patched:
        dying(patched, method, number)
        with contextlib.suppress(Killed):
            remove_layer(cube, "clusters/a")
    again = Cube.open(cube.path)
    there = consistent(again)
    if there:
        assert (again.layer("clusters/a").cluster == 1).all()
        remove_layer(again, "clusters/a")
    assert consistent(again) == set()


# --- removal and staleness ------------------------------------------------------------------------


def test_a_removed_layer_is_gone_and_the_rest_stays(cube):
    write_layer(cube, "clusters/a", clusters(1), record(cube))
    before = tree(cube.location.path)
    write_layer(cube, "clusters/b", clusters(2), record(cube))
    remove_layer(cube, "clusters/b")
    assert tree(cube.location.path) == before
    with pytest.raises(UsageError, match=r"has no clusters/b .clusters there: a") as caught:
        remove_layer(cube, "clusters/b")
    assert caught.value.exit_code == 2
    write_layer(cube, "clusters/b", clusters(2), record(cube))
    assert consistent(cube) == {"clusters/a", "clusters/b"}


def test_a_damaged_layer_can_be_removed(cube):
    write_layer(cube, "clusters/a", clusters(1), record(cube))
    path = cube.location.path / "clusters/a" / METADATA
    document = json.loads(path.read_text())
    assert METADATA_DIGEST in document["attributes"]
    document["attributes"]["title"] = "changed"
    path.write_text(json.dumps(document))
    remove_layer(cube, "clusters/a")
    assert consistent(cube) == set()


def chain(cube, value=1):
    """Latents, clusters of them, and a projection of both."""
    write_latents(cube, value, overwrite=value > 1)
    for path, inputs in (
        ("clusters/a", ("latents/a",)),
        ("projections/a", ("latents/a", "clusters/a")),
        ("summaries/s", ()),
    ):
        made_from = {"cube": cube.cube_id} | {i: cube.layer_digest(i) for i in inputs}
        try:
            write_layer(cube, path, clusters(1), Record(made_by="test", inputs=made_from))
        except StoreExistsError:
            break


def stale(cube):
    return {info.path: set(info.stale) for info in cube.layers() if info.stale}


def test_what_was_made_from_a_replaced_layer_is_stale(cube):
    chain(cube)
    assert stale(cube) == {}
    assert [i.path for i in dependants(cube, "latents/a")] == ["clusters/a", "projections/a"]
    chain(cube, 2)
    assert stale(cube) == {"clusters/a": {"latents/a"}, "projections/a": {"latents/a", "clusters/a"}}
    remove_layer(cube, "latents/a")
    assert stale(cube) == {"clusters/a": {"latents/a"}, "projections/a": {"latents/a", "clusters/a"}}


def test_what_is_made_again_as_it_was_is_not_stale(cube):
    chain(cube)
    write_latents(cube, 2, overwrite=True)
    assert stale(cube)
    write_latents(cube, 1, overwrite=True)
    assert stale(cube) == {}


def test_a_layer_of_another_cube_is_stale(cube):
    write_layer(cube, "clusters/a", clusters(), Record(made_by="test", inputs={"cube": "sha256:other"}))
    assert stale(cube) == {"clusters/a": {"cube"}}


# --- two at once ----------------------------------------------------------------------------------

HOLD = """
import sys
import numpy as np
from geoae.cube import Cube
from geoae.layers import LayerWriter
from geoae.provenance import Record
from geoae.store import ArraySpec
cube = Cube.open(sys.argv[1])
spec = ArraySpec((100,), ("patch",), "int32", shard=64, chunk=16)
record = Record(made_by="other", inputs={"cube": cube.cube_id})
with LayerWriter(cube, sys.argv[2], record, {"cluster": spec}) as writer:
    for shard, n in enumerate((64, 36)):
        writer.write(shard, {"cluster": np.full(n, 7, np.int32)})
    print("written", flush=True)
    sys.stdin.readline()
    writer.commit({}, {})
print("committed", flush=True)
"""


def other_process(cube, path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, cube.path, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "written\n"
    return process


def test_one_layer_has_one_writer(cube):
    process = other_process(cube, "latents/a")
    try:
        with pytest.raises(LockedError, match="another run is writing 'latents/a'") as caught:
            write_latents(cube)
        assert caught.value.exit_code == 1
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "committed\n"
    finally:
        process.kill()
        process.communicate()
    with pytest.raises(StoreExistsError):
        write_latents(cube)
    assert consistent(cube) == {"latents/a"}


def test_a_writer_that_is_killed_gives_its_lock_back(cube):
    process = other_process(cube, "latents/a")
    process.kill()
    process.communicate()
    assert write_latents(cube) == set()  # other work, so nothing of it is kept
    assert consistent(cube) == {"latents/a"}


def test_two_layers_at_once_are_both_there(cube):
    processes = [other_process(cube, path) for path in ("clusters/a", "clusters/b")]
    try:
        with cube_lock(cube):
            for process in processes:  # both stand before the commit, then go at the same moment
                process.stdin.write("\n")
                process.stdin.flush()
        assert [process.stdout.readline() for process in processes] == ["committed\n"] * 2
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert consistent(cube) == {"clusters/a", "clusters/b"}


def cube_lock(cube):
    return work_folder(cube.location).lock("commit")


def test_many_layers_from_many_threads_are_all_there(cube):
    errors = []

    def write(number):
        try:
            write_layer(cube, f"clusters/n{number}", clusters(number), record(cube))
        except Exception as error:  # noqa: BLE001 (a thread's error must reach the test)
            errors.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    finish_swaps(cube.location)
    assert {info.path for info in cube.layers()} == {f"clusters/n{n}" for n in range(6)}
    assert verify(cube).ok
