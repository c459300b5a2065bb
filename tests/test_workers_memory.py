"""Workers of a Dask cluster that run out of memory: Dask ends them, or pauses them, perhaps for ever."""

import threading
import time
from pathlib import Path

import pytest
from cube_scenes import tree
from dask_clusters import nannied, on_workers, runner_by_shard

from geoae import workers
from geoae.errors import GeoaeError

pytest.importorskip("distributed")
pytestmark = pytest.mark.slow  # each starts processes that import distributed


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run a command in a folder of its own; each shard is a task."""
    return runner_by_shard(capsys, tmp_path, monkeypatch)


@pytest.fixture
def small_cluster(request):
    """Start workers with 1 GiB each: Dask pauses them at 0.8 of it, and ends them at 0.95."""
    # Tasks are given to workers at once, and nobody takes them away.
    settings = {
        "distributed.scheduler.worker-saturation": "inf",
        "distributed.scheduler.work-stealing": False,
    }
    with nannied(getattr(request, "param", 1), memory_limit="1 GiB", **settings) as made:
        yield made


def filled(share):
    """Fill the memory of the worker that this is called on up to a share of its limit; return what does."""
    import psutil
    from distributed import get_worker

    limit, me, ballast = get_worker().memory_manager.memory_limit, psutil.Process(), []
    while (room := int(share * limit) - me.memory_info().rss) > 0:
        ballast.append(b"x" * min(room, 2**26))
    return ballast


def paused_while_tasks_are_queued(marker, then):
    """Fill a worker once that has tasks queued, and call `then` when Dask has paused it."""
    fill = filled

    def task_of(task, stop):
        from distributed import get_worker

        from geoae import shards

        worker = get_worker()
        queued = len(worker.state.ready)  # which shrinks only when this task is done
        done = shards.run_task(task, stop)
        if not queued:
            return done
        try:
            marker.open("x").close()
        except FileExistsError:
            return done
        worker.ballast = fill(0.87)
        while worker.status.name != "paused":
            time.sleep(0.01)
        then(worker)
        return done

    return task_of


def test_workers_that_always_run_out_of_memory_are_one_line_and_the_command_goes_on(
    run, small_cluster, us3d_folder, us3d_cube, monkeypatch
):
    fill = filled

    def task_of(task, stop):
        from geoae import shards

        if 0 not in task.shards:
            ballast = fill(1.0)
            threading.Event().wait()
            ballast.clear()
        return shards.run_task(task, stop)

    with monkeypatch.context() as patched:
        on_workers(patched, task_of)
        ended = run("ingest", us3d_folder, "--patch", 32, "--scheduler", small_cluster.scheduler_address)
    assert ended.code == 1
    assert ended.error.startswith("2 Dask workers died one after another over the same shards of ")
    assert "give workers more" in ended.advice
    ended = run("ingest", us3d_folder, "--patch", 32, "--workers", 1, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["resumed_shards"] == 1
    assert tree(Path("us3d.zarr")) == tree(us3d_cube)


def test_workers_that_stay_paused_for_memory_are_one_line_and_the_command_goes_on(
    run, small_cluster, us3d_folder, us3d_cube, monkeypatch
):
    monkeypatch.setattr(workers, "_PATIENCE", 2.0)
    with monkeypatch.context() as patched:
        on_workers(patched, paused_while_tasks_are_queued(Path.cwd() / "paused", lambda _: None))
        ended = run("ingest", us3d_folder, "--patch", 32, "--scheduler", small_cluster.scheduler_address)
    (address,) = small_cluster.scheduler.workers
    assert ended.code == 1
    assert "us3d.zarr waits for memory: 1 Dask worker is paused for memory, the first" in ended.error
    assert f"{address} at 0." in ended.error
    assert ended.error.endswith(" of 1.07 GB with 1 thread")
    assert "more memory" in ended.advice
    assert "the same command" in ended.advice
    # No task is left there that would begin when the worker goes on.
    assert not small_cluster.scheduler.tasks
    ended = run("ingest", us3d_folder, "--patch", 32, "--workers", 1, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["resumed_shards"] >= 1
    assert tree(Path("us3d.zarr")) == tree(us3d_cube)


def test_what_is_queued_on_a_paused_worker_hides_no_other_error(
    run, small_cluster, us3d_folder, us3d_cube, monkeypatch
):
    def fail(_):
        raise GeoaeError("the disk is full")

    with monkeypatch.context() as patched:
        on_workers(patched, paused_while_tasks_are_queued(Path.cwd() / "paused", fail))
        ended = run("ingest", us3d_folder, "--patch", 32, "--scheduler", small_cluster.scheduler_address)
    assert ended.code == 1
    assert ended.error == "the disk is full"
    assert run("ingest", us3d_folder, "--patch", 32, "--workers", 1).code == 0
    assert tree(Path("us3d.zarr")) == tree(us3d_cube)


def test_a_worker_that_is_paused_for_a_moment_goes_on(
    run, small_cluster, us3d_folder, us3d_cube, monkeypatch
):
    seen = Path.cwd() / "seen"

    def relieve(worker):
        def wait():
            while not seen.exists():
                time.sleep(0.01)
            worker.ballast.clear()

        threading.Thread(target=wait, daemon=True).start()

    def looked(*given, look=workers._paused):
        paused = look(*given)
        if paused is not None:
            seen.touch()
        return paused

    monkeypatch.setattr(workers, "_paused", looked)
    on_workers(monkeypatch, paused_while_tasks_are_queued(Path.cwd() / "paused", relieve))
    ended = run("ingest", us3d_folder, "--patch", 32, "--scheduler", small_cluster.scheduler_address)
    assert ended.code == 0, ended.err
    assert seen.exists()
    assert tree(Path("us3d.zarr")) == tree(us3d_cube)


@pytest.mark.parametrize("small_cluster", [2], indirect=True)
def test_another_worker_makes_what_waits_for_one_that_stays_paused(
    run, small_cluster, us3d_folder, us3d_cube, monkeypatch
):
    monkeypatch.setattr(workers, "_PATIENCE", 2.0)
    rounds = []
    monkeypatch.setattr(
        workers, "_round", lambda *given, real=workers._round: rounds.append(real(*given)) or rounds[-1]
    )
    on_workers(monkeypatch, paused_while_tasks_are_queued(Path.cwd() / "paused", lambda _: None))
    ended = run("ingest", us3d_folder, "--patch", 32, "--scheduler", small_cluster.scheduler_address)
    assert ended.code == 0, ended.err
    (left, paused), (nothing, _) = rounds
    assert left
    assert paused.others
    assert not nothing
    assert tree(Path("us3d.zarr")) == tree(us3d_cube)


def test_an_error_waits_for_the_shards_that_others_write(run, us3d_folder, monkeypatch):
    from distributed import LocalCluster

    began, ended_there = Path.cwd() / "began", Path.cwd() / "ended"

    def task_of(task, stop):
        if 0 in task.shards:
            while not began.exists():
                time.sleep(0.01)
            raise GeoaeError("the disk is full")
        if 1 in task.shards:
            began.touch()
            while not stop.is_set():
                time.sleep(0.01)
            time.sleep(1)
            ended_there.touch()
        return []

    on_workers(monkeypatch, task_of)
    with LocalCluster(
        n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=":0", silence_logs=60
    ) as cluster:
        ended = run("ingest", us3d_folder, "--patch", 32, "--scheduler", cluster.scheduler_address)
        assert ended_there.exists()
    assert ended.error == "the disk is full"
