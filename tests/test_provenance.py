"""Records and digests: one way to write a value, whatever the order of its making."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoae.provenance import ATTRIBUTE, Record, canonical_json, digest_of

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_the_order_of_keys_does_not_count(value):
    turned = dict(reversed(list(value.items())))
    assert canonical_json(value) == canonical_json(turned)
    assert digest_of(value) == digest_of(turned)
    assert json.loads(canonical_json(value)) == json.loads(json.dumps(value))


def test_a_digest_is_the_sha256_of_the_canonical_text():
    expected = hashlib.sha256('{"a":[1,2.5,null],"ä":"ö"}'.encode()).hexdigest()
    assert digest_of({"ä": "ö", "a": [1, 2.5, None]}) == f"sha256:{expected}"


def test_the_order_of_a_list_counts():
    assert digest_of(["a", "b"]) != digest_of(["b", "a"])


def test_nan_is_refused():
    with pytest.raises(ValueError, match=r"[Oo]ut of range"):
        digest_of({"a": float("nan")})


def test_a_record_comes_back_from_attributes():
    record = Record(
        made_by="encode",
        options={"latent_dim": 8, "input": ["rgb"]},
        inputs={"cube": "sha256:1", "splits/default": "sha256:2"},
        software={"geoae": "0.1"},
        counts={"used": 3},
    )
    attributes = json.loads(json.dumps({"title": "x", **record.to_attributes()}))
    assert Record.from_attributes(attributes) == record


def test_a_record_refuses_unknown_fields_and_absent_attributes():
    with pytest.raises(ValueError, match="host"):
        Record(made_by="encode", host="here")
    with pytest.raises(KeyError):
        Record.from_attributes({})
    assert set(Record(made_by="encode").to_attributes()) == {ATTRIBUTE}
