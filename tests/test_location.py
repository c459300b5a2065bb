"""Locations: whole files, listings, renames and locks, on disk and in memory."""

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from geoae.errors import GeoaeError, InputError, IntegrityError, LockedError
from geoae.location import Location, work_folder

HOLD = """
import sys
from geoae.location import Location
with Location.of(sys.argv[1]).lock(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["disk", "memory"])
def place(request, tmp_path):
    if request.param == "disk":
        yield Location.of(tmp_path / "a cube.zarr")
    else:
        location = Location.of(f"memory://{tmp_path.name}/a cube.zarr")
        yield location
        Location.of(f"memory://{tmp_path.name}").remove()


def test_what_was_put_is_there(place):
    assert place.get("zarr.json") is None
    assert not place.exists()
    place.put("zarr.json", b"one")
    place.put("zarr.json", b"two")
    place.put("c/0/0", b"")
    assert place.get("zarr.json") == b"two"
    assert place.get("c/0/0") == b""
    assert place.get("c") is None
    assert place.exists()
    assert place.exists("c/0/0")
    assert place.names() == ["c", "zarr.json"]
    assert place.names("nowhere") == []
    assert place.find() == {"c/0/0": 0, "zarr.json": 3}
    assert place.sha256("c/0/0") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert place.sha256("c/9") is None


def test_what_was_removed_is_gone(place):
    place.put("a/x", b"1")
    place.put("b", b"2")
    place.remove_file("b")
    place.remove_file("b")
    assert place.find() == {"a/x": 1}
    place.remove()
    place.remove()
    assert not place.exists()
    assert place.find() == {}


def test_folders_can_be_renamed(place):
    place.put("old/x/y", b"1")
    (place / "old").move_to(place / "deep/new")
    assert place.find() == {"deep/new/x/y": 1}


def test_json(place):
    place.put_json("a.json", {"b": [1, 2.5], "a": None})
    assert place.get_json("a.json") == {"a": None, "b": [1, 2.5]}
    assert place.get_json("b.json") is None
    place.put("broken.json", b'{"a": ')
    with pytest.raises(IntegrityError, match=r"broken\.json is not JSON") as caught:
        place.get_json("broken.json")
    assert caught.value.exit_code == 5
    with pytest.raises(ValueError, match="JSON"):
        place.put_json("nan.json", float("nan"))


def test_names_of_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    location = Location.of("x.zarr")
    assert location.path == tmp_path.resolve() / "x.zarr"
    assert location.name == "x.zarr"
    assert str(work_folder(location)) == f"{tmp_path.resolve()}/x.zarr.work"
    assert Location.of(location) is location
    assert (location / "msi").root == f"{location.root}/msi"
    memory = Location.of("memory://bucket/x.zarr/")
    assert str(memory) == "memory:///bucket/x.zarr"
    assert not memory.is_local
    with pytest.raises(InputError, match="not a local folder"):
        memory.path  # noqa: B018 (a property that raises)


def test_one_folder_has_one_name(tmp_path, monkeypatch):
    # Locks and journals lie beside the cube: by whatever way one comes, it must be the same place.
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path / "real")
    names = {
        Location.of(p).root
        for p in ("c.zarr", "../real/c.zarr", "../link/c.zarr", tmp_path / "link/./c.zarr")
    }
    assert len(names) == 1


def test_unknown_protocols_are_refused_in_one_line():
    with pytest.raises(InputError, match="cannot open 'nosuchprotocol://a/b'") as caught:
        Location.of("nosuchprotocol://a/b")
    assert "\n" not in str(caught.value)


# --- writing --------------------------------------------------------------------------------------


def test_a_reader_sees_the_old_file_or_the_whole_new_one(tmp_path):
    place = Location.of(tmp_path)
    contents = {bytes([65 + i]) * 200_000 for i in range(2)}
    place.put("x", b"A" * 200_000)
    stop = threading.Event()

    def write():
        while not stop.is_set():
            for content in sorted(contents):
                place.put("x", content)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = {place.get("x") for _ in range(300)}
    finally:
        stop.set()
        thread.join()
    assert seen <= contents
    assert place.names() == ["x"]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    place = Location.of(tmp_path)
    place.put("x", b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GeoaeError, match=r"cannot write .*/x: No space left on device") as caught:
        place.put("x", b"new")
    assert caught.value.exit_code == 1
    assert place.names() == ["x"]
    assert place.get("x") == b"old"


def test_files_are_as_private_as_the_user_wants_and_threads_do_not_change_that(tmp_path):
    place = Location.of(tmp_path)
    old = os.umask(0o027)
    try:
        threads = [
            threading.Thread(target=lambda n=n: [place.put(f"{n}/{i}", b"") for i in range(40)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert os.umask(0o027) == 0o027
        modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in place.find()}
        assert modes == {0o640}
    finally:
        os.umask(old)


def test_a_file_in_the_way_of_a_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(GeoaeError, match="cannot write"):
        Location.of(tmp_path / "file").put("zarr.json", b"{}")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_listing_takes_links_as_they_are(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "b" / "file").write_bytes(b"12345")
    (tmp_path / "a" / "to file").symlink_to(tmp_path / "a" / "b" / "file")
    (tmp_path / "a" / "to folder").symlink_to(tmp_path / "a")  # which would never end
    (tmp_path / "a" / "to nothing").symlink_to(tmp_path / "nothing")
    found = Location.of(tmp_path).find()
    assert found.pop("a/to folder") > 0
    assert found == {"a/b/file": 5, "a/to file": 5, "a/to nothing": 0}
    assert list(Location.of(tmp_path / "a").find()) == sorted(Location.of(tmp_path / "a").find())
    assert Location.of(tmp_path / "nothing").find() == {}
    assert Location.of(tmp_path / "a" / "b" / "file").find() == {}


def test_what_killed_writers_left_can_be_swept_away(place):
    for name in ("zarr.json", "msi/c/0/0/0/0", "msi/zarr.json", "partial", "a.partial.tif"):
        place.put(name, b"1")
    before = place.find()
    # The first is this module's, the second is how zarr's LocalStore names a file before it is whole.
    place.fs.pipe_file(f"{place.root}/.partial-0123", b"1")
    place.fs.pipe_file(f"{place.root}/msi/c/0/0/0/0.0123456789abcdef.partial", b"1")
    place.sweep()
    if place.is_local:
        assert place.find() == before


# --- locks ----------------------------------------------------------------------------------------


def test_a_lock_is_held_once(place):
    with place.lock("ingest"), pytest.raises(LockedError, match="another run is writing 'ingest'") as caught:
        place.lock("ingest").__enter__()
    assert caught.value.exit_code == 1
    with place.lock("ingest"), place.lock("latents/pca"):
        pass


def test_a_lock_is_given_back_after_an_error(place):
    with pytest.raises(RuntimeError), place.lock("ingest"):
        raise RuntimeError
    with place.lock("ingest"):
        pass


def test_a_lock_of_another_process_holds_until_it_dies(tmp_path):
    place = Location.of(tmp_path)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), "ingest"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(LockedError):
            place.lock("ingest").__enter__()
        waited = []

        def wait():
            with place.lock("ingest", wait=True):
                waited.append(True)

        thread = threading.Thread(target=wait)
        thread.start()
        assert not waited
        other.kill()
        other.wait()
        thread.join()
        assert waited
    finally:
        other.kill()
        other.communicate()


def test_a_foreign_lock_elsewhere_says_which_file_to_remove():
    place = Location.of("memory://locks/cube.zarr.work")
    with (
        place.lock("ingest"),
        pytest.raises(LockedError, match=r"remove .*/locks/cube\.zarr\.work/ingest\.lock"),
    ):
        place.lock("ingest").__enter__()
    assert place.names() == []


def test_a_lock_in_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "locks").write_text("a file in the way")
    with pytest.raises(GeoaeError, match="cannot write in"):
        Location.of(tmp_path).lock("ingest").__enter__()


def test_files_are_json_for_people(tmp_path):
    Location.of(tmp_path).put_json("a.json", {"b": 1, "a": 2})
    assert Path(tmp_path / "a.json").read_text() == json.dumps({"a": 2, "b": 1}, indent=1)
