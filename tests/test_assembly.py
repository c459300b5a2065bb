"""Assembly: equal bytes for any workers, runs and interruptions; nobody writes after it has returned."""

import importlib.util
import json
import shutil
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import zarr
from cube_scenes import SMALL, scene_pixels, tree, write_scene, write_tif
from rasterio.errors import NotGeoreferencedWarning

from geoae import assembly, shards
from geoae.assembly import assemble
from geoae.errors import GeoaeError, IncompleteError, SceneError, UsageError
from geoae.journal import journal_name, noted
from geoae.location import Location
from geoae.planning import plan_ingest
from geoae.store import METADATA, read_group
from geoae.testing.quirks import garbage_block_tif

KINDS = ("MSI", "CLS")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Five scenes of 16 patches: with shards of 16 rows, one each; with others, scenes are cut."""
    folder = tmp_path_factory.mktemp("good")
    for number in range(5):
        shape = (64, 64) if number != 3 else (48, 40)
        write_scene(folder, f"JAX_00{number}_001", scene_pixels(shape, number, kinds=KINDS))
    return folder


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """Four scenes of 256 patches; the last quarter of the second and third cannot be decoded."""
    folder = tmp_path_factory.mktemp("bad")
    for number in range(4):
        write_scene(folder, f"JAX_00{number}_001", scene_pixels((128, 128), number, kinds=KINDS))
    for number in (1, 2):
        path = folder / f"JAX_00{number}_001_MSI.tif"
        write_tif(folder / "x.tif", scene_pixels((128, 128), number)["MSI"])
        path.unlink()
        garbage_block_tif(path, folder / "x.tif")
        (folder / "x.tif").unlink()
    return folder


def plan_of(folder, **options):
    return plan_ingest(folder, SMALL, **{"patch": 8, **options})


def make(plan, root, *, workers=1, skip_bad=False, scheduler=None, progress=None):
    """Assemble below a folder: ``cube.zarr`` and ``work``."""
    cube, work = Location.of(root / "cube.zarr"), Location.of(root / "work")
    return assemble(plan, cube, work, workers, scheduler, skip_bad=skip_bad, progress=progress)


@pytest.fixture(scope="module")
def right(good, bad, tmp_path_factory):
    """The files of both cubes as one undisturbed worker writes them."""
    trees = {}
    for name, folder in (("good", good), ("bad", bad)):
        root = tmp_path_factory.mktemp(name)
        assert make(plan_of(folder), root, skip_bad=True) == 0
        trees[name] = (tree(root / "cube.zarr"), root)
    return trees


@pytest.fixture
def small_runs(monkeypatch):
    """Tasks of one shard."""
    monkeypatch.setattr(assembly, "RUN_BYTES", 1)


class Killed(BaseException):
    """Stands for a process that ends here."""


def dying_after(monkeypatch, number):
    """Let the process die in place of the n-th journal file."""
    count = [0]
    original = Location.put_json

    def put_json(self, name, value, **options):
        if name.removesuffix(".json").isdigit():
            count[0] += 1
            if count[0] > number:
                raise Killed
        original(self, name, value, **options)

    monkeypatch.setattr(Location, "put_json", put_json)


def status_of(root):
    statuses = zarr.open_array(root / "cube.zarr", path="scene_status", mode="r")[:]
    return [str(s) for s in statuses]


# --- equal bytes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["good", "bad"])
@pytest.mark.parametrize(("workers", "run_bytes"), [(1, 1), (2, 1), (2, 30_000), (5, 1), (None, 2**30)])
def test_workers_and_runs_do_not_change_a_byte(
    right, request, name, workers, run_bytes, tmp_path, monkeypatch
):
    monkeypatch.setattr(assembly, "RUN_BYTES", run_bytes)
    make(plan_of(request.getfixturevalue(name)), tmp_path, workers=workers, skip_bad=True)
    assert tree(tmp_path / "cube.zarr") == right[name][0]


def test_tasks_run_in_their_order_and_share_what_they_need(right, good, tmp_path, monkeypatch, small_runs):
    run_task, seen = assembly.run_task, []

    def watch(task, stop, progress, kept):
        done = run_task(task, stop, progress, kept)
        seen.append((done, id(kept), {name: id(memory) for name, memory in kept.shards._memory.items()}))
        return done

    monkeypatch.setattr(assembly, "run_task", watch)
    plan = plan_of(good)
    make(plan, tmp_path, workers=1)
    assert [shard for done, *_ in seen for shard in done] == list(range(plan.n_shards))
    assert len({repr(rest) for _, *rest in seen}) == 1  # the same memory for all
    assert tree(tmp_path / "cube.zarr") == right["good"][0]


@pytest.mark.parametrize("name", ["good", "bad"])
@pytest.mark.parametrize("moment", [0, 1, 4, 7, 12, 17, 20])
def test_a_run_that_died_between_shards_is_resumed_to_the_same_bytes(
    right, request, name, moment, tmp_path, monkeypatch, small_runs
):
    plan = plan_of(request.getfixturevalue(name))
    with monkeypatch.context() as patched:
        dying_after(patched, moment)
        try:
            make(plan, tmp_path, skip_bad=True)
            died = False
        except Killed:
            died = True
            assert read_group(Location.of(tmp_path / "cube.zarr")) is None
    resumed = make(plan, tmp_path, skip_bad=True)
    assert tree(tmp_path / "cube.zarr") == right[name][0]
    if died:
        # Of the second pass over a failed scene's shards, what was written again counts once.
        assert min(moment, plan.n_shards) - 1 <= resumed <= plan.n_shards
    else:
        assert resumed == plan.n_shards


def test_the_reason_of_a_failure_does_not_depend_on_who_noticed_first(
    right, bad, tmp_path, monkeypatch, small_runs
):
    # Every shard of the damaged quarter would give a reason of its own; the one of the lowest is kept,
    # though the run dies when only the highest is written.
    plan = plan_of(bad)
    original = assembly._compute

    def only_last(tasks, *rest):
        original(tasks[7:8], *rest)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(assembly, "_compute", only_last)
        with pytest.raises(Killed):
            make(plan, tmp_path, skip_bad=True)
    entry = noted(Location.of(tmp_path / "work" / "journal"), 7)
    assert list(entry["failures"]) == ["1"]
    make(plan, tmp_path, skip_bad=True)
    assert tree(tmp_path / "cube.zarr") == right["bad"][0]
    assert status_of(tmp_path)[1] != entry["failures"]["1"]


# --- failing scenes -------------------------------------------------------------------------------


def test_a_scene_that_fails_late_is_void_from_its_first_patch(right, bad):
    root = right["bad"][1]
    number = zarr.open_array(root / "cube.zarr", path="scene_number", mode="r")[:]
    failed = np.isin(number, (1, 2))
    group = zarr.open_group(root / "cube.zarr", mode="r")
    assert not group["msi"][:][failed].any()
    assert not group["msi_valid"][:][failed].any()
    assert not group["label_valid"][:][failed].any()
    assert not group["valid_fraction"][:][failed].any()
    assert group["msi_valid"][:][~failed].mean() > 0.9
    status = status_of(root)
    assert [s == "ok" for s in status] == [True, False, False, True]
    assert "JAX_001_001_MSI.tif" in status[1]
    assert str(bad) not in json.dumps(status)
    assert str(bad) not in json.dumps(read_group(Location.of(root / "cube.zarr")))


def test_without_leave_to_skip_a_failing_scene_stops_everything(bad, tmp_path):
    with pytest.raises(SceneError, match=r"JAX_00[12]_001_MSI\.tif, bands 1-2, rows"):
        make(plan_of(bad), tmp_path, workers=2)
    assert read_group(Location.of(tmp_path / "cube.zarr")) is None


def test_leave_to_skip_can_be_given_later_and_taken_back(right, bad, tmp_path, monkeypatch, small_runs):
    plan = plan_of(bad)
    with pytest.raises(SceneError):
        make(plan, tmp_path)
    with monkeypatch.context() as patched:
        dying_after(patched, 5)
        with pytest.raises(Killed):
            make(plan, tmp_path, skip_bad=True)
    make(plan, tmp_path, skip_bad=True)
    assert tree(tmp_path / "cube.zarr") == right["bad"][0]
    # What was skipped by leave of an earlier run is not skipped without it.
    (tmp_path / "cube.zarr" / METADATA).unlink()
    with pytest.raises(SceneError):
        make(plan, tmp_path)
    make(plan, tmp_path, skip_bad=True)
    assert tree(tmp_path / "cube.zarr") == right["bad"][0]


# --- what an earlier run left ---------------------------------------------------------------------


def half(plan, root, monkeypatch, shards=2):
    with monkeypatch.context() as patched:
        patched.setattr(assembly, "RUN_BYTES", 1)
        dying_after(patched, shards)
        with pytest.raises(Killed):
            make(plan, root)


def test_half_written_files_of_a_killed_run_are_swept_away(right, good, tmp_path, monkeypatch):
    plan = plan_of(good)
    half(plan, tmp_path, monkeypatch)
    cube = tmp_path / "cube.zarr"
    # As they are named by zarr and by `Location.put`.
    for name in (
        "msi/c/0/0/0/0.0123456789abcdef.partial",
        "msi/zarr.0123.partial",
        "label/c/4/0/.partial-01",
        ".partial-2",
    ):
        (cube / name).parent.mkdir(parents=True, exist_ok=True)
        (cube / name).write_bytes(b"x")
    make(plan, tmp_path)
    assert tree(cube) == right["good"][0]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted", "empty"])
def test_a_shard_that_was_damaged_after_it_was_written_is_made_again(
    right, good, tmp_path, monkeypatch, damage
):
    plan = plan_of(good)
    make(plan, tmp_path)
    (tmp_path / "cube.zarr" / METADATA).unlink()
    for shard in (0, plan.n_shards - 1):
        path = tmp_path / "cube.zarr/msi/c" / str(shard) / "0/0/0"
        content = path.read_bytes()
        if damage == "deleted":
            path.unlink()
        else:
            flipped = content[:10] + bytes([content[10] ^ 1]) + content[11:]
            path.write_bytes({"truncated": content[:-9], "flipped": flipped, "empty": b""}[damage])
    assert make(plan, tmp_path) == plan.n_shards - 2
    assert tree(tmp_path / "cube.zarr") == right["good"][0]


@pytest.mark.parametrize("content", [b"", b'{"shard": 1, "files": {'], ids=["empty", "cut"])
def test_a_journal_entry_that_a_power_cut_spoiled_is_made_again(right, good, tmp_path, content):
    plan = plan_of(good)
    make(plan, tmp_path)
    (tmp_path / "cube.zarr" / METADATA).unlink()
    (tmp_path / "work/journal" / journal_name(1)).write_bytes(content)
    assert make(plan, tmp_path) == plan.n_shards - 1
    assert tree(tmp_path / "cube.zarr") == right["good"][0]


def test_a_count_that_changed_in_the_journal_never_reaches_the_cube(right, good, tmp_path):
    """The files of the shard are whole; what the journal says of their valid pixels is not."""
    plan = plan_of(good)
    make(plan, tmp_path)
    (tmp_path / "cube.zarr" / METADATA).unlink()
    path = tmp_path / "work/journal" / journal_name(1)
    document = json.loads(path.read_text())
    next(iter(document["entry"]["valid"].values()))[0] ^= 1
    path.write_text(json.dumps(document, indent=1, sort_keys=True))
    assert make(plan, tmp_path) == plan.n_shards - 1
    assert tree(tmp_path / "cube.zarr") == right["good"][0]


def test_a_missing_array_is_made_again(right, good, tmp_path, monkeypatch):
    plan = plan_of(good)
    half(plan, tmp_path, monkeypatch)
    shutil.rmtree(tmp_path / "cube.zarr/label")
    assert make(plan, tmp_path) == 0
    assert tree(tmp_path / "cube.zarr") == right["good"][0]


def test_what_another_plan_left_is_thrown_away(right, good, tmp_path, monkeypatch):
    half(plan_of(good, patch=16), tmp_path, monkeypatch, shards=0)
    assert make(plan_of(good), tmp_path) == 0
    assert tree(tmp_path / "cube.zarr") == right["good"][0]


def test_a_foreign_file_in_an_array_is_not_published(good, tmp_path, monkeypatch):
    plan = plan_of(good)
    half(plan, tmp_path, monkeypatch)
    (tmp_path / "cube.zarr/msi/c/99").write_bytes(b"x")
    with pytest.raises(IncompleteError, match=r"msi/c/99 does not belong there") as caught:
        make(plan, tmp_path)
    assert caught.value.exit_code == 5
    assert read_group(Location.of(tmp_path / "cube.zarr")) is None


def test_a_lost_root_is_written_again(right, good, tmp_path):
    plan = plan_of(good)
    make(plan, tmp_path)
    (tmp_path / "cube.zarr" / METADATA).unlink()
    assert make(plan, tmp_path) == plan.n_shards
    assert tree(tmp_path / "cube.zarr") == right["good"][0]


# --- interruptions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), GeoaeError("the disk is full")], ids=["Ctrl-C", "error"]
)
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_nobody_writes_after_an_interruption(right, good, tmp_path, monkeypatch, small_runs, workers, error):
    plan = plan_of(good)
    write_shard, compute = shards.write_shard, assembly.compute
    started = threading.Semaphore(0)
    threads = []

    def slow(*arguments):
        started.release()
        time.sleep(0.05)  # the interruption comes while this is under way
        return write_shard(*arguments)

    def interrupted(*calls, **options):
        # What Ctrl-C does: the thread that waits leaves while tasks are under way.
        threads.append(threading.Thread(target=compute, args=calls, kwargs=options))
        threads[0].start()
        for _ in range(min(workers, 2)):
            started.acquire()
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(shards, "write_shard", slow)
        patched.setattr(assembly, "compute", interrupted)
        with pytest.raises(type(error)):
            make(plan, tmp_path, workers=workers)
        before = tree(tmp_path)
        threads[0].join()
        time.sleep(0.2)
        assert tree(tmp_path) == before
    resumed = make(plan, tmp_path, workers=workers)
    assert 1 <= resumed <= workers  # each thread has ended the shard that it was writing
    assert tree(tmp_path / "cube.zarr") == right["good"][0]


@pytest.mark.parametrize("there", [(), (0, 2), (4,), (1, 4)])
def test_progress_counts_patches_to_the_end(good, right, tmp_path, small_runs, there):
    plan = plan_of(good)
    assert plan.patches.n_patches % plan.shard_length  # the last shard is not full
    shutil.copytree(right["good"][1], tmp_path, dirs_exist_ok=True)
    (tmp_path / "cube.zarr" / METADATA).unlink()
    for shard in set(range(plan.n_shards)) - set(there):
        (tmp_path / "work" / "journal" / journal_name(shard)).unlink()
    seen = []
    make(plan, tmp_path, workers=2, progress=lambda *a: seen.append(a))
    sizes = {
        s: min(plan.shard_length, plan.patches.n_patches - s * plan.shard_length)
        for s in range(plan.n_shards)
    }
    done = [d for _, d, _ in seen]
    steps = np.diff([sum(sizes[s] for s in there), *done])
    assert sorted(steps) == sorted(size for shard, size in sizes.items() if shard not in there)
    assert seen[-1] == ("patches", plan.patches.n_patches, plan.patches.n_patches)


# --- clusters of machines -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    """A Dask cluster of two processes on this machine."""
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("distributed is not installed")
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("name", ["good", "bad"])
def test_a_cluster_writes_the_same_bytes(right, request, name, cluster, tmp_path, small_runs):
    plan = plan_of(request.getfixturevalue(name))
    seen = []
    make(
        plan, tmp_path, scheduler=cluster.scheduler_address, skip_bad=True, progress=lambda *a: seen.append(a)
    )
    assert tree(tmp_path / "cube.zarr") == right[name][0]
    assert seen[-1] == ("patches", plan.patches.n_patches, plan.patches.n_patches)


@pytest.mark.slow
def test_an_error_on_a_cluster_is_the_same_one_line(bad, cluster, tmp_path, small_runs):
    with pytest.raises(SceneError, match=r"JAX_00[12]_001_MSI\.tif, bands 1-2") as caught:
        make(plan_of(bad), tmp_path, scheduler=cluster.scheduler_address)
    assert caught.value.hint
    before = tree(tmp_path)
    time.sleep(0.4)
    assert tree(tmp_path) == before


@pytest.mark.slow
def test_the_active_client_is_used_unless_threads_are_asked_for(right, good, cluster, tmp_path, monkeypatch):
    from distributed import Client

    used = []
    original = assembly.run_on_workers
    monkeypatch.setattr(assembly, "run_on_workers", lambda *a: used.append(1) or original(*a))
    with Client(cluster):
        make(plan_of(good), tmp_path / "a", workers=None)
        assert used == [1]
        make(plan_of(good), tmp_path / "b", workers=1)
        assert used == [1]
    make(plan_of(good), tmp_path / "c", workers=None)
    assert used == [1]
    for part in "abc":
        assert tree(tmp_path / part / "cube.zarr") == right["good"][0]


def test_a_scheduler_without_distributed_says_what_to_install(good, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"needs the package distributed .*geoae\[distributed\]"):
        make(plan_of(good), tmp_path, scheduler="tcp://127.0.0.1:1")


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_one_line(good, tmp_path):
    pytest.importorskip("distributed")
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}),
        pytest.raises(UsageError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1") as caught,
    ):
        make(plan_of(good), tmp_path, scheduler="tcp://127.0.0.1:1")
    assert caught.value.exit_code == 2


def test_threads_that_warp_change_no_filter_of_warnings(good, tmp_path, monkeypatch):
    # rasterio silences one warning while it warps, by a list of filters that another thread may put back.
    def meddled(*arguments):
        warnings.warn("Dataset has no geotransform, gcps, or rpcs.", NotGeoreferencedWarning, stacklevel=1)
        warnings.simplefilter("ignore")
        return run_task(*arguments)

    run_task = assembly.run_task
    monkeypatch.setattr(assembly, "run_task", meddled)
    before = list(warnings.filters)
    make(plan_of(good), tmp_path, workers=2)
    assert warnings.filters == before
