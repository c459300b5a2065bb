"""The whole way on the command line, and a stranger's encoder that is installed with pip and taken along."""

import shutil
import subprocess
import sys

import geopandas
import numpy as np
import pytest
import xarray as xr
from command_line import finish, runner, spawn

WAY = [
    ["ingest", "us3d/", "--patch", "32"],
    ["info"],
    ["ls"],
    ["encode", "--plugin", "pca", "--latent-dim", "64"],
    ["summarize"],
    ["cluster", "--latents", "pca", "--k", "8"],
    ["plot", "latents", "--latents", "pca"],
    ["plot", "map", "--clusters", "pca"],
    ["export", "clusters.gpkg"],
    ["verify"],
    ["plugins"],
    ["doctor"],
]


def test_the_way_from_a_folder_to_a_map(us3d_folder, tmp_path, monkeypatch, capsys):
    """Nothing but the commands of the introduction, as they are typed."""
    run = runner(capsys)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "us3d").symlink_to(us3d_folder)
    for arguments in WAY:
        answer = run(*arguments)
        assert answer.code == 0, (arguments, answer.err)
        assert answer.out
    made = {path.name for path in tmp_path.iterdir()} - {"us3d"}
    assert made == {
        "us3d.zarr",
        "us3d.zarr.work",
        "us3d.zarr.models",
        "latents-pca.png",
        "map-pca.png",
        "clusters.gpkg",
    }
    pixels, latents = (xr.open_zarr("us3d.zarr", group=group) for group in (None, "latents/pca"))
    assert latents.z.shape[0] == pixels.sizes["patch"] == 144
    patches = geopandas.read_file("clusters.gpkg", layer="clusters_pixels")
    assert len(patches) == 144
    expected = xr.open_zarr("us3d.zarr", group="clusters/pca").cluster.to_numpy()
    assert np.array_equal(patches.sort_values("patch_id")["cluster"], expected)


@pytest.fixture(scope="module")
def installed(tmp_path_factory, repository):
    """A folder where pip has put the template of an encoder."""
    folder = tmp_path_factory.mktemp("foreign")
    # Building leaves files behind; the checkout stays clean.
    shutil.copytree(repository / "examples" / "encoder_template", folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--target", str(folder / "site"), str(folder / "source")]
    subprocess.run([*pip, *options], check=True, capture_output=True, cwd=folder)
    return folder / "site"


def test_a_strangers_encoder_is_used_like_a_built_in(installed, cube_copy):
    folder, environment = cube_copy.parent, {"PYTHONPATH": str(installed), "PYTHONWARNINGS": "error"}

    def run(*arguments):
        answer = finish(spawn(*arguments, folder=folder, environment=environment))
        assert answer.code == 0, answer.err
        return answer

    listed = {info["name"]: info for info in run("plugins", "--json").json}
    assert listed["band-statistics"]["distribution"] == "band-statistics-encoder"
    assert "--gradients" in run("plugins", "band-statistics").out
    answer = run("encode", "--plugin", "band-statistics", "--input", "msi,agl", "--no-gradients", "--json")
    # eight bands and a height, a mean and a deviation each
    assert (answer.json["latent_dim"], answer.json["encoded"]) == (18, answer.json["encoded"])
    assert answer.json["notes"] == ["latent size reduced from 64 to 18: there are no more statistics"]
    run("cluster", "--latents", "band-statistics", "--k", "4")
    run("export", "clusters.gpkg")
    assert run("verify", "--json").json["findings"] == []
    record = {layer["path"]: layer for layer in run("ls", "--json").json}["latents/band-statistics"]
    assert record["options"]["options"] == {"gradients": False, "latent_dim": 64, "seed": 0}


def test_latents_of_an_encoder_that_is_gone_stay_readable(installed, cube_copy, monkeypatch, capsys):
    folder = cube_copy.parent
    environment = {"PYTHONPATH": str(installed)}
    command = ["encode", "--plugin", "band-statistics"]
    assert finish(spawn(*command, folder=folder, environment=environment)).code == 0
    run = runner(capsys)
    monkeypatch.chdir(folder)
    assert run("cluster", "--latents", "band-statistics", "--k", "3").code == 0
    assert run("verify").code == 0
    answer = run("encode", "--model", "band-statistics", "--name", "again")
    assert answer.code == 1
    assert "needs the encoder band-statistics of band-statistics-encoder 0.1.0" in answer.error
    assert answer.advice == "pip install band-statistics-encoder"
