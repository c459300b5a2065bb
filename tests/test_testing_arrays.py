"""Patches from arrays: a source for tests that behaves as a cube's does."""

import numpy as np
import pytest

from geoae.encoder import Channel, PatchSource
from geoae.testing import ArrayPatches, synthetic_patches


def test_array_patches_are_a_source():
    image = np.arange(5 * 2 * 2 * 2).reshape(5, 2, 2, 2)
    source = ArrayPatches(image, channels=[Channel("msi", "red"), Channel("agl", "agl", "m")])
    assert isinstance(source, PatchSource)
    assert (len(source), source.patch_shape) == (5, (2, 2))
    assert [str(channel) for channel in source.target_channels] == ["msi.red", "agl"]
    batches = list(source.batches(2))
    assert [batch.index.tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert batches[0].image.dtype == np.float32
    np.testing.assert_array_equal(np.concatenate([batch.image for batch in batches]), image)
    assert batches[0].target is None


def test_shuffled_batches_hold_every_patch_once_and_follow_the_seed():
    source = ArrayPatches(np.zeros((20, 1, 2, 2)))
    orders = [[i for batch in source.batches(6, seed) for i in batch.index] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == list(range(20))


def test_invalid_pixels_are_zero_whatever_they_held():
    image = np.full((2, 2, 2, 2), 7.0)
    image[0, :, 0, 0] = np.nan
    valid = np.ones((2, 2, 2), bool)
    valid[0, 0, 0] = False
    batch = ArrayPatches(image, valid).batch()
    assert batch.image[0, :, 0, 0].tolist() == [0, 0]
    assert batch.image.sum() == 7 * 14
    assert (~batch.valid).sum() == 2
    with pytest.raises(ValueError, match="not finite in a valid pixel"):
        ArrayPatches(image)


def test_another_target_has_its_own_channels_and_mask():
    source = ArrayPatches(
        np.zeros((3, 1, 2, 2)),
        target=np.ones((3, 2, 2, 2)),
        target_valid=np.array([True, True, False])[:, None, None] & np.ones((3, 2, 2), bool),
    )
    assert len(source.target_channels) == 2
    batch = source.batch([2, 0])
    assert batch.target.sum() == 8
    assert batch.target_valid.reshape(2, -1).any(axis=1).tolist() == [False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": np.zeros((2, 3))}, "expected"),
        ({"image": np.zeros((2, 1, 2, 2)), "channels": []}, "1 channels of image and 0 names"),
        ({"image": np.zeros((2, 1, 2, 2)), "target": np.zeros((3, 1, 2, 2))}, "2 images and 3 targets"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ArrayPatches(**arguments)


def test_synthetic_patches_hold_what_cubes_hold():
    batch = synthetic_patches(12, (3, 8, 8)).batch()
    assert not batch.valid[0].any()
    assert np.ptp(batch.image[1]) == 0
    assert 0 < batch.valid[2].mean() < 1
    assert batch.image[~batch.valid].tolist() == [0.0] * int((~batch.valid).sum())
    again = synthetic_patches(12, (3, 8, 8)).batch()
    assert again.image.tobytes() == batch.image.tobytes()
