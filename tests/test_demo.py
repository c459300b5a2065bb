"""The demo: every step on synthetic scenes, twice the same, on any small size."""

import json
import re

import geopandas
import pytest
import xarray as xr
from cube_scenes import tree
from latent_scenes import texts

pytest.importorskip("torch", reason="needs the extra [torch]")

from geoae.demo import run_demo
from geoae.errors import UsageError
from geoae.plots import plot_reconstructions
from geoae.registry import EncoderInfo
from geoae.verification import verify

MADE = {
    "us3d",
    "us3d.zarr",
    "reconstructions-vae-pca.png",
    "latents-vae.png",
    "latents-pca.png",
    "map-pca.png",
    "examples-pca.png",
    "clusters.gpkg",
    "clusters.parquet",
}


def silent(_text):
    """Say nothing."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A demo of six tiles, and what it said."""
    folder = tmp_path_factory.mktemp("demo") / "one"
    said, stages = [], set()
    made = run_demo(
        folder,
        tiles=3,
        views=2,
        size=192,
        say=said.append,
        progress=lambda stage, done, total, _: stages.add((stage, done, total)),
    )
    return folder, made, said, stages


def test_it_makes_everything(demo):
    folder, made, _, _ = demo
    assert {path.name for path in made} == MADE
    assert all(path.exists() for path in made)
    assert verify(folder / "us3d.zarr").findings == ()
    layers = {
        "splits": ["default"],
        "latents": ["pca", "vae"],
        "summaries": ["dfc2019"],
        "clusters": ["pca"],
        "projections": ["pca_pca"],
    }
    for kind, names in layers.items():
        for name in names:
            assert xr.open_zarr(folder / "us3d.zarr", group=f"{kind}/{name}").sizes["patch"] == 81
    table = geopandas.read_parquet(folder / "clusters.parquet")
    assert len(table) == 81
    assert (table["cluster"] >= 0).all()


def test_it_says_the_commands_that_do_the_same(demo):
    _, _, said, stages = demo
    commands = [line for line in said if line.startswith("geoae ")]
    for command in (
        "ingest us3d/",
        "summarize",
        "encode --plugin pca",
        "encode --plugin vae",
        "plot reconstructions",
        "cluster",
        "plot map",
        "export",
        "verify",
    ):
        assert any(line.startswith(f"geoae {command}") for line in commands), command
    assert all(line.strip() for line in said)
    assert ("encode", 81, 81) in stages


def test_the_same_again_has_the_same_bytes(demo, tmp_path):
    """Cube, models and latents; figures and exports too, since nothing in them knows the time."""
    folder, _, _, _ = demo
    run_demo(tmp_path / "two", tiles=3, views=2, size=192, say=silent)
    first, second = (
        {k: v for k, v in tree(f).items() if ".work/" not in k and "/.logs/" not in k}
        for f in (folder, tmp_path / "two")
    )
    assert {k for k in first if first[k] != second.get(k)} == set()
    assert set(first) == set(second)


def test_again_in_the_same_folder_changes_nothing(demo):
    folder, _, _, _ = demo
    before = {k: v for k, v in tree(folder).items() if ".work/" not in k and "/.logs/" not in k}
    run_demo(folder, tiles=3, views=2, size=192, say=silent)
    assert {k: v for k, v in tree(folder).items() if ".work/" not in k and "/.logs/" not in k} == before


@pytest.mark.parametrize(("tiles", "views", "size"), [(2, 1, 128), (5, 2, 128)])
def test_other_sizes(tmp_path, tiles, views, size):
    made = run_demo(tmp_path, tiles=tiles, views=views, size=size, say=silent)
    assert {path.name for path in made} == MADE
    assert verify(tmp_path / "us3d.zarr").ok


def test_only_data(tmp_path):
    (folder,) = run_demo(tmp_path, tiles=2, views=1, size=64, only_data=True, say=silent)
    assert folder == tmp_path / "us3d"
    assert [path.name for path in tmp_path.iterdir()] == ["us3d"]
    assert len(list(folder.rglob("*.tif"))) == 2 * 2 * 4


def test_a_folder_with_other_scenes_is_refused(tmp_path):
    run_demo(tmp_path, tiles=3, views=1, size=64, only_data=True, say=silent)
    with pytest.raises(UsageError, match="holds other scenes too") as error:
        run_demo(tmp_path, tiles=2, views=1, size=64, say=silent)
    assert "geoae demo FOLDER" in error.value.hint
    assert not (tmp_path / "us3d.zarr").exists()


def test_the_parquet_says_what_it_was_made_from(demo):
    folder, _, _, _ = demo
    import pyarrow.parquet

    metadata = pyarrow.parquet.read_schema(folder / "clusters.parquet").metadata
    assert json.loads(metadata[b"geo"])["primary_column"] == "geometry"


def test_without_torch_it_says_that_it_leaves_the_vae_out(tmp_path, monkeypatch):
    missing = EncoderInfo("vae", "geoae", "0", "", "needs torch", 'pip install "geoae[torch]"')
    monkeypatch.setattr("geoae.demo.encoder_info", lambda _: missing)
    said = []
    made = run_demo(tmp_path, tiles=2, views=1, size=128, say=said.append)
    assert any('leaves the VAE out: needs torch (pip install "geoae[torch]")' in line for line in said)
    assert {path.name for path in made} == {
        name.replace("vae-pca", "pca").replace("vae", "pca") for name in MADE
    }


def test_the_vae_reconstructs_better_than_pca_of_equal_size(demo):
    """On patches that neither was trained on, in the units of the pictures."""
    folder, _, _, _ = demo
    figure = plot_reconstructions(folder / "us3d.zarr", ["vae", "pca"])
    found = dict(re.findall(r"(\w+): MAE ([0-9.]+)", texts(figure)))
    assert float(found["vae"]) < float(found["pca"])
