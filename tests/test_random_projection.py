"""The random projection: seeded, learned from nothing, stored without its vectors."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from geoae.encoder import Channel, FitContext, PatchBatch
from geoae.errors import PluginError
from geoae.testing import ArrayPatches, check_encoder, synthetic_patches
from geoae_pca import RandomProjectionConfig, RandomProjectionEncoder
from geoae_pca.random_projection import random_vectors


def prepared(source: ArrayPatches, **options: int) -> RandomProjectionEncoder:
    encoder = RandomProjectionEncoder(RandomProjectionConfig.model_validate(options))
    encoder.fit(source, FitContext())
    return encoder


@pytest.mark.parametrize("latent", [1, 4, 300])
def test_it_keeps_the_contract(latent):
    check_encoder(
        RandomProjectionEncoder, config=RandomProjectionConfig.model_validate({"latent_dim": latent})
    )


def test_vectors_are_normal_numbers_of_variance_one_by_k():
    vectors = random_vectors(50, 5000, seed=3)
    assert vectors.dtype == np.float32
    assert vectors.mean() == pytest.approx(0, abs=1e-3)
    assert vectors.var() * 50 == pytest.approx(1, abs=0.01)
    products = vectors @ vectors.T * 50 / 5000
    assert np.abs(products - np.eye(50)).max() < 0.1  # nearly orthogonal: 1 / sqrt(5000) = 0.014


def test_distances_are_kept_in_the_mean():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(60, 2, 12, 12)).astype(np.float32)
    z = prepared(ArrayPatches(image), latent_dim=400).transform(ArrayPatches(image).batch())
    rows = image.reshape(60, -1)
    before = ((rows[:30] - rows[30:]) ** 2).sum(axis=1)
    after = ((z[:30] - z[30:]) ** 2).sum(axis=1)
    ratios = after / before
    assert ratios.mean() == pytest.approx(1, abs=0.05)
    assert ratios.std() == pytest.approx(np.sqrt(2 / 400), rel=0.6)


def test_the_seed_decides_and_a_larger_patch_has_vectors_of_its_own():
    assert random_vectors(3, 10, 5).tobytes() == random_vectors(3, 10, 5).tobytes()
    assert not np.allclose(random_vectors(3, 10, 5), random_vectors(3, 10, 6))
    # Blocks of features are drawn from seeds of their own: no block repeats another.
    wide = random_vectors(3, 9000, 5)
    assert not np.allclose(wide[:, :4096], wide[:, 4096:8192])


def test_no_pixel_is_read_to_fit():
    class Unreadable:
        channels = target_channels = (Channel("image", "a"),)
        patch_shape = (4, 4)

        def __len__(self) -> int:
            return 10

        def batches(self, size: int, shuffle_seed: int | None = None) -> Iterator[PatchBatch]:
            raise AssertionError(f"{size} pixels were asked for, {shuffle_seed}")

    encoder = RandomProjectionEncoder(RandomProjectionConfig())
    assert encoder.fit(Unreadable(), FitContext()).patches == 0
    assert not RandomProjectionEncoder.needs_fit


def test_the_model_is_a_few_bytes(tmp_path):
    prepared(synthetic_patches(3, (3, 32, 32)), latent_dim=64).save(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 300


def test_unfitted_and_other_shapes_are_callers_mistakes(tmp_path):
    encoder = RandomProjectionEncoder(RandomProjectionConfig())
    batch = synthetic_patches(2, (1, 4, 4)).batch()
    with pytest.raises(ValueError, match="knows no shape yet"):
        encoder.transform(batch)
    with pytest.raises(ValueError, match="knows no shape yet"):
        encoder.save(tmp_path)
    encoder.fit(synthetic_patches(2, (1, 4, 5)), FitContext())
    with pytest.raises(ValueError, match="was fitted on patches"):
        encoder.transform(batch)


def rewrite(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_text("{"), "not a stored projection: Invalid JSON"),
        (lambda path: path.write_bytes(b"\x80\x04}q."), "not a stored projection"),
        (lambda path: rewrite(path, patch_shape=[1, 4]), "not a stored projection"),
        (lambda path: rewrite(path, patch_shape=[0, 4, 4]), "make no sense"),
        (lambda path: rewrite(path, patch_shape=[10**6, 10**4, 10**4]), "make no sense"),
        (lambda path: rewrite(path, patch_shape=[1, 4, 5]), "other vectors than when the model was made"),
        (lambda path: rewrite(path, sha256="0" * 64), "other vectors than when the model was made"),
        (lambda path: rewrite(path, more=1), "not a stored projection: Extra inputs"),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path, damage, message):
    prepared(synthetic_patches(3, (1, 4, 4)), latent_dim=8).save(tmp_path)
    damage(tmp_path / "projection.json")
    with pytest.raises(PluginError, match=message) as caught:
        RandomProjectionEncoder.load(tmp_path, RandomProjectionConfig(latent_dim=8))
    assert "\n" not in str(caught.value)


def test_other_options_than_it_was_saved_with_are_refused(tmp_path):
    prepared(synthetic_patches(3, (1, 4, 4)), latent_dim=8).save(tmp_path)
    for options in ({"latent_dim": 9}, {"latent_dim": 8, "seed": 1}):
        with pytest.raises(PluginError, match="other vectors"):
            RandomProjectionEncoder.load(tmp_path, RandomProjectionConfig.model_validate(options))
