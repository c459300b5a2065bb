"""Commands that are killed with SIGKILL between any two writes: nothing is lost, the same command goes on."""

import random
import shutil

import numpy as np
import pytest
from cube_scenes import tree
from killing import Job, Killer

from geoae.cube import Cube
from geoae.errors import IncompleteError, NotACubeError
from geoae.layers import LayerWriter
from geoae.provenance import Record
from geoae.store import ArraySpec
from geoae.verification import verify

MOMENTS = 4
"""Of each command, spread over all its writes, and the last two, where it commits."""

ENCODE = ["encode", "--plugin", "pca", "--latent-dim", "6", "--quiet"]

COMMANDS = {
    "encode": [*ENCODE, "--name", "fresh"],
    "encode over": [*ENCODE, "--name", "pca", "--overwrite"],
    "cluster": ["cluster", "--latents", "pca", "--k", "5", "--name", "fresh"],
    "summarize": ["summarize", "--classes", "thesis", "--quiet"],
    "rm": ["rm", "clusters/pca"],
}


@pytest.fixture(scope="module")
def killer():
    with Killer() as killer:
        yield killer


@pytest.fixture(scope="module")
def prepared(us3d_cube, tmp_path_factory, killer):
    """A cube with a split, latents, clusters, a model."""
    folder = tmp_path_factory.mktemp("killed") / "before"
    shutil.copytree(us3d_cube.parent, folder)
    for arguments in (
        ["encode", "--plugin", "pca", "--latent-dim", "4"],
        ["cluster", "--latents", "pca", "--k", "3"],
    ):
        (outcome,) = killer.run([Job(str(folder), arguments)])
        assert outcome.code == 0, outcome.errors
    return folder


def moments(changes, seed):
    inner = random.Random(seed).sample(range(1, changes), min(MOMENTS, changes - 1))
    return sorted({*inner, changes - 1, changes})


def results(folder):
    """Digests of everything but journals and locks."""
    return {name: digest for name, digest in tree(folder).items() if ".work/" not in name}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_loses_nothing_and_goes_on(name, prepared, tmp_path, killer):
    arguments = COMMANDS[name]
    shutil.copytree(prepared, tmp_path / "whole")
    (whole,) = killer.run([Job(str(tmp_path / "whole"), arguments)])
    assert whole.code == 0, whole.errors
    before, after = results(prepared), results(tmp_path / "whole")
    killed = [tmp_path / f"killed-{moment}" for moment in moments(whole.changes, name)]
    for folder in killed:
        shutil.copytree(prepared, folder)
    jobs = [Job(str(folder), arguments, int(folder.name.split("-")[1])) for folder in killed]
    for folder, outcome in zip(killed, killer.run(jobs), strict=True):
        assert outcome.code == -9, f"{folder.name}: {outcome}"
    # What was there is whole: the old layer or the new one, the pixels, the other layers.
    for folder in killed:
        cube = Cube.open(folder / "us3d.zarr")
        report = verify(cube)
        assert report.ok, f"{folder.name}: {report.findings}"
        now = results(folder)
        kept = {"us3d.zarr/rgb", "us3d.zarr/splits", "us3d.zarr/label", "us3d.zarr.models/pca"}
        if name == "encode over":
            kept.remove("us3d.zarr.models/pca")
        for file, digest in before.items():
            if file.startswith(tuple(kept)):
                assert now.get(file) == digest, f"{folder.name}: {file}"
    again = killer.run([Job(str(folder), arguments) for folder in killed])
    for folder, outcome in zip(killed, again, strict=True):
        # What was removed before the kill cannot be removed again.
        assert outcome.code == 0 or (name == "rm" and "has no clusters/pca" in outcome.errors), outcome
        assert results(folder) == after, folder.name
        assert not verify(folder / "us3d.zarr").findings or name in ("encode over", "rm"), folder.name


def test_a_killed_ingest_is_no_cube_until_it_is_finished(us3d_folder, tmp_path, killer):
    arguments = ["ingest", str(us3d_folder), "--patch", "32", "--quiet", "--workers", "2"]
    (tmp_path / "whole").mkdir()
    (whole,) = killer.run([Job(str(tmp_path / "whole"), arguments)])
    assert whole.code == 0, whole.errors
    after = results(tmp_path / "whole")
    killed = [tmp_path / f"killed-{moment}" for moment in moments(whole.changes - 20, "ingest")]
    for folder in killed:
        folder.mkdir()
    jobs = [Job(str(folder), arguments, int(folder.name.split("-")[1])) for folder in killed]
    for folder, outcome in zip(killed, killer.run(jobs), strict=True):
        assert outcome.code == -9, f"{folder.name}: {outcome}"
        with pytest.raises((IncompleteError, NotACubeError)):
            Cube.open(folder / "us3d.zarr")
    again = killer.run([Job(str(folder), arguments) for folder in killed])
    for folder, outcome in zip(killed, again, strict=True):
        assert outcome.code == 0, outcome
        assert results(folder) == after, folder.name
        assert not verify(folder / "us3d.zarr").findings


def two_scenes(*keys):
    """Arguments of an ingest of two scenes; all have as many patches."""
    chosen = (word for key in keys for word in ("--scene", key))
    return ["--patch", "32", "--quiet", "--workers", "2", *chosen]


SCENES = [two_scenes("JAX_004_004", "JAX_004_006"), two_scenes("JAX_415_001", "JAX_415_003")]

# Pairs of commands of one result, whose arrays differ in nothing but their values.
OTHERWISE = {
    "encode": [[*ENCODE, "--name", "fresh", "--input", kind] for kind in ("rgb", "msi")],
    "encode over": [[*ENCODE, "--name", "pca", "--input", kind] for kind in ("rgb", "msi")],
    "ingest": SCENES,
    "ingest over": SCENES,
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_a_killed_command_left_is_not_taken_by_one_with_other_options(
    name, prepared, us3d_folder, tmp_path, killer
):
    source = ["ingest", str(us3d_folder)] * ("ingest" in name)
    first, second = ([*source, *arguments, "--overwrite"] for arguments in OTHERWISE[name])
    before = prepared if name != "ingest" else tmp_path / "nothing"
    before.mkdir(exist_ok=True)
    wholes = []
    for folder, arguments in (tmp_path / "first", first), (tmp_path / "second", second):
        shutil.copytree(before, folder)
        wholes += killer.run([Job(str(folder), arguments)])
        assert wholes[-1].code == 0, wholes[-1].errors
    changes = wholes[0].changes
    # Shards are written in the second half of a command, or it has none left to take.
    killed = [tmp_path / f"killed-{m}" for m in range(changes // 2, changes, changes // 10)]
    for folder in killed:
        shutil.copytree(before, folder)
    jobs = [Job(str(folder), first, int(folder.name.split("-")[1])) for folder in killed]
    for folder, outcome in zip(killed, killer.run(jobs), strict=True):
        assert outcome.code == -9, f"{folder.name}: {outcome}"
    after = results(tmp_path / "second")
    for folder, outcome in zip(killed, killer.run([Job(str(f), second) for f in killed]), strict=True):
        assert outcome.code == 0, f"{folder.name}: {outcome}"
        assert results(folder) == after, folder.name


def test_files_that_were_being_written_are_swept(cube_copy):
    """A kill between creating a file and naming it leaves a file that nothing else explains."""
    cube = Cube.open(cube_copy)
    specs = {"z": ArraySpec((144, 2), ("patch", "component"), "float32", 64, 16)}
    with LayerWriter(cube, "latents/z", Record(made_by="encode"), specs) as writer:
        writer.write(0, {"z": np.zeros((64, 2), np.float32)})
        (cube_copy / "latents/z/z/c/1").mkdir()
        (cube_copy / "latents/z/z/c/1/.partial-0123").write_bytes(b"half a shard")
        (cube_copy / ".partial-4567").write_bytes(b"half a root")
    report = verify(cube)
    assert report.ok
    assert {finding.kind for finding in report.findings} == {"unfinished"}
    with LayerWriter(cube, "latents/z", Record(made_by="encode"), specs) as writer:
        assert writer.done() == {0}
        for shard in (1, 2):
            writer.write(shard, {"z": np.zeros((64 if shard == 1 else 16, 2), np.float32)})
        writer.commit({}, {})
    assert not list(cube_copy.rglob(".partial-*"))
    assert not verify(cube).findings
