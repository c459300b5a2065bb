"""The whole way on real rasters: from a folder to clusters that mean something on the ground."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import geoae
from geoae.cube import Cube

CATALOGS = Path(__file__).parent / "catalogs"


@pytest.fixture(scope="module")
def autzen(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Cube:
    """The Autzen cube with clusters of its picture, lidar intensity and surface height."""
    path = tmp_path_factory.mktemp("autzen") / "autzen.zarr"
    geoae.ingest(realdata / "autzen", catalog=CATALOGS / "autzen.yaml", out=path)
    geoae.encode(path, plugin="pca", options={"latent_dim": 64}, input="rgb,intensity,dsm")
    geoae.cluster(path, latents="pca", k=8)
    return Cube.open(path)


def _grid_of_clusters(cube: Cube) -> npt.NDArray[np.int64]:
    table = cube.table()
    grid = np.full((table["row"].max() + 1, table["col"].max() + 1), -1)
    grid[table["row"], table["col"]] = cube.layer("clusters/pca")["cluster"].to_numpy()
    return grid


def _joins(grid: npt.NDArray[np.int64]) -> int:
    """Count neighbours, across edges, of one cluster: the join count of spatial statistics."""
    down = (grid[1:] == grid[:-1]) & (grid[1:] >= 0)
    right = (grid[:, 1:] == grid[:, :-1]) & (grid[:, 1:] >= 0)
    return int(down.sum() + right.sum())


def test_clusters_lie_together_more_than_by_chance(autzen: Cube) -> None:
    """The join count is above that of every one of 199 permutations of the labels: p = 1/200."""
    grid = _grid_of_clusters(autzen)
    rng = np.random.default_rng(0)
    known = np.flatnonzero(grid >= 0)
    permuted = []
    for _ in range(199):
        shuffled = grid.ravel().copy()
        shuffled[known] = rng.permutation(shuffled[known])
        permuted.append(_joins(shuffled.reshape(grid.shape)))
    assert _joins(grid) > max(permuted)


# Rows and columns of patches, found by eye in the photograph.
_PLACES = {
    "river": np.s_[27:29, 1:6],
    "forest along the river": np.s_[24:26, 10:13],
    "meadow": np.s_[21:23, 4:8],
    "car park": np.s_[13:18, 16:20],
    "stadium's roofs": np.s_[9:11, 7:10],
}


def test_clusters_tell_places_apart(autzen: Cube) -> None:
    """River, forest, meadow, car park and stadium each have a most frequent cluster of their own."""
    grid = _grid_of_clusters(autzen)
    found = {}
    for place, window in _PLACES.items():
        labels = grid[window].ravel()
        values, counts = np.unique(labels[labels >= 0], return_counts=True)
        found[place] = int(values[counts.argmax()])
        assert counts.max() >= labels.size / 2, f"{place} is cut into clusters {labels.tolist()}"
    assert len(set(found.values())) == len(found), found
