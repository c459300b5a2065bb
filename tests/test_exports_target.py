"""Targets of exports: what is never destroyed, whoever has it open and whatever fails."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import export_scenes as scenes
import pyogrio
import pytest

from geoae.errors import InputError, LockedError, StoreExistsError, UsageError
from geoae.exports import geopackage, target
from geoae.grid import Grid


def put(path: Path, *, overwrite: bool = False, grids: Sequence[Grid] = (scenes.LOOSE,)) -> None:
    with target.replacing(
        path, suffix=".gpkg", kind="GeoPackage", is_kind=target.is_geopackage, overwrite=overwrite
    ) as new:
        geopackage.write_geopackage(scenes.table_of(grids), new)


def test_an_existing_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "x.gpkg"
    put(path)
    with pytest.raises(StoreExistsError, match="exists") as caught:
        put(path, grids=[scenes.NORTH_UP])
    assert "--overwrite" in str(caught.value)
    assert caught.value.exit_code == 2
    put(path, overwrite=True, grids=[scenes.NORTH_UP])
    assert "overview" in [name for name, _ in pyogrio.list_layers(path)]
    assert [file.name for file in tmp_path.iterdir()] == ["x.gpkg"]


@pytest.mark.parametrize("content", [b"", b"a diary", b"SQLite format 3\x00" + bytes(200)])
def test_a_file_of_another_kind_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.gpkg"
    path.write_bytes(content)
    with pytest.raises(StoreExistsError, match="is not a GeoPackage and is never replaced"):
        put(path, overwrite=True)
    assert path.read_bytes() == content


def test_a_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.gpkg").mkdir()
    with pytest.raises(StoreExistsError, match="is a folder"):
        put(tmp_path / "x.gpkg", overwrite=True)


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "x.gpkg").symlink_to(tmp_path / "elsewhere.gpkg")
    with pytest.raises(StoreExistsError):
        put(tmp_path / "x.gpkg", overwrite=True)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    put(tmp_path / "maps" / "y.gpkg")
    (tmp_path / "x.gpkg").symlink_to(tmp_path / "maps" / "y.gpkg")
    put(tmp_path / "x.gpkg", overwrite=True, grids=[scenes.NORTH_UP])
    assert (tmp_path / "x.gpkg").is_symlink()
    assert "overview" in [name for name, _ in pyogrio.list_layers(tmp_path / "maps" / "y.gpkg")]


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a GeoPackage ends in \.gpkg \(name it x\.gpkg\)"):
        put(tmp_path / "x.shp")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the folder does not exist") as caught:
        put(tmp_path / "maps" / "x.gpkg")
    assert caught.value.exit_code == 3


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The superuser may write anywhere, so the answer of the operating system is put in its mouth.
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and real(path, mode))
    with pytest.raises(InputError, match="the folder cannot be written to"):
        put(tmp_path / "x.gpkg")
    monkeypatch.undo()
    if Path("/proc").is_dir():  # nobody makes files there
        with pytest.raises(InputError, match="could not be written"):
            put(Path("/proc/x.gpkg"))


def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "x.gpkg"
    put(path)
    before = path.read_bytes()
    monkeypatch.setattr(geopackage, "write_styles", interrupt)
    with pytest.raises(KeyboardInterrupt):
        put(path, overwrite=True)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x.gpkg"]


def test_what_a_killed_export_left_is_swept_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    left = tmp_path / ".geoae-export-left"
    left.mkdir()
    (left / "new.gpkg").write_bytes(b"half a map")
    with target.replacing(
        tmp_path / "a.gpkg", suffix=".gpkg", kind="GeoPackage", is_kind=target.is_geopackage, overwrite=False
    ) as new:
        assert not left.exists()
        geopackage.write_geopackage(scenes.table_of((scenes.LOOSE,)), new)
        put(tmp_path / "b.gpkg")
        assert new.exists()
    left.mkdir()
    with pytest.raises(StoreExistsError):  # killed between putting the file there and tidying up
        put(tmp_path / "a.gpkg")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.gpkg", "b.gpkg"]


def test_an_export_whose_folder_is_swept_before_it_is_locked_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = target.tempfile.TemporaryDirectory, []

    def swept_at_once(**options: object) -> object:
        made.append(real(**options))
        if len(made) < 3:
            Path(made[-1].name).rmdir()
        return made[-1]

    monkeypatch.setattr(target.tempfile, "TemporaryDirectory", swept_at_once)
    put(tmp_path / "x.gpkg")
    assert len(made) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["x.gpkg"]


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2].split(";"):
    cursor = connection.execute(statement)
    cursor.fetchone()
print("held", flush=True)
sys.stdin.read()
connection.close()
"""


@pytest.mark.parametrize(
    ("statements", "refused"),
    [
        ("begin; select * from gpkg_contents", False),  # a shared lock: readers keep the old file
        ("begin immediate", True),  # reserved: it will write
        ("begin immediate; delete from overview_pixels", True),  # reserved, with a journal beside it
        ("begin exclusive", True),
        ("pragma journal_mode=wal; select * from gpkg_contents", True),  # as QGIS opens it
    ],
    ids=["shared", "reserved", "writing", "exclusive", "wal"],
)
def test_a_geopackage_that_another_program_has_open(tmp_path: Path, statements: str, refused: bool) -> None:
    path = tmp_path / "x.gpkg"
    put(path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, statements],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        if refused:
            with pytest.raises(LockedError, match="another program"):
                put(path, overwrite=True, grids=scenes.MIXED)
        else:
            put(path, overwrite=True, grids=scenes.MIXED)
        holder.stdin.close()
        assert holder.wait() == 0
    layers = {name for name, _ in pyogrio.list_layers(path)}
    assert ("overview" in layers) != refused
    assert all(len(scenes.read(path, name)) for name in layers - {"layer_styles"})
