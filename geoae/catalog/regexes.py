"""How long a regular expression can take: those of a catalog meet file names that nobody here chose.

Python's `re` tries one alternative after the other, which takes forever for some expressions: ``(a+)+b``
needs 2^30 steps for thirty letters. A choice costs nothing extra where the next character settles it. So
every place is counted at which it does not, and each multiplies the steps by the length of the name at
most; inside a repetition there may be none.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any, NamedTuple

__all__ = ["open_choices"]

# The parser of `re` itself: what it reads is what will run.
_parser: Any = import_module("re._parser")
_codes: Any = import_module("re._constants")

_Characters = frozenset[int]

_OTHER = 256
"""Stands for all characters beyond the first 256."""

_END = -1
"""Stands for the end of the name."""

_ALL: _Characters = frozenset(range(_OTHER + 1))

_CATEGORIES = {
    _codes.CATEGORY_DIGIT: frozenset({_OTHER, *(c for c in range(256) if chr(c).isdecimal())}),
    _codes.CATEGORY_SPACE: frozenset({_OTHER, *(c for c in range(256) if chr(c).isspace())}),
    _codes.CATEGORY_WORD: frozenset({_OTHER, *(c for c in range(256) if chr(c).isalnum()), ord("_")}),
    _codes.CATEGORY_NOT_DIGIT: frozenset(c for c in _ALL if not chr(c).isdecimal() or c == _OTHER),
    _codes.CATEGORY_NOT_SPACE: frozenset(c for c in _ALL if not chr(c).isspace() or c == _OTHER),
    _codes.CATEGORY_NOT_WORD: frozenset(
        c for c in _ALL if not (chr(c).isalnum() or c == ord("_")) or c == _OTHER
    ),
}

_REPEATS = {_codes.MAX_REPEAT, _codes.MIN_REPEAT, _codes.POSSESSIVE_REPEAT}
_SINGLE = {_codes.LITERAL, _codes.NOT_LITERAL, _codes.ANY, _codes.IN}


def open_choices(pattern: str, flags: int = 0) -> int:
    """Count the places at which the next character does not say how to go on.

    Matching a name of n characters takes at most about n to the power of this number steps.

    Parameters
    ----------
    pattern
        A regular expression that compiles.
    flags
        As for `re.compile`.

    Raises
    ------
    ValueError
        If such a place is repeated, so that no power bounds the steps, or if the expression refers back.

    Examples
    --------
    >>> open_choices("[A-Z]+_[0-9]+_v?[0-9]+"), open_choices(".+_.+_.+x")
    (0, 3)
    >>> open_choices("(?:a+)+b")
    Traceback (most recent call last):
    ...
    ValueError: a repetition inside a repetition can take forever
    """
    return _sequence(_parser.parse(pattern, flags), frozenset({_END})).choices


class _Part(NamedTuple):
    first: _Characters  # characters with which it may begin
    empty: bool  # whether it may match nothing
    choices: int


def _sequence(items: Iterable[tuple[Any, Any]], after: _Characters) -> _Part:
    """Look at parts that follow each other, the last one first: what follows settles a choice."""
    first, empty, choices = after, True, 0
    for operation, argument in reversed(list(items)):
        part = _item(operation, argument, first)
        first = part.first | first if part.empty else part.first
        empty &= part.empty
        choices += part.choices
    return _Part(first, empty, choices)


def _item(operation: Any, argument: Any, after: _Characters) -> _Part:
    if operation in _SINGLE:
        return _Part(_characters(operation, argument), False, 0)
    if operation in _REPEATS:
        low, high, body = argument
        return _repeat(low, high, body, after)
    if operation is _codes.SUBPATTERN:
        return _sequence(argument[-1], after)
    if operation is _codes.ATOMIC_GROUP:
        return _sequence(argument, after)
    if operation is _codes.BRANCH:
        return _branch(argument[1], after)
    if operation is _codes.AT:
        return _Part(frozenset(), True, 0)
    if operation in (_codes.ASSERT, _codes.ASSERT_NOT):
        return _Part(frozenset(), True, _sequence(argument[1], _ALL | {_END}).choices)
    raise ValueError("it refers back to what was matched, which can take forever")


def _repeat(low: int, high: int, body: Any, after: _Characters) -> _Part:
    # What comes after one round is another round, or what follows.
    start = _sequence(body, frozenset()).first
    part = _sequence(body, after | start if high > 1 else after)
    if high > 1 and (part.choices or (part.empty and low != high)):
        raise ValueError("a repetition inside a repetition can take forever")
    is_open = low != high and bool(part.first & after)
    return _Part(part.first, part.empty or low == 0, part.choices + is_open)


def _branch(alternatives: list[Any], after: _Characters) -> _Part:
    parts = [_sequence(alternative, after) for alternative in alternatives]
    seen: set[int] = set()
    overlap = False
    for part in parts:
        first = part.first | after if part.empty else part.first
        overlap |= bool(seen & first)
        seen |= first
    choices = max(part.choices for part in parts) + overlap
    return _Part(frozenset().union(*(p.first for p in parts)), any(p.empty for p in parts), choices)


def _characters(operation: Any, argument: Any) -> _Characters:
    if operation is _codes.LITERAL:
        return _both_cases(argument)
    if operation is _codes.NOT_LITERAL:
        return _ALL - {argument}
    if operation is _codes.ANY:
        return _ALL
    found: set[int] = set()
    negated = False
    for kind, value in argument:
        if kind is _codes.NEGATE:
            negated = True
        elif kind is _codes.RANGE:
            low, high = value
            found |= {min(c, _OTHER) for c in range(low, min(high, 255) + 1)}
            found |= {_OTHER} if high > 255 else set()
        elif kind is _codes.CATEGORY:
            found |= _CATEGORIES[value]
        else:
            found.add(min(value, _OTHER))
    if negated:
        # Some of the characters beyond 256 remain whatever is left out.
        return (_ALL - found) | {_OTHER}
    return frozenset(found).union(*(_both_cases(c) for c in found if c < _OTHER))


def _both_cases(character: int) -> _Characters:
    """Return a character in both cases: some expressions ignore case."""
    text = chr(character)
    return frozenset(min(ord(c), _OTHER) for c in (text, *text.lower(), *text.upper()))
