"""Waiting for the disk: everything below a folder, by few threads, and errors."""

import os
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest

from geoae import flushing
from geoae.flushing import begin_flush, flush, flush_below


@pytest.fixture
def folder(tmp_path):
    """A folder with files and folders in folders, one of them empty."""
    for name in ("zarr.json", "msi/zarr.json", "msi/c/0/0", "msi/c/1/0"):
        (tmp_path / "cube" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cube" / name).write_bytes(b"1")
    (tmp_path / "cube" / "empty").mkdir()
    return tmp_path / "cube"


def test_every_file_and_folder_is_flushed_once(folder, monkeypatch):
    flushed, threads = [], set()

    def fsync(descriptor):
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        threads.add(threading.get_ident())

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", fsync)
    flush_below(folder)
    assert sorted(flushed) == sorted([folder.parent, folder, *folder.rglob("*")])
    assert threading.get_ident() not in threads
    flush(folder / "zarr.json")
    assert flushed[-1] == folder / "zarr.json"


def test_what_one_file_lacks_is_raised(folder, monkeypatch):
    def fsync(descriptor):
        if os.fstat(descriptor).st_size == 1:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output error"):
        flush_below(folder)


def test_waiting_for_many_files_takes_no_memory_for_each(tmp_path, monkeypatch):
    monkeypatch.setattr(flushing.os, "walk", lambda _: iter([(str(tmp_path), [], ["x"] * 20_000)]))
    monkeypatch.setattr(flushing, "flush", lambda _: None)
    flush_below(tmp_path)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        flush_below(tmp_path)
        assert tracemalloc.get_traced_memory()[1] - before < 20_000 * 50  # a future has 2,000 bytes
    finally:
        tracemalloc.stop()


def test_a_file_begins_to_be_written_and_keeps_its_bytes(tmp_path):
    path = tmp_path / "x"
    with path.open("wb") as file:
        file.write(b"A" * 100_000)
        file.flush()
        begin_flush(file.fileno())
        file.write(b"B")
    assert path.read_bytes() == b"A" * 100_000 + b"B"
    begin_flush(-1)  # who waits for it says what is wrong


def test_where_the_system_has_no_such_call_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(flushing, "_sync_file_range", flushing._begin())
    assert flushing._sync_file_range is None
    with (tmp_path / "x").open("wb") as file:
        begin_flush(file.fileno())
