"""Errors: one line, an exit code, and a trip through pickle."""

import inspect
import pickle
import re

import pytest

from geoae import errors
from geoae.errors import GeoaeError

CODES = {
    "GeoaeError": 1,
    "UsageError": 2,
    "StoreExistsError": 2,
    "InputError": 3,
    "CatalogError": 3,
    "SceneError": 3,
    "NotACubeError": 3,
    "IntegrityError": 5,
    "IncompleteError": 5,
    "LockedError": 1,
    "PluginError": 1,
}


@pytest.mark.parametrize(("name", "code"), sorted(CODES.items()))
def test_every_error_has_its_exit_code(name, code):
    assert getattr(errors, name).exit_code == code


def test_no_error_is_left_out_of_the_table_above():
    classes = {n for n, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, GeoaeError)}
    assert classes == set(CODES) == set(errors.__all__)


def test_the_tree_in_the_docstring_says_the_same():
    drawn = dict(re.findall(r"(\w+Error)\s+(\d)", errors.__doc__))
    assert {name: int(code) for name, code in drawn.items()} == CODES


@pytest.mark.parametrize("name", sorted(CODES))
def test_an_error_survives_pickling_with_its_hint(name):
    error = getattr(errors, name)("what is wrong", hint="what mends it")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == "what is wrong (what mends it)"
    assert (again.message, again.hint, again.exit_code) == (error.message, error.hint, error.exit_code)


def test_newlines_in_file_names_do_not_break_the_line():
    error = GeoaeError("cannot read a\nb.tif\r\n here", hint="rename\nit")
    assert str(error) == "cannot read a b.tif here (rename it)"


def test_without_a_hint_there_are_no_brackets():
    assert str(GeoaeError("broken")) == "broken"
