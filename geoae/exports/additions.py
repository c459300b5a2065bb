"""Adding to a GeoPackage that has layers of others.

Works on a copy, which `geoae.exports.target.replacing` makes and puts in its place: whatever fails here, the
file that was there stays. The copy is opened by one library at a time. SQLite and GDAL each keep locks of
their own, and two of them in one process undo each other's.

A layer of the file is ours if its metadata say that geoae made it from the same cube and the same clusters.
Ours are replaced; one of somebody else's only when asked. What QGIS keeps about all other layers (styles,
column titles, projects) stays as it is, and so do the styles that somebody gave to ours under another name.
"""

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyogrio

from geoae.errors import InputError, IntegrityError, StoreExistsError, UsageError
from geoae.exports.geopackage import Layer, check_layers, layers_of, style_rows, write_layers, write_styles
from geoae.exports.table import ExportedLayer, ExportTable

__all__ = ["add_layers", "check_prefix", "plan_addition"]

_STYLES = "layer_styles"

_NEEDED = {"f_table_name", "stylename", "styleqml", "useasdefault"}
"""Columns without which a table of styles is not one of QGIS."""

_RESERVED = ("gpkg_", "rtree_", "sqlite_")
"""What names of GeoPackage's, of its spatial indices' and of SQLite's own tables begin with."""

_MAX_PREFIX = 40


@dataclass(frozen=True)
class Content:
    """What a GeoPackage holds: rows of each layer, each layer's title, the names of all tables and views."""

    rows: Mapping[str, int]
    titles: Mapping[str, str]
    names: frozenset[str]


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that cannot begin the name of a layer.

    Raises
    ------
    UsageError
        If it has other characters than letters, digits and ``_``, or begins as reserved names do.

    Examples
    --------
    >>> check_prefix("spring_2026_")
    """
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", prefix) is not None and len(prefix) <= _MAX_PREFIX
    if prefix and (not plain or prefix.lower().startswith(_RESERVED)):
        raise UsageError(
            f"{prefix!r} cannot begin the name of a layer",
            hint=f"letters, digits and '_', the first no digit, at most {_MAX_PREFIX}; "
            f"not {', '.join(_RESERVED)}",
        )


@dataclass(frozen=True)
class Plan:
    """What an addition does.

    Parameters
    ----------
    layers
        Layers to be written.
    warnings
        What cannot be done.
    kept
        Layers of the file that stay.
    foreign
        Layers of others that are replaced.
    before
        What the file holds.
    """

    layers: list[Layer]
    warnings: tuple[str, ...]
    kept: tuple[str, ...]
    foreign: frozenset[str]
    before: Content


def plan_addition(table: ExportTable, path: Path, *, prefix: str, overwrite: bool, shown: Path) -> Plan:
    """Decide what an addition does, and change nothing.

    Parameters
    ----------
    table, path, prefix, overwrite, shown
        As for `add_layers`.

    Raises
    ------
    StoreExistsError, InputError
        As for `add_layers`.
    """
    with _sqlite(path, shown) as connection:
        before = _content(connection)
    layers, warnings = layers_of(table, prefix)
    _refuse_names(layers, before, shown)
    replaced = {layer.name for layer in layers if layer.name in before.rows}
    foreign = frozenset(name for name in replaced if not _ours(path, name, table.metadata))
    if foreign and not overwrite:
        raise StoreExistsError(
            f"{shown} has a layer {min(foreign)} that was not exported from these clusters of this cube",
            hint="--prefix gives ours another name, --overwrite replaces it",
        )
    kept = tuple(name for name in before.rows if name not in replaced and name != _STYLES)
    layers = _entitled(layers, {title for name, title in before.titles.items() if name not in replaced})
    return Plan(layers, tuple(warnings), kept, foreign, before)


def add_layers(
    table: ExportTable, path: Path, *, prefix: str, overwrite: bool, shown: Path
) -> tuple[tuple[ExportedLayer, ...], tuple[str, ...], tuple[str, ...]]:
    """Add a table of patches to a GeoPackage, in place.

    Parameters
    ----------
    table
        At least one patch.
    path
        A copy of the file that is meant; nobody else has it open.
    prefix
        Put before the name of every layer.
    overwrite
        Replace layers of these names, whoever made them.
    shown
        The file that is meant, for messages.

    Returns
    -------
    layers : tuple of ExportedLayer
        What was written, styles not among them.
    warnings : tuple of str
        What could not be done.
    kept : tuple of str
        Layers of the file that were there and stay.

    Raises
    ------
    StoreExistsError
        If a layer of the file has a name that is needed, is not ours, and `overwrite` is false; or if
        something that is no layer has that name.
    InputError
        If the file is damaged, or GDAL cannot write it.
    IntegrityError
        If the file does not read back as it was written, or another layer is not whole.
    """
    plan = plan_addition(table, path, prefix=prefix, overwrite=overwrite, shown=shown)
    layers, warnings, kept, before = plan.layers, list(plan.warnings), plan.kept, plan.before
    write_layers(table, layers, path)
    styles = style_rows(table, layers)
    if _STYLES in before.names:
        with _sqlite(path, shown) as connection:
            warnings += _merge_styles(connection, styles, plan.foreign, shown)
    else:
        write_styles(styles, path)
    written, lost = check_layers(layers, path)
    with _sqlite(path, shown) as connection:
        after = _content(connection)
    for name in kept:
        if after.rows.get(name) != before.rows[name]:
            raise IntegrityError(
                f"{shown}: layer {name} would have lost rows; nothing was changed",
                hint="export to another file",
            )
    return written, (*warnings, *lost), kept


@contextmanager
def _sqlite(path: Path, shown: Path) -> Iterator[sqlite3.Connection]:
    """Open a database, and let go of it at the end; turn its errors into ours."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            yield connection
            connection.commit()
    except sqlite3.DatabaseError as error:
        raise InputError(f"{shown}: SQLite cannot read or write it: {error}") from error


def _content(connection: sqlite3.Connection) -> Content:
    """Read what a GeoPackage holds.

    Raises
    ------
    sqlite3.DatabaseError
        If the file is damaged.
    """
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(" ".join(str(found).split()))
    names = frozenset(n for (n,) in connection.execute("SELECT name FROM sqlite_master"))
    titles = {
        name: title or ""
        for name, title in connection.execute("SELECT table_name, identifier FROM gpkg_contents ORDER BY 1")
        if name in names  # a list may name what is gone
    }
    rows = {}
    for name in titles:
        quoted = name.replace('"', '""')
        (rows[name],) = connection.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()
    return Content(rows, titles, names)


def _refuse_names(layers: Sequence[Layer], before: Content, shown: Path) -> None:
    """Raise if a name is taken by something that no option replaces."""
    taken = {name.lower() for name in before.names - before.rows.keys()}
    # GDAL knows layers by their exact name, SQLite tables by any case.
    spelt = {name.lower(): name for name in before.rows}
    for layer in layers:
        other = spelt.get(layer.name.lower(), layer.name)
        if layer.name.lower() in taken or other != layer.name:
            raise StoreExistsError(
                f"{shown} has a table {other}, which is never replaced",
                hint="--prefix gives ours another name",
            )


def _ours(path: Path, name: str, metadata: Mapping[str, str]) -> bool:
    """Say whether a layer was exported from the same clusters of the same cube."""
    try:
        found = pyogrio.read_info(path, layer=name)["layer_metadata"] or {}
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError):  # tiles, or nothing GDAL knows
        return False
    return (
        "geoae_version" in found
        and found.get("cube_id") == metadata.get("cube_id")
        and _clusters(found) == _clusters(metadata)
    )


def _clusters(metadata: Mapping[str, str]) -> list[str]:
    """Return the clusters that a layer was made from."""
    try:
        records = json.loads(metadata.get("layers", "{}"))
    except ValueError:
        return []
    return [path for path in records if path.startswith("clusters/")]


def _entitled(layers: Sequence[Layer], taken: set[str]) -> list[Layer]:
    """Make the titles differ from those that are there, as GeoPackage wants it."""
    named = []
    for layer in layers:
        title, number = layer.title, 1
        while title in taken:
            number += 1
            title = f"{layer.title} ({number})"
        taken.add(title)
        named.append(replace(layer, title=title))
    return named


def _merge_styles(
    connection: sqlite3.Connection, styles: Mapping[str, list[object]], foreign: frozenset[str], shown: Path
) -> list[str]:
    """Put our styles among those that are there; return warnings.

    A style that somebody saved for a layer of ours under a name of their own stays, and stays the default.
    """
    there = {name.lower(): name for _, name, *_ in connection.execute(f"PRAGMA table_info({_STYLES})")}
    if not there.keys() >= _NEEDED:
        return [f"{shown}: its table {_STYLES} is not one of QGIS; the new layers have no style"]
    columns = [name for name in styles if name.lower() in there]
    for name in foreign:  # columns of a layer that is gone
        connection.execute(f"DELETE FROM {_STYLES} WHERE f_table_name = ?", (name,))
    for values in zip(*styles.values(), strict=True):
        row = dict(zip(styles, values, strict=True))
        key = (row["f_table_name"], row["styleName"])
        connection.execute(f"DELETE FROM {_STYLES} WHERE f_table_name = ? AND styleName = ?", key)
    for values in zip(*styles.values(), strict=True):
        row = dict(zip(styles, values, strict=True))
        chosen = connection.execute(
            f"SELECT 1 FROM {_STYLES} WHERE f_table_name = ? AND useAsDefault", (row["f_table_name"],)
        ).fetchone()
        row["useAsDefault"] = bool(row["useAsDefault"]) and chosen is None
        connection.execute(
            f"INSERT INTO {_STYLES} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            [row[name] for name in columns],
        )
    return []
