"""Clusters: what becomes of latents and of the layer."""

from pathlib import Path

import numpy as np
import pytest
from latent_scenes import give_latents, groups, make_cube

from geoae.clusters import cluster
from geoae.cube import Cube
from geoae.dataset import open_cube
from geoae.errors import InputError, StoreExistsError, UsageError
from geoae.kmeans import cluster_rows
from geoae.splits import split

CORNERS = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0], [8.0, 8.0]])


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Cube:
    return make_cube(tmp_path_factory.mktemp("clusters"), scenes=4)


@pytest.fixture(scope="module")
def z(cube: Cube) -> np.ndarray:
    found, _ = groups(cube.n_patches, CORNERS)
    found[[3, 17]] = np.nan
    found[5, 1] = np.nan  # one component is enough
    return found


def test_rows_without_latents_are_in_no_cluster(cube: Cube, z: np.ndarray) -> None:
    give_latents(cube, z)
    report = cluster(cube, latents="pca", k=4, overwrite=True)
    assert (report.path, report.k, report.used, report.unused) == ("clusters/pca", 4, 61, 3)
    layer = cube.layer("clusters/pca").load()
    np.testing.assert_array_equal(np.flatnonzero(layer["cluster"] == -1), [3, 5, 17])
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(layer["distance"])), [3, 5, 17])
    np.testing.assert_array_equal(np.bincount(layer["cluster"][layer["cluster"] >= 0]), layer["size"])
    assert report.size == tuple(layer["size"].to_numpy())
    assert layer["cluster"].dtype == np.int32
    record = cube.layer_info("clusters/pca").record
    assert record.counts == {"patches": 64, "used": 61, "unused": 3}
    assert record.inputs == {"latents/pca": cube.layer_digest("latents/pca")}
    assert layer.attrs["inertia"] == report.inertia
    assert layer.attrs["silhouette"] == report.silhouette
    assert "pca_cluster" in open_cube(cube)


def test_no_patch_with_latents(cube: Cube) -> None:
    give_latents(cube, np.full((cube.n_patches, 2), np.nan), "void")
    with pytest.raises(InputError, match=r"latents/void of .* has no patch with latents") as caught:
        cluster(cube, latents="void")
    assert "\n" not in str(caught.value)


def test_a_capped_k_is_said_and_stored(cube: Cube) -> None:
    few = np.full((cube.n_patches, 2), np.nan)
    few[:3] = [[0, 0], [1, 1], [5, 5]]
    give_latents(cube, few, "few")
    report = cluster(cube, latents="few", k=8)
    assert report.k == 3
    assert report.notes == ("k is 3 instead of 8: there are only 3 different patches",)
    assert cube.layer("clusters/few").attrs["notes"] == list(report.notes)


def test_the_same_again_does_nothing_and_other_options_are_refused(cube: Cube, z: np.ndarray) -> None:
    give_latents(cube, z)
    cluster(cube, latents="pca", k=4, name="again")
    digest = cube.layer_digest("clusters/again")
    cluster(cube, latents="pca", k=4, name="again")
    assert cube.layer_digest("clusters/again") == digest
    with pytest.raises(StoreExistsError):
        cluster(cube, latents="pca", k=5, name="again")
    cluster(cube, latents="pca", k=5, name="again", overwrite=True)
    assert cube.layer("clusters/again").sizes["cluster_id"] == 5


def test_equal_latents_give_an_equal_layer_in_another_cube(cube: Cube, z: np.ndarray, tmp_path: Path) -> None:
    other = make_cube(tmp_path, scenes=4)
    digests = []
    for one in (cube, other):
        give_latents(one, z, "twin")
        cluster(one, latents="twin", k=3)
        digests.append(one.layer_digest("clusters/twin"))
    assert digests[0] == digests[1]


def test_other_latents_make_the_clusters_stale(cube: Cube, z: np.ndarray) -> None:
    give_latents(cube, z, "old")
    cluster(cube, latents="old", k=2)
    give_latents(cube, z * 2, "old", seed=1)
    assert cube.layer_info("clusters/old").stale == ("latents/old",)


def test_centres_from_one_part_of_a_split(cube: Cube, z: np.ndarray) -> None:
    split(cube)
    give_latents(cube, z, "parted")
    report = cluster(cube, latents="parted", k=2, split="train")
    assert report.used == 61  # every patch has its cluster
    assert set(cube.layer_info("clusters/parted").record.inputs) == {"latents/parted", "splits/default"}
    codes = cube.layer("splits/default")["split"].to_numpy()
    learn = (codes == 0)[np.isfinite(z).all(axis=1)]
    expected = cluster_rows(z[np.isfinite(z).all(axis=1)].astype(np.float32), 2, learn=learn)
    np.testing.assert_allclose(cube.layer("clusters/parted")["center"], expected.center, rtol=1e-6)
    with pytest.raises(UsageError, match="unknown part"):
        cluster(cube, latents="parted", split="training")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"latents": "none"}, "no latents/none"), ({"latents": "pca", "method": "means"}, "unknown method")],
)
def test_what_is_not_there(cube: Cube, options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cluster(cube, **options)  # type: ignore[arg-type]
