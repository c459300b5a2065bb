"""Sweeps that are killed at a moment and run again: nothing is lost but the training under way."""

import csv
import shutil

import pytest
from killing import Job, Killer

import geoae

WORDS = ("sweep", "latent", "--cube", "us3d.zarr", "--plugin", "pca", "--latent-dims", "2,3", "--seeds", "1")
WORDS += ("--patches", "24", "--validation", "16", "--quiet")

TIMES = {"seconds", "processor_seconds", "patches_per_second"}


def contents(folder):
    """The files of a sweep, and its table without times."""
    rows = list(csv.DictReader((folder / "table.csv").read_text().splitlines()))
    lines = (folder / "runs.jsonl").read_text().splitlines()
    table = [{k: v for k, v in row.items() if k not in TIMES} for row in rows]
    return sorted(p.name for p in folder.iterdir()), len(lines), table


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on(cube_copy, tmp_path_factory):
    """Before every fourth change of the file system, and then once more to the end."""
    geoae.split(cube_copy)
    with Killer() as killer:
        folder = cube_copy.parent
        (whole,) = killer.run([Job(str(folder), WORDS)])
        assert whole.code == 0, whole.errors
        expected = contents(folder / "us3d.zarr.sweeps" / "latent")
        assert expected[1] == 4
        for moment in range(1, whole.changes + 1, 4):
            again = tmp_path_factory.mktemp("killed")
            for path in folder.iterdir():
                if not path.name.endswith(".sweeps"):
                    shutil.copytree(path, again / path.name)
            killed, ended = killer.run([Job(str(again), WORDS, moment), Job(str(again), WORDS)])
            assert killed.code == -9, (moment, whole.changes)
            assert ended.code == 0, ended.errors
            assert contents(again / "us3d.zarr.sweeps" / "latent") == expected
