"""Ingestion: what lands in the cube, when it becomes visible, and what is never replaced."""

import json
import os
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from cube_scenes import SMALL, catalog_of, scene_pixels, tree, write_scene

from geoae import assembly, ingestion
from geoae.cube import Cube
from geoae.errors import (
    GeoaeError,
    IncompleteError,
    InputError,
    LockedError,
    NotACubeError,
    StoreExistsError,
    UsageError,
)
from geoae.ingestion import ingest
from geoae.layers import write_layer
from geoae.location import Location
from geoae.provenance import Record
from geoae.selection import Selection
from geoae.verification import verify

KEYS = ("JAX_001_001", "JAX_001_002", "OMA_001_001")


class Killed(BaseException):
    """Stands for a process that ends here."""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three scenes of two cities, and their pixels."""
    folder = tmp_path_factory.mktemp("source") / "my scenes"
    return folder, {key: write_scene(folder, key, scene_pixels((40, 40), n)) for n, key in enumerate(KEYS)}


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    """The cube of these scenes; never change it."""
    out = tmp_path_factory.mktemp("finished") / "c.zarr"
    ingest(source[0], catalog=SMALL, out=out, patch=8)
    return out


def make(source, out, **options):
    return ingest(source[0], **{"catalog": SMALL, "out": out, "patch": 8, **options})


def interrupt(monkeypatch, source, out, shards=0, **options):
    """Let an ingest die once it has written some shards of its own."""
    original = assembly._compute

    def dying(tasks, *rest):
        original(tasks[:shards], *rest)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(assembly, "_compute", dying)
        patched.setattr(assembly, "RUN_BYTES", 1)
        with pytest.raises(Killed):
            make(source, out, **options)


# --- what lands in the cube -----------------------------------------------------------------------


def test_patches_are_slices_of_the_files(source, finished):
    folder, pixels = source
    opened = zarr.open_group(finished, mode="r")
    for i in range(75):
        key, row, col = KEYS[i // 25], i % 25 // 5, i % 5
        part = np.s_[..., 8 * row : 8 * row + 8, 8 * col : 8 * col + 8]
        for name, kind in {"msi": "MSI", "rgb": "RGB", "agl": "AGL", "label": "CLS"}.items():
            assert opened[name][i].tobytes() == np.ascontiguousarray(pixels[key][kind][part]).tobytes()
    assert folder.name == "my scenes"


def test_a_report_says_what_was_done(source, tmp_path):
    announced = []
    report = make(source, tmp_path / "c.zarr", announce=announced.append)
    assert report.created
    assert report.resumed == 0
    assert report.bad == {}
    assert not report.partial
    assert report.cube_id == Cube.open(tmp_path / "c.zarr").cube_id
    assert report.n_bytes == 75 * 64 * (4 + 1 + 3 + 1 + 4 + 1 + 1)
    assert announced[0].cube_id is None
    again = make(source, tmp_path / "c.zarr")
    assert not again.created
    assert again.cube_id == report.cube_id


def test_an_equal_cube_is_left_alone(source, finished):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*")}
    assert not make(source, finished).created
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*")} == before


def test_equal_scenes_elsewhere_make_an_equal_cube(source, finished, tmp_path):
    shutil.copytree(source[0], tmp_path / "else where" / "x")
    make((tmp_path / "else where",), tmp_path / "other name.zarr")
    # The place of a file below the folder is part of the plan; its bytes are not of the cube's pixels.
    one, two = tree(finished), tree(tmp_path / "other name.zarr")
    assert {n: d for n, d in one.items() if n != "zarr.json"} == {
        n: d for n, d in two.items() if n != "zarr.json"
    }
    shutil.copytree(source[0], tmp_path / "third")
    make((tmp_path / "third",), tmp_path / "3.zarr")
    assert tree(tmp_path / "3.zarr") == one


def test_no_place_time_or_host_is_in_the_cube(source, finished):
    for path in finished.rglob("zarr.json"):
        text = path.read_text()
        assert str(source[0]) not in text
        assert str(finished.parent) not in text
        assert os.uname().nodename not in json.loads(text)


def test_the_name_of_the_folder_names_the_cube(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(source[0], tmp_path / "deep" / "scenes")
    report = ingest("deep/scenes/", catalog=SMALL, patch=8)
    assert Path(report.cube) == tmp_path / "scenes.zarr"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "scenes.zarr", "scenes.zarr.work"]


def test_a_selection_makes_a_cube_of_its_own(source, tmp_path):
    make(source, tmp_path / "c.zarr", selection=Selection(cities=("OMA",)))
    assert Cube.open(tmp_path / "c.zarr").scenes().scene_name.tolist() == ["OMA_001_001"]


def test_a_dry_run_writes_nothing(source, tmp_path):
    report = make(source, tmp_path / "deep" / "c.zarr", dry_run=True)
    assert report.plan.patches.n_patches == 75
    assert report.cube_id is None
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_catalog_that_fits_is_chosen(us3d_folder, tmp_path):
    report = ingest(us3d_folder, out=tmp_path / "c.zarr", patch=64, selection=Selection(limit=1))
    assert report.plan.catalog.name == "us3d"


def test_a_pattern_is_enough_for_names_of_ones_own(source, tmp_path):
    for kind in ("RGB", "AGL"):
        (tmp_path / "scenes").mkdir(exist_ok=True)
        shutil.copy(
            source[0] / f"JAX_001_001_{kind}.tif", tmp_path / "scenes" / f"my place-{kind.lower()}.TIF"
        )
    ingest(tmp_path / "scenes", pattern="{scene}-{kind}.tif", out=tmp_path / "c.zarr", patch=8)
    cube = Cube.open(tmp_path / "c.zarr")
    assert cube.modalities == ("rgb", "agl")
    assert cube.bands("rgb") == ("band_1", "band_2", "band_3")
    assert cube.scenes().scene_name.tolist() == ["my place"]


# --- when it becomes visible ----------------------------------------------------------------------


@pytest.mark.parametrize("shards", [0, 1])
def test_nobody_reads_a_cube_that_is_not_complete(source, tmp_path, monkeypatch, shards):
    out = tmp_path / "c.zarr"
    interrupt(monkeypatch, source, out, shards)
    assert (out / "msi" / "zarr.json").exists()
    for opener in (xr.open_zarr, lambda p: xr.open_datatree(p, engine="zarr"), zarr.open_group):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # xarray warns before it fails
            with pytest.raises((FileNotFoundError, KeyError)):
                opener(out) if opener is not zarr.open_group else opener(out, mode="r")
    with pytest.raises(
        IncompleteError, match=r"is incomplete: .*run the same `geoae ingest` again"
    ) as caught:
        Cube.open(out)
    assert caught.value.exit_code == 5


def test_the_same_command_finishes_the_work(source, finished, tmp_path, monkeypatch):
    out = tmp_path / "c.zarr"
    interrupt(monkeypatch, source, out, 1)
    report = make(source, out)
    assert report.created
    assert report.resumed == 1
    assert tree(out) == tree(finished)
    assert verify(str(out)).ok


def test_another_command_does_not_take_over_what_was_begun(source, tmp_path, monkeypatch):
    out = tmp_path / "c.zarr"
    interrupt(monkeypatch, source, out, 1)
    with pytest.raises(
        StoreExistsError, match=r"is an incomplete cube of another plan .*--overwrite"
    ) as caught:
        make(source, out, patch=10)
    assert caught.value.exit_code == 2
    make(source, out, patch=10, overwrite=True)
    assert Cube.open(out).patch_size == 10
    assert verify(str(out)).ok


def test_a_broken_root_is_mended_by_the_same_command_with_its_layers(source, finished, tmp_path):
    out = tmp_path / "c.zarr"
    for path in finished.parent.iterdir():
        shutil.copytree(path, tmp_path / path.name)
    layer(out)
    whole = tree(out)
    for broken in (b"", b"{", b"[]", None):
        (out / "zarr.json").unlink()
        if broken is not None:
            (out / "zarr.json").write_bytes(broken)
        make(source, out)
        assert tree(out) == whole


@pytest.mark.parametrize("content", ["", "x", "{}", "[]", '{"digest": 1, "plan": {}}'])
def test_a_plan_that_was_damaged_is_no_plan(source, finished, tmp_path, monkeypatch, content):
    """A complete cube does not need it; of one that was begun nobody knows what it was to be."""
    out = tmp_path / "c.zarr"
    interrupt(monkeypatch, source, out, 1)
    plan = tmp_path / "c.zarr.work" / "ingest" / "plan.json"
    plan.write_text(content)
    with pytest.raises(
        StoreExistsError, match=r"is an incomplete cube whose plan was damaged .*--overwrite"
    ) as caught:
        make(source, out)
    assert caught.value.exit_code == 2
    assert make(source, out, overwrite=True).resumed == 0
    assert tree(out) == tree(finished)
    plan.write_text(content)
    assert not make(source, out).created
    assert make(source, out, overwrite=True).created
    assert tree(out) == tree(finished)
    assert verify(str(out)).ok


def test_a_plan_that_was_damaged_aside_is_begun_anew(source, finished, tmp_path, monkeypatch):
    out = tmp_path / "c.zarr"
    make(source, out, patch=10)
    interrupt(monkeypatch, source, out, 1, overwrite=True)
    (tmp_path / "c.zarr.work" / "next" / "plan.json").write_text("x")
    assert make(source, out, overwrite=True).resumed == 0
    assert tree(out) == tree(finished)


# --- replacing ------------------------------------------------------------------------------------


def layer(out, value=1):
    cube = Cube.open(out)
    numbers = xr.Dataset({"cluster": ("patch", np.full(cube.n_patches, value, np.int32))})
    write_layer(cube, "clusters/a", numbers, Record(made_by="test", inputs={"cube": cube.cube_id}))


def test_another_plan_needs_overwrite_and_replaces_cube_and_layers(source, tmp_path):
    out = tmp_path / "c.zarr"
    make(source, out)
    layer(out)
    before = tree(out)
    with pytest.raises(StoreExistsError, match=r"is a cube of another plan .*--overwrite"):
        make(source, out, patch=10)
    assert tree(out) == before
    make(source, out, patch=10, overwrite=True)
    make(source, tmp_path / "fresh.zarr", patch=10)
    assert tree(out) == tree(tmp_path / "fresh.zarr")
    assert verify(str(out)).ok
    assert not make(source, out, patch=10).created
    left = {p.name for p in (tmp_path / "c.zarr.work").rglob("*") if p.is_file() and p.suffix != ".lock"}
    assert left == {"plan.json", "000000.json"}


def test_a_replacement_that_dies_leaves_the_old_cube(source, tmp_path, monkeypatch):
    out = tmp_path / "c.zarr"
    make(source, out)
    layer(out)
    before = tree(out)
    interrupt(monkeypatch, source, out, 1, patch=10, overwrite=True)
    assert tree(out) == before
    assert Cube.open(out).layers()[0].path == "clusters/a"
    assert not make(source, out).created
    report = make(source, out, patch=10, overwrite=True)
    assert report.resumed == 1
    make(source, tmp_path / "fresh.zarr", patch=10)
    assert tree(out) == tree(tmp_path / "fresh.zarr")


@pytest.mark.parametrize("moment", range(6))
def test_a_replacement_that_dies_in_its_last_moments_is_ended(source, tmp_path, monkeypatch, moment):
    out = tmp_path / "c.zarr"
    make(source, out)
    make(source, tmp_path / "fresh.zarr", patch=10)
    old, new = tree(out), tree(tmp_path / "fresh.zarr")
    moves = [0]
    original = Location.move_to

    def move_to(self, target):
        if moves[0] == moment:
            raise Killed
        moves[0] += 1
        original(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Location, "move_to", move_to)
        try:
            make(source, out, patch=10, overwrite=True)
        except Killed:
            assert moment < 4
        else:
            assert moment >= 4
    cube = Cube.open(out)
    assert cube.patch_size == 10
    assert tree(out) == new != old
    assert not make(source, out, patch=10).created


def test_a_reader_is_never_told_that_a_cube_is_gone(source, finished, tmp_path):
    out = tmp_path / "c.zarr"
    shutil.copytree(finished, out)
    seen, failures = set(), []
    stop = threading.Event()

    def read():
        while not stop.is_set():
            try:
                seen.add(Cube.open(out).patch_size)
            except GeoaeError as error:
                failures.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for patch in (10, 8, 10, 8):
            make(source, out, patch=patch, overwrite=True)
    finally:
        stop.set()
        reader.join()
    assert failures == []
    assert seen <= {8, 10}


def test_a_cube_behind_a_link_is_one_cube(source, tmp_path):
    make(source, tmp_path / "real.zarr")
    (tmp_path / "link.zarr").symlink_to(tmp_path / "real.zarr")
    assert not make(source, tmp_path / "link.zarr").created
    make(source, tmp_path / "link.zarr", patch=10, overwrite=True)
    assert (tmp_path / "link.zarr").is_symlink()
    assert Cube.open(tmp_path / "real.zarr").patch_size == 10
    assert not (tmp_path / "link.zarr.work").exists()


# --- what is never replaced -----------------------------------------------------------------------


def strangers(tmp_path):
    """Things that are there and are not geoae's."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    zarr.create_group(tmp_path / "group").create_array("a", shape=3, dtype="i4")
    zarr.create_array(tmp_path / "array", shape=3, dtype="i4")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "zarr.json").write_text("{")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    return ("file", "folder", "group", "array", "broken", "bare")


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"dry_run": True}])
def test_what_is_not_ours_is_never_replaced(source, tmp_path, options):
    names = strangers(tmp_path)
    before = tree(tmp_path)
    for name in names:
        with pytest.raises(
            StoreExistsError, match=rf"{name} exists and is not a geoae cube; it is never replaced"
        ) as e:
            make(source, tmp_path / name, **options)
        assert e.value.exit_code == 2
    assert tree(tmp_path) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)  # not even a folder beside them


def test_a_folder_that_took_the_place_of_a_begun_cube_is_not_removed(source, tmp_path, monkeypatch):
    out = tmp_path / "c.zarr"
    interrupt(monkeypatch, source, out, 1)
    shutil.rmtree(out)
    out.mkdir()
    (out / "photos").mkdir()
    (out / "photos" / "cat.jpg").write_text("mine")
    for options in ({}, {"patch": 10, "overwrite": True}):
        with pytest.raises(StoreExistsError, match="never replaced"):
            make(source, out, **options)
    assert (out / "photos" / "cat.jpg").read_text() == "mine"


@pytest.mark.parametrize("options", [{}, {"patch": 10, "overwrite": True}])
def test_an_array_that_a_killed_run_was_removing_is_ours(source, tmp_path, monkeypatch, options):
    # A resumed run replaces small arrays, and their files go in any order: the metadata may be the first.
    make(source, tmp_path / "whole.zarr", **options)
    out = tmp_path / "c.zarr"
    interrupt(monkeypatch, source, out, 1)
    (out / "affine" / "c").mkdir(parents=True)
    (out / "affine" / "c" / "0").write_bytes(b"old")
    (out / "msi" / "zarr.json").unlink()
    make(source, out, **options)
    assert tree(out) == tree(tmp_path / "whole.zarr")


def test_a_file_of_somebody_else_in_such_an_array_is_not_removed(source, tmp_path, monkeypatch):
    out = tmp_path / "c.zarr"
    interrupt(monkeypatch, source, out, 1)
    (out / "affine" / "c").mkdir(parents=True)
    (out / "affine" / "c" / "notes.txt").write_text("mine")
    for options in ({}, {"patch": 10, "overwrite": True}):
        with pytest.raises(StoreExistsError, match="never replaced"):
            make(source, out, **options)
    assert (out / "affine" / "c" / "notes.txt").read_text() == "mine"


def test_an_empty_folder_may_become_the_cube(source, finished, tmp_path):
    (tmp_path / "c.zarr").mkdir()
    make(source, tmp_path / "c.zarr")
    assert tree(tmp_path / "c.zarr") == tree(finished)


@pytest.mark.parametrize("out", ["scenes", "scenes/..", "link", "."])
def test_the_source_is_never_the_target(source, tmp_path, monkeypatch, out):
    shutil.copytree(source[0], tmp_path / "scenes")
    (tmp_path / "link").symlink_to(tmp_path / "scenes")
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(UsageError, match="would replace the folder that it is made from") as caught:
        ingest("scenes", catalog=SMALL, out=out, patch=8, overwrite=True)
    assert caught.value.exit_code == 2
    assert tree(tmp_path) == before


def test_a_cube_inside_its_source_is_no_scene(source, finished, tmp_path):
    shutil.copytree(source[0], tmp_path / "scenes")
    out = tmp_path / "scenes" / "c.zarr"
    for _ in range(2):
        make((tmp_path / "scenes",), out)
    assert tree(out) == tree(finished)


# --- places that cannot be written ----------------------------------------------------------------


@pytest.fixture
def powerless():
    """Start of a command whose process must obey permissions, though the tests may run as root."""
    if os.getuid() != 0:
        return []
    program = shutil.which("setpriv")
    if program is None:
        pytest.skip("root obeys no permissions, and setpriv (Debian package util-linux) is not installed")
    return [program, "--bounding-set=-dac_override,-dac_read_search"]


@pytest.mark.parametrize("place", ["c.zarr", "deep/c.zarr"])
def test_a_target_that_cannot_be_written_is_one_line(source, tmp_path, place, powerless):
    (tmp_path / "closed").mkdir(mode=0o555)
    code = "import sys; from geoae.cli import main; main(sys.argv[1:])"
    command = ["ingest", str(source[0]), "--pattern", "{city}_{tile}_{view}_{kind}.tif", "--patch", "8"]
    done = subprocess.run(
        [*powerless, sys.executable, "-c", code, *command, "--out", str(tmp_path / "closed" / place)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "cannot write in" in done.stderr
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "closed").iterdir()) == []


def test_a_file_in_the_way_of_the_targets_folder_is_one_line(source, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(GeoaeError, match=r"cannot write in .*file.*choose another --out") as caught:
        make(source, tmp_path / "file" / "c.zarr")
    assert caught.value.exit_code == 1


def test_a_full_disk_is_told_before_any_byte(source, tmp_path, monkeypatch):
    monkeypatch.setattr(ingestion, "_free_bytes", lambda _: 10_000)
    with pytest.raises(GeoaeError, match=r"the cube needs about 0\.0 GB and 0\.0 GB are free") as caught:
        make(source, tmp_path / "c.zarr")
    assert caught.value.exit_code == 1
    assert not (tmp_path / "c.zarr").exists()


def test_what_is_written_already_needs_no_room(source, finished, tmp_path, monkeypatch):
    out = tmp_path / "c.zarr"
    interrupt(monkeypatch, source, out, 1)
    there = sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    whole = make(source, out, dry_run=True).n_bytes * ingestion.COMPRESSED
    monkeypatch.setattr(ingestion, "_free_bytes", lambda _: int(whole - there) + 1)
    make(source, out)
    assert tree(out) == tree(finished)


# --- two at once ----------------------------------------------------------------------------------


def test_two_ingests_into_one_cube(source, finished, tmp_path, monkeypatch):
    out = tmp_path / "c.zarr"
    original = assembly._compute

    def meanwhile(*arguments):
        with pytest.raises(LockedError, match="another run is writing 'ingest'") as caught:
            make(source, out)
        assert caught.value.exit_code == 1
        with pytest.raises(LockedError):
            make(source, out, patch=10, overwrite=True)
        original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(assembly, "_compute", meanwhile)
        make(source, out)
    assert tree(out) == tree(finished)


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 0}, "patch and stride"),
        ({"stride": -1}, "patch and stride"),
        ({"edge": "cut"}, "edge must be"),
        ({"min_valid": 2}, "min_valid"),
    ],
)
def test_mistakes_of_callers_leave_nothing_behind(source, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make(source, tmp_path / "c.zarr", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    for catalog in (SMALL, None):
        with pytest.raises(InputError, match="there is no folder"):
            ingest(tmp_path / "nowhere", catalog=catalog, out=tmp_path / "c.zarr")
    with pytest.raises(InputError, match="holds no file"):
        ingest(tmp_path, out=tmp_path / "c.zarr")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotACubeError, match="is not a geoae cube"):
        Cube.open(tmp_path / "c.zarr")


def test_another_catalog_is_another_plan(source, tmp_path):
    make(source, tmp_path / "c.zarr")
    with pytest.raises(StoreExistsError):
        make(source, tmp_path / "c.zarr", catalog=catalog_of(title="Other"))
