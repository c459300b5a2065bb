"""Ingests that are killed with SIGKILL before any of their writes, and while two threads are writing."""

import random
import shutil
import signal
import subprocess
import sys
import time
import warnings

import pytest
import xarray as xr
from cube_scenes import scene_pixels, tree, write_scene, write_tif
from killing import Job, Killer

from geoae.cube import Cube
from geoae.errors import IncompleteError, NotACubeError
from geoae.testing.quirks import garbage_block_tif
from geoae.verification import verify

PATTERN = ["--pattern", "{city}_{tile}_{view}_{kind}.tif"]
FRESH = ["ingest", "scenes", *PATTERN, "--patch", "8", "--skip-bad", "--quiet"]
OVER = [*FRESH, "--overwrite", "--stride", "16"]
MOMENTS = 8
"""Of each command, drawn from all its writes, and the last four, where it commits."""


@pytest.fixture(scope="module")
def run():
    """Run commands that may be killed."""
    with Killer() as killer:
        yield killer.run


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A folder with scenes of several shards, one of which cannot be decoded at its end."""
    folder = tmp_path_factory.mktemp("before")
    for number in range(4):
        write_scene(
            folder / "scenes", f"JAX_00{number}_001", scene_pixels((96, 96), number, kinds=("MSI", "AGL"))
        )
    path = folder / "scenes" / "JAX_002_001_MSI.tif"
    write_tif(folder / "x.tif", scene_pixels((96, 96), 9)["MSI"])
    path.unlink()
    garbage_block_tif(path, folder / "x.tif")
    (folder / "x.tif").unlink()
    return folder


@pytest.fixture(scope="module")
def made(run, before, tmp_path_factory):
    """The same folder with its cube, as an undisturbed run makes it, and how many changes that takes."""
    folder = tmp_path_factory.mktemp("made") / "whole"
    shutil.copytree(before, folder)
    (outcome,) = run([Job(str(folder), FRESH)])
    assert outcome.code == 4, outcome.errors
    return folder, outcome.changes


def moments(changes, seed):
    last = range(changes - 3, changes + 1)
    return sorted({*random.Random(seed).sample(range(1, changes), MOMENTS), *last})


def is_readable(path):
    """Whether xarray, which knows nothing of geoae, opens it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns before it fails
        try:
            xr.open_zarr(path).close()
        except (FileNotFoundError, KeyError):
            return False
    return True


def killed_folders(run, start, command, tmp_path, wanted):
    """Copy a folder for each moment and kill the command there; return folder by moment."""
    folders = {moment: tmp_path / f"killed-{moment}" for moment in wanted}
    for folder in folders.values():
        shutil.copytree(start, folder)
    outcomes = run([Job(str(folder), command, moment) for moment, folder in folders.items()])
    # With two threads the number of changes differs a little from run to run: the last moments may not come.
    alive = [moment for moment, outcome in zip(folders, outcomes, strict=True) if outcome.code != -9]
    assert all(moment > max(folders) - 4 for moment in alive), outcomes
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_ingest_is_unreadable_and_the_same_command_makes_the_same_bytes(
    run, before, made, tmp_path, workers
):
    whole, changes = made
    right = tree(whole / "scenes.zarr")
    command = [*FRESH, "--workers", workers]
    folders = killed_folders(run, before, command, tmp_path, moments(changes, workers))
    for moment, folder in folders.items():
        out = folder / "scenes.zarr"
        complete = (out / "zarr.json").exists()
        assert is_readable(out) == complete
        if complete:
            assert tree(out) == right
            continue
        with pytest.raises((IncompleteError, NotACubeError)) as caught:
            Cube.open(out)
        if (out / "msi").exists():
            assert caught.value.exit_code == 5, moment
    again = run([Job(str(folder), command) for folder in folders.values()])
    assert {outcome.code for outcome in again} == {4}, again
    for moment, folder in folders.items():
        assert tree(folder / "scenes.zarr") == right, moment
    assert verify(str(folder / "scenes.zarr")).ok


@pytest.mark.slow
def test_a_killed_replacement_leaves_the_old_cube_or_the_new_one(run, made, tmp_path):
    whole, _ = made
    shutil.copytree(whole, tmp_path / "new")
    (outcome,) = run([Job(str(tmp_path / "new"), OVER)])
    assert outcome.code == 4, outcome.errors
    old, new = tree(whole / "scenes.zarr"), tree(tmp_path / "new" / "scenes.zarr")
    assert old != new
    folders = killed_folders(run, whole, OVER, tmp_path, moments(outcome.changes, "over"))
    for moment, folder in folders.items():
        out = folder / "scenes.zarr"
        Cube.open(out)  # ends what the kill has cut in two
        assert is_readable(out)
        assert tree(out) in (old, new), moment
    again = run([Job(str(folder), OVER) for folder in folders.values()])
    assert {outcome.code for outcome in again} == {4}, again
    for moment, folder in folders.items():
        assert tree(folder / "scenes.zarr") == new, moment
        work = folder / "scenes.zarr.work"
        assert not any((work / name).exists() for name in ("next", "next.zarr", "replaced", "swap.json"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_kills_at_any_time_whatever_the_process_is_doing(run, before, made, tmp_path, seed):
    whole, _ = made
    folder = tmp_path / "killed"
    shutil.copytree(before, folder)
    chance = random.Random(seed)
    code = "import sys; from geoae.cli import main; main(sys.argv[1:])"
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *FRESH, "--workers", "2"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # From the first array on: importing takes longer than working.
        while process.poll() is None and not (folder / "scenes.zarr").exists():
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.wait()
        out = folder / "scenes.zarr"
        assert is_readable(out) == (out / "zarr.json").exists()
        if is_readable(out):
            break
    (outcome,) = run([Job(str(folder), FRESH)])
    assert outcome.code == 4, outcome.errors
    assert tree(folder / "scenes.zarr") == tree(whole / "scenes.zarr")
