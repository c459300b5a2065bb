"""First catalogs: from a folder of rasters to a catalog that ingests it, with what a person must decide.

Names are split into scene and kind (`geoae.drafts.patterns`), headers and a few windows of pixels are read
(`geoae.drafts.looks`), roles, bands, units and codes are guessed (`geoae.drafts.guesses`), and all of it is
written as YAML with comments (`geoae.drafts.document`).
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj

from geoae.catalog import Catalog, parse_catalog
from geoae.drafts.document import catalog_text
from geoae.drafts.guesses import Guess, guess
from geoae.drafts.looks import read_looks, sample_files, signature
from geoae.drafts.patterns import NamePattern, find_patterns, known_word
from geoae.errors import CatalogError, InputError, StoreExistsError
from geoae.raster import RasterHeader
from geoae.scene import Source, find_rasters, fit_together

__all__ = ["Draft", "draft_catalog", "write_draft"]

_READABLE = (".tif", ".tiff", ".jp2", ".j2k", ".png")
"""Extensions of the formats that `geoae.raster` reads."""

_SHOWN = 5
"""Files that a remark names before it says how many more there are."""

_ORDER = {"image": 0, "height": 1, "label": 2}


@dataclass(frozen=True)
class Draft:
    """A first catalog.

    Parameters
    ----------
    text
        The YAML.
    catalog
        What it says.
    decisions
        What a person must decide, one line each: ``modalities.dsm.unit: ...``.
    problems
        Files that the catalog does not explain, or that cannot be used, one line each.
    files
        Number of files that the catalog explains.
    """

    text: str
    catalog: Catalog
    decisions: tuple[str, ...]
    problems: tuple[str, ...]
    files: int


def draft_catalog(folder: str | Path, *, name: str | None = None, follow_symlinks: bool = False) -> Draft:
    """Write a first catalog for a folder from the names, headers and a sample of the pixels of its files.

    Parameters
    ----------
    folder
        The folder, searched recursively.
    name
        Name of the catalog; that of the folder if not given.
    follow_symlinks
        Follow links that lead out of the folder.

    Returns
    -------
    Draft
        A catalog that loads and that `geoae.ingest` takes.

    Raises
    ------
    InputError
        If there is no such folder, or no file in it is a raster that can be read.
    CatalogError
        If files cannot be told apart by their names.
    """
    rasters, problems = find_rasters(folder, follow_symlinks=follow_symlinks)
    readable = [r for r in rasters if r.path.suffix.lower() in _READABLE]
    problems += _left_out("of other formats", [r.name for r in rasters if r not in set(readable)])
    headers, broken = read_looks(readable)
    problems += tuple(broken.values())
    if not headers:
        raise InputError(
            f"no file in {folder} is a raster that can be read" + "".join(f"; {p}" for p in problems[:1]),
            hint="geoae reads GeoTIFF, JPEG 2000 and PNG",
        )
    files = _by_stem([r for r in readable if r.name not in broken], str(folder))
    by_stem = {stem: headers.get(sources[0].name) for stem, sources in files.items()}

    def look(stem: str) -> object:
        header = by_stem[stem]
        return None if header is None else signature(header)

    def apart(first: str, second: str) -> bool:
        one, other = by_stem[first], by_stem[second]
        return one is not None and other is not None and not fit_together(one, other)

    patterns = find_patterns(list(by_stem), look, apart)
    explained = {stem for pattern in patterns for stem in pattern.kinds}
    left = [source.name for stem, found in files.items() if stem not in explained for source in found]
    problems += _left_out("that no pattern explains", left)
    guesses = _guesses(patterns, by_stem)
    if not guesses:
        raise CatalogError(
            f"the names of the files in {folder} have no pattern" + (f", such as {left[0]}" if left else ""),
            hint="name them <scene>_<kind>.tif, such as north_RGB.tif and north_DSM.tif",
        )
    text = _text(Path(folder).resolve().name if name is None else name, patterns, guesses, files, by_stem)
    catalog = parse_catalog(text, "the draft")
    wrong = [f.name for stem in explained for f in files[stem] if catalog.parse(f.path.name) is None]
    problems += _left_out("that the catalog does not explain after all", wrong)
    return Draft(
        text, catalog, _decisions(guesses), problems, sum(len(files[s]) for s in explained) - len(wrong)
    )


def write_draft(draft: Draft, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a draft as a file.

    Raises
    ------
    StoreExistsError
        If the file exists and `overwrite` is false: somebody may have worked on it.
    InputError
        If it cannot be written.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise StoreExistsError(f"{target} exists", hint="--overwrite replaces it, --out names another file")
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_text(draft.text, encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}", hint="choose another --out") from None
    finally:
        partial.unlink(missing_ok=True)
    return target


def _by_stem(rasters: Sequence[Source], folder: str) -> dict[str, list[Source]]:
    """Group files by their name without extension; refuse names that mean two things."""
    files: dict[str, list[Source]] = defaultdict(list)
    for raster in rasters:
        files[raster.path.stem].append(raster)
    twice = [found for found in files.values() if len(found) > 1]
    if 2 * sum(map(len, twice)) > len(rasters):
        names = " and ".join(source.name for source in twice[0][:2])
        raise CatalogError(
            f"files in {folder} have the same names in different folders: {names}",
            hint="geoae knows files by their names: link or copy them as <scene>_<folder>.tif",
        )
    return dict(files)


def _left_out(what: str, names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (f"{len(names)} files {what}: {', '.join(names[:_SHOWN])}{more}",)


def _guesses(patterns: Sequence[NamePattern], headers: Mapping[str, RasterHeader | None]) -> list[Guess]:
    """Guess a modality for each kind, images first."""
    spellings: dict[str, dict[str, None]] = defaultdict(dict)
    members: dict[str, list[RasterHeader]] = defaultdict(list)
    for pattern in patterns:
        for stem, kind in pattern.kinds.items():
            spellings[kind.casefold()].setdefault(kind)
            if (header := headers[stem]) is not None:
                members[kind.casefold()].append(header)
    guesses = []
    for kind, found in members.items():
        # One spelling will do: the case of kinds does not matter.
        guesses.append(guess([min(spellings[kind])], found, sample_files(found)))
    guesses.sort(key=lambda made: (_ORDER[made.role], made.kinds))
    taken: set[str] = set()
    for made in guesses:
        made.key = _modality_key(made, taken)
        taken.add(made.key)
    return guesses


def _modality_key(made: Guess, taken: set[str]) -> str:
    word = known_word(made.kinds[0])
    candidates = [word[1]] if word is not None and word[0] == made.role else []
    plain = re.sub(r"[^a-z0-9]+", "_", made.kinds[0].lower()).strip("_")
    plain = plain if plain[:1].isalpha() else f"{made.role}_{plain}".rstrip("_")
    candidates += [plain, *(f"{plain}_{number}" for number in range(2, 1000))]
    return next(key for key in candidates if key not in taken and _may_be_named(key))


def _may_be_named(key: str) -> bool:
    """Say whether a cube has room for a modality of this name."""
    modality = {"role": "image", "kinds": ["x"]}
    try:
        Catalog.model_validate({"format": 1, "name": "x", "title": "x", "modalities": {key: modality}})
    except ValueError:
        return False
    return True


def _text(
    name: str,
    patterns: Sequence[NamePattern],
    guesses: Sequence[Guess],
    files: Mapping[str, Sequence[Source]],
    headers: Mapping[str, RasterHeader | None],
) -> str:
    names = []
    for pattern in patterns:
        # .tif stands for .tiff and .TIF, too; other formats need a template each.
        suffixes = {source.path.suffix.lower() for stem in pattern.kinds for source in files[stem]}
        for suffix in sorted({".tif" if suffix == ".tiff" else suffix for suffix in suffixes}):
            naming = {"file": f"{pattern.stem}{suffix}", "scene": pattern.scene}
            if pattern.constant:
                naming["kind"] = next(iter(pattern.kinds.values()))
            names.append(naming)
    fields = {key: regex for pattern in patterns for key, regex in pattern.fields.items()}
    tail: dict[str, Any] = {"reference": _reference(guesses, patterns, headers)}
    sizes = _pixel_sizes(patterns, headers, {kind for made in guesses[:1] for kind in made.kinds})
    if sizes:
        tail["gsd"] = float(f"{np.median(sizes):.3g}")
    if cities := _cities(patterns, headers):
        tail["cities"] = cities
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "catalog"
    comments = [
        f"First catalog of {name}, from the names, headers and a sample of the pixels of "
        f"{sum(len(pattern.kinds) for pattern in patterns)} files.",
        'Lines with "DECIDE" ask you. Then: geoae catalogs check THIS.yaml FOLDER',
    ]
    return catalog_text({"name": slug, "title": name}, names, fields, guesses, tail, comments)


def _members(
    patterns: Sequence[NamePattern], headers: Mapping[str, RasterHeader | None], kinds: set[str]
) -> list[RasterHeader]:
    wanted = {kind.casefold() for kind in kinds}
    found = (
        headers[stem]
        for pattern in patterns
        for stem, kind in pattern.kinds.items()
        if kind.casefold() in wanted
    )
    return [header for header in found if header is not None]


def _pixel_sizes(
    patterns: Sequence[NamePattern], headers: Mapping[str, RasterHeader | None], kinds: set[str]
) -> list[float]:
    sizes = (max(header.grid.pixel_size_metres()) for header in _members(patterns, headers, kinds)[:50])
    return [size for size in sizes if np.isfinite(size)]


def _reference(
    guesses: Sequence[Guess],
    patterns: Sequence[NamePattern],
    headers: Mapping[str, RasterHeader | None],
) -> list[str]:
    """Order modalities: images before the rest, and the finest first."""

    def rank(made: Guess) -> tuple[int, float]:
        sizes = _pixel_sizes(patterns, headers, set(made.kinds))
        return _ORDER[made.role], float(np.median(sizes)) if sizes else np.inf

    return [made.key for made in sorted(guesses, key=rank)]


def _cities(
    patterns: Sequence[NamePattern], headers: Mapping[str, RasterHeader | None]
) -> dict[str, dict[str, str]]:
    """Name the cities, and their CRS where all of their files agree on one with a code."""
    systems: dict[str, set[str | None]] = defaultdict(set)
    for pattern in patterns:
        if "city" in pattern.fields:
            for stem in pattern.kinds:
                header = headers[stem]
                systems[re.split(r"[_\-. ]", stem)[0]].add(None if header is None else _code(header.grid.crs))
    cities = {}
    for city, codes in sorted(systems.items()):
        code = next(iter(codes)) if len(codes) == 1 else None
        cities[city] = {"title": city, **({"crs": code} if code else {})}
    return cities


def _code(crs: str | None) -> str | None:
    identity = pyproj.CRS.from_user_input(crs).to_json_dict().get("id") if crs else None
    return f"{identity['authority']}:{identity['code']}" if identity else None


def _decisions(guesses: Sequence[Guess]) -> tuple[str, ...]:
    found = [
        f"modalities.{made.key}.{key}: {remark.removeprefix('DECIDE: ')}"
        for made in guesses
        for key, remark in made.remarks.items()
        if remark.startswith("DECIDE")
    ]
    codes = sorted({code for made in guesses for code in made.codes})
    if codes:
        shown = ", ".join(map(str, codes[:12])) + (", ..." if len(codes) > 12 else "")
        found.append(f"class_tables.draft: what the label codes mean ({shown})")
    return (*found, "licence, citation: the terms of the data set and how to cite it")
