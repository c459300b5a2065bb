"""Latents of a foreign file, and what makes a vector of them: the checks that all formats share."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geoae.errors import InputError, UsageError

__all__ = [
    "BLOCK",
    "CUBE_ID",
    "MAX_WIDTH",
    "NO_PICKLE",
    "Float32",
    "ForeignLatents",
    "as_float32",
    "check_length",
    "check_width",
    "choose",
    "sha256_of",
]

CUBE_ID = "geoae_cube"
"""Name under which a file says of which cube its patch numbers are: metadata, attribute or array."""

MAX_WIDTH = 65_536
"""Longest latent vector. A longer one is another array that was named by mistake."""

_PREFERRED = ("z", "vector")
BLOCK = 4096
"""Rows that are read at once."""
NO_PICKLE = "it holds Python objects (pickle), which are never read"

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ForeignLatents:
    """Latents of a file, row by row.

    Parameters
    ----------
    name
        Name of the file.
    digest
        ``sha256:`` of its bytes; of a Zarr store, of the names and digests of its files.
    vector
        Name of the column or array that holds the vectors, ``emb_*`` for numbered columns.
    z
        ``(row, component)`` float32; NaN throughout where the file has no vector.
    keys
        The columns that can say which patch a row is, ``(row,)`` each, by their names in `KEYS`.
    ordered
        Whether the format is an array whose rows can be the patches in order.
    cube_id
        Cube that the file says it is of.
    """

    name: str
    digest: str
    vector: str
    z: Float32
    keys: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    ordered: bool = False
    cube_id: str | None = None


def choose(file: Path, wanted: str | None, candidates: Iterable[str], others: Iterable[str]) -> str:
    """Return the name of the vectors among those that could be."""
    known = list(candidates)
    if wanted is not None:
        if wanted not in known:
            why = "is no list or array of numbers" if wanted in others else "is not there"
            raise InputError(
                f"{file.name}: {wanted!r} {why}", hint=f"what could be vectors: {', '.join(known) or 'none'}"
            )
        return wanted
    if len(known) > 1:
        preferred = [name for name in _PREFERRED if name in known]
        if not preferred:
            raise UsageError(
                f"{file.name} has several that could be vectors: {', '.join(known)}",
                hint=f"--vector {known[0]}",
            )
        return preferred[0]
    if not known:
        raise InputError(
            f"{file.name} holds no vectors of numbers: it has {', '.join(others) or 'nothing'}",
            hint="a column of lists of one length, numbered columns, or an array (patch, component)",
        )
    return known[0]


def check_length(file: Path, rows: int, most: int) -> None:
    """Refuse a file of no rows, or of more than the cube has patches."""
    if rows > most:
        raise InputError(
            f"{file.name} has {rows} rows, the cube {most} patches", hint="is it of another cube?"
        )
    if rows == 0:
        raise InputError(f"{file.name} has no rows")


def check_width(file: Path, name: str, width: int) -> None:
    """Refuse vectors of no or of far too many components."""
    if not 1 <= width <= MAX_WIDTH:
        raise InputError(f"{file.name}: {name} has {width} components, not 1 to {MAX_WIDTH}")


def as_float32(file: Path, name: str, values: npt.NDArray[Any], start: int = 0) -> Float32:
    """Turn a block of vectors into float32; NaN rows are missing ones.

    Raises
    ------
    InputError
        If something is no number, infinite, too large for float32, or NaN in a part of a vector.
    """
    if values.dtype.kind not in "iuf":
        raise InputError(f"{file.name}: {name} holds {values.dtype}, not real numbers")
    with np.errstate(over="ignore"):  # found below
        z = np.ascontiguousarray(values, dtype=np.float32)
    infinite = np.isinf(z)
    if infinite.any():
        row, component = np.argwhere(infinite)[0]
        value = values[row, component]
        raise InputError(f"{file.name}, row {start + row}: component {component} of {name} is {value}")
    holes = np.isnan(z)
    partly = holes.any(axis=1) & ~holes.all(axis=1)
    if partly.any():
        row = int(partly.argmax())
        raise InputError(
            f"{file.name}, row {start + row}: component {int(holes[row].argmax())} of {name} is NaN",
            hint="a vector is whole, or NaN throughout where there is none",
        )
    return z


def sha256_of(file: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
