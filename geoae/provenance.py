"""Where a layer comes from: a record that is stored with it.

A record holds no time, host or path, so equal work gives equal bytes. Digests name the inputs; a
layer is stale when an input of that name has another digest now.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Record", "canonical_json", "digest_of"]

ATTRIBUTE = "geoae_record"


def canonical_json(value: Any) -> str:
    """Write JSON in one way only: sorted keys, no spaces, no NaN.

    Examples
    --------
    >>> canonical_json({"b": 1, "a": [1.5, None]})
    '{"a":[1.5,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest_of(parts: Iterable[Any] | Mapping[str, Any]) -> str:
    """Return the sha256 of a value's canonical JSON, as ``sha256:`` and 64 hexadecimal digits.

    Examples
    --------
    >>> digest_of({"a": 1})[:19]
    'sha256:015abd7f5cc5'
    """
    value = dict(parts) if isinstance(parts, Mapping) else list(parts)
    return "sha256:" + hashlib.sha256(canonical_json(value).encode()).hexdigest()


class Record(BaseModel):
    """Who made a layer, from what, with which options.

    Parameters
    ----------
    made_by
        The geoae function, such as ``encode``.
    options
        Its options, JSON values only.
    inputs
        Digest of each input by its place in the cube: ``cube``, ``splits/default``, ``latents/pca``.
    software
        Versions that matter for the bytes, by distribution.
    counts
        How many patches were used, how many were not and why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_by: str
    options: Mapping[str, Any] = Field(default_factory=dict)
    inputs: Mapping[str, str] = Field(default_factory=dict)
    software: Mapping[str, str] = Field(default_factory=dict)
    counts: Mapping[str, int] = Field(default_factory=dict)

    def to_attributes(self) -> dict[str, Any]:
        """Return the record as attributes of a Zarr group."""
        return {ATTRIBUTE: json.loads(canonical_json(self.model_dump(mode="json")))}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> "Record":
        """Read a record from a group's attributes.

        Raises
        ------
        KeyError
            If the attributes hold none.
        """
        return cls.model_validate(attributes[ATTRIBUTE])
