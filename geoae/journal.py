"""Journals: what a run has done, one small file a shard, each with a digest of itself.

A run that is started again trusts its journal: counts of valid pixels go from there into the cube. So an
entry that is not exactly what was written counts as none, and its shard is made again.
"""

import json
from typing import Any

from geoae.location import Location
from geoae.provenance import digest_of

__all__ = ["PLAN", "journal_name", "note", "noted", "planned"]

PLAN = "plan.json"
"""File of the plan, beside the folder of the journal."""


def journal_name(shard: int) -> str:
    """Name the journal file of a shard.

    Examples
    --------
    >>> journal_name(7)
    '000007.json'
    """
    return f"{shard:06d}.json"


def note(journal: Location, shard: int, entry: dict[str, Any], *, durable: bool = True) -> None:
    """Write down what was done for a shard.

    Parameters
    ----------
    journal
        Folder of the journal.
    shard
        Which shard.
    entry
        JSON values.
    durable
        Wait until the disk has it.
    """
    journal.put_json(journal_name(shard), {"digest": digest_of(entry), "entry": entry}, durable=durable)


def noted(journal: Location, shard: int) -> dict[str, Any] | None:
    """Return what was written down for a shard; None if there is nothing, or not what was written."""
    document = _document(journal, journal_name(shard))
    entry = document.get("entry")
    return entry if isinstance(entry, dict) and document["digest"] == digest_of(entry) else None


def planned(work: Location) -> dict[str, Any] | None:
    """Return ``{"digest": ..., "plan": ...}`` of an ingest; None if there is none, or it was changed."""
    document = _document(work, PLAN)
    plan = document.get("plan")
    return document if isinstance(plan, dict) and document["digest"] == digest_of(plan) else None


def _document(folder: Location, name: str) -> dict[str, Any]:
    """Read a file that has a digest; empty unless each byte of it is as it was written."""
    content = folder.get(name)
    try:
        document = json.loads(content or b"")
        written = json.dumps(document, indent=1, sort_keys=True).encode()
    except ValueError:
        return {}
    whole = written == content and isinstance(document, dict) and isinstance(document.get("digest"), str)
    return document if whole else {}
