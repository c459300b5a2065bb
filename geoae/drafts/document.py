"""The first catalog as YAML text, with comments where a person must decide."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from geoae.catalog import class_colors
from geoae.drafts.guesses import Guess

__all__ = ["catalog_text"]


def catalog_text(
    head: Mapping[str, Any],
    names: Sequence[Mapping[str, str]],
    fields: Mapping[str, str],
    guesses: Sequence[Guess],
    tail: Mapping[str, Any],
    comments: Sequence[str],
) -> str:
    """Write a catalog.

    Parameters
    ----------
    head
        Keys that come first: name, title.
    names, fields
        As in a catalog.
    guesses
        The modalities.
    tail
        Keys that come last: reference, cities, gsd.
    comments
        Lines at the top.
    """
    lines = [f"# {line}" if line else "#" for text in comments for line in [" ".join(text.split())]]
    lines += ["format: 1", *(f"{key}: {_value(value)}" for key, value in head.items())]
    lines += [
        'licence: "" # DECIDE: the terms of the data set; exports carry them',
        'citation: "" # DECIDE: how to cite it',
        "",
        "names:",
    ]
    for naming in names:
        pairs = [f"{key}: {_value(value)}" for key, value in naming.items()]
        lines += [f"  - {pairs[0]}", *(f"    {pair}" for pair in pairs[1:])]
    if fields:
        lines += ["fields:", *(f"  {key}: {_value(value)}" for key, value in fields.items())]
    lines += ["", "modalities:"]
    for made in guesses:
        lines += _modality(made)
    lines += ["", *(f"{key}: {_value(value)}" for key, value in tail.items())]
    lines += _classes(guesses)
    return "\n".join(lines) + "\n"


def _modality(made: Guess) -> Iterator[str]:
    yield f"  {made.key}:"
    yield f"    role: {made.role}{_comment(made, 'role')}"
    yield f"    title: {_value(made.kinds[0])}"
    yield f"    kinds: {_value(list(made.kinds))}"
    for key, value in made.keys.items():
        if key == "bands":
            if "bands" in made.remarks:
                yield f"    # {made.remarks['bands']}"
            yield "    bands:"
            yield from (f"      - {{ name: {_value(name)} }}" for name in value)
        else:
            yield f"    {key}: {_value(value)}{_comment(made, key)}"
    for key, remark in made.remarks.items():
        if key != "role" and key not in made.keys:
            yield f"    # {remark}"


def _comment(made: Guess, key: str) -> str:
    return f" # {made.remarks[key]}" if key in made.remarks else ""


def _classes(guesses: Sequence[Guess]) -> Iterator[str]:
    counts: dict[int, int] = {}
    for made in guesses:
        for code, number in made.codes.items():
            counts[code] = counts.get(code, 0) + number
    codes = [code for code in sorted(counts) if code < 255]
    if not codes:
        return
    yield ""
    yield "# DECIDE: what the label codes mean. A code without a line in the class table is void: no data."
    if 0 in codes:
        yield "# 0 often means no data: then delete its line in the class table."
    yield "codes:"
    yield from (f"  {code}: code_{code} # {counts[code]} pixels of a sample" for code in codes)
    yield "default_class_table: draft"
    yield "class_tables:"
    yield "  draft:"
    yield "    title: Every label code a class"
    yield "    classes:"
    for code, color in zip(codes, class_colors(len(codes)), strict=True):
        yield f'      - {{ code: {code}, name: code_{code}, color: "{color}" }}'


def _value(value: Any) -> str:
    """Write a value so that YAML reads the same back: JSON is YAML.

    Examples
    --------
    >>> _value("no"), _value([1, 2.5]), _value({"a": "b"})
    ('"no"', '[1, 2.5]', '{"a": "b"}')
    """
    return json.dumps(value, ensure_ascii=False)
