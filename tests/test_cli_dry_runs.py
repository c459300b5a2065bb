"""Dry runs of long commands: the figures are those of the run, and nothing is written."""

import shutil

import pytest
from command_line import runner
from cube_scenes import tree


@pytest.fixture
def run(capsys):
    return runner(capsys)


@pytest.fixture(scope="module")
def prepared(us3d_cube, tmp_path_factory):
    """A folder with a cube that has latents, and what is made of them."""
    from geoae.clusters import cluster
    from geoae.encoding import encode
    from geoae.projections import project
    from geoae.summaries import summarize

    folder = tmp_path_factory.mktemp("dry") / "here"
    shutil.copytree(us3d_cube.parent, folder)
    cube = folder / "us3d.zarr"
    encode(cube, plugin="pca", options={"latent_dim": 4})
    summarize(cube)
    cluster(cube, latents="pca", k=3)
    project(cube, latents="pca")
    return folder


@pytest.fixture
def here(prepared, tmp_path, monkeypatch):
    """A copy of it to work in."""
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


FIT = ("fit", "--plugin", "pca", "--name", "other", "--latent-dim", "3")
ENCODE = ("encode", "--plugin", "pca", "--name", "other", "--latent-dim", "3")


def spoil(array):
    """Change one byte in the middle of an array's first shard."""
    file = min(path for path in (array / "c").rglob("*") if path.is_file())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))


def test_a_fit_is_told_as_it_will_be(run, here):
    told = run(*FIT, "--dry-run", "--json").json
    assert (told["model"], told["latent_dim"], told["exists"], told["dry_run"]) == ("other", 3, False, True)
    made = run(*FIT, "--json").json
    assert told["training"] == made["patches"]
    assert run(*FIT, "--dry-run", "--json").json == {**told, "exists": True}
    assert "it is there already" in run(*FIT, "--dry-run").out
    assert "it would be replaced" in run(*FIT, "--dry-run", "--overwrite").out


def test_a_fit_is_told_without_a_split_and_makes_none(run, here):
    told = run(*FIT, "--dry-run", "--json").json
    assert run(*FIT).code == 0
    shutil.rmtree("us3d.zarr/splits")
    before = tree(here)
    again = run(*FIT, "--dry-run", "--json")
    assert again.json == {**told, "exists": True}
    assert run(*FIT, "--dry-run", "--split", "mine").code == 2
    assert tree(here) == before


@pytest.mark.parametrize("command", ["fit", "encode"])
@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--latent-dim", "5"), 2),
        (("--latent-dim", "5", "--overwrite"), 0),
        (("--latent-dim", "4"), 0),
        (("--latent-dim", "4", "--input", "msi"), 2),
        (("--name", "x", "--input", "none"), 2),
        (("--name", "x", "--min-valid", "1", "--input", "msi,agl"), None),
        (("--name", "../x"), 2),
        (("--latent-dimm", "4"), 2),
    ],
)
def test_what_a_fit_refuses_its_dry_run_refuses(run, here, command, options, code):
    before = tree(here)
    tried = run(command, "--plugin", "pca", *options, "--dry-run")
    assert tree(here) == before
    done = run(command, "--plugin", "pca", *options)
    assert tried.code == done.code
    assert not done.code or tried.error == done.error
    assert code is None or tried.code == code


SAME = ("path", "model", "latent_dim", "encoded", "unusable", "n_bytes")


@pytest.mark.parametrize("more", [(), ("--reconstructions",), ("--input", "msi")])
def test_an_encoding_is_told_as_it_will_be(run, here, more):
    told = run(*ENCODE, *more, "--dry-run", "--json").json
    assert (told["exists"], told["created"], told["dry_run"]) == (False, False, True)
    made = run(*ENCODE, *more, "--json").json
    assert {key: told[key] for key in SAME} == {key: made[key] for key in SAME}
    assert made["created"] is True
    model = run("fit", *ENCODE[1:], *(m for m in more if m != "--reconstructions"), "--json").json
    assert told["training"] == model["patches"]
    # By the model: it knows all.
    again = run(*ENCODE, *more, "--dry-run", "--json").json
    assert {key: again[key] for key in SAME} == {key: made[key] for key in SAME}
    assert (again["exists"], again["training"]) == (True, None)
    assert "latents/other is there already" in run(*ENCODE, *more, "--dry-run").out


def test_the_bytes_of_latents_by_hand(run, here):
    """144 patches: 3 components, an error, and an error for each of three bands, in float32."""
    told = run(*ENCODE, "--dry-run", "--json").json
    assert told["encoded"] + told["unusable"] == 144
    assert told["n_bytes"] == 144 * (3 + 1 + 3) * 4
    answer = run("encode", "--model", "pca", "--name", "again", "--dry-run", "--json").json
    assert answer["n_bytes"] == 144 * (4 + 1 + 3) * 4
    assert answer["training"] is None
    text = run(*ENCODE, "--dry-run").out
    assert "about 4.0 kB; model other would be fitted on" in text
    assert text.endswith("; nothing was written\n")


def test_latents_whose_model_is_gone_are_told_apart(run, here):
    shutil.rmtree("us3d.zarr.models/pca")
    before = tree(here)
    encode = ("encode", "--plugin", "pca", "--dry-run", "--json")
    assert run(*encode, "--latent-dim", "4").json["exists"] is True
    other = run(*encode, "--latent-dim", "5")
    assert (other.code, "was made otherwise" in other.err) == (2, True)
    assert run(*encode, "--latent-dim", "5", "--overwrite").code == 0
    assert tree(here) == before


@pytest.mark.parametrize(
    "words",
    [
        ("cluster", "--latents", "pca", "--k", "5"),
        ("cluster", "--latents", "none"),
        ("project", "--latents", "pca", "--components", "3"),
        ("project", "--latents", "none"),
        ("summarize", "--classes", "none"),
        ("encode", "--model", "none"),
        ("export", "latents", "x.csv"),
        ("export", "latents", "none/x.parquet"),
        ("export", "latents", "us3d.zarr/x.parquet"),
    ],
    ids=" ".join,
)
def test_what_a_command_refuses_its_dry_run_refuses(run, here, words):
    before = tree(here)
    tried = run(*words, "--dry-run")
    assert tried.code != 0
    done = run(*words)
    assert (tried.code, tried.error, tried.advice) == (done.code, done.error, done.advice)
    assert tree(here) == before


def test_clusters_are_told_as_they_will_be(run, here):
    words = ("cluster", "--latents", "pca", "--name", "other", "--k", "4")
    told = run(*words, "--dry-run", "--json").json
    made = run(*words, "--json").json
    assert told == {**made, "dry_run": True}


@pytest.mark.parametrize("more", [(), ("--thumbnails",), ("--thumbnails", "--thumbnail-size", "7")])
def test_exported_latents_are_told_and_not_larger(run, here, more):
    words = ("export", "latents", "x.parquet", *more)
    told = run(*words, "--dry-run", "--json").json
    made = run(*words, "--json").json
    assert told["n_bytes"] >= made["n_bytes"]
    told.pop("n_bytes"), made.pop("n_bytes")
    assert told == {**made, "dry_run": True}
    assert run(*words, "--dry-run").code == 2  # it is there
    assert run(*words, "--dry-run", "--overwrite").code == 0


def test_a_repair_is_told_as_it_will_be(run, here, us3d_folder):
    assert run("repair", "--dry-run").code == 0
    spoil(here / "us3d.zarr/clusters/pca/distance")
    before = tree(here)
    told = run("repair", "--dry-run")
    assert told.out.startswith("would be repaired: clusters/pca\n")
    assert told.code == 0
    spoil(here / "us3d.zarr/rgb")
    pixels = tree(here)
    assert run("repair", "--dry-run").code == 2  # pixels need the folder
    answer = run("repair", "--source", us3d_folder, "--dry-run", "--json")
    assert (answer.code, answer.json["repaired"]) == (0, ["pixels", "clusters/pca"])
    assert tree(here) == pixels != before
    answer = run("repair", "--source", us3d_folder, "--json")
    assert (answer.code, answer.json["repaired"]) == (0, ["pixels", "clusters/pca"])


def test_a_repair_of_metadata_and_of_what_cannot_be_is_told(run, here):
    (here / "us3d.zarr/projections/pca_pca/zarr.json").write_text("{}")
    before = tree(here)
    answer = run("repair", "--dry-run", "--json")
    assert (answer.code, answer.json["repaired"][0]) == (0, "metadata")
    assert tree(here) == before
    assert run("repair").code == 0
    spoil(here / "us3d.zarr/latents/pca/z")
    shutil.rmtree("us3d.zarr.models/pca")
    before = tree(here)
    answer = run("repair", "--dry-run")
    assert answer.code == 5
    assert "not repaired: latents/pca: its model is gone" in answer.out
    assert tree(here) == before
