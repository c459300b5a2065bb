"""Latents in tables: parquet files with a column of lists, or with numbered columns."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geoae.attachments.matching import KEYS
from geoae.attachments.vectors import (
    BLOCK,
    CUBE_ID,
    Float32,
    ForeignLatents,
    as_float32,
    check_length,
    check_width,
    choose,
    sha256_of,
)
from geoae.errors import InputError

__all__ = ["from_parquet"]


def from_parquet(file: Path, wanted: str | None, most: int) -> ForeignLatents:
    """Read a parquet file; see `read_latents` for the parameters."""
    with pq.ParquetFile(file) as opened:
        schema = opened.schema_arrow
        check_length(file, opened.metadata.num_rows, most)
        lists = [f.name for f in schema if _is_list(f.type)]
        families = _families([f.name for f in schema if _is_number(f.type) and f.name not in KEYS])
        names = lists if lists and (wanted is None or wanted in lists) else [*lists, *families]
        vector = choose(file, wanted, names, schema.names)
        columns = [vector] if vector in lists else families[vector]
        z: Float32 | None = None
        start = 0
        for batch in opened.iter_batches(BLOCK, columns=columns):
            lists_of = vector in lists
            block = (
                _of_lists(file, batch.column(0), vector, start) if lists_of else _of_columns(batch, columns)
            )
            if z is None and block.shape[1]:
                check_width(file, vector, block.shape[1])
                z = np.full((opened.metadata.num_rows, block.shape[1]), np.nan, np.float32)
            if z is not None and block.shape[1]:
                if block.shape[1] != z.shape[1]:
                    raise InputError(
                        f"{file.name}: vectors of {z.shape[1]} and of {block.shape[1]} components in {vector}"
                    )
                z[start : start + len(block)] = as_float32(file, vector, block, start)
            start += len(block)
        if z is None:
            raise InputError(f"{file.name}: {vector} holds no vector")
        keys = {}
        for name in KEYS:
            if name in schema.names:
                column = opened.read([name]).column(name)
                if column.null_count:
                    raise InputError(f"{file.name}: {name} is empty in {column.null_count} rows")
                keys[name] = column.to_numpy()
        said = (schema.metadata or {}).get(CUBE_ID.encode(), b"").decode("utf-8", "replace")
    return ForeignLatents(
        file.name, f"sha256:{sha256_of(file)}", vector, z, keys, ordered=False, cube_id=said or None
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_list(kind: pa.DataType) -> bool:
    kind = getattr(kind, "storage_type", kind)  # a tensor of fixed shape is a list, too
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and _is_number(kind.value_type))


def _families(names: Iterable[str]) -> dict[str, list[str]]:
    """Group columns that are numbered from 0 or 1 without a gap, by ``prefix*``.

    Examples
    --------
    >>> _families(["e_1", "e_0", "year2020", "e_2"])
    {'e_*': ['e_0', 'e_1', 'e_2']}
    """
    numbered: dict[str, dict[int, str]] = {}
    for name in names:
        match = re.fullmatch(r"(.*?)(\d{1,6})", name)
        if match:
            numbered.setdefault(f"{match[1]}*", {})[int(match[2])] = name
    return {
        prefix: [members[number] for number in sorted(members)]
        for prefix, members in numbered.items()
        if len(members) > 1
        and sorted(members) == list(range(min(members), min(members) + len(members)))
        and min(members) in (0, 1)
    }


def _of_lists(file: Path, column: Any, name: str, start: int) -> npt.NDArray[Any]:
    """Return the vectors of a column of lists; rows that are null become NaN."""
    column = getattr(column, "storage", column)
    there = np.asarray(column.is_valid())
    kept = column.filter(column.is_valid())
    lengths = pc.list_value_length(kept).to_numpy(zero_copy_only=False)
    if not len(lengths):
        return np.empty((len(there), 0))
    if (lengths != lengths[0]).any():
        odd = int((lengths != lengths[0]).argmax())
        row = start + int(np.flatnonzero(there)[odd])
        raise InputError(
            f"{file.name}, row {row}: {lengths[odd]} components in {name}, {lengths[0]} in other rows"
        )
    values: npt.NDArray[Any] = pc.list_flatten(kept).to_numpy(zero_copy_only=False).reshape(len(lengths), -1)
    if there.all():
        return values
    block = np.full((len(there), values.shape[1]), np.nan, np.result_type(values.dtype, np.float32))
    block[there] = values
    return block


def _of_columns(batch: Any, columns: list[str]) -> npt.NDArray[Any]:
    return np.stack([batch.column(name).to_numpy(zero_copy_only=False) for name in columns], axis=1)
