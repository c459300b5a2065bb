"""k-means: by hand, against scikit-learn and scipy, and on rows that make trouble."""

import warnings

import numpy as np
import pytest
from latent_scenes import groups
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score
from threadpoolctl import threadpool_limits

from geoae import kmeans
from geoae.kmeans import METHODS, Method, cluster_rows

CORNERS = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0], [8.0, 8.0]])
methods = pytest.mark.parametrize("method", METHODS)


@methods
def test_by_hand(method: Method) -> None:
    z = np.array([[9.0, 9.0], [0.0, 0.0], [1.0, 0.0], [5.0, 50.0], [0.0, 1.0], [9.0, 11.0]])
    found = cluster_rows(z, 3, method=method)
    np.testing.assert_array_equal(found.label, [1, 0, 0, 2, 0, 1])  # by decreasing size
    np.testing.assert_array_equal(found.size, [3, 2, 1])
    np.testing.assert_allclose(found.center, [[1 / 3, 1 / 3], [9, 10], [5, 50]], atol=1e-5)
    np.testing.assert_allclose(found.distance[[0, 3, 5]], [1, 0, 1], atol=1e-5)
    # Three points around (1/3, 1/3): 2/9 + 5/9 + 5/9; two at distance 1.
    assert found.inertia == pytest.approx(4 / 3 + 2, rel=1e-5)


@methods
def test_equal_sizes_are_numbered_by_their_first_row(method: Method) -> None:
    z = np.array([[5.0], [0.0], [5.1], [0.1], [9.0], [9.1]])
    np.testing.assert_array_equal(cluster_rows(z, 3, method=method).label, [0, 1, 0, 1, 2, 2])


@methods
def test_groups_are_found_whatever_the_seed_and_the_order(method: Method) -> None:
    z, truth = groups(3000, CORNERS)
    first = cluster_rows(z, 4, method=method)
    assert adjusted_rand_score(truth, first.label) > 0.999
    assert (np.diff(first.size) <= 0).all()
    shuffled = np.random.default_rng(5).permutation(len(z))
    other = cluster_rows(z[shuffled], 4, method=method, seed=9)
    np.testing.assert_array_equal(other.label, first.label[shuffled])


@methods
def test_every_row_is_in_the_cluster_of_its_nearest_centre(method: Method) -> None:
    z = np.random.default_rng(3).normal(size=(2500, 12)) * np.arange(1, 13)
    found = cluster_rows(z, 7, method=method)
    distances = cdist(z, found.center)
    np.testing.assert_array_equal(found.label, distances.argmin(axis=1))
    np.testing.assert_allclose(found.distance, distances.min(axis=1), rtol=1e-4)
    assert found.inertia == pytest.approx((distances.min(axis=1) ** 2).sum(), rel=1e-4)


@methods
def test_as_good_as_scikit_learns_k_means(method: Method) -> None:
    z = np.random.default_rng(4).normal(size=(12_000, 16)) * np.exp(-np.arange(16) / 4)
    found = cluster_rows(z, 8, method=method)
    theirs = KMeans(8, n_init=8, random_state=0).fit(z)
    assert found.inertia < theirs.inertia_ * 1.01


def test_silhouette_is_scikit_learns() -> None:
    z, _ = groups(500, CORNERS, spread=2.0)
    found = cluster_rows(z, 4)
    assert found.silhouette == pytest.approx(silhouette_score(z, found.label), rel=1e-4)


def test_whitening_lets_a_small_component_count() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(400) % 2
    z = np.stack([rng.normal(0, 1000, 400), truth + rng.normal(0, 0.05, 400), np.full(400, 7.0)], axis=1)
    assert abs(adjusted_rand_score(truth, cluster_rows(z, 2).label)) < 0.1
    found = cluster_rows(z, 2, whiten=True)
    assert adjusted_rand_score(truth, found.label) > 0.99
    np.testing.assert_allclose(found.scale, [z[:, 0].std(), z[:, 1].std(), 1.0])
    # Distances are those of the whitened latents, centres those of the latents.
    np.testing.assert_allclose(
        found.distance, np.linalg.norm((z - found.center[found.label]) / found.scale, axis=1), rtol=1e-4
    )


@methods
@pytest.mark.parametrize(("n", "k", "expected"), [(1, 1, 1), (1, 8, 1), (5, 8, 5), (5, 5, 5)])
def test_k_is_capped_by_the_number_of_rows(method: Method, n: int, k: int, expected: int) -> None:
    found = cluster_rows(np.arange(n, dtype=float)[:, None], k, method=method)
    np.testing.assert_array_equal(found.size, np.ones(expected))
    assert [note[: len(f"k is {expected}")] for note in found.notes] == [f"k is {expected}"] * (expected < k)


@methods
def test_k_is_capped_by_the_number_of_different_rows(method: Method) -> None:
    z = np.repeat([[1.0, 2.0], [3.0, 4.0]], [9000, 3], axis=0)  # the sample may hold one of them only
    found = cluster_rows(z, 8, method=method)
    np.testing.assert_array_equal(found.size, [9000, 3])
    assert found.notes == ("k is 2 instead of 8: there are only 2 different patches",)
    assert found.inertia == pytest.approx(0, abs=1e-9)
    same = cluster_rows(np.full((40, 3), 2.5), 4, method=method)
    np.testing.assert_array_equal(same.size, [40])
    assert same.silhouette is None
    np.testing.assert_array_equal(same.center, [[2.5, 2.5, 2.5]])


def test_zero_has_one_sign() -> None:
    found = cluster_rows(np.array([[0.0], [-0.0], [1.0], [-1.0]]), 4)  # their mean is zero
    assert found.notes == ("k is 3 instead of 4: there are only 3 different patches",)


@pytest.mark.parametrize(("offset", "factor"), [(1e6, 1.0), (-3e4, 1e-3), (0.0, 1e25), (0.0, 1e-25)])
def test_far_from_the_origin_and_in_any_unit(offset: float, factor: float) -> None:
    z, truth = groups(600, CORNERS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = cluster_rows(z * factor + offset, 4)
    assert adjusted_rand_score(truth, found.label) > 0.999
    assert np.isfinite(found.center).all()


def test_equal_seeds_give_equal_bytes_on_one_thread_or_two() -> None:
    z = np.random.default_rng(8).normal(size=(9000, 24))
    results = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            found = cluster_rows(z, 9, seed=3)
        results.append((found.label.tobytes(), found.center.tobytes(), found.inertia, found.silhouette))
    assert results[0] == results[1]


def test_centres_can_be_learned_from_some_rows() -> None:
    z = np.array([[0.0], [1.0], [10.0], [11.0], [30.0], [3.0]])
    learn = np.array([True, True, True, True, False, False])
    found = cluster_rows(z, 2, learn=learn)
    np.testing.assert_allclose(found.center.ravel(), [0.5, 10.5], atol=1e-5)
    np.testing.assert_array_equal(found.label, [0, 0, 1, 1, 1, 0])


@pytest.mark.parametrize(
    ("z", "k"), [(np.zeros((0, 2)), 2), (np.array([[np.nan]]), 1), (np.zeros(3), 1), (np.zeros((2, 2)), 0)]
)
def test_mistakes_of_callers(z: np.ndarray, k: int) -> None:
    with pytest.raises(ValueError, match=r"k must|needs finite"):
        cluster_rows(z, k)


@methods
@pytest.mark.parametrize("whiten", [False, True])
def test_how_many_rows_are_taken_at_a_time_does_not_matter(
    method: Method, whiten: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    z, truth = groups(300, CORNERS)
    whole = cluster_rows(z, 4, method=method, whiten=whiten)
    np.testing.assert_allclose(whole.scale, z.std(axis=0) if whiten else [1, 1])
    monkeypatch.setattr(kmeans, "BATCH", 7)
    parts = cluster_rows(z, 4, method=method, whiten=whiten)
    assert adjusted_rand_score(truth, parts.label) == pytest.approx(1)
    np.testing.assert_array_equal(parts.label, whole.label)
    np.testing.assert_allclose(parts.distance, whole.distance, rtol=1e-5)
    np.testing.assert_allclose(parts.scale, whole.scale)
