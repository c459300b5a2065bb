"""Principal components against scikit-learn, in odd cases, and through damaged files."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.fft import dctn, idctn
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

from geoae.encoder import Channel, FitContext, FitReport, PatchBatch
from geoae.errors import GeoaeError, PluginError, UsageError
from geoae.testing import ArrayPatches, check_encoder, synthetic_patches
from geoae_pca import PCAConfig, PCAEncoder
from geoae_pca.cosines import Cosines
from geoae_pca.krylov import PrincipalComponents, principal_components
from geoae_pca.sections import Sections


def decaying(count: int, shape: tuple[int, int, int], power: float, seed: int = 0) -> np.ndarray:
    """Patches whose variances fall like ``j ** -power``, with a mean that is not zero."""
    rng = np.random.default_rng(seed)
    features = int(np.prod(shape))
    rank = min(count, features)
    left = np.linalg.qr(rng.normal(size=(count, rank)))[0]
    right = np.linalg.qr(rng.normal(size=(features, rank)))[0]
    rows = left * np.arange(1, rank + 1) ** (-power / 2) @ right.T * np.sqrt(features)
    return (rows + 0.1 * rng.normal(size=features)).reshape(count, *shape).astype(np.float32)


def fitted(image: np.ndarray, **options: object) -> tuple[PCAEncoder, FitReport]:
    encoder = PCAEncoder(PCAConfig.model_validate(options))
    return encoder, encoder.fit(ArrayPatches(image), FitContext())


def components_of(encoder: PCAEncoder) -> np.ndarray:
    """Components, read off the decoder: what a unit vector adds to the reconstruction of zero."""
    eye = np.eye(encoder.latent_dim, dtype=np.float32)
    zero = encoder.reconstruct(np.zeros((1, encoder.latent_dim), np.float32))
    return (encoder.reconstruct(eye) - zero).reshape(encoder.latent_dim, -1)


@pytest.mark.parametrize(("power", "wanted"), [(1.0, 16), (2.0, 16), (1.5, 30)])
def test_explained_variance_is_that_of_scikit_learn_within_a_thousandth(power, wanted):
    image = decaying(300, (3, 12, 12), power)
    encoder, report = fitted(image, latent_dim=wanted)
    exact = PCA(wanted, svd_solver="full").fit(image.reshape(300, -1))
    ratio = exact.explained_variance_ratio_.sum()
    assert report.metrics["explained_variance_ratio"] == pytest.approx(ratio, abs=1e-3)
    assert report.metrics["total_variance"] == pytest.approx(
        exact.explained_variance_.sum() / ratio, rel=1e-4
    )
    # What the latent vectors hold, measured on them, is at least what the report says.
    z = encoder.transform(ArrayPatches(image).batch())
    held = z.var(axis=0, ddof=1, dtype=np.float64).sum() / report.metrics["total_variance"]
    assert report.metrics["explained_variance_ratio"] <= held * (1 + 1e-5) <= ratio * (1 + 2e-5)


def test_the_leading_subspace_is_that_of_scikit_learn():
    image = decaying(200, (2, 12, 12), 2.0)
    encoder, _ = fitted(image, latent_dim=16, tolerance=1e-6)
    exact = PCA(16, svd_solver="full").fit(image.reshape(200, -1))
    angles = subspace_angles(components_of(encoder)[:10].T.astype(float), exact.components_[:10].T)
    assert np.rad2deg(angles.max()) < 0.5


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 5, 3)])
@pytest.mark.parametrize("count", [12, 40, 90])
def test_small_data_equal_scikit_learn(shape, count):
    image = decaying(count, shape, 1.0)
    wanted = min(8, count - 1)
    encoder, report = fitted(image, latent_dim=wanted)
    exact = PCA(wanted, svd_solver="full").fit(image.reshape(count, -1))
    np.testing.assert_allclose(
        report.curves["explained_variance_ratio"], exact.explained_variance_ratio_, rtol=1e-4
    )
    np.testing.assert_allclose(report.curves["singular_value"], exact.singular_values_, rtol=1e-4)
    mine, theirs = components_of(encoder), exact.components_
    signs = np.sign((mine * theirs).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(mine, signs * theirs, atol=2e-3)
    z = encoder.transform(ArrayPatches(image).batch())
    expected = exact.transform(image.reshape(count, -1)) * signs.T
    np.testing.assert_allclose(z, expected, atol=2e-3 * np.abs(expected).max())


def of_frequencies(count: int, deviation: np.ndarray, seed: int = 0) -> np.ndarray:
    """Patches of one channel whose cosines have these deviations, ``(frequency along y, along x)``."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, 1, *deviation.shape)) * deviation
    return idctn(values, axes=(2, 3), norm="ortho").astype(np.float32)


def falling(side: int) -> np.ndarray:
    """Deviations of the cosines of natural images: the faster a cosine, the smaller."""
    along = np.arange(side)
    return 1 / (1 + np.hypot(along[:, np.newaxis], along)) ** 1.5


def explained_by(image: np.ndarray, wanted: int) -> float:
    rows = image.reshape(len(image), -1).astype(float)
    squares = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    return float(squares[:wanted].sum() / squares.sum())


def test_of_smooth_images_one_pass_is_enough():
    image = of_frequencies(300, falling(40))  # 1,600 numbers, of which the first look keeps less than half
    _, report = fitted(image, latent_dim=32)
    assert report.metrics["passes"] == 1
    assert report.metrics["explained_variance_ratio"] == pytest.approx(explained_by(image, 32), abs=1e-3)


@pytest.mark.parametrize("stripes", [1, 4, 12, 30])
def test_what_low_frequencies_hide_is_found(stripes):
    """The fastest cosines, as of a sensor's stripes, all equally strong: the hardest to tell apart."""
    deviation = falling(40)
    deviation[-1 - np.arange(stripes) // 8, -1 - np.arange(stripes) % 8] = 0.2
    image = of_frequencies(300, deviation)
    _, report = fitted(image, latent_dim=32)
    assert report.metrics["explained_variance_ratio"] == pytest.approx(explained_by(image, 32), abs=2e-3)


def test_images_of_nothing_but_high_frequencies_are_as_good():
    image = of_frequencies(300, falling(40)[::-1, ::-1])
    _, report = fitted(image, latent_dim=32)
    assert report.metrics["explained_variance_ratio"] == pytest.approx(explained_by(image, 32), abs=2e-3)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_size_of_the_batches_does_not_matter(size):
    image = of_frequencies(120, falling(32)).reshape(120, -1)

    def found(size: int) -> PrincipalComponents:
        def read(size: int) -> Iterator[np.ndarray]:
            yield from (image[start : start + size] for start in range(0, 120, size))

        return principal_components(
            Sections([read], 120, size),
            (1, 32, 32),
            10,
            seed=0,
            tolerance=1e-4,
            max_passes=4,
            progress=lambda *_: None,
        )

    one, other = found(120), found(size)
    assert one.passes == other.passes
    np.testing.assert_allclose(other.variances, one.variances, rtol=1e-4)
    np.testing.assert_allclose(other.components, one.components, atol=2e-3)


@pytest.mark.parametrize("shape", [(1, 1, 9), (2, 9, 1), (3, 6, 5), (8, 40, 33)])
def test_cosines_are_orthonormal_and_as_many_as_asked_for_or_as_pixels(shape):
    cosines = Cosines(shape, 100)
    pixels = int(np.prod(shape))
    assert min(pixels, 100) <= cosines.count <= pixels
    eye = np.eye(cosines.count, dtype=np.float32)
    np.testing.assert_allclose(cosines.forward(cosines.back(eye)), eye, atol=1e-5)


def test_cosines_are_those_of_scipy():
    image = np.random.default_rng(0).normal(size=(2, 3, 16, 12)).astype(np.float32)
    cosines = Cosines((3, 16, 12), 3 * 4 * 3)  # a quarter of either side
    expected = dctn(image, axes=(2, 3), norm="ortho")[:, :, :4, :3].reshape(2, -1)
    np.testing.assert_allclose(cosines.forward(image.reshape(2, -1)), expected, atol=1e-5)


def test_two_patches_have_one_direction_that_is_their_difference():
    image = np.zeros((2, 1, 1, 4), np.float32)
    image[0, 0, 0] = [0, 3, 0, 0]
    image[1, 0, 0] = [0, 0, 0, -4]
    encoder, report = fitted(image, latent_dim=5)
    # The difference (0, 3, 0, 4) has length 5; its largest entry is positive by convention.
    np.testing.assert_allclose(components_of(encoder), [[0, 0.6, 0, 0.8]], atol=1e-6)
    np.testing.assert_allclose(encoder.transform(ArrayPatches(image).batch()), [[2.5], [-2.5]], atol=1e-5)
    assert report.metrics["total_variance"] == pytest.approx(12.5)
    assert report.metrics["explained_variance_ratio"] == pytest.approx(1)
    assert encoder.latent_dim == 1
    assert report.notes == ("latent size reduced from 5 to 1: 2 patches of 4 numbers have no more than 1",)


def test_the_entry_of_largest_magnitude_is_positive():
    encoder, _ = fitted(decaying(80, (2, 8, 8), 1.0), latent_dim=12)
    components = components_of(encoder)
    assert (components[np.arange(12), np.abs(components).argmax(axis=1)] > 0).all()


def test_a_large_mean_costs_no_accuracy():
    image = decaying(200, (2, 8, 8), 1.5)
    _, plain = fitted(image, latent_dim=8)
    _, moved = fitted(image + 50, latent_dim=8)
    assert moved.metrics["total_variance"] == pytest.approx(plain.metrics["total_variance"], rel=1e-2)
    ratio = plain.metrics["explained_variance_ratio"]
    assert moved.metrics["explained_variance_ratio"] == pytest.approx(ratio, abs=1e-2)


def test_whitened_scores_have_variance_one_and_come_back_as_the_same_patches():
    image = decaying(300, (2, 8, 8), 1.5)
    batch = ArrayPatches(image).batch()
    plain, _ = fitted(image, latent_dim=10, tolerance=1e-6)
    white, _ = fitted(image, latent_dim=10, tolerance=1e-6, whiten=True)
    z = white.transform(batch)
    np.testing.assert_allclose(z.var(axis=0, ddof=1), 1, rtol=1e-2)
    np.testing.assert_allclose(white.reconstruct(z), plain.reconstruct(plain.transform(batch)), atol=1e-3)


def test_all_components_reconstruct_the_patches():
    image = decaying(30, (1, 4, 4), 0.5)
    encoder, _ = fitted(image, latent_dim=16)
    z = encoder.transform(ArrayPatches(image).batch())
    np.testing.assert_allclose(encoder.reconstruct(z), image, atol=1e-4)


def test_memory_holds_blocks_of_vectors_never_the_patches():
    class Endless:
        """Patches made on the fly: 2,000 of 3,072 numbers would take 25 MB."""

        channels = target_channels = (Channel("image", "a"), Channel("image", "b"), Channel("image", "c"))
        patch_shape = (32, 32)
        readings = 0

        def __len__(self) -> int:
            return 2000

        def batches(self, size: int, shuffle_seed: int | None = None) -> Iterator[PatchBatch]:
            assert shuffle_seed is None
            Endless.readings += 1
            for start in range(0, 2000, min(size, 100)):
                rng = np.random.default_rng(start)
                image = rng.normal(size=(100, 3, 32, 32)).astype(np.float32)
                yield PatchBatch(np.arange(start, start + 100), image, np.ones(image.shape, bool))

    tracemalloc.start()
    encoder = PCAEncoder(PCAConfig(latent_dim=8, max_passes=3, seed=0))
    report = encoder.fit(Endless(), FitContext())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A batch and its making take 7 MB, the matrix of low frequencies 5 MB, blocks of 16 vectors 0.2 MB each.
    assert peak < 20e6
    assert Endless.readings == 1 + report.metrics["passes"]


def test_easy_patches_need_fewer_passes_than_hard_ones_and_a_limit_is_reported():
    _, easy = fitted(decaying(300, (1, 12, 12), 4.0), latent_dim=8)
    noise = np.random.default_rng(0).normal(size=(300, 1, 40, 40))  # low frequencies hold half of it
    _, hard = fitted(noise, latent_dim=32)
    _, limited = fitted(noise, latent_dim=32, max_passes=1)
    assert easy.metrics["passes"] < hard.metrics["passes"]
    assert limited.metrics["passes"] == 1
    assert limited.notes[0].startswith("stopped after 1 passes: more passes (--max-passes) may explain about")


def test_progress_counts_patches_in_every_pass():
    calls: list[tuple[str, int, int]] = []
    context = FitContext(progress=lambda stage, done, total, _: calls.append((stage, done, total)))
    PCAEncoder(PCAConfig(latent_dim=2)).fit(synthetic_patches(30, (1, 8, 8)), context)
    assert [stage for stage, *_ in calls[:2]] == ["first look", "pass 1"]
    assert {(done, total) for _, done, total in calls} == {(30, 30)}


def test_constant_channels_and_patches_without_valid_pixels_do_no_harm():
    image = decaying(50, (2, 6, 6), 1.0)
    image[:, 1] = 0.75
    encoder, _ = fitted(image, latent_dim=6)
    components = components_of(encoder).reshape(6, 2, 6, 6)
    np.testing.assert_allclose(components[:, 1], 0, atol=1e-6)
    image[::7] = 0
    encoder, _ = fitted(image, latent_dim=6)
    assert np.isfinite(encoder.transform(ArrayPatches(image).batch())).all()


def test_few_patches_that_differ_are_found_among_many_equal_ones():
    image = np.full((1000, 1, 8, 8), 0.25, np.float32)
    image[::100] = decaying(10, (1, 8, 8), 0.2)
    encoder, report = fitted(image, latent_dim=10)
    assert encoder.latent_dim == 10
    assert report.metrics["explained_variance_ratio"] == pytest.approx(1, abs=1e-4)
    assert report.metrics["passes"] <= 2


def test_repeated_patches_reduce_the_latent_size_and_say_so():
    image = np.repeat(decaying(5, (1, 6, 6), 0.5), 20, axis=0)
    encoder, report = fitted(image, latent_dim=16, whiten=True)
    assert encoder.latent_dim == 4
    assert report.notes == (
        "latent size reduced from 16 to 4: the patches differ in no more directions, up to rounding",
    )
    z = encoder.transform(ArrayPatches(image).batch())
    np.testing.assert_allclose(z.var(axis=0, ddof=1), 1, rtol=1e-2)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_patches_are_refused(count):
    with pytest.raises(GeoaeError, match=f"at least 2 patches to fit, there are {count}"):
        fitted(np.ones((count, 1, 4, 4)))


@pytest.mark.parametrize("value", [0.0, 0.3, 1e4])
def test_equal_patches_are_refused(value):
    with pytest.raises(GeoaeError, match="the 9 patches do not differ"):
        fitted(np.full((9, 2, 4, 4), value))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 39])
def test_pixels_that_are_not_finite_are_refused(bad, row):
    source = synthetic_patches(40, (1, 6, 6))
    source._image[row, 0, 2, 2] = bad
    with pytest.raises(GeoaeError, match="some pixels are not finite"):
        PCAEncoder(PCAConfig(latent_dim=2)).fit(source, FitContext())


def test_another_target_is_refused():
    image = decaying(5, (1, 4, 4), 1.0)
    source = ArrayPatches(image, target=np.ones((5, 2, 4, 4)), target_channels=None)
    with pytest.raises(UsageError, match="no other target"):
        PCAEncoder(PCAConfig()).fit(source, FitContext())


def test_a_source_that_gives_fewer_patches_than_it_promised_is_refused():
    def read(size: int) -> Iterator[np.ndarray]:
        yield np.eye(4, dtype=np.float32)[:size]

    with pytest.raises(ValueError, match="promised 6 patches and gave 4"):
        principal_components(
            Sections([read], 6, 4),
            (1, 2, 2),
            2,
            seed=0,
            tolerance=0.01,
            max_passes=3,
            progress=lambda *_: None,
        )


def test_unfitted_and_other_shapes_are_callers_mistakes(tmp_path):
    encoder = PCAEncoder(PCAConfig())
    batch = synthetic_patches(3, (2, 4, 4)).batch()
    with pytest.raises(ValueError, match="not fitted"):
        encoder.transform(batch)
    with pytest.raises(ValueError, match="not fitted"):
        encoder.save(tmp_path)
    encoder.fit(synthetic_patches(9, (2, 4, 5)), FitContext())
    with pytest.raises(
        ValueError, match=r"fitted on patches \(channel, y, x\) of \(2, 4, 5\), not \(2, 4, 4\)"
    ):
        encoder.transform(batch)


@pytest.mark.parametrize(
    "options", [{}, {"whiten": True}, {"latent_dim": 64}, {"max_passes": 1, "latent_dim": 3}]
)
def test_it_keeps_the_contract(options):
    check_encoder(PCAEncoder, config=PCAConfig.model_validate({"latent_dim": 5, **options}))


def test_a_patch_has_the_same_vector_in_any_batch_up_to_rounding():
    source = ArrayPatches(decaying(300, (3, 24, 24), 1.0))
    encoder = PCAEncoder(PCAConfig(latent_dim=40))
    encoder.fit(source, FitContext())
    whole = encoder.transform(source.batch())
    for size in (1, 7, 64, 129):
        parts = [encoder.transform(batch) for batch in source.batches(size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5 * np.abs(whole).max())


def test_another_seed_finds_the_same_components():
    image = decaying(200, (1, 10, 10), 2.0)
    first, _ = fitted(image, latent_dim=4, tolerance=1e-6, seed=0)
    second, _ = fitted(image, latent_dim=4, tolerance=1e-6, seed=1)
    np.testing.assert_allclose(components_of(first), components_of(second), atol=1e-2)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    encoder, _ = fitted(decaying(40, (2, 5, 5), 1.0), latent_dim=6)
    encoder.save(tmp_path)
    return tmp_path / "components.safetensors"


def change(path: Path, **arrays: np.ndarray) -> None:
    save_file({**load_file(path), **arrays}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "the file is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "not a readable safetensors file"),
        (lambda path: path.write_bytes(b""), "not a readable safetensors file"),
        (
            lambda path: path.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR."),
            "not a readable safetensors file",
        ),
        (lambda path: change(path, mean=np.zeros(50)), "mean is float64, expected float32"),
        (lambda path: change(path, mean=np.zeros(49, np.float32)), "does not fit 50 features: mean 49"),
        (
            lambda path: change(path, mean=np.full(50, np.nan, np.float32)),
            "mean holds values that are not finite",
        ),
        (
            lambda path: change(path, components=np.zeros((6, 5, 10), np.float32)),
            r"components has shape \(6, 5, 10\)",
        ),
        (lambda path: change(path, components=np.ones((6, 50), np.float32)), "not orthonormal"),
        (
            lambda path: change(path, components=np.eye(7, 50, dtype=np.float32)),
            "6 variances of 7 components",
        ),
        (lambda path: change(path, variances=np.zeros(6)), "a variance is not positive"),
        (
            lambda path: change(path, patch_shape=np.array([2, 5, 6])),
            "does not fit 50 features: patch_shape 60",
        ),
        (lambda path: change(path, more=np.zeros(1)), "holds .*more.*, expected"),
    ],
)
def test_a_damaged_file_is_one_clear_line(saved, damage, message):
    damage(saved)
    with pytest.raises(PluginError, match=message) as caught:
        PCAEncoder.load(saved.parent, PCAConfig(latent_dim=6))
    assert "\n" not in str(caught.value)


def test_a_file_of_more_components_than_the_options_allow_is_refused(saved):
    with pytest.raises(PluginError, match="6 components for a latent size of 5"):
        PCAEncoder.load(saved.parent, PCAConfig(latent_dim=5))


def test_coefficients_of_many_patches_are_added_in_parts(monkeypatch):
    image = of_frequencies(120, falling(32))
    one, whole = fitted(image, latent_dim=10)
    monkeypatch.setattr("geoae_pca.look.GATHERED", 50)
    monkeypatch.setattr("geoae_pca.pca.BATCH_BYTES", 30 * 4 * 32 * 32)
    other, parts = fitted(image, latent_dim=10)
    ratio = whole.metrics["explained_variance_ratio"]
    assert parts.metrics["explained_variance_ratio"] == pytest.approx(ratio, rel=1e-4)
    np.testing.assert_allclose(components_of(other), components_of(one), atol=2e-3)
