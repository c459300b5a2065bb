"""Regular expressions of catalogs: those that could take forever are refused, usual ones are not."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoae.catalog import Catalog, load_catalog, shipped_catalogs
from geoae.catalog.naming import MAX_CHOICES, compile_template, compiled
from geoae.catalog.regexes import open_choices

FIXTURES = sorted((Path(__file__).parent / "catalogs").glob("*.yaml"))


@pytest.mark.parametrize(
    ("regex", "choices"),
    [
        ("", 0),
        ("JAX|OMA", 0),
        ("[0-9]+", 0),
        ("[0-9]{3}", 0),
        ("[0-9]+(?:_[0-9]+_(?:LEFT|RIGHT))?", 0),
        ("(?:[0-9]+_)*x", 0),  # the separator ends each round
        ("(?:ab|cd)+e", 0),
        (".*", 0),  # the end of the name is no character
        (".*x", 1),
        ("[a-z]*x", 1),
        ("[a-w]*x", 0),
        ("[^_]+_[^_]+_x", 0),
        (".+_.+_x", 2),
        ("a?a", 1),
        ("a?b", 0),
        ("a?a?a?aaa", 3),
        ("(?:ab|ac)d", 0),  # the parser takes the common letter out
        ("(?:ab|ac|d)e", 1),
        ("(?:a|)a", 1),
        ("(?!.*_old).+", 1),
        (r"\w+-\d+", 0),
        (r"\w+_\d+", 1),
        ("É*é", 1),  # in either case
        ("(?i:A)*a", 1),
        ("[^a]*[^b]", 1),
    ],
)
def test_open_choices_by_hand(regex: str, choices: int) -> None:
    assert open_choices(regex) == choices


FOREVER = ["(?:a+)+b", "(?:a*)*b", "(?:a|a)*b", "(?:ab|b|a)*c", "(?:a?){40}a", "(?:.*,)*x"]


@pytest.mark.parametrize("regex", [*FOREVER, "(?:(?:a|b)*c?)*d", r"(?:\w+\s?)*x"])
def test_a_choice_inside_a_repetition_is_refused(regex: str) -> None:
    with pytest.raises(ValueError, match="can take forever"):
        compiled(regex)


@pytest.mark.parametrize(
    "regex", ["a{99999999999999999999}", "(?:" * 90 + ")" * 89, "[[a]]*[[", "(?P=x)", "(a)", "\\", "(?<=a+)b"]
)
def test_no_expression_ends_in_anything_but_a_value_error(regex: str) -> None:
    with pytest.raises(ValueError, match=r"regular expression|groups|forever"):
        compiled(regex)


@pytest.mark.parametrize("field", ["(?i)JAX", "(?x) a # comment", "(?s)a"])
def test_what_compiles_alone_and_not_in_a_template_is_refused_in_one_line(field: str) -> None:
    with pytest.raises(ValueError, match="no regular expression"):
        compile_template("{scene}_{city}_{kind}.tif", {"city": field}, ["RGB"])


def test_many_open_parts_of_one_template_are_refused() -> None:
    wide = {"a": ".+", "b": ".+", "c": ".+", "d": ".+"}
    compile_template("{a}_{b}_{c}.tif", wide, [])
    with pytest.raises(ValueError, match=r"4 parts of .* may end at several places"):
        compile_template("{a}_{b}_{c}_{d}.tif", wide, [])


@pytest.mark.parametrize(
    "catalog", [*shipped_catalogs().values(), *map(load_catalog, FIXTURES)], ids=lambda c: c.name
)
def test_catalogs_are_far_from_the_limit(catalog: Catalog) -> None:
    for naming in catalog.names:
        pattern = compile_template(naming.file, catalog.fields, catalog.kinds)
        assert open_choices(pattern.pattern, re.DOTALL) < MAX_CHOICES


ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "_", "(?:a|b)", "(?:ab|a)", "(?:a|)", "a?", ""])
TIMES = st.sampled_from(["*", "+", "?", "{2}", "{0,3}", "*?"])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format),
        st.tuples(inner, TIMES).map("(?:{0[0]}){0[1]}".format),
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(EXPRESSIONS)
def test_what_is_accepted_ends_soon_on_names_made_to_hurt(regex: str) -> None:
    try:
        pattern = compiled(regex)
    except ValueError:
        return
    # No clock: what ought to be refused takes centuries, and this test would not end.
    for name in ("a" * 60 + "!", "ab" * 30 + "!", "a_" * 30 + "!", "_" * 60 + "!", "b" * 60 + "!"):
        pattern.fullmatch(name)
