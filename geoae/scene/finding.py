"""Finding scenes: walk a folder, read names, group files. Opens no file."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from geoae.catalog import Catalog, Name, shipped_catalogs
from geoae.errors import CatalogError, InputError, UsageError

__all__ = ["Finding", "Scene", "Source", "choose_catalog", "find_rasters", "find_scenes"]

_RASTERS = frozenset(
    (".tif", ".tiff", ".jp2", ".j2k", ".png", ".jpg", ".jpeg", ".img", ".vrt", ".ntf", ".nitf", ".nc", ".h5")
)
"""Extensions of files that somebody might miss; others are no rasters and are passed over in silence."""

_STORES = (".zarr", ".zarr.work", ".zarr.models")
"""Folders that geoae itself writes: they hold thousands of files and no scene."""

_LEAVES = "is a link that leaves the folder; --follow-symlinks allows it"


@dataclass(frozen=True)
class Source:
    """One file of a scene.

    Parameters
    ----------
    modality
        Its modality.
    path
        Where it is.
    name
        Its path below the folder, with ``/``.
    """

    modality: str
    path: Path
    name: str


@dataclass(frozen=True)
class Scene:
    """Rasters that show one ground at one time.

    Parameters
    ----------
    key
        Name of the scene, unique in its folder.
    fields
        What the names say: always ``city``, ``tile`` and ``view`` (empty where the names have none; the
        tile of a scene without one is the scene itself), and other fields that all files agree on.
    sources
        Files by modality, in the catalog's order.
    problems
        What is wrong with the scene already, one line each: two files for one modality, a link that
        leaves the folder (and is not among the sources).
    notes
        What is worth knowing and no fault, one line each.
    """

    key: str
    fields: Mapping[str, str]
    sources: Mapping[str, Source]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What is in a folder.

    Parameters
    ----------
    scenes
        By key.
    ignored
        Rasters whose names the catalog does not explain, below the folder.
    problems
        What is wrong with the folder and belongs to no scene, one line each: folders that cannot be
        read, links that leave the folder.
    excluded
        Rasters that the catalog leaves out on purpose.
    """

    scenes: tuple[Scene, ...]
    ignored: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    @property
    def files(self) -> int:
        """Number of files that belong to scenes."""
        return sum(len(scene.sources) for scene in self.scenes)


@dataclass(frozen=True)
class _File:
    """A file below the folder; `problem` says why it must not be read."""

    path: Path
    name: str
    problem: str | None = None


@dataclass
class _Listing:
    files: list[_File] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find_scenes(folder: str | Path, catalog: Catalog, *, follow_symlinks: bool = False) -> Finding:
    """Find the scenes of a folder and all folders below by the names of their files.

    Parameters
    ----------
    folder
        The folder.
    catalog
        How names are made.
    follow_symlinks
        Whether links may lead out of the folder.

    Returns
    -------
    Finding
        The same, in the same order, wherever the folder lies and however it is arranged.

    Raises
    ------
    InputError
        If there is no such folder, it cannot be read, or it holds no file.
    CatalogError
        If the catalog explains no file at all.
    """
    root = Path(folder)
    finding = _group(_list(root, follow_symlinks=follow_symlinks), catalog)
    if not finding.scenes:
        example = next((f", such as {name}" for name in (*finding.ignored, *finding.excluded)), "")
        raise CatalogError(
            f"catalog {catalog.name} explains no file in {root}{example}",
            hint="choose another --catalog, or --catalog generic --pattern '{scene}_{kind}.tif'",
        )
    return finding


def choose_catalog(folder: str | Path, *, follow_symlinks: bool = False) -> Catalog:
    """Choose the shipped catalog that explains most scenes of a folder, then most files.

    Parameters
    ----------
    folder
        The folder.
    follow_symlinks
        Whether links may lead out of the folder.

    Raises
    ------
    InputError
        If there is no such folder, it cannot be read, or it holds no file.
    CatalogError
        If no shipped catalog explains any file.
    UsageError
        If two explain equally many.
    """
    root = Path(folder)
    listing = _list(root, follow_symlinks=follow_symlinks)
    scores: dict[str, tuple[int, int]] = {}
    for name, catalog in shipped_catalogs().items():
        if catalog.names:
            finding = _group(listing, catalog)
            scores[name] = (len(finding.scenes), finding.files)
    best = max(scores.values())
    if best[0] == 0:
        first = next((file.name for file in listing.files if _is_raster(file.name)), "")
        raise CatalogError(
            f"no shipped catalog explains the files in {root}" + (f", such as {first}" if first else ""),
            hint="use --catalog generic --pattern '{scene}_{kind}.tif', or a catalog of one's own",
        )
    chosen = [name for name, score in scores.items() if score == best]
    if len(chosen) > 1:
        raise UsageError(
            f"catalogs {' and '.join(chosen)} explain {root} equally well: {best[0]} scenes, {best[1]} files",
            hint=f"choose one, for example --catalog {chosen[0]}",
        )
    return shipped_catalogs()[chosen[0]]


def find_rasters(
    folder: str | Path, *, follow_symlinks: bool = False
) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Find all rasters of a folder and all folders below, whatever their names mean.

    Parameters
    ----------
    folder
        The folder.
    follow_symlinks
        Whether links may lead out of the folder.

    Returns
    -------
    rasters : tuple of Source
        By name, without a modality.
    problems : tuple of str
        What cannot be used, one line each.

    Raises
    ------
    InputError
        If there is no such folder, it cannot be read, or it holds no file.
    """
    listing = _list(Path(folder), follow_symlinks=follow_symlinks)
    rasters = [file for file in listing.files if _is_raster(file.path.name)]
    problems = (*listing.problems, *(file.problem for file in rasters if file.problem is not None))
    return tuple(Source("", file.path, file.name) for file in rasters if file.problem is None), problems


# --- grouping -------------------------------------------------------------------------------------


def _group(listing: _Listing, catalog: Catalog) -> Finding:
    members: dict[str, list[tuple[_File, Name]]] = {}
    ignored: list[str] = []
    excluded: list[str] = []
    problems = list(listing.problems)
    for file in listing.files:
        base = file.path.name
        name = catalog.parse(base)
        if name is not None:
            members.setdefault(name.key, []).append((file, name))
        elif catalog.excludes(base):
            excluded.append(file.name)
        elif file.problem is not None and (_is_raster(base) or "." not in base):
            problems.append(file.problem)
        elif _is_raster(base):
            ignored.append(file.name)
    scenes = tuple(_scene(key, members[key], catalog) for key in sorted(members))
    return Finding(scenes, tuple(ignored), tuple(sorted(problems)), tuple(excluded))


def _scene(key: str, members: list[tuple[_File, Name]], catalog: Catalog) -> Scene:
    sources: dict[str, Source] = {}
    problems: list[str] = []
    notes: list[str] = []
    for modality in catalog.modalities:
        issues = [(file, name) for file, name in members if name.modality == modality]
        if not issues:
            continue
        newest = max(name.version for _, name in issues)
        current = _distinct([file for file, name in issues if name.version == newest])
        usable = [file for file in current if file.problem is None]
        older = [file.name for file, name in issues if name.version < newest]
        if older:
            notes.append(
                _line(f"{modality} is {current[0].name}, issued again; not used: {', '.join(older)}")
            )
        if len(current) > 1:
            names = " and ".join(file.name for file in current)
            problems.append(_line(f"{modality} is there {len(current)} times: {names}"))
        problems += [file.problem for file in current if file.problem is not None]
        if usable:
            sources[modality] = Source(modality, usable[0].path, usable[0].name)
    fields = {"city": "", "tile": key, "view": ""} | _agreed([name.fields for _, name in members])
    return Scene(key, fields, sources, tuple(problems), tuple(notes))


def _distinct(files: list[_File]) -> list[_File]:
    """Leave out links to files that are there themselves."""
    if len(files) < 2:
        return files
    by_target: dict[str, _File] = {}
    for file in files:
        by_target.setdefault(os.path.realpath(file.path), file)
    return list(by_target.values())


def _agreed(fields: list[Mapping[str, str]]) -> dict[str, str]:
    first = fields[0]
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in fields)}


def _is_raster(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _RASTERS  # noqa: PTH122 (a name with a newline is no path)


# --- walking --------------------------------------------------------------------------------------


def _list(root: Path, *, follow_symlinks: bool) -> _Listing:
    if not root.exists():
        raise InputError(f"there is no folder {root}")
    if not root.is_dir():
        raise InputError(f"{root} is a file", hint="give the folder that holds the scenes")
    listing = _Listing()
    real = os.path.realpath(root)
    try:
        _walk(root, "", real, {real} if follow_symlinks else None, listing)
    except OSError as error:
        raise InputError(f"folder {root} cannot be read: {error.strerror}") from None
    if not listing.files and not listing.problems:
        raise InputError(f"folder {root} holds no file", hint="give the folder that holds the scenes")
    listing.files.sort(key=lambda file: file.name)
    listing.problems.sort()
    return listing


def _walk(folder: Path, prefix: str, root: str, visited: set[str] | None, listing: _Listing) -> None:
    """Collect the files of one folder, then of those in it; links are followed if `visited` is a set."""
    for entry in _sorted_entries(folder):
        if entry.name.startswith("."):  # also ._x.tif, which some systems leave beside x.tif
            continue
        path, name = Path(entry.path), f"{prefix}{entry.name}"
        try:
            target = os.path.realpath(path) if entry.is_symlink() else None
            mode = entry.stat().st_mode
        except OSError as error:
            # A link to nothing, most often. Its name says whether anybody misses it.
            listing.files.append(_File(path, name, _line(f"{name} cannot be read: {error.strerror}")))
            continue
        leaves = target is not None and os.path.commonpath([root, target]) != root
        if not _is_unicode(entry.name):  # no key of a scene, and no text in a cube, could hold it
            if S_ISDIR(mode) or _is_raster(entry.name):
                listing.problems.append(f"{name!a} is no name in UTF-8")
        elif S_ISREG(mode):
            problem = _line(f"{name} {_LEAVES}") if leaves and visited is None else None
            listing.files.append(_File(path, name, problem))
        elif S_ISDIR(mode) and not entry.name.endswith(_STORES):
            if leaves and visited is None:
                listing.problems.append(_line(f"{name} {_LEAVES}"))
            elif target is None or (leaves and visited is not None and target not in visited):
                if target is not None and visited is not None:
                    visited.add(target)
                _walk_below(path, name, root, visited, listing)
            # Any other link leads to what is found anyway.


def _walk_below(folder: Path, name: str, root: str, visited: set[str] | None, listing: _Listing) -> None:
    try:
        _walk(folder, f"{name}/", root, visited, listing)
    except OSError as error:
        listing.problems.append(_line(f"folder {name} cannot be read: {error.strerror}"))


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # undecodable bytes come as lone surrogates
        return False
    return True


def _line(text: str) -> str:
    """Put a text on one line: names of files may hold newlines."""
    return " ".join(text.split())


def _sorted_entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from sorted(entries, key=lambda entry: entry.name)
