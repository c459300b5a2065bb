"""The soak in its short form, and that it notices damage."""

import shutil
import sqlite3
from contextlib import closing

import pytest
import soak

KEPT = soak.Command(("encode",))
REPLACED = soak.Command(("ingest",), cube="replaced")
MADE = soak.Command(("ingest",), cube="made")


@pytest.mark.slow
def test_some_dozens_of_kills_do_no_damage():
    scores = soak.soak(33, seed=1)
    assert {name: score.damages for name, score in scores.items()} == {name: [] for name in soak.COMMANDS}
    assert sum(score.kills for score in scores.values()) == 33
    assert "| all | |" in soak.table(scores)


@pytest.fixture
def folder(cube_copy):
    (cube_copy.parent / "notes.txt").write_text("mine")
    return cube_copy.parent


def spoil(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("command", [KEPT, REPLACED, MADE])
@pytest.mark.parametrize("name", ["notes.txt", "us3d.zarr/agl/c/1/0/0", "us3d.zarr/rgb/zarr.json"])
def test_what_is_damaged_is_noticed(folder, command, name):
    before = soak.results(folder)
    assert not list(soak.harm(command, folder, before, before))
    spoil(folder / name)
    assert list(soak.harm(command, folder, before, before))


@pytest.mark.parametrize("command", [KEPT, REPLACED, MADE])
def test_what_is_gone_or_has_appeared_is_noticed(folder, command):
    before = soak.results(folder)
    (folder / "new.txt").write_text("whose?")
    assert list(soak.harm(command, folder, before, before))
    (folder / "new.txt").unlink()
    (folder / "notes.txt").unlink()
    assert list(soak.harm(command, folder, before, before))


def test_a_cube_that_is_visible_too_early_is_noticed(folder):
    after = soak.results(folder)
    shutil.rmtree(folder / "us3d.zarr/label")
    assert list(soak.harm(MADE, folder, {}, after))
    (folder / "us3d.zarr/zarr.json").unlink()
    assert not list(soak.harm(MADE, folder, {}, after))


def test_what_lies_about_in_the_end_is_noticed(folder):
    assert not soak.remains(folder)
    work = folder / "us3d.zarr.work"
    (work / "replaced").mkdir()
    (work / "swap.json").write_text("[]")
    (folder / ".geoae-export-x").mkdir()
    (folder / "us3d.zarr/rgb/.partial-12").write_bytes(b"")
    assert len(soak.remains(folder)) == 4


def test_files_are_sorted_into_what_changes_as_a_whole():
    files = dict.fromkeys(
        [
            "us3d.zarr/zarr.json",
            "us3d.zarr/rgb/c/0",
            "us3d.zarr/agl/zarr.json",
            "us3d.zarr/latents/zarr.json",
            "us3d.zarr/latents/pca/zarr.json",
            "us3d.zarr/latents/pca/z/c/0",
            "us3d.zarr.models/pca/model.json",
            "map.gpkg",
        ],
        "",
    )
    assert {name: len(inside) for name, inside in soak.units(files).items()} == {
        "us3d.zarr/zarr.json": 1,
        "us3d.zarr": 2,
        "us3d.zarr/latents/zarr.json": 1,
        "us3d.zarr/latents/pca": 2,
        "us3d.zarr.models/pca": 1,
        "map.gpkg": 1,
    }


def test_the_content_of_a_geopackage_is_all_but_numbers_of_sqlite(tmp_path):
    def write(name, lanes, number):
        with closing(sqlite3.connect(tmp_path / name)) as database:
            database.execute("CREATE TABLE roads (lanes INTEGER)")
            database.execute("CREATE TABLE layer_styles (id INTEGER, styleQML TEXT, update_time TEXT)")
            database.execute("INSERT INTO roads VALUES (?)", [lanes])
            database.execute("INSERT INTO layer_styles VALUES (?, 'red', ?)", [number, f"2026-{number}"])
            database.commit()
        return soak.content(tmp_path / name)

    assert write("a", 2, 1) == write("b", 2, 7)
    assert write("c", 3, 1) != write("d", 2, 1)
