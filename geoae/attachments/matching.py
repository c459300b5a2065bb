"""Which patch a row of a foreign file is: by number, by scene, row and column, or by scene and window."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from geoae.errors import InputError, UsageError

__all__ = ["KEYS", "WAYS", "Way", "match_rows"]

Way = Literal["patch", "cell", "window"]
WAYS: Mapping[Way, tuple[str, ...]] = {
    "patch": ("patch",),
    "cell": ("scene_id", "row", "col"),
    "window": ("scene_id", "y_start", "x_start"),
}
"""Columns of the cube that name a patch, each way by itself."""

KEYS: Mapping[str, str] = {
    "patch": "patch",
    "patch_id": "patch",
    "scene_id": "scene_id",
    "scene": "scene_id",
    "scene_name": "scene_id",
    "row": "row",
    "col": "col",
    "y_start": "y_start",
    "x_start": "x_start",
    "row_off": "y_start",
    "col_off": "x_start",
}
"""Names that columns of a file may have, and what they are in the cube. The first that is there is taken."""

Rows = npt.NDArray[np.int64]


def match_rows(
    name: str,
    keys: Mapping[str, npt.NDArray[Any]],
    table: pd.DataFrame,
    *,
    by: Way | None = None,
    n_rows: int,
    ordered: bool,
) -> tuple[Rows, str]:
    """Find the patch of each row.

    Parameters
    ----------
    name
        Name of the file, for messages.
    keys
        Columns of the file by their names in `KEYS`, ``(row,)``.
    table
        The cube's patches: index patch_id, columns scene_id, row, col, y_start, x_start.
    by
        The columns to go by; None for the first of `WAYS` that the file has, and then what else it has
        must agree.
    n_rows
        Rows of the file.
    ordered
        Whether rows without any key may be the patches in order.

    Returns
    -------
    tuple of numpy.ndarray and str
        Patch of each row ``(row,)``, and how it was found: a way, or ``order``.

    Raises
    ------
    InputError
        If a row is no patch, two rows are one patch, or the columns contradict each other.
    UsageError
        If the file has not the columns to go by.
    """
    columns: dict[str, npt.NDArray[Any]] = {}
    for alias, meaning in KEYS.items():
        if alias in keys and meaning not in columns:
            columns[meaning] = _plain(name, alias, keys[alias], text=meaning == "scene_id")
    possible = [way for way, needed in WAYS.items() if all(column in columns for column in needed)]
    if by is not None and by not in possible:
        raise UsageError(
            f"{name} has no columns {', '.join(WAYS[by])} to go by",
            hint=_has(columns) or "see `geoae attach -h`",
        )
    if not possible:
        return _in_order(name, n_rows, len(table), columns, ordered=ordered), "order"
    way = by or possible[0]
    patches = _find(columns, table, way)
    _check(name, patches, columns, way)
    for other in possible if by is None else ():
        if ((found := _find(columns, table, other)) != patches).any():
            row = int((found != patches).argmax())
            one, two = _said(columns, way, row), _said(columns, other, row)
            raise InputError(
                f"{name}, row {row}: {one} is not {two} in this cube",
                hint=f"is it of another cube? --by {other} goes by {', '.join(WAYS[other])} alone",
            )
    return patches, way


def _plain(name: str, column: str, values: npt.NDArray[Any], *, text: bool) -> npt.NDArray[Any]:
    """Return a column as text or whole numbers."""
    if text:
        if values.dtype.kind not in "OUST":
            raise InputError(f"{name}: {column} holds {values.dtype}, not text")
        return np.array(
            [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values], object
        )
    whole = values.dtype.kind in "iu" or (
        values.dtype.kind == "f" and bool((values == np.round(values)).all())
    )
    if not whole:
        raise InputError(f"{name}: {column} does not hold whole numbers")
    return values.astype(np.int64)


def _has(columns: Mapping[str, Any]) -> str:
    return f"it has {', '.join(columns)}" if columns else ""


def _in_order(name: str, n_rows: int, n_patches: int, columns: Mapping[str, Any], *, ordered: bool) -> Rows:
    if not ordered or columns:
        ways = "; or ".join(", ".join(needed) for needed in WAYS.values())
        raise InputError(
            f"{name} does not say which patch a row is" + (f": {_has(columns)}" if columns else ""),
            hint=f"it needs the columns {ways}",
        )
    if n_rows != n_patches:
        raise InputError(
            f"{name} has {n_rows} rows, the cube {n_patches} patches",
            hint="without an array `patch` beside the vectors the rows are all patches in order",
        )
    return np.arange(n_patches)


def _find(columns: Mapping[str, npt.NDArray[Any]], table: pd.DataFrame, way: Way) -> Rows:
    """Return the patch of each row, -1 where there is none."""
    if way == "patch":
        number = columns["patch"]
        return np.where((number >= 0) & (number < len(table)), number, -1)
    known = pd.MultiIndex.from_frame(table[list(WAYS[way])])
    asked = pd.MultiIndex.from_arrays([columns[column] for column in WAYS[way]])
    return np.asarray(known.get_indexer(asked), dtype=np.int64)


def _said(columns: Mapping[str, npt.NDArray[Any]], way: Way, row: int) -> str:
    return " ".join(f"{column.removesuffix('_id')} {columns[column][row]}" for column in WAYS[way])


def _check(name: str, patches: Rows, columns: Mapping[str, npt.NDArray[Any]], way: Way) -> None:
    unknown = patches < 0
    if unknown.any():
        row = int(unknown.argmax())
        others = int(unknown.sum()) - 1
        raise InputError(
            f"{name}, row {row}: the cube has no patch {_said(columns, way, row).removeprefix('patch ')}"
            + (f"; nor those of {others} more rows" if others else ""),
            hint="is it of another cube, or of other patches? `geoae info` describes this one",
        )
    order = np.argsort(patches, kind="stable")
    twice = np.flatnonzero(np.diff(patches[order]) == 0)
    if len(twice):
        first, second = order[twice[0]], order[twice[0] + 1]
        raise InputError(
            f"{name}: rows {first} and {second} are both patch {patches[first]}"
            + (f"; {len(twice)} rows are too many" if len(twice) > 1 else ""),
            hint="a patch has one vector",
        )
