"""The command line: every command answers for help, JSON, wrong options, and finds its cube."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from command_line import commands, runner
from cube_scenes import tree

import geoae

COMMANDS = commands()
OPTIONS = {words: {name for p in one.params for name in p.opts} for words, one in COMMANDS.items()}


@pytest.fixture
def run(capsys):
    return runner(capsys)


@pytest.fixture(scope="module")
def prepared(us3d_cube, tmp_path_factory):
    """A folder with a cube that has a layer of every kind."""
    from geoae.clusters import cluster
    from geoae.encoding import encode
    from geoae.ingestion import ingest
    from geoae.projections import project
    from geoae.summaries import summarize
    from geoae.testing import write_georeferenced

    folder = tmp_path_factory.mktemp("cli") / "here"
    shutil.copytree(us3d_cube.parent, folder)
    cube = folder / "us3d.zarr"
    encode(cube, plugin="pca", options={"latent_dim": 4})
    summarize(cube)
    cluster(cube, latents="pca", k=3)
    project(cube, latents="pca")
    # and below it one that is georeferenced
    write_georeferenced(folder / "town" / "scenes", cities=["JAX"], tiles=1, size=64)
    ingest(folder / "town" / "scenes", out=folder / "town" / "town.zarr", patch=32)
    summarize(folder / "town" / "town.zarr")
    return folder


@pytest.fixture
def here(prepared, tmp_path, monkeypatch):
    """A copy of it to work in."""
    shutil.copytree(prepared, tmp_path / "here")
    tiles = ["JAX,004,434000,3354000,434512,3354512", "OMA,415,0,0,10,20", "JAX,415,0,0,10,20"]
    (tmp_path / "here" / "tiles.csv").write_text("\n".join(["city,tile,xmin,ymin,xmax,ymax", *tiles]))
    np.save(tmp_path / "here" / "mine.npy", np.random.default_rng(0).normal(size=(144, 3)))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


# --- every command --------------------------------------------------------------------------------


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help(run, words):
    answer = run(*words, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert f"Usage: geoae {' '.join(words)}" in answer.out
    assert "\x1b" not in answer.out
    assert COMMANDS[words].help, "no text"
    nameless = [p.name for p in COMMANDS[words].params if not getattr(p, "help", None)]
    assert not nameless, "options without a text"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_wrong_option(run, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    needed = {"fit": ["--plugin", "pca"], "encode": ["--plugin", "pca"]}.get(words[0], [])
    answer = run(*words, *needed, "--no-such-option")
    assert (answer.code, answer.out) == (2, "")
    assert answer.error
    assert not list(tmp_path.iterdir())


SWEPT = ["--plugin", "pca", "--seeds", "1", "--patches", "40", "--validation", "16"]
ANSWERS = {
    ("info",): [],
    ("ls",): [],
    ("verify",): [],
    ("repair",): [],
    ("diff",): ["us3d.zarr", "us3d.zarr"],
    ("doctor",): [],
    ("footprints",): ["tiles.csv"],
    ("plugins",): [],
    ("networks",): [],
    ("catalogs",): [],
    ("catalogs", "list"): [],
    ("catalogs", "show"): ["us3d"],
    ("catalogs", "init"): ["{scenes}"],
    ("catalogs", "check"): ["us3d", "{scenes}"],
    ("catalogs", "schema"): [],
    ("split",): ["--name", "other"],
    ("fit",): ["--plugin", "pca", "--name", "other", "--latent-dim", "3"],
    ("encode",): ["--plugin", "random-projection", "--latent-dim", "3"],
    ("sweep", "networks"): ["--quick", "--networks", "thesis-a8"],
    ("sweep", "latent"): [*SWEPT, "--latent-dims", "2,4"],
    ("sweep", "patch-size"): [*SWEPT, "--latent-dim", "3", "--sizes", "16,32"],
    ("attach",): ["mine.npy", "--name", "mine", "--origin", "a test"],
    ("summarize",): ["--classes", "thesis"],
    ("cluster",): ["--latents", "pca", "--name", "other"],
    ("project",): ["--latents", "pca", "--components", "3", "--name", "other"],
    ("plot", "latents"): ["--latents", "pca"],
    ("plot", "map"): ["--clusters", "pca"],
    ("plot", "examples"): ["--clusters", "pca"],
    ("plot", "reconstructions"): ["--latents", "pca"],
    ("export", "patches"): ["patches.gpkg"],
    ("cite",): [],
    ("export", "rasters"): ["maps", "--cube", "town/town.zarr"],
    ("export", "latents"): ["latents.parquet"],
    ("rm",): ["projections/pca_pca"],
    ("ingest",): ["{scenes}", "--out", "other.zarr", "--patch", "64"],
    ("demo",): ["made", "--tiles", "2", "--views", "1", "--size", "64", "--only-data"],
}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_json_is_all_that_is_printed(run, here, us3d_folder, words):
    arguments = [str(a).replace("{scenes}", str(us3d_folder)) for a in ANSWERS[words]]
    always = words == ("catalogs", "schema")  # it is nothing but JSON
    answer = run(*words, *arguments, *([] if always else ["--json"]))
    assert answer.code == 0, answer.err
    assert answer.json is not None
    assert always or answer.out.count("\n") == 1
    for line in answer.err.splitlines():
        assert not line.startswith(("{", "[")), line
    assert "\x1b" not in answer.out + answer.err


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_text_is_plain(run, here, us3d_folder, words):
    """No escape codes without a terminal; what is data goes to stdout."""
    arguments = [str(a).replace("{scenes}", str(us3d_folder)) for a in ANSWERS[words]]
    answer = run(*words, *arguments)
    assert answer.code == 0, answer.err
    assert answer.out.strip()
    assert "\x1b" not in answer.out + answer.err


@pytest.mark.parametrize("words", [w for w in COMMANDS if "--quiet" in OPTIONS[w]], ids=" ".join)
def test_quiet_commands_are_silent_on_stderr(run, here, us3d_folder, words):
    arguments = [str(a).replace("{scenes}", str(us3d_folder)) for a in ANSWERS[words]]
    answer = run(*words, *arguments, "--quiet")
    assert (answer.code, answer.err) == (0, "")


# --- start-up -------------------------------------------------------------------------------------


def test_version(run):
    answer = run("--version")
    assert (answer.code, answer.out) == (0, f"geoae {geoae.__version__}\n")


def test_without_a_command_there_is_help_and_a_failure(run):
    answer = run()
    assert answer.code == 2
    assert "Usage: geoae" in answer.out + answer.err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["inngest", "x"], "ingest"), (["encode", "--plugin", "pca", "--overwite"], "--overwrite")],
)
def test_slips_of_the_pen(run, here, typed, meant):
    answer = run(*typed)
    assert answer.code == 2
    assert meant in answer.err


def test_a_cube_in_the_wrong_place_is_told_where_to_go(run, here):
    answer = run("encode", "--plugin", "pca", "us3d.zarr")
    assert (answer.code, answer.error) == (2, "unexpected argument 'us3d.zarr'")
    assert answer.advice == "--cube us3d.zarr"


# --- finding the cube -----------------------------------------------------------------------------


def test_the_only_cube_is_found(run, here):
    assert run("info", "--json").json["cube"] == str(here / "us3d.zarr")


def test_no_cube(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    answer = run("info")
    assert (answer.code, answer.error) == (2, "no cube in the working folder")
    assert "geoae ingest FOLDER" in answer.advice


def test_two_cubes(run, here):
    shutil.copytree(here / "us3d.zarr", here / "other.zarr")
    answer = run("info")
    assert (answer.code, answer.error) == (2, "several cubes here: other.zarr, us3d.zarr")
    assert answer.advice == "--cube other.zarr"
    assert run("info", "--cube", "us3d.zarr").code == 0
    assert run("info", "other.zarr").code == 0


def test_the_environment_names_a_cube(run, here, tmp_path, monkeypatch):
    shutil.copytree(here / "us3d.zarr", here / "other.zarr")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEOAE_CUBE", "here/other.zarr")
    assert run("info", "--json").json["cube"] == str(here / "other.zarr")
    assert run("info", "--cube", "here/us3d.zarr", "--json").json["cube"] == str(here / "us3d.zarr")
    assert run("ls", "here/us3d.zarr").code == 0


def test_an_incomplete_cube_counts(run, here):
    """After a failed ingest no other cube is taken in silence."""
    (here / "fresh.zarr.work" / "ingest").mkdir(parents=True)
    (here / "fresh.zarr.work" / "ingest" / "plan.json").write_text("{}")
    answer = run("info")
    assert (answer.code, answer.error) == (2, "several cubes here: fresh.zarr, us3d.zarr")
    answer = run("info", "fresh.zarr")
    assert answer.code == 5
    assert "is incomplete" in answer.error
    assert "geoae ingest" in answer.advice
    shutil.rmtree(here / "us3d.zarr")
    shutil.rmtree(here / "us3d.zarr.work")
    assert run("encode", "--plugin", "pca").code == 5


@pytest.mark.parametrize("what", ["nowhere.zarr", "us3d", "file.txt", "foreign.zarr"])
def test_paths_that_hold_no_cube(run, here, what):
    import zarr

    (here / "us3d").mkdir()
    (here / "file.txt").write_text("text")
    zarr.create_group(here / "foreign.zarr")
    answer = run("info", "--cube", what)
    assert answer.code == 3
    assert "not a geoae cube" in answer.error


# --- what the answers say -------------------------------------------------------------------------


def test_info(run, here):
    document = run("info", "--json").json
    assert (document["patches"], document["scenes"], document["tiles"]) == (144, 9, 6)
    assert document["cities"] == {"JAX": 80, "OMA": 64}
    assert document["crs"] == {"none": 9}
    assert document["pixel_size_m"] is None
    assert document["modalities"]["rgb"]["bands"] == ["red", "green", "blue"]
    assert document["models"] == ["pca"]
    assert document["bytes"] == sum(p.stat().st_size for p in (here / "us3d.zarr").rglob("*") if p.is_file())
    text = run("info").out
    for word in ("144 of 32 x 32 pixels", "JAX 80, OMA 64", "latents/pca", "144 encoded", "model       pca"):
        assert word in text


@pytest.mark.parametrize("command", ["--help", "info", "ls"])
def test_a_look_imports_little(here, command):
    """What these commands do not need takes longer to import than they take to answer."""
    code = (
        "import sys; from geoae.cli import main\n"
        f"try: main([{command!r}])\n"
        "except SystemExit: pass\n"
        "names = ('torch', 'sklearn', 'scipy', 'geopandas', 'matplotlib', 'pandas', 'xarray', 'dask')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_stale_layers_are_said_by_info_ls_verify_and_export(run, here):
    assert run("encode", "--plugin", "pca", "--latent-dim", "3", "--overwrite", "--quiet").code == 0
    assert "clusters/pca" in next(line for line in run("info").out.splitlines() if "STALE" in line)
    assert "STALE: latents/pca changed" in run("ls").out
    stale = {layer["path"]: layer["stale"] for layer in run("ls", "--json").json}
    assert stale["clusters/pca"] == ["latents/pca"]
    assert stale["latents/pca"] == []
    assert "stale: clusters/pca was made from another latents/pca" in run("verify").out
    answer = run("export", "x.gpkg")
    assert answer.code == 0
    assert "warning: clusters/pca is stale: latents/pca changed since it was made" in answer.err


def test_export_file_is_short_for_export_patches_file(run, here):
    assert run("export", "patches", "a.gpkg", "--quiet").code == 0
    for arguments in (["b.gpkg", "--cube", "us3d.zarr"], ["--cube", "us3d.zarr", "b.gpkg", "--overwrite"]):
        assert run("export", *arguments, "--quiet").code == 0
        assert (here / "b.gpkg").read_bytes() == (here / "a.gpkg").read_bytes()
    assert "geoae export FILE" in run("export", "--help").out
    assert run("export", "b.gpkg", "--help").out == run("export", "patches", "--help").out
    answer = run("export", "--no-such-option")
    assert (answer.code, answer.advice) == (2, "geoae export patches --help")


def test_export_adds_to_a_geopackage(run, here):
    first = run("export", "x.gpkg", "--json").json
    assert first["kept"] == []
    added = run("export", "x.gpkg", "--add", "--prefix", "again_", "--json").json
    assert sorted(added["kept"]) == sorted(layer["name"] for layer in first["layers"])
    assert {layer["name"] for layer in added["layers"]} == {f"again_{name}" for name in added["kept"]}
    assert "2 other layers stay" in run("export", "x.gpkg", "--add").out
    before = (here / "x.gpkg").read_bytes()
    answer = run("export", "x.gpkg", "--add", "--dry-run")
    assert answer.out.endswith("; 2 other layers stay; nothing was written\n")
    assert (here / "x.gpkg").read_bytes() == before
    assert run("export", "new.gpkg", "--add", "--quiet").code == 0, "one that is not there is made"
    assert "--add adds to it" in run("export", "x.gpkg").advice


def test_cite_without_a_cube_names_geoae_alone(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = run("cite", "--bibtex")
    assert (answer.code, answer.out.count("@")) == (0, 1)
    assert "no cube here" in answer.err
    assert run("cite", "--json").json["data"] is None
    assert run("cite", "--cube", "nowhere.zarr").code == 3
    assert run("cite", "--json", "--bibtex").code == 2


def test_export_rasters_names_what_it_leaves_out(run, here):
    answer = run("export", "rasters", "maps")
    assert (answer.code, answer.out) == (3, "")
    assert "no scene to write, 9 with no CRS" in answer.error
    arguments = ("export", "rasters", "maps", "--cube", "town/town.zarr", "--kind", "classes")
    planned = run(*arguments, "--dry-run", "--json").json
    assert planned["dry_run"] is True
    assert not (here / "maps").exists()
    made = run(*arguments, "--json").json
    assert [file["path"] for file in made["files"]] == [file["path"] for file in planned["files"]]
    assert "1 rasters of 1 scenes" in run(*arguments, "--overwrite").out
    assert run("export", "rasters", "maps", "--kind", "hills").code == 2


def test_removing_a_layer_names_what_becomes_stale(run, here):
    answer = run("rm", "latents/pca")
    assert (answer.code, answer.out) == (0, "latents/pca\n")
    assert "note: clusters/pca was made from it and is stale now" in answer.err
    assert run("rm", "latents/pca").error == "us3d.zarr has no latents/pca"
    assert "KIND/NAME" in run("rm", "pca").advice


def test_an_equal_command_does_nothing_and_ends_well(run, here, us3d_folder):
    before = tree(here)
    for arguments in (
        ["ingest", us3d_folder, "--patch", "32"],
        ["encode", "--plugin", "pca", "--latent-dim", "4"],
        ["summarize"],
        ["cluster", "--latents", "pca", "--k", "3"],
        ["split"],
    ):
        answer = run(*arguments, "--quiet") if arguments[0] not in ("split",) else run(*arguments)
        assert answer.code == 0, answer.err
    assert tree(here) == before
    assert "nothing done" in run("encode", "--plugin", "pca", "--latent-dim", "4").out
    assert "nothing done" in run("ingest", us3d_folder, "--patch", "32").out


def test_a_split_by_one_flag(run, here):
    document = run("split", "--name", "cities", "--test-city", "OMA", "--json").json
    assert document["method"] == "city"
    assert document["patches"]["test"] == 64


def test_more_clusters_than_patches(run, here):
    answer = run("cluster", "--latents", "pca", "--k", "1000", "--name", "many")
    assert answer.code == 0
    assert "note: k is 144 instead of 1000" in answer.err
    assert "144 clusters of 1 to 1 patches" in answer.out


def test_the_encoders_options_are_listed(run):
    text = run("plugins", "pca").out
    assert "--latent-dim" in text
    assert "--whiten" in text
    answer = run("plugins", "pcaa")
    assert (answer.code, answer.error) == (2, "there is no encoder 'pcaa'")
    assert "did you mean pca?" in answer.advice


# --- dry runs -------------------------------------------------------------------------------------


DRY = [words for words in COMMANDS if "--dry-run" in OPTIONS[words]]


def test_these_commands_can_be_tried():
    assert {("ingest",), ("attach",), ("split",), ("rm",), ("fit",), ("encode",), ("repair",)} <= set(DRY)
    assert {("summarize",), ("cluster",), ("project",), ("export", "latents")} <= set(DRY)


@pytest.mark.parametrize("words", DRY, ids=" ".join)
def test_a_dry_run_writes_nothing(run, here, us3d_folder, words):
    arguments = [str(a).replace("{scenes}", str(us3d_folder)) for a in ANSWERS[words]]
    before = tree(here)
    said = run(*words, *arguments, "--dry-run")
    assert said.code == 0, said.err
    assert said.out.strip()
    told = run(*words, *arguments, "--dry-run", "--json")
    assert told.code == 0
    assert told.json is not None
    assert tree(here) == before


def test_a_dry_run_refuses_what_the_run_would_refuse(run, here):
    assert run("split", "--name", "other").code == 0
    assert run("split", "--name", "other", "--dry-run").code == 0
    before = tree(here)
    other = ("split", "--name", "other", "--seed", "1", "--dry-run")
    assert run(*other).code == 2
    assert run(*other, "--overwrite").code == 0
    assert run("rm", "latents/none", "--dry-run").code == 2
    answer = run("rm", "latents/pca", "--dry-run")
    assert answer.out == "latents/pca would be removed; nothing was written\n"
    assert "clusters/pca was made from it and would be stale now" in answer.err
    assert tree(here) == before
