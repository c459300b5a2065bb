"""Projections: against scikit-learn's PCA, and on rows that make trouble."""

import warnings

import numpy as np
import pytest
from latent_scenes import give_latents, make_cube
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from geoae.cube import Cube
from geoae.dataset import open_cube
from geoae.errors import InputError, UsageError
from geoae.projections import pca, project


def test_as_scikit_learn_up_to_signs() -> None:
    rng = np.random.default_rng(0)
    z = (rng.normal(size=(5000, 20)) * np.exp(-np.arange(20) / 5) @ rng.normal(size=(20, 20))) + 100
    found = pca(z, 3)
    theirs = PCA(3, svd_solver="full").fit(z)
    np.testing.assert_allclose(np.abs(found.xy), np.abs(theirs.transform(z)), rtol=1e-6, atol=1e-8)
    assert found.explained_variance_ratio is not None
    np.testing.assert_allclose(found.explained_variance_ratio, theirs.explained_variance_ratio_, rtol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_the_largest_entry_of_an_axis_is_positive(seed: int) -> None:
    direction = np.random.default_rng(seed).normal(size=5)
    along = np.arange(-3.0, 4.0)
    sign = np.sign(direction[np.abs(direction).argmax()])
    found = pca(np.outer(along, direction), 1)
    np.testing.assert_allclose(found.xy.ravel(), along * sign * np.linalg.norm(direction), atol=1e-9)


def test_equal_rows_lie_at_the_origin_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pca(np.full((7, 3), 4.0))
    np.testing.assert_array_equal(found.xy, np.zeros((7, 2)))
    np.testing.assert_array_equal(found.explained_variance_ratio, [0, 0])


def test_one_row() -> None:
    np.testing.assert_array_equal(pca(np.array([[3.0, 4.0]])).xy, [[0, 0]])


def test_equal_bytes_on_one_thread_or_two() -> None:
    z = np.random.default_rng(3).normal(size=(6000, 40)).astype(np.float32)
    found = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            found.append(pca(z).xy.tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("z", "components"), [(np.zeros((0, 3)), 2), (np.array([[np.inf, 0]]), 1), (np.zeros((4, 2)), 3)]
)
def test_mistakes_of_callers(z: np.ndarray, components: int) -> None:
    with pytest.raises(ValueError, match=r"axes of|needs finite"):
        pca(z, components)


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Cube:
    return make_cube(tmp_path_factory.mktemp("projections"))


def test_the_layer(cube: Cube) -> None:
    z = np.random.default_rng(4).normal(size=(cube.n_patches, 5))
    z[7] = np.nan
    give_latents(cube, z)
    report = project(cube, latents="pca")
    assert (report.path, report.axes, report.used, report.unused) == ("projections/pca_pca", 2, 31, 1)
    layer = cube.layer(report.path).load()
    usable = np.arange(cube.n_patches) != 7
    assert np.isnan(layer["xy"][7]).all()
    expected = pca(z[usable].astype(np.float32))
    np.testing.assert_allclose(layer["xy"][usable], expected.xy, rtol=1e-4, atol=1e-5)
    assert layer.attrs["explained_variance_ratio"] == list(report.explained_variance_ratio or ())
    assert cube.layer_info(report.path).record.inputs == {"latents/pca": cube.layer_digest("latents/pca")}
    assert "pca_pca_xy" in open_cube(cube)


def test_axes_are_capped_by_the_components(cube: Cube) -> None:
    give_latents(cube, np.arange(cube.n_patches)[:, None], "line")
    report = project(cube, latents="line", components=3)
    assert report.axes == 1
    assert report.notes == ("1 axes instead of 3: the latents have no more",)


def test_what_cannot_be_projected(cube: Cube) -> None:
    give_latents(cube, np.full((cube.n_patches, 2), np.nan), "void")
    with pytest.raises(InputError, match="no patch with latents"):
        project(cube, latents="void")
    with pytest.raises(UsageError, match="no latents/none"):
        project(cube, latents="none")
    with pytest.raises(UsageError, match="unknown method 'umap'"):
        project(cube, latents="void", method="umap")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="components"):
        project(cube, latents="void", components=0)
