"""Normalisation: there and back, as the formula says."""

import numpy as np
import pytest
from pydantic import ValidationError

from geoae.mixing import Piece
from geoae.normalisation import ChannelGroup, Normalisation, normalise_rows


def test_denormalise_is_the_formula_solved_for_the_value() -> None:
    """(value - offset) / scale, by hand: 0.5 * 10 + 100 = 105 and -1 * 4 + 2 = -2."""
    norm = Normalisation(kind="standard", offset=(100, 2), scale=(10, 4))
    image = np.array([0.5, -1], np.float32).reshape(1, 2, 1, 1)
    back = norm.denormalise(image)
    assert back.dtype == np.float32
    assert back.ravel().tolist() == [105, -2]


def test_it_survives_json() -> None:
    norm = Normalisation(kind="unit", offset=(0.1, 3), scale=(255, 2047))
    assert Normalisation.model_validate_json(norm.model_dump_json()) == norm


def test_unknown_kinds_and_keys_are_refused() -> None:
    with pytest.raises(ValidationError):
        Normalisation(kind="other", offset=(0,), scale=(1,))
    with pytest.raises(ValidationError):
        Normalisation(kind="unit", offset=(0,), scale=(1,), gain=2)


@pytest.mark.parametrize("positions", [range(3, 22), [5, 0, 21, 7, 8, 9], [4], []])
def test_rows_are_normalised_alike_wherever_they_lie(positions) -> None:
    """Side by side, in any order, one, none; voids are zero and a list of places is no slice."""
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 255, (22, 3, 4, 4), dtype=np.uint8)
    known = rng.random((22, 4, 4)) < 0.9
    known[::2] = True
    heights = np.where(rng.random((22, 4, 4)) < 0.8, rng.normal(size=(22, 4, 4)), np.nan).astype(np.float32)
    scale = np.array([[[0.5]], [[2]]], np.float32), np.array([[[1]], [[-3]]], np.float32)
    picture = (
        ChannelGroup("rgb", [0, 2], [2, 0], "rgb_valid", scale),
        ChannelGroup("agl", slice(1, 2), None, None, None),
    )
    chosen = np.array(positions, np.int64)
    piece = Piece({"rgb": raw, "rgb_valid": known, "agl": heights}, chosen, chosen)
    image = np.full((len(chosen), 3, 4, 4), 7, np.float32)
    valid = np.zeros(image.shape, bool)
    normalise_rows(picture, image, valid, piece, chosen)
    for row, position in enumerate(chosen):
        for place, band, factor, offset in ((0, 2, 0.5, 1), (2, 0, 2, -3)):
            expected = (raw[position, band].astype(float) * factor - offset) * known[position]
            np.testing.assert_array_equal(image[row, place], expected)
            np.testing.assert_array_equal(valid[row, place], known[position])
        np.testing.assert_array_equal(image[row, 1], np.nan_to_num(heights[position]))
        np.testing.assert_array_equal(valid[row, 1], np.isfinite(heights[position]))
