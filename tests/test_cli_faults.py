"""The command line when things go wrong: one line, the right exit code, nothing half-made."""

import json
import os
import shutil
import signal
import time

import pytest
from command_line import finish, runner, spawn
from cube_scenes import tree
from fake_encoders import lay

from geoae.cube import Cube
from geoae.errors import IncompleteError, NotACubeError
from geoae.location import Location, work_folder
from geoae.store import METADATA, METADATA_DIGEST, metadata_digest
from geoae.verification import verify


@pytest.fixture
def run(capsys):
    return runner(capsys)


@pytest.fixture
def here(cube_copy, monkeypatch):
    """The folder of a cube without layers, to work in."""
    monkeypatch.chdir(cube_copy.parent)
    return cube_copy.parent


@pytest.fixture
def fakes(tmp_path_factory, monkeypatch):
    """Install the encoders of `fake_encoders`, and three that are broken."""
    site = tmp_path_factory.mktemp("site")
    (site / "broken_on_import.py").write_text("raise RuntimeError('the licence has expired')\n")
    broken = {
        "expired": "broken_on_import:Encoder",
        "absent": "no_such_module:Encoder",
        "nothing": "fake_encoders:lay",
    }
    monkeypatch.syspath_prepend(lay(site, **broken))
    return site


# --- one line -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message", "advice"),
    [
        (["ingest", "nowhere"], 3, "nowhere", None),
        (["ingest", "empty"], 3, "empty", None),
        (["ingest", "{scenes}", "--patch", "0"], 2, "--patch", "geoae ingest --help"),
        (["ingest", "{scenes}", "--patch", "4096"], 3, "patch of 4096", "--patch"),
        (["ingest", "{scenes}", "--catalog", "nope"], 3, "nope", ".yaml"),
        (["ingest", "{scenes}", "--city", "NYC"], 2, "no city NYC", "JAX"),
        (["ingest", "{scenes}", "--bbox", "1,2,3"], 2, "--bbox", None),
        (["ingest", "{scenes}", "--out", "text.txt"], 2, "text.txt", "--out"),
        (["ingest", "{scenes}", "--out", "text.txt/x.zarr"], 1, "text.txt", None),
        (["ingest", "{scenes}"], 2, "another plan", "--overwrite"),
        (["info", "nowhere.zarr"], 3, "not a geoae cube", "geoae ingest"),
        (["encode"], 2, "either a plugin or a model", "--plugin pca"),
        (["encode", "--plugin", "nope"], 2, "no encoder 'nope'", "pca"),
        (["encode", "--plugin", "pca", "--latent-dim", "0"], 2, "--latent-dim", None),
        (["encode", "--plugin", "pca", "--latent-dim", "many"], 2, "--latent-dim", None),
        (["encode", "--plugin", "pca", "--latent-dim"], 2, "--latent-dim", None),
        (["encode", "--plugin", "pca", "--input", "label"], 2, "labels", "msi, rgb, agl"),
        (["encode", "--plugin", "pca", "--input", "rgb.swir"], 2, "no band 'swir'", "red, green, blue"),
        (["encode", "--plugin", "pca", "--split", "mine"], 2, "no split 'mine'", "geoae split"),
        (["encode", "--plugin", "pca", "--name", "a/b"], 2, "'a/b' cannot name", "letters"),
        (["encode", "--plugin", "pca", "--min-valid", "2"], 2, "--min-valid", None),
        (["encode", "--model", "nope"], 3, "no model 'nope'", "models of the cube: none"),
        (["split", "--fractions", "1,1,1"], 2, "add up to 1", None),
        (["split", "--fractions", "a,b"], 2, "three numbers", None),
        (["split", "--test-city", "NYC"], 2, "no city NYC", "JAX, OMA"),
        (["summarize", "--classes", "nope"], 2, "no class table 'nope'", "dfc2019, thesis"),
        (["cluster", "--latents", "nope"], 2, "no latents/nope", "geoae ls"),
        (["cluster", "--latents", "pca", "--k", "0"], 2, "--k", None),
        (["cluster", "--latents", "../x"], 2, "cannot name a layer", "letters"),
        (["project", "--latents", "nope"], 2, "no latents/nope", "geoae ls"),
        (["plot", "latents", "--latents", "nope"], 2, "no latents/nope", "geoae ls"),
        (["plot", "map", "--clusters", "nope"], 2, "no clusters/nope", "geoae ls"),
        (["export", "x.shp"], 2, "writes .gpkg", None),
        (["export", "x.parquet", "--add"], 2, "x.parquet has no layers", None),
        (["export", "x.gpkg", "--prefix", "gpkg_"], 2, "'gpkg_' cannot begin the name", "letters"),
        (["export", "text.txt", "--add"], 2, "writes .gpkg", None),
        (["export", "nowhere/x.gpkg"], None, "nowhere", None),
        (["rm", "latents/nope"], 2, "no latents/nope", "geoae ls"),
        (["catalogs", "show", "nope"], 3, "nope", ".yaml"),
        (["plugins", "nope"], 2, "no encoder 'nope'", "pca"),
        (["demo", "--tiles", "0"], 2, "--tiles", "geoae demo --help"),
        (["nope"], 2, "nope", "geoae --help"),
    ],
)
def test_errors(run, here, us3d_folder, arguments, code, message, advice):
    (here / "empty").mkdir()
    (here / "text.txt").write_text("text")
    before = tree(here)
    answer = run(*[str(a).replace("{scenes}", str(us3d_folder)) for a in arguments])
    assert answer.code == code or (code is None and answer.code in (1, 2, 3)), answer
    assert message in answer.error
    assert advice is None or advice in answer.advice
    assert answer.out == ""
    left = {name: digest for name, digest in tree(here).items() if ".work/locks/" not in name}
    assert {**before, **left} == before, "a refused command has written something"


def test_a_traceback_only_if_asked_for(run, here, fakes):
    answer = run("encode", "--plugin", "raisesinfit")
    assert answer.code == 1
    assert "encoder raisesinfit of fake-encoders 1.0 failed in fit: ZeroDivisionError" in answer.error
    assert "--debug" in answer.advice
    from geoae.cli import main
    from geoae.errors import PluginError

    with pytest.raises(PluginError):
        main(["encode", "--debug", "--plugin", "raisesinfit"])
    process = spawn(
        "--debug",
        "encode",
        "--plugin",
        "raisesinfit",
        folder=here,
        environment={"PYTHONPATH": search_path(fakes)},
    )
    answer = finish(process)
    assert answer.code == 1
    for part in ("Traceback", "ZeroDivisionError", "fake_encoders.py", "PluginError"):
        assert part in answer.err


def search_path(site):
    return f"{site}:{os.path.dirname(__file__)}"  # noqa: PTH120 (a string is what the environment takes)


def test_faults_that_nobody_foresaw_are_one_line_too(run, here, monkeypatch):
    def fail(*_, **__):
        raise IndexError("list index out of range\nand more")

    monkeypatch.setattr("geoae.splits.split", fail)
    answer = run("split")
    assert (answer.code, answer.error) == (1, "IndexError: list index out of range and more")
    assert "--debug" in answer.advice
    monkeypatch.setattr("geoae.splits.split", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
    assert run("split").error == "out of memory"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda cube: (cube / "rgb/c/0/0/0/0").write_bytes(b"rot"), 5),
        (lambda cube: (cube / "zarr.json").write_bytes(b"{"), 5),
        (lambda cube: (cube / "zarr.json").unlink(), 5),
        (lambda cube: (cube / "new.txt").write_text("foreign"), 5),
        (lambda cube: cube.stat(), 0),
    ],
)
def test_verify_ends_with_5_if_anything_is_wrong(run, here, change, code):
    change(here / "us3d.zarr")
    answer = run("verify", "us3d.zarr")
    assert answer.code == code
    assert "Traceback" not in answer.err
    if code:
        assert "  try: " in answer.out + answer.err
    answer = run("verify", "us3d.zarr", "--json")
    assert answer.code == code
    if answer.out:
        assert answer.json["ok"] == (code == 0)


def test_damaged_pixels_end_a_command_with_one_line(run, here):
    shard = next(p for p in (here / "us3d.zarr/rgb/c").rglob("0") if p.is_file())
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    answer = run("encode", "--plugin", "pca", "--quiet")
    assert answer.code == 5, answer
    assert "rgb" in answer.error
    assert "verify" in answer.advice


# --- plugins --------------------------------------------------------------------------------------


def test_broken_plugins_are_listed_and_disturb_nobody(run, here, fakes):
    names = {info["name"]: info for info in run("plugins", "--json").json}
    assert {"pca", "means", "expired", "absent", "nothing"} <= set(names)
    assert run("encode", "--plugin", "means", "--latent-dim", "2", "--quiet").code == 0
    assert run("encode", "--plugin", "pca", "--latent-dim", "2", "--quiet").code == 0
    for name, message in (
        ("expired", "cannot be imported: RuntimeError: the licence has expired"),
        ("absent", "cannot be imported: ModuleNotFoundError"),
        ("nothing", "no subclass of geoae.encoder.Encoder"),
    ):
        for arguments in (["encode", "--plugin", name], ["plugins", name]):
            answer = run(*arguments)
            assert answer.code == 1
            assert message in answer.error
            assert f"encoder {name} of fake-encoders 1.0" in answer.error


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        ("wrongshape", "returns z of shape"),
        ("toofewrows", "returns z of shape"),
        ("wrongtype", "returns z of float64, not float32"),
        ("notfinite", "not finite for patch"),
        ("raisesinsave", "failed in save: TypeError"),
    ],
)
def test_plugins_that_break_the_contract(run, here, fakes, plugin, message):
    answer = run("encode", "--plugin", plugin)
    assert answer.code == 1
    assert message in answer.error
    assert run("verify", "--quiet").code == 0


def test_a_changed_model_is_not_used(run, here):
    assert run("fit", "--plugin", "pca", "--latent-dim", "3", "--quiet").code == 0
    weights = here / "us3d.zarr.models/pca/weights/components.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    answer = run("encode", "--model", "pca")
    assert (answer.code, answer.error) == (5, "model pca was changed: weights/components.safetensors")
    assert "--overwrite" in answer.advice
    answer = run("verify", "--quiet")
    assert answer.code == 5
    assert "model pca was changed" in answer.out
    assert run("fit", "--plugin", "pca", "--latent-dim", "3", "--overwrite", "--quiet").code == 0
    assert run("verify", "--quiet").code == 0


# --- dry runs and unwritable places ---------------------------------------------------------------


def test_a_dry_run_writes_nothing_at_all(run, us3d_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = run("ingest", us3d_folder, "--dry-run", "--json")
    assert answer.code == 0
    assert answer.json["dry_run"]
    assert answer.json["cube_id"] is None
    assert (answer.json["scenes"], answer.json["patches"]) == (9, 9)
    assert not list(tmp_path.iterdir())
    answer = run("ingest", us3d_folder, "--dry-run")
    assert "would be made" in answer.out
    assert "9 scenes" in answer.err
    assert not list(tmp_path.iterdir())


def test_a_dry_run_beside_a_cube_writes_nothing_either(run, here, us3d_folder):
    before = sorted(here.rglob("*"))
    run("ingest", us3d_folder, "--dry-run")
    run("ingest", us3d_folder, "--dry-run", "--overwrite")
    assert sorted(here.rglob("*")) == before


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc")  # noqa: PTH112
def test_a_working_folder_that_cannot_be_written(run, here, us3d_folder, monkeypatch):
    """Nobody can write in /proc, not even root."""
    monkeypatch.chdir("/proc")
    for arguments in (
        ["ingest", us3d_folder],
        ["plot", "latents", "--latents", "pca", "--cube", here / "us3d.zarr"],
        ["export", "x.gpkg", "--cube", here / "us3d.zarr"],
        ["demo", "--tiles", "2", "--views", "1", "--size", "64", "--quiet"],
    ):
        assert run("encode", "--plugin", "pca", "--latent-dim", "2", "--cube", here / "us3d.zarr").code == 0
        answer = run(*arguments)
        assert answer.code in (1, 2, 3)
        assert answer.error
    # A dry run needs no place to write.
    assert run("ingest", us3d_folder, "--dry-run").code == 0


# --- at once --------------------------------------------------------------------------------------


def test_two_runs_of_two_layers_at_once(here):
    """They share the default split, which both want to make."""
    processes = [
        spawn("encode", "--plugin", "random-projection", "--latent-dim", n, "--name", f"r{n}", folder=here)
        for n in (2, 3, 4)
    ]
    answers = [finish(process) for process in processes]
    assert [answer.code for answer in answers] == [0, 0, 0], answers
    cube = Cube.open(here / "us3d.zarr")
    assert [info.path for info in cube.layers()] == [
        "splits/default",
        "latents/r2",
        "latents/r3",
        "latents/r4",
    ]
    assert not verify(cube).findings


def test_two_runs_of_one_layer_at_once(here):
    """One makes it; the other waits for it, finds it made, or is told that it is being made."""
    processes = [spawn("encode", "--plugin", "pca", "--latent-dim", "4", folder=here) for _ in range(2)]
    answers = [finish(process) for process in processes]
    assert 0 in [answer.code for answer in answers]
    for answer in answers:
        assert answer.code == 0 or (answer.code == 1 and "another run is writing" in answer.error)
    processes = [spawn("cluster", "--latents", "pca", folder=here) for _ in range(2)]
    assert [finish(process).code for process in processes] == [0, 0]
    assert not verify(here / "us3d.zarr").findings


def test_a_layer_that_another_run_writes_is_refused(run, here):
    work = work_folder(Location.of(here / "us3d.zarr"))
    with work.lock("models/pca"):
        answer = run("encode", "--plugin", "pca")
    assert answer.code == 1
    assert "another run is writing" in answer.error
    assert "wait" in answer.advice


# --- signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_ingest_goes_on(number, us3d_folder, us3d_cube, tmp_path):
    """Interrupted as soon as a shard is there; the same command then makes the same bytes."""
    command = ["ingest", us3d_folder, "--patch", "32", "--workers", "1"]
    process = spawn(*command, folder=tmp_path)
    journal = tmp_path / "us3d.zarr.work" / "ingest"
    while process.poll() is None and not journal.exists():
        time.sleep(0.002)
    process.send_signal(number)
    answer = finish(process)
    assert answer.code == 130, answer
    assert answer.err.splitlines()[-2].startswith("interrupted: ")
    assert answer.err.splitlines()[-1].strip().startswith("go on with: geoae ingest")
    assert "Traceback" not in answer.err
    with pytest.raises((IncompleteError, NotACubeError)):
        Cube.open(tmp_path / "us3d.zarr")
    assert finish(spawn(*command, folder=tmp_path)).code == 0
    assert tree(tmp_path / "us3d.zarr") == tree(us3d_cube)
    assert not verify(tmp_path / "us3d.zarr").findings


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_encode_goes_on(number, run, here, tmp_path_factory):
    command = ["encode", "--plugin", "pca", "--latent-dim", "4"]
    whole = tmp_path_factory.mktemp("whole") / "whole"
    shutil.copytree(here, whole)
    assert run(*command, "--cube", whole / "us3d.zarr").code == 0
    process = spawn(*command, folder=here)
    while process.poll() is None and not (here / "us3d.zarr.models").exists():
        time.sleep(0.002)
    process.send_signal(number)
    answer = finish(process)
    assert answer.code == 130, answer
    assert "Traceback" not in answer.err
    assert finish(spawn(*command, folder=here)).code == 0
    for name in ("us3d.zarr", "us3d.zarr.models"):
        assert tree(here / name) == tree(whole / name)


@pytest.mark.parametrize(
    "arguments",
    [
        ["info"],
        ["ls"],
        ["verify"],
        ["repair"],
        ["summarize"],
        ["encode", "--plugin", "pca"],
        ["rm", "clusters/a"],
    ],
    ids=" ".join,
)
def test_a_cube_of_a_newer_format_is_one_line_and_stays_as_it_is(run, cube_copy, arguments):
    """As its geoae wrote it: signed, so that nobody takes it for damage."""
    document = json.loads((cube_copy / METADATA).read_text())
    document["attributes"]["geoae_format"] += 1
    document["attributes"][METADATA_DIGEST] = metadata_digest(document["attributes"])
    (cube_copy / METADATA).write_text(json.dumps(document))
    before = tree(cube_copy)
    answer = run(*arguments, "--cube", cube_copy)
    assert answer.code == 3
    assert answer.error.endswith("us3d.zarr has format 2, this geoae reads up to 1")
    assert answer.advice == "update geoae"
    assert tree(cube_copy) == before
