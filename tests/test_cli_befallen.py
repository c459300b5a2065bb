"""Long commands that are interrupted or run out of room, at a random moment: one line, and they go on."""

import os
import random
import shutil
import subprocess

import pytest
import soak
from command_line import PROGRAM
from killing import Job, Killer

COMMANDS = {
    **soak.COMMANDS,
    "split": soak.Command(("split", "--name", "other", "--seed", "3")),
    "fit": soak.Command(("fit", "--plugin", "pca", "--name", "fresh", "--quiet")),
    "project": soak.Command(("project", "--latents", "pca", "--method", "pca", "--name", "fresh")),
}


@pytest.fixture(scope="module")
def killer():
    with Killer() as killer:
        yield killer


@pytest.fixture(scope="module")
def world(tmp_path_factory, killer):
    world = tmp_path_factory.mktemp("world")
    soak.prepare(world, killer)
    return world


def befall(name, how, world, tmp_path, killer, first=()):
    """Run a command undisturbed, then let something befall it at some moments; yield outcomes and harm."""
    command, start = COMMANDS[name], world / COMMANDS[name].start
    # Beside the scenes, which a command names by `../us3d`.
    (tmp_path / "us3d").symlink_to(world / "us3d")
    whole = tmp_path / "whole"
    shutil.copytree(start, whole)
    (undisturbed,) = killer.run([Job(str(whole), command.words)])
    assert undisturbed.code == 0, undisturbed.errors
    before, after = soak.results(start), soak.results(whole)
    chance = random.Random(f"{name} {how}")
    for moment in first or sorted(chance.sample(range(1, undisturbed.changes), 1)):
        folder = tmp_path / f"{how}-{moment}"
        shutil.copytree(start, folder)
        (outcome,) = killer.run([Job(str(folder), command.words, moment, how)])
        yield outcome, list(soak.harm(command, folder, before, after))
        if outcome.code:
            (again,) = killer.run([Job(str(folder), command.words)])
            assert again.code == 0, again
        assert soak.results(folder) == after, moment
        assert not soak.remains(folder)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupted_command_ends_with_130_and_goes_on(name, how, world, tmp_path, killer):
    for outcome, harm in befall(name, how, world, tmp_path, killer):
        assert outcome.code == 130, outcome
        lines = outcome.errors.splitlines()
        assert lines[-2].startswith("interrupted: nothing that was there is damaged")
        assert lines[-1].strip().startswith(f"go on with: geoae {name.split()[0]}")
        assert "Traceback" not in outcome.errors
        assert not harm


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_line_and_the_command_goes_on(name, world, tmp_path, killer):
    failed = []
    for outcome, harm in befall(name, "full", world, tmp_path, killer, first=(1, 5)):
        failed.append(outcome.code != 0)
        if not failed[-1]:
            continue  # nothing needed room any more
        assert outcome.code == (3 if name.startswith("export") else 1), outcome
        errors = [line for line in outcome.errors.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, outcome.errors
        assert "No space left on device" in errors[0]
        assert "Traceback" not in outcome.errors
        assert not harm
    assert failed[0]


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_an_interrupted_verify_ends_with_130(how, world, killer):
    (whole,) = killer.run([Job(str(world / "made"), ["verify", "--quiet"], reads=True)])
    assert whole.code == 0
    before = soak.results(world / "made")
    job = Job(str(world / "made"), ["verify", "--quiet"], whole.changes // 2, how, reads=True)
    (outcome,) = killer.run([job])
    assert outcome.code == 130, outcome
    assert "Traceback" not in outcome.errors
    assert soak.results(world / "made") == before


FULL = """
mount -t tmpfs -o size=64m tmpfs small && cp -r made/. small/ && cd small
head -c 64m /dev/zero > ballast 2>/dev/null
truncate -s -16384 ballast
geoae encode --plugin pca --latent-dim 16 --name fresh --quiet; echo "code $?"
rm ballast
geoae verify --quiet; echo "code $?"
geoae encode --plugin pca --latent-dim 16 --name fresh --quiet; echo "code $?"
geoae verify --quiet; echo "code $?"
"""


def test_a_disk_that_is_really_full(world, tmp_path):
    mayhap = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False)
    if mayhap.returncode:
        pytest.skip("nobody may mount a small disk here")
    shutil.copytree(world / "made", tmp_path / "made")
    (tmp_path / "small").mkdir()
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", FULL], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    codes = [line for line in done.stdout.splitlines() if line.startswith("code ")]
    assert codes == ["code 1", "code 0", "code 0", "code 0"], (done.stdout, done.stderr)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert "No space left on device" in errors[0]
    assert "Traceback" not in done.stderr
