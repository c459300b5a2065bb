"""Reading latents that were made elsewhere: parquet, npy, npz, Zarr. Nothing in them is executed."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from geoae.attachments.arrays import from_npy, from_npz, from_zarr
from geoae.attachments.tables import from_parquet
from geoae.attachments.vectors import NO_PICKLE, ForeignLatents
from geoae.errors import GeoaeError, InputError, UsageError

__all__ = ["FORMATS", "ForeignLatents", "read_latents"]

FORMATS: Mapping[str, Callable[[Path, str | None, int], ForeignLatents]] = {
    ".parquet": from_parquet,
    ".geoparquet": from_parquet,
    ".npy": from_npy,
    ".npz": from_npz,
}
"""How files are read, by their suffix; a folder is a Zarr store."""

_HINT = f"it reads {', '.join(FORMATS)} and Zarr stores"


def read_latents(file: Path, *, vector: str | None = None, most: int) -> ForeignLatents:
    """Read latents from a file.

    Parameters
    ----------
    file
        ``.parquet`` with a column of lists or numbered columns, ``.npy`` with an array ``(patch,
        component)``, ``.npz`` or a Zarr group with such an array and one-dimensional ones as columns.
    vector
        Name of the column or array, ``emb_*`` for numbered columns; found if None.
    most
        Number of patches of the cube: a file with more rows is refused from its header.

    Raises
    ------
    InputError
        If the file cannot be read or holds no such vectors; says in which row.
    UsageError
        If the format is unknown or there are several candidates for the vectors.
    """
    if not file.exists():
        raise InputError(f"there is no file {file}")
    read = _reader(file)
    try:
        return read(file, vector, most)
    except (GeoaeError, MemoryError):
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError) as error:
        # pyarrow's and zarr's errors are of these kinds; a damaged file raises any of them
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        reason = NO_PICKLE if "allow_pickle" in reason else reason[:200]
        raise InputError(f"{file.name} cannot be read: {reason}") from None
    except (zipfile.BadZipFile, RuntimeError) as error:
        raise InputError(f"{file.name} cannot be read: {error}") from None


def _reader(file: Path) -> Callable[[Path, str | None, int], ForeignLatents]:
    if file.is_dir():
        if any((file / name).exists() for name in ("zarr.json", ".zgroup", ".zarray")):
            return from_zarr
        raise InputError(f"{file} is a folder without Zarr metadata", hint=_HINT)
    try:
        return FORMATS[file.suffix.lower()]
    except KeyError:
        raise UsageError(f"attach reads no {file.suffix or file.name!r}", hint=_HINT) from None
