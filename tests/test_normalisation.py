"""Normalisation: there and back, as the formula says."""

import numpy as np
import pytest
from pydantic import ValidationError

from geoae.normalisation import Normalisation


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
