"""How files are named: which part of a name says what a file is, and which says what it shows. No files."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

__all__ = ["NamePattern", "find_patterns", "is_band", "known_word", "split_name"]

MAX_KINDS = 24
"""More kinds than that are no kinds."""

MAX_TOKENS = 3
"""Most parts of a name that make a kind together, as in ``_RGB_1ft``."""

_SEPARATOR = re.compile(r"([_\-. ]+)")

_WORDS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("msi", "ms", "mul", "mux", "multispectral", "bands", "cir", "irc"), ("image", "msi")),
    **dict.fromkeys(("rgb", "ortho", "orthophoto", "tci", "truecolor", "dop", "bgr"), ("image", "rgb")),
    **dict.fromkeys(("img", "image", "images", "pan", "nir", "sar", "intensity", "slope"), ("image", "")),
    **dict.fromkeys(("aspect", "hillshade", "ndvi", "red", "green", "blue", "swir"), ("image", "")),
    **dict.fromkeys(("agl", "hag", "ndsm", "height", "heights"), ("height", "agl")),
    "chm": ("height", "chm"),
    **dict.fromkeys(("dsm", "dem", "elev", "elevation", "srtm", "alti"), ("height", "dsm")),
    **dict.fromkeys(("dtm", "dgm", "mnt"), ("height", "dtm")),
    **dict.fromkeys(("cls", "class", "classes", "classification", "label", "labels"), ("label", "label")),
    **dict.fromkeys(("gt", "lc", "landcover", "lulc", "seg", "annotation", "truth"), ("label", "label")),
    **dict.fromkeys(("mask", "masks", "categories"), ("label", "label")),
    **dict.fromkeys(("bqa", "qa", "scl", "fmask"), ("label", "quality")),
}
"""Word of a name -> role, and name of the modality (empty: the word itself)."""


_BAND = re.compile(r"(?:[a-z]{2,4}_)?b(?:and)?_?\d{1,2}[a-z]?(?:[_\-. ].*)?", re.IGNORECASE)


@dataclass(frozen=True)
class NamePattern:
    """One way in which files are named.

    Parameters
    ----------
    stem
        Template of the name without extension, ``{city}_{tile}_{kind}``.
    scene
        Template of the scene's key.
    kinds
        Kind of each name that the pattern explains.
    fields
        Regular expressions of the fields.
    constant
        Whether the template has no ``{kind}``: all names are of one kind.
    """

    stem: str
    scene: str
    kinds: Mapping[str, str]
    fields: Mapping[str, str] = field(default_factory=dict)
    constant: bool = False


def known_word(kind: str) -> tuple[str, str] | None:
    """Return the role and the modality that a kind's words mean; None if they mean nothing.

    Examples
    --------
    >>> known_word("CLS"), known_word("DSM_2ft"), known_word("B02")
    (('label', 'label'), ('height', 'dsm'), None)
    """
    for token in split_name(kind)[0]:
        word = token.casefold()
        found = _WORDS.get(word) or _WORDS.get(word.rstrip("0123456789"))
        if found:
            return found[0], found[1] or word.rstrip("0123456789")
    return None


def is_band(kind: str) -> bool:
    """Whether a kind is one band of an image, as Landsat and Sentinel-2 name their files.

    Examples
    --------
    >>> [is_band(kind) for kind in ("B4", "B8A", "B02_10m", "SR_B3", "band_7", "BQA", "block")]
    [True, True, True, True, True, False, False]
    """
    return _BAND.fullmatch(kind) is not None


def split_name(stem: str) -> tuple[list[str], list[str]]:
    """Split a name into its parts and what separates them.

    Examples
    --------
    >>> split_name("JAX_004-006.RGB")
    (['JAX', '004', '006', 'RGB'], ['_', '-', '.'])
    """
    parts = _SEPARATOR.split(stem)
    return parts[0::2], parts[1::2]


def find_patterns(
    stems: Sequence[str], signature: Callable[[str], Hashable], apart: Callable[[str, str], bool]
) -> list[NamePattern]:
    """Find patterns that explain names together.

    A good pattern describes many names by few scenes and few kinds, and the files of one kind look alike.

    Parameters
    ----------
    stems
        Names without extension, each once.
    signature
        How the file of a name looks: equal for files that may be of one kind; None if unknown.
    apart
        Whether two files cannot be of one scene: they lie at different places, or their sizes differ.

    Returns
    -------
    list of NamePattern
        The one that explains most names first; names may be left over.
    """
    left = sorted(stems)
    patterns: list[NamePattern] = []
    while left and len(patterns) < 3:
        pattern = _best(left, signature, apart)
        if pattern is None:
            break
        pattern = _with_longer_kinds(pattern, left, apart)
        patterns.append(pattern)
        left = [stem for stem in left if stem not in pattern.kinds]
    return patterns + _without_kind(left, signature, apart, alone=not patterns)


def _with_longer_kinds(
    pattern: NamePattern, stems: Sequence[str], apart: Callable[[str, str], bool]
) -> NamePattern:
    """Add names that are a scene's key and a kind of more parts, as ``B6_VCID_1`` among ``B1`` to ``B5``."""
    match = re.fullmatch(r"\{scene\}([_\-. ]+)\{kind\}", pattern.stem)
    if match is None:
        return pattern
    member = {stem.removesuffix(f"{match[1]}{kind}"): stem for stem, kind in pattern.kinds.items()}
    kinds = dict(pattern.kinds)
    for stem in stems:
        tokens, separators = split_name(stem)
        for place in range(len(tokens) - 2, max(len(tokens) - MAX_TOKENS - 1, 0), -1):
            key = _joined(tokens[:place], separators)
            if stem not in kinds and key in member and separators[place - 1] == match[1]:
                plain = tokens[place].isdigit() or apart(stem, member[key])
                kinds |= {} if plain else {stem: _joined(tokens[place:], separators[place:])}
    return pattern if len(set(kinds.values())) > MAX_KINDS else replace(pattern, kinds=kinds)


@dataclass(frozen=True)
class _Split:
    """Names cut at one place: the kind is the last, or the first, so many parts."""

    at_end: bool
    separator: str
    parts: Mapping[str, tuple[str, str]]  # name -> key, kind

    @property
    def scenes(self) -> int:
        return len({key for key, _ in self.parts.values()})

    @property
    def kinds(self) -> set[str]:
        return {kind.casefold() for _, kind in self.parts.values()}


def _best(
    stems: list[str], signature: Callable[[str], Hashable], apart: Callable[[str, str], bool]
) -> NamePattern | None:
    scored = []
    for split in _splits(stems):
        meant = sum(known_word(kind) is not None or is_band(kind) for kind in split.kinds)
        known = meant / len(split.kinds)
        number, scenes, kinds = len(split.parts), split.scenes, len(split.kinds)
        shared = number > scenes and (number > kinds or scenes == 1)
        if number < 2 or not (shared or known == 1):
            continue
        alike = _alike(split, signature)
        score = number / (scenes + kinds) * (number / len(stems)) ** 2 * alike**2 * (1 + known)
        together = _together(split, apart)
        if together < 0.5:  # most scenes would hold files of different places
            continue
        score *= together**2
        scored.append(((score, -kinds, split.at_end), split))
    if not scored:
        return None
    return _pattern(max(scored, key=lambda item: item[0])[1])


def _splits(stems: list[str]) -> Iterator[_Split]:
    for at_end in (True, False):
        for number in range(1, MAX_TOKENS + 1):
            found: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
            for stem in stems:
                tokens, separators = split_name(stem)
                if len(tokens) <= number:
                    continue
                place = len(tokens) - number if at_end else number
                separator = separators[place - 1]
                head = _joined(tokens[:place], separators)
                tail = _joined(tokens[place:], separators[place:])
                key, kind = (head, tail) if at_end else (tail, head)
                words = tokens[place:] if at_end else tokens[:place]
                if key and kind and not any(word.isdigit() or not word for word in words):
                    found[separator][stem] = (key, kind)
            for separator, parts in found.items():
                split = _Split(at_end, separator, parts)
                unique = {(key, kind.casefold()) for key, kind in parts.values()}
                if len(split.kinds) <= MAX_KINDS and len(unique) == len(parts):
                    yield split


def _joined(tokens: Sequence[str], separators: Sequence[str]) -> str:
    between = [*separators[: len(tokens) - 1], ""]
    return "".join(f"{token}{separator}" for token, separator in zip(tokens, between, strict=True))


def _alike(split: _Split, signature: Callable[[str], Hashable]) -> float:
    """Return the share of files that look like most of their kind."""
    looks: dict[str, Counter[Hashable]] = defaultdict(Counter)
    for stem, (_, kind) in split.parts.items():
        if (look := signature(stem)) is not None:
            looks[kind.casefold()][look] += 1
    total = sum(counted.total() for counted in looks.values())
    return sum(max(counted.values()) for counted in looks.values()) / total if total else 1.0


def _together(split: _Split, apart: Callable[[str, str], bool]) -> float:
    """Return the share of neighbours in a scene that may lie at one place."""
    scenes: dict[str, list[str]] = defaultdict(list)
    for stem, (key, _) in split.parts.items():
        scenes[key].append(stem)
    pairs = [pair for members in scenes.values() for pair in pairwise(members)]
    return 1 - sum(apart(*pair) for pair in pairs) / len(pairs) if pairs else 1.0


def _pattern(split: _Split) -> NamePattern:
    key, fields = _key_template(sorted({key for key, _ in split.parts.values()}))
    stem = f"{key}{split.separator}{{kind}}" if split.at_end else f"{{kind}}{split.separator}{key}"
    return NamePattern(stem, key, {stem: kind for stem, (_, kind) in split.parts.items()}, fields)


def _key_template(keys: list[str]) -> tuple[str, dict[str, str]]:
    """Write the key of a scene with city, tile and view, where these are clear.

    Examples
    --------
    >>> _key_template(["JAX_004_006", "JAX_004_007", "OMA_132_002"])
    ('{city}_{tile}_{view}', {'city': 'JAX|OMA', 'tile': '[0-9]+', 'view': '[0-9]+'})
    >>> _key_template(["IGN_770550_6277600"])
    ('{scene}', {})
    """
    split = [split_name(key) for key in keys]
    separators = {tuple(between) for _, between in split}
    columns = list(zip(*(tokens for tokens, _ in split), strict=True)) if len(separators) == 1 else []
    cities = sorted(set(columns[0])) if columns else []
    named = all(city.isalpha() for city in cities) and len(cities) < len(keys)
    numbers = columns[1:] if named else columns
    # Coordinates repeat along a row of map sheets, as tiles do over views; they have more digits.
    short = all(token.isdigit() and len(token) <= 5 for column in numbers for token in column)
    places = {tuple(tokens[:-1]) for tokens, _ in split}
    if len(numbers) != 2 or not short or len(places) == len(keys):
        return "{scene}", {}
    between = next(iter(separators))
    names = ["city", "tile", "view"] if named else ["tile", "view"]
    fields = {"tile": "[0-9]+", "view": "[0-9]+"}
    if named:
        fields = {"city": "|".join(map(re.escape, cities)), **fields}
    return _joined([f"{{{name}}}" for name in names], list(between)), fields


def _without_kind(
    stems: list[str], signature: Callable[[str], Hashable], apart: Callable[[str, str], bool], *, alone: bool
) -> list[NamePattern]:
    """Explain names without a pattern: files of one scene, scenes of one kind, or each its own."""
    groups: list[list[str]] = []
    for stem in stems:
        home = next((group for group in groups if not any(apart(stem, other) for other in group)), None)
        if home is None:
            groups.append([stem])
        else:
            home.append(stem)
    looks = {signature(stem) for stem in stems}
    words = all(any(character.isalpha() for character in stem) for stem in stems)
    meant = all(known_word(stem) is not None for stem in stems)
    few = len(stems) <= MAX_KINDS and words
    if stems and len(groups) == 1 and few and (meant or len(looks) > 1 or not alone):
        return [NamePattern("{kind}", "scene", {stem: stem for stem in stems})]
    if len(looks) > 1 and few and not any({"{", "}"} & set(stem) for stem in stems):
        return [
            NamePattern(stem, group[0], {stem: stem}, constant=True) for group in groups for stem in group
        ]
    if stems and alone:
        return [NamePattern("{scene}", "{scene}", dict.fromkeys(stems, "image"), constant=True)]
    return []
