"""The ledger of a sweep: a line of JSON for every training that is complete.

``<cube>.sweeps/<name>/`` holds ``sweep.json`` (what all trainings share), ``runs.jsonl``, and the tables and
figures that were made of it. A training that is there is not made again.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geoae.cube import Cube
from geoae.errors import GeoaeError, IntegrityError, StoreExistsError
from geoae.location import Location, work_folder
from geoae.provenance import canonical_json, digest_of
from geoae.schema import layer_path

__all__ = ["Ledger", "ledger", "sweeps_folder"]

_SETTINGS, _RUNS = "sweep.json", "runs.jsonl"


def sweeps_folder(cube: Cube) -> Path:
    """Return the folder beside a cube that holds its sweeps; a local one also for remote cubes."""
    if cube.location.is_local:
        return cube.location.beside(".sweeps").path
    return Path.cwd() / f"{cube.location.name}.sweeps"


class Ledger:
    """What a sweep has found so far. Made by `ledger`.

    Parameters
    ----------
    folder
        Where it lies.
    settings
        What all trainings share; their digest is part of every training's.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self._shared = digest_of(settings)
        self._records = _read(folder / _RUNS)

    def __len__(self) -> int:
        return len(self._records)

    def request(self, asked: Mapping[str, Any]) -> str:
        """Return the digest of a training: equal ones give equal figures."""
        return digest_of({"shared": self._shared, **asked})[-16:]

    def find(self, request: str) -> dict[str, Any] | None:
        """Return the line of a training; None if it was not made."""
        return self._records.get(request)

    def add(self, request: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Write a line; when this returns, the disk has it."""
        line: dict[str, Any] = json.loads(canonical_json({"request": request, **record}))
        try:
            with (self.folder / _RUNS).open("ab") as file:
                file.write(canonical_json(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise GeoaeError(
                f"cannot write {self.folder / _RUNS}: {error.strerror}", hint="check room and permissions"
            ) from None
        self._records[request] = line
        return line

    def write(self, name: str, text: str) -> Path:
        """Write a table whole or not at all."""
        Location.of(self.folder).put(name, text.encode())
        return self.folder / name


@contextmanager
def ledger(
    cube: Cube, name: str, settings: Mapping[str, Any], *, overwrite: bool = False
) -> Iterator[Ledger]:
    """Open the ledger of a sweep to write in it.

    Parameters
    ----------
    cube
        The cube.
    name
        Name of the sweep.
    settings
        What all its trainings share; JSON values.
    overwrite
        Throw away a sweep of that name that shares something else.

    Raises
    ------
    StoreExistsError
        If there is one that shares something else, and `overwrite` is off.
    IntegrityError
        If a line of it cannot be read.
    LockedError
        If another run writes in it.
    """
    layer_path("latents", name)  # a sweep is named like a layer
    folder = sweeps_folder(cube) / name
    asked = json.loads(canonical_json(settings))
    with work_folder(cube.location).lock(f"sweeps/{name}"):
        try:
            there = json.loads((folder / _SETTINGS).read_bytes())
        except FileNotFoundError:
            there = None
        except ValueError:
            there = {}
        if there is not None and there != asked:
            if not overwrite:
                differs = sorted(k for k in {*there, *asked} if there.get(k) != asked.get(k))
                raise StoreExistsError(
                    f"sweep {name!r} exists and was made otherwise: another {', '.join(differs)}",
                    hint="--overwrite replaces it, --name makes another one",
                )
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        place = Location.of(folder)
        place.sweep()
        if there != asked:
            place.put_json(_SETTINGS, asked)
        yield Ledger(folder, asked)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Read all lines; one that was cut off by a crash is cut away."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with path.open("r+b") as file:
            file.truncate(len(whole))
    records = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            record = json.loads(line)
            records[str(record["request"])] = record
        except (ValueError, KeyError, TypeError):
            raise IntegrityError(
                f"line {number} of {path} cannot be read", hint="remove the line; its training is made again"
            ) from None
    return records
