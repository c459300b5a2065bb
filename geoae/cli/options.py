"""Options that commands share, and how a command finds its cube."""

import json
import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from geoae.errors import UsageError

__all__ = [
    "CubeArgument",
    "CubeOption",
    "Json",
    "Overwrite",
    "Quiet",
    "cubes_here",
    "emit",
    "find_cube",
    "note",
    "size",
]

CubeOption = Annotated[
    str | None,
    typer.Option("--cube", help="Path or URL of the cube.", envvar="GEOAE_CUBE", show_envvar=True),
]
CubeArgument = Annotated[str | None, typer.Argument(help="Path or URL of the cube; as --cube.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, write nothing.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


def cubes_here() -> list[str]:
    """Return the cubes in the working folder, incomplete ones too."""
    here = Path()
    return sorted(
        {p.parent.name for p in here.glob("*/zarr.json") if "geoae_format" in p.read_text("utf-8", "replace")}
        | {p.parent.parent.name.removesuffix(".work") for p in here.glob("*.work/ingest/plan.json")}
    )


def find_cube(named: str | None) -> str:
    """Return the cube to work on: the one named, else the only one in the working folder.

    An incomplete cube counts, so that after a failed ingest no other cube is taken silently.

    Raises
    ------
    UsageError
        If there is none, or more than one.
    """
    if named is not None:
        return named
    found = cubes_here()
    if not found:
        raise UsageError(
            "no cube in the working folder", hint="geoae ingest FOLDER makes one, --cube names one"
        )
    if len(found) > 1:
        raise UsageError(f"several cubes here: {', '.join(found)}", hint=f"--cube {found[0]}")
    return found[0]


def emit(value: Any, *, as_json: bool, text: str) -> None:
    """Print a command's result on stdout: JSON, or text for people."""
    print(json.dumps(_plain(value), ensure_ascii=False, allow_nan=False) if as_json else text)


def _plain(value: Any) -> Any:
    """Turn a value into what JSON knows; a number that is not finite becomes null."""
    if hasattr(value, "tolist"):
        value = value.tolist()  # numpy
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "items"):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(item) for item in value]


def size(n_bytes: float) -> str:
    """Write a number of bytes for people.

    Examples
    --------
    >>> size(999), size(2_640_000), size(12_300_000_000)
    ('999 B', '2.6 MB', '12.3 GB')
    """
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(int(math.log10(max(n_bytes, 1)) / 3), len(units) - 1)
    return f"{n_bytes / 1000**power:.{min(power, 1)}f} {units[power]}"


def note(text: str, *, quiet: bool) -> None:
    """Print a remark on stderr."""
    if not quiet:
        typer.echo(text, err=True)
