"""Journals: an entry comes back exactly as it was written, or not at all."""

import json

import pytest

from geoae.journal import PLAN, journal_name, note, noted, planned
from geoae.location import Location
from geoae.provenance import digest_of

ENTRY = {"shard": 3, "files": {"rgb/c/3/0/0/0": ["0f" * 32, 1234]}, "failures": {"1": "Gävle is empty"}}


@pytest.fixture
def journal(tmp_path):
    return Location.of(tmp_path / "journal")


def test_what_was_noted_comes_back(journal):
    assert noted(journal, 3) is None
    note(journal, 3, ENTRY)
    assert noted(journal, 3) == ENTRY
    assert noted(journal, 4) is None
    assert journal.names() == [journal_name(3)]


def test_no_flipped_bit_and_no_lost_byte_is_believed(journal):
    """Every bit of the file; those of an escape, too, which JSON reads as the same letter."""
    note(journal, 3, ENTRY)
    content = journal.get(journal_name(3))
    assert b"\\u00e4" in content
    for position in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            journal.put(journal_name(3), bytes(flipped), durable=False)
            assert noted(journal, 3) is None, (position, bit)
    for length in range(len(content)):
        journal.put(journal_name(3), content[:length], durable=False)
        assert noted(journal, 3) is None, length
    journal.put(journal_name(3), content + b"\n")
    assert noted(journal, 3) is None


@pytest.mark.parametrize("content", [b"[]", b"1", b"{}", b'{\n "digest": 1,\n "entry": {}\n}'])
def test_what_is_no_entry_counts_as_none(journal, content):
    journal.put(journal_name(0), content)
    journal.put(PLAN, content)
    assert noted(journal, 0) is None
    assert planned(journal) is None


def test_a_plan_has_its_digest(journal):
    assert planned(journal) is None
    plan = {"format": 1, "scenes": ["a"]}
    journal.put_json(PLAN, {"digest": digest_of(plan), "plan": plan})
    assert planned(journal) == {"digest": digest_of(plan), "plan": plan}
    changed = json.loads(journal.get(PLAN))
    changed["plan"]["format"] = 2
    journal.put_json(PLAN, changed)
    assert planned(journal) is None
