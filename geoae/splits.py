"""Splits: which patches train, which validate, which test.

Views of one tile show the same ground, and neighbouring patches share their edges, so patches are never
split one by one: whole groups (the catalog's tile) are, or, where there are too few groups, blocks of
patches with a buffer between them.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from geoae import schema
from geoae.cube import Cube
from geoae.errors import UsageError
from geoae.layers import would_write, write_layer
from geoae.provenance import Record

__all__ = ["DEFAULT", "SplitReport", "ensure_split", "parse_split", "planned_rows", "rows_of", "split"]

DEFAULT = "default"
FRACTIONS = (0.7, 0.15, 0.15)

_FEWEST_GROUPS = 5
"""With fewer groups a part would be one place: its figures could not be told from chance."""

_BLOCKS = 12
"""Blocks to have if the patches allow it: quotas of 15 % are two of them."""

TRAIN, VALIDATION, TEST = range(3)


@dataclass(frozen=True)
class SplitReport:
    """What a split holds.

    Parameters
    ----------
    path
        The layer.
    method
        ``groups``, ``blocks``, ``city`` or ``train-only``.
    patches
        Patches by part; ``unused`` are in buffers.
    groups
        Groups (or blocks) by part.
    created
        False if an equal split was there.
    """

    path: str
    method: str
    patches: Mapping[str, int]
    groups: Mapping[str, int]
    created: bool = True


def split(
    cube: Cube | str,
    *,
    name: str = DEFAULT,
    by: Literal["group", "city"] = "group",
    fractions: Sequence[float] = FRACTIONS,
    test: Sequence[str] = (),
    seed: int = 0,
    overwrite: bool = False,
    dry_run: bool = False,
) -> SplitReport:
    """Divide a cube's patches into train, validation and test, and write ``splits/<name>``.

    Parameters
    ----------
    cube
        The cube, or its path.
    name
        Name of the split.
    by
        ``group`` cuts between groups of the catalog (tiles), stratified by city; with fewer than five
        groups between blocks of neighbouring patches with a buffer. ``city`` tests on cities that are
        not trained on.
    fractions
        Shares of train, validation and test.
    test
        With ``by="city"``: the cities to test on; all but the largest if empty.
    seed
        Seed of the ranking of groups.
    overwrite
        Replace a split of that name.
    dry_run
        Say what would be made, write nothing.

    Returns
    -------
    SplitReport

    Raises
    ------
    UsageError
        If the cities are unknown or only one exists, or the shares are no shares.
    """
    cube = Cube.open(cube)
    if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise UsageError(
            "shares of train, validation and test are three numbers that add up to 1, "
            f"not {', '.join(map(str, fractions))}"
        )
    if fractions[TRAIN] == 0:
        raise UsageError("the share of train must be positive")
    if test and by != "city":
        raise UsageError("cities to test on need a split by city", hint="--by city")
    table = cube.table()
    table["group"] = _groups(cube, table)
    method, codes, groups = _assign(cube, table, by, fractions, tuple(test), seed)
    names = dict(enumerate(schema.SPLIT_NAMES)) | {schema.UNUSED: "unused"}
    patches = {names[c]: int((codes == c).sum()) for c in (*range(3), schema.UNUSED)}
    record = Record(
        made_by="split",
        options={"by": by, "fractions": list(fractions), "test": list(test), "seed": seed, "method": method},
        inputs={"cube": cube.cube_id},
        counts=patches,
    )
    path = schema.layer_path("splits", name)
    attributes = {
        "long_name": "part of the split",
        **schema.flag_attributes([schema.UNUSED, *range(3)], ["unused", *schema.SPLIT_NAMES]),
    }
    dataset = xr.Dataset(
        {"split": (schema.PATCH, codes.astype(np.int8), attributes)},
        attrs={"method": method, "group": cube.catalog.group},
    )
    if dry_run:
        would_write(cube, path, record, {}, overwrite=overwrite)
        return SplitReport(path, method, patches, groups, created=False)
    existed = any(info.path == path for info in cube.layers())
    write_layer(cube, path, dataset, record, overwrite=overwrite)
    return SplitReport(path, method, patches, groups, created=not existed or overwrite)


def ensure_split(cube: Cube, name: str = DEFAULT) -> str:
    """Return the path of a split; make the default one if there is none yet."""
    path = schema.layer_path("splits", name)
    if any(info.path == path for info in cube.layers()):
        return path
    if name != DEFAULT:
        raise _unknown(name)
    return split(cube).path


def planned_rows(cube: Cube, name: str, part: int) -> npt.NDArray[np.int64]:
    """Return the patches of one part of a split, also of the default one that `ensure_split` would make.

    Raises
    ------
    UsageError
        If there is no split of that name.
    """
    path = schema.layer_path("splits", name)
    if any(info.path == path for info in cube.layers()):
        return rows_of(cube, path, part)
    if name != DEFAULT:
        raise _unknown(name)
    table = cube.table()
    table["group"] = _groups(cube, table)
    return np.flatnonzero(_assign(cube, table, "group", FRACTIONS, (), 0)[1] == part).astype(np.int64)


def _unknown(name: str) -> UsageError:
    return UsageError(f"the cube has no split {name!r}", hint="make one with `geoae split --name`")


def rows_of(cube: Cube, path: str, part: int) -> npt.NDArray[np.int64]:
    """Return the patches of one part of a split."""
    return np.flatnonzero(cube.layer(path)["split"].to_numpy() == part).astype(np.int64)


def _groups(cube: Cube, table: pd.DataFrame) -> pd.Series:
    """Name each patch's group; a scene that says none is a group by itself."""
    field = cube.catalog.group
    named = table[field] if field in table.columns else pd.Series("", index=table.index)
    return (table["city"] + "/" + named).where(named != "", table["scene_id"])


def _assign(
    cube: Cube,
    table: pd.DataFrame,
    by: str,
    fractions: Sequence[float],
    test: tuple[str, ...],
    seed: int,
) -> tuple[str, npt.NDArray[np.int64], dict[str, int]]:
    if by == "city":
        units, codes = table["group"], _by_city(table, test, fractions, seed)
        method = "city"
    elif table["group"].nunique() >= _FEWEST_GROUPS:
        units, codes = table["group"], _by_unit(table["group"], table["city"], fractions, seed)
        method = "groups"
    else:
        units = _blocks(table)
        codes = _by_unit(units, pd.Series("", index=table.index), fractions, seed)
        _buffer(table, codes, _buffer_width(cube))
        method = "blocks"
        wanted = {part for part in range(3) if fractions[part] > 0}
        if units.nunique() < _FEWEST_GROUPS or not wanted <= set(codes.tolist()):
            method, codes, units = "train-only", np.full(len(table), TRAIN, np.int64), table["group"]
    groups = {schema.SPLIT_NAMES[part]: int(units[codes == part].nunique()) for part in range(3)}
    return method, codes, groups


def _rank(names: Iterable[str], seed: int) -> list[str]:
    """Order names by a hash: independent of what other names there are."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())


def _by_unit(
    units: pd.Series, strata: pd.Series, fractions: Sequence[float], seed: int
) -> npt.NDArray[np.int64]:
    """Cut ranked units at the quotas, in each stratum that has enough of them."""
    counts = units.value_counts()
    stratum = strata.groupby(units).first()
    part: dict[str, int] = {}
    small: list[str] = []
    for _, names in stratum.groupby(stratum):
        members = list(names.index)
        if len(members) < 3:
            small += members
        else:
            part |= _cut(_rank(members, seed), counts, fractions)
    if small:
        # Strata of one or two units train, unless all are: then they are one stratum.
        part |= dict.fromkeys(small, TRAIN) if part else _cut(_rank(small, seed), counts, fractions)
    return np.array(units.map(part), np.int64)  # a copy: pandas gives read-only views


def _cut(ranked: Sequence[str], counts: pd.Series, fractions: Sequence[float]) -> dict[str, int]:
    """Give the first units to test, the next to validation, the rest to train; none empty if possible.

    A unit is taken while at least half of it fits the quota.
    """
    total = float(counts[list(ranked)].sum())
    part: dict[str, int] = {}
    position = 0
    for code in (TEST, VALIDATION):
        taken = 0.0
        # One unit must remain for each part still to come.
        while fractions[code] > 0 and position < len(ranked) - 1:
            size = float(counts[ranked[position]])
            if taken and taken + size / 2 > fractions[code] * total:
                break
            part[ranked[position]] = code
            taken += size
            position += 1
            if len(ranked) - position <= code:
                break
    return part | dict.fromkeys(ranked[position:], TRAIN)


def _by_city(
    table: pd.DataFrame, test: tuple[str, ...], fractions: Sequence[float], seed: int
) -> npt.NDArray[np.int64]:
    cities = (
        table["city"].value_counts().sort_index(kind="stable").sort_values(ascending=False, kind="stable")
    )
    names = [str(c) for c in cities.index]
    if len(names) < 2:
        raise UsageError(
            f"--by city needs two cities; the cube has {', '.join(filter(None, names)) or 'none'}"
        )
    unknown = sorted(set(test) - set(names))
    if unknown:
        raise UsageError(f"no city {', '.join(unknown)}", hint=f"cities: {', '.join(names)}")
    tested = set(test) or set(names[1:])
    if tested == set(names):
        raise UsageError("one city must be left to train on")
    codes = np.full(len(table), TEST, np.int64)
    trained = ~table["city"].isin(tested).to_numpy()
    rest = fractions[TRAIN] + fractions[VALIDATION]
    inner = (fractions[TRAIN] / rest, fractions[VALIDATION] / rest, 0.0)
    part = table[trained]
    codes[trained] = _by_unit(part["group"], part["city"], inner, seed)
    return codes


def _blocks(table: pd.DataFrame) -> pd.Series:
    """Name the block of K x K patches that each patch lies in; views of a group share blocks.

    K is the largest side that still gives `_BLOCKS` blocks, else `_FEWEST_GROUPS`: the larger the blocks,
    the fewer patches are lost to the buffers around them.
    """
    sides = range(int(max(table["row"].max(), table["col"].max())) + 1, 1, -1)
    named = {side: _blocks_of(table, side) for side in sides}
    for fewest in (_BLOCKS, _FEWEST_GROUPS):
        for side in sides:
            if named[side].nunique() >= fewest:
                return named[side]
    return _blocks_of(table, 2)


def _blocks_of(table: pd.DataFrame, side: int) -> pd.Series:
    rows, cols = table["row"] // side, table["col"] // side
    return table["group"] + "/" + rows.astype(str) + "/" + cols.astype(str)


def _buffer_width(cube: Cube) -> int:
    """Return how many patches apart two patches must be to share no pixel and no edge."""
    return max(1, math.ceil(cube.patch_size / cube.stride))


def _buffer(table: pd.DataFrame, codes: npt.NDArray[np.int64], width: int) -> None:
    """Leave out, in place, train next to validation or test, and validation next to test.

    All views of a group at once: a smaller view does not show every neighbour of its patches.
    """
    # put off: `open_cube` imports this module, and scipy takes 0.1 s
    from scipy.ndimage import binary_dilation

    square = np.ones((2 * width + 1, 2 * width + 1), bool)
    for _, group in table.groupby("group"):
        at = group.index.to_numpy()
        row, col = group["row"].to_numpy(), group["col"].to_numpy()
        grid = np.full((row.max() + 1, col.max() + 1), schema.UNUSED)
        grid[row, col] = codes[at]
        near_test = binary_dilation(grid == TEST, square)
        near_held_out = binary_dilation((grid == TEST) | (grid == VALIDATION), square)
        lost = ((grid == TRAIN) & near_held_out) | ((grid == VALIDATION) & near_test)
        codes[at[lost[row, col]]] = schema.UNUSED


def parse_split(split: str) -> tuple[str, str]:
    """Split ``name:part`` or ``part`` into the split's name and the part.

    Examples
    --------
    >>> parse_split("train"), parse_split("by-city:test")
    (('default', 'train'), ('by-city', 'test'))
    """
    name, _, part = split.rpartition(":")
    if part not in schema.SPLIT_NAMES:
        raise UsageError(f"unknown part {part!r} of a split", hint=f"parts: {', '.join(schema.SPLIT_NAMES)}")
    return name or "default", part
