"""A cube as one lazy Dataset: pixels, tables, layers by their merged names."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import geoae
from geoae.errors import NotACubeError, UsageError


@pytest.fixture(scope="module")
def layered(us3d_cube: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import shutil

    folder = tmp_path_factory.mktemp("dataset")
    for path in us3d_cube.parent.iterdir():
        shutil.copytree(path, folder / path.name)
    cube = folder / us3d_cube.name
    geoae.split(cube)
    geoae.split(cube, name="by-city", by="city")
    geoae.summarize(cube)
    geoae.summarize(cube, table="thesis")
    geoae.encode(cube, plugin="pca", options={"latent_dim": 4})
    geoae.encode(cube, plugin="random-projection", options={"latent_dim": 3}, name="other")
    # Clusters that share a name with latents of another length.
    geoae.cluster(cube, latents="other", k=3, name="pca")
    geoae.project(cube, latents="pca")
    return cube


def test_layers_are_merged_by_name(layered: Path) -> None:
    cube = geoae.open_cube(layered)
    assert cube["pca_z"].dims == ("patch", "pca_component")
    assert cube["other_z"].sizes["other_component"] == 3
    assert cube["pca_cluster"].dims == ("patch",)
    assert cube["pca_pca_xy"].sizes["pca_pca_axis"] == 2
    assert {"split", "by-city_split", "dominant_class", "thesis_dominant_class"} <= set(cube.coords)


def test_values_are_those_of_the_layers(layered: Path) -> None:
    cube = geoae.open_cube(layered)
    for group, inside, merged in (
        ("latents/pca", "z", "pca_z"),
        ("clusters/pca", "cluster", "pca_cluster"),
        ("summaries/dfc2019", "purity", "purity"),
        ("splits/by-city", "split", "by-city_split"),
    ):
        alone = xr.open_zarr(layered, group=group)
        np.testing.assert_array_equal(cube[merged].values, alone[inside].values)
        assert cube[merged].attrs["geoae_layer"] == group


def test_pixels_are_lazy_and_chunked_by_shard(layered: Path) -> None:
    cube = geoae.open_cube(layered)
    length = geoae.cube.Cube.open(layered).shard_length
    assert set(cube["msi"].chunks[0][:-1]) <= {length}
    assert "dask" in repr(cube["msi"])


def test_only_pixels_are_chunked_and_dask_calls_them_by_their_names(layered: Path) -> None:
    cube = geoae.open_cube(layered)
    chunked = {n for n, v in cube.variables.items() if v.chunks}
    assert {"rgb", "msi_valid"} <= chunked
    assert {n for n in chunked if cube.variables[n].ndim < 2} == set()
    assert cube["rgb"].data.name.startswith("xarray-rgb-")
    assert not cube["rgb"].coords["city"].chunks


def test_a_part_of_a_split(layered: Path) -> None:
    whole = geoae.open_cube(layered)
    train = geoae.open_cube(layered, split="train")
    np.testing.assert_array_equal(train["patch"].values, np.flatnonzero(whole["split"].values == 0))
    other = geoae.open_cube(layered, split="by-city:test")
    assert len(set(other["city"].values.tolist())) == 1


def test_a_stale_layer_says_so(layered: Path, tmp_path: Path) -> None:
    import shutil

    for path in layered.parent.iterdir():
        shutil.copytree(path, tmp_path / path.name)
    cube = tmp_path / layered.name
    geoae.split(cube, seed=5, overwrite=True)
    assert not geoae.cube.Cube.open(cube).layer_info("splits/default").stale
    assert geoae.cube.Cube.open(cube).layer_info("latents/pca").stale == ("splits/default",)


def test_no_warning_and_nothing_computed(layered: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        repr(geoae.open_cube(layered))


def test_what_is_not_there(layered: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no split 'mine'"):
        geoae.open_cube(layered, split="mine:train")
    with pytest.raises(UsageError, match="unknown part"):
        geoae.open_cube(layered, split="holdout")
    with pytest.raises(NotACubeError):
        geoae.open_cube(tmp_path)
