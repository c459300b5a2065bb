"""Workers on a Dask cluster: whatever dies there, an ingest ends, with the same bytes or one line."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from cube_scenes import tree
from dask_clusters import nannied, on_workers, runner_by_shard

from geoae import assembly, workers
from geoae.errors import GeoaeError
from geoae.ingestion import ingest

pytest.importorskip("distributed")
pytestmark = pytest.mark.slow  # each starts processes that import distributed


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run a command in a folder of its own; each shard is a task."""
    return runner_by_shard(capsys, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def cluster():
    """One worker, whose tasks are given up when it dies the second time."""
    with nannied() as made:
        yield made


def dies_at_the_note_of_its_first_shard(marker):
    """Die once, when the files of a shard are written and its journal does not know of them."""

    def task_of(task, stop):
        from geoae import shards

        def die(*_, **__):
            os.kill(os.getpid(), signal.SIGKILL)

        if not marker.exists():
            marker.touch()
            shards.note = die  # in that process, which is gone then
        return shards.run_task(task, stop)

    return task_of


def dies_after_the_first_shard():
    def task_of(task, stop):
        from geoae import shards

        if 0 not in task.shards:
            os.kill(os.getpid(), signal.SIGKILL)
        return shards.run_task(task, stop)

    return task_of


def test_a_worker_that_is_killed_once_changes_nothing(run, cluster, us3d_folder, us3d_cube, monkeypatch):
    marker = Path.cwd() / "died"
    on_workers(monkeypatch, dies_at_the_note_of_its_first_shard(marker))
    ended = run("ingest", us3d_folder, "--patch", 32, "--scheduler", cluster.scheduler_address)
    assert ended.code == 0, ended.err
    assert marker.exists()
    assert tree(Path("us3d.zarr")) == tree(us3d_cube)


def test_workers_that_always_die_are_one_line_and_the_command_goes_on(
    run, cluster, us3d_folder, us3d_cube, monkeypatch
):
    earlier = run("ingest", us3d_folder, "--patch", 64, "--workers", 1)
    assert earlier.code == 0
    before = tree(Path("us3d.zarr"))
    again = ["ingest", us3d_folder, "--patch", 32, "--overwrite"]
    with monkeypatch.context() as patched:
        on_workers(patched, dies_after_the_first_shard())
        ended = run(*again, "--scheduler", cluster.scheduler_address)
    assert ended.code == 1
    assert ended.error.startswith("2 Dask workers died one after another over the same shards of ")
    assert "give workers more" in ended.advice
    assert tree(Path("us3d.zarr")) == before
    # What the first worker did is not done again.
    ended = run(*again, "--workers", 1, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["resumed_shards"] == 1
    assert tree(Path("us3d.zarr")) == tree(us3d_cube)


def test_a_cluster_without_workers_is_said_once_and_waited_for(
    run, us3d_folder, us3d_cube, monkeypatch, caplog
):
    monkeypatch.setattr(workers, "_PATIENCE", 1.0)
    looks = []

    def look(*given, real=workers._paused):
        looks.append(given)
        if len(looks) == 3:
            cluster.scale(1)
        return real(*given)

    monkeypatch.setattr(workers, "_paused", look)
    with nannied(0) as cluster:
        ended = run("ingest", us3d_folder, "--patch", 32, "--scheduler", cluster.scheduler_address)
    assert ended.code == 0, ended.err
    said = [record.getMessage() for record in caplog.records if record.name == "geoae"]
    assert said == [f"{cluster.scheduler_address} has no worker: waiting for one"]
    assert tree(Path("us3d.zarr")) == tree(us3d_cube)


@contextmanager
def scheduler_and_worker(folder):
    """Both in processes of their own, as on a cluster; gives the scheduler's address and process."""
    dask = Path(sys.executable).with_name("dask")
    known = folder / "scheduler.json"
    options = ["--no-dashboard", "--scheduler-file", known]
    here = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen([dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *options], **here)
    try:
        worker = subprocess.Popen([dask, "worker", "--no-nanny", "--nthreads", "1", *options], **here)
        try:
            while not (known.exists() and known.read_text().endswith("}")):
                assert scheduler.poll() is None
            yield json.loads(known.read_text())["address"], scheduler
        finally:
            worker.kill()
            worker.wait()
    finally:
        scheduler.kill()
        scheduler.wait()


@pytest.fixture
def logged():
    """What the libraries below log, and would print beside our line."""
    seen = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: seen.append(record.getMessage())
    loggers = [
        logging.getLogger(name) for name in ("distributed", "distributed.client", "tornado", "asyncio")
    ]
    for logger in loggers:
        logger.addHandler(handler)
    yield seen
    for logger in loggers:
        logger.removeHandler(handler)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_scheduler_that_goes_is_one_line_and_the_command_goes_on(
    run, us3d_folder, us3d_cube, tmp_path, monkeypatch, how, logged
):
    with scheduler_and_worker(tmp_path) as (address, scheduler):
        number = scheduler.pid

        def task_of(task, stop):
            from geoae import shards

            if 0 not in task.shards:
                os.kill(number, how)
                threading.Event().wait()  # this worker never tells of its end
            return shards.run_task(task, stop)

        with monkeypatch.context() as patched:
            on_workers(patched, task_of)
            ended = run("ingest", us3d_folder, "--patch", 32, "--scheduler", address)
        assert ended.code == 1
        assert ended.error == f"the Dask scheduler {address} has gone, or was restarted"
        assert "run the same command" in ended.advice
        assert logged == []
        assert not Path("us3d.zarr/zarr.json").exists()
        # The lock is free, though that worker is not dead.
        ended = run("ingest", us3d_folder, "--patch", 32, "--workers", 1, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["resumed_shards"] == 1
    assert tree(Path("us3d.zarr")) == tree(us3d_cube)


def test_a_scheduler_that_went_before_the_work_began_is_the_same_line(run, us3d_folder, us3d_cube, tmp_path):
    from distributed import Client

    with scheduler_and_worker(tmp_path) as (address, scheduler):
        client = Client(address, timeout="1h")  # so long it would try to connect again
        scheduler.kill()
        while client.status == "running":
            time.sleep(0.01)
        with workers._closing(client):
            ended = run("ingest", us3d_folder, "--patch", 32)
        assert ended.code == 1
        assert ended.error == f"the Dask scheduler {address} has gone, or was restarted"
    assert run("ingest", us3d_folder, "--patch", 32, "--workers", 1).code == 0
    assert tree(Path("us3d.zarr")) == tree(us3d_cube)


def test_a_scheduler_that_goes_hides_no_other_error(us3d_folder, tmp_path, monkeypatch):
    import dask

    monkeypatch.setattr(assembly, "RUN_BYTES", 1)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        scheduler_and_worker(tmp_path) as (address, scheduler),
    ):

        def progress(stage, done, total):
            if stage == "patches":
                scheduler.kill()
                scheduler.wait()
                raise GeoaeError("the disk is full")

        with pytest.raises(GeoaeError, match="the disk is full"):
            ingest(us3d_folder, out=tmp_path / "us3d.zarr", patch=32, scheduler=address, progress=progress)
