"""Corruption and turns: what they do to patches, how often, and that seeds decide it."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [torch]")

from geoae.errors import UsageError  # noqa: E402
from geoae_torch.corruption import (  # noqa: E402
    corrupt,
    cut_out,
    gaussian,
    parse_corruption,
    salt_and_pepper,
    turn,
    variants,
)
from geoae_torch.feed import Patches, augment  # noqa: E402


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.full((40, 3, 64, 64), 0.5)


def test_noise_has_the_deviation_asked_for(images):
    difference = gaussian(images, seeded(), sigma=0.2) - images
    assert difference.std().item() == pytest.approx(0.2, rel=0.01)
    assert abs(difference.mean().item()) < 0.002
    assert (images == 0.5).all()


def test_cut_outs_are_three_black_squares_of_twelve_pixels_in_all_bands(images):
    hidden = cut_out(images, seeded()) == 0
    assert (hidden == hidden[:, :1]).all()
    counts = hidden[:, 0].sum((1, 2))
    assert counts.max() == 3 * 12 * 12  # those that do not overlap
    assert counts.min() >= 12 * 12
    one = cut_out(images, seeded(), holes=1)[:, 0] == 0
    assert (one.any(1).sum(1) == 12).all()
    assert (one.any(2).sum(1) == 12).all()
    assert (images == 0.5).all()


def test_cut_outs_grow_with_the_patch():
    one = cut_out(torch.ones(3, 1, 128, 128), seeded(), holes=1)
    assert ((one == 0).sum((1, 2, 3)) == 24 * 24).all()
    assert (cut_out(torch.ones(2, 1, 3, 3), seeded(), holes=1) == 0).sum() == 2


def test_cut_outs_reach_the_edges(images):
    hidden = (cut_out(images.repeat(20, 1, 1, 1), seeded(), holes=1)[:, 0] == 0).any(0)
    assert hidden[0].any()
    assert hidden[-1].any()
    assert hidden[:, 0].any()
    assert hidden[:, -1].any()


def test_salt_and_pepper_hit_numbers_of_each_band_alone(images):
    found = salt_and_pepper(images, seeded(), rate=0.1)
    assert (found == 0).float().mean().item() == pytest.approx(0.05, rel=0.05)
    assert (found == 1).float().mean().item() == pytest.approx(0.05, rel=0.05)
    hit = found != 0.5
    both = (hit[:, 0] & hit[:, 1]).float().mean().item()
    assert both == pytest.approx(0.01, rel=0.2)  # independent


def test_kinds_follow_one_another(images):
    found = corrupt(images, parse_corruption("cutout+salt-pepper"), seeded())
    black = (found == 0).all(1).float().mean()
    assert black > 0.05  # squares
    assert (found == 1).any()
    assert not (found == 0.5).all()


def test_every_patch_gets_one_alternative(images):
    found = corrupt(images, parse_corruption("gaussian,cutout"), seeded())
    squares = ((found == 0).sum((1, 2, 3)) > 100).tolist()
    noisy = ((found != 0.5).float().mean((1, 2, 3)) > 0.9).tolist()
    assert [a != b for a, b in zip(squares, noisy, strict=True)] == [True] * len(images)
    assert 8 < sum(squares) < 32


def test_a_seed_decides(images):
    for text in ("gaussian", "mixture"):
        first, second, other = (corrupt(images, parse_corruption(text), seeded(s)) for s in (1, 1, 2))
        assert torch.equal(first, second)
        assert not torch.equal(first, other)


def test_unknown_kinds_are_named():
    with pytest.raises(UsageError, match="no corruption 'blur'") as error:
        parse_corruption("gaussian+blur")
    assert "salt-pepper" in error.value.hint


# --- turns ------------------------------------------------------------------------------------------


def test_turns_are_the_eight_symmetries_of_a_square():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    found = {tuple(turn(image, k).flatten().tolist()) for k in range(8)}
    expected = {
        tuple(torch.rot90(flipped, quarter, (2, 3)).flatten().tolist())
        for flipped in (image, image.flip(3))
        for quarter in range(4)
    }
    assert found == expected
    assert len(found) == 8


def test_patches_that_are_no_squares_keep_their_shape():
    drawn = variants(500, False, np.random.default_rng(0))
    assert set(drawn.tolist()) == {0, 1, 2, 3}
    assert set(variants(500, True, np.random.default_rng(0)).tolist()) == set(range(8))


def test_image_mask_and_target_turn_together():
    image = torch.rand(6, 2, 5, 5)
    patches = Patches(image, image[:, :1] > 0.5, image * 2, image[:, :1] > 0.5)
    found = augment(patches, np.array([0, 1, 2, 4, 7, 7]))
    assert torch.equal(found.target, found.image * 2)
    assert torch.equal(found.valid, found.image[:, :1] > 0.5)
    assert torch.equal(found.target_valid, found.valid)
    assert torch.equal(found.image[0], image[0])
    assert torch.equal(found.image[3], image[3].transpose(1, 2))
    assert not torch.equal(found.image[1], image[1])
