"""Putting a finished file in its place: beside the target first, then by one rename.

A GeoPackage that is written in place can lose layers when another program holds it, and a run that
is interrupted leaves half a file. Here the target is either the old file or the whole new one.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geoae.errors import InputError, IntegrityError, LockedError, StoreExistsError, UsageError
from geoae.flushing import flush

__all__ = ["aside", "check_target", "is_geopackage", "is_parquet", "replacing", "sweep"]

# Written by SQLite beside a database that a program has open for writing.
_COMPANIONS = ("-wal", "-shm", "-journal")

_ASIDE = ".geoae-export-"
"""Start of the names of the folders in which files are written."""

# Asks, without taking a lock, whether anybody holds a lock for writing. In a process of its own:
# POSIX locks of a process end when it closes the file anywhere, so asking in this process would break
# the locks of a GeoPackage that the caller has open.
_PROBE = """
import fcntl, struct, sys
with open(sys.argv[1], "rb") as file:
    # SQLite's lock bytes: pending, reserved, then 510 shared. A read lock meets every writer's lock.
    query = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0x40000000, 512, 0)
    answer = fcntl.fcntl(file, fcntl.F_GETLK, query)
    sys.exit(0 if struct.unpack("hhqqi4x", answer)[0] == fcntl.F_UNLCK else 9)
"""


def is_geopackage(path: Path) -> bool:
    """Say whether a file is an SQLite database with a GeoPackage's application id."""
    with path.open("rb") as file:
        head = file.read(72)
    return head[:16] == b"SQLite format 3\x00" and head[68:72] in (b"GPKG", b"GP10", b"GP11")


def is_parquet(path: Path) -> bool:
    """Say whether a file begins and ends as Parquet does."""
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(-min(4, path.stat().st_size), os.SEEK_END)
        return head == file.read(4) == b"PAR1"


def _refuse(target: Path, kind: str, is_kind: Callable[[Path], bool], overwrite: bool) -> None:
    """Raise unless `target` may be written."""
    folder = target.parent
    if not folder.is_dir():
        raise InputError(f"{target}: the folder does not exist", hint=f"create it: mkdir -p {folder}")
    if target.is_dir():
        raise StoreExistsError(f"{target} is a folder", hint="name a file")
    if target.exists() or target.is_symlink():
        if not overwrite:
            adding = ", --add adds to it" if is_kind is is_geopackage else ""
            raise StoreExistsError(f"{target} exists", hint=f"--overwrite replaces it{adding}")
        if not target.is_file() or not is_kind(target):
            raise StoreExistsError(
                f"{target} is not a {kind} and is never replaced",
                hint="name another file, or remove it yourself",
            )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{target}: the folder cannot be written to", hint="name a file elsewhere")


def _refuse_if_open(target: Path) -> None:
    """Raise if another program is writing to the database `target`.

    Readers do no harm: they keep the old file until they open it anew. Companion files do: SQLite would
    apply an old ``-wal`` or ``-journal`` to the new file.
    """
    for ending in _COMPANIONS:
        companion = target.with_name(target.name + ending)
        if companion.exists():
            raise LockedError(
                f"{target} is open in another program ({companion.name} lies beside it)",
                hint="close it there, or name another file; if none has it open, open and close it once",
            )
    if not target.exists() or sys.platform != "linux":  # the layout of struct flock above is Linux's
        return
    probe = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _PROBE, os.fspath(target)], capture_output=True, check=False
    )
    if probe.returncode == 9:
        raise LockedError(
            f"{target} is being written by another program", hint="close it there, or name another file"
        )


def _check_suffix(target: Path, suffix: str, kind: str) -> None:
    if target.suffix.lower() != suffix:
        raise UsageError(
            f"{target}: a {kind} ends in {suffix}", hint=f"name it {target.with_suffix(suffix).name}"
        )


def check_target(
    target: Path, *, suffix: str, kind: str, is_kind: Callable[[Path], bool], overwrite: bool
) -> None:
    """Refuse what `replacing` would refuse, and change nothing.

    Raises
    ------
    UsageError, StoreExistsError, InputError, LockedError
        As there.
    """
    _check_suffix(target, suffix, kind)
    _refuse(target, kind, is_kind, overwrite)
    _refuse_if_open(target.resolve())


def _state(path: Path) -> tuple[int, ...]:
    """Return what differs after anybody has written to a file or replaced it."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextmanager
def replacing(
    target: Path,
    *,
    suffix: str,
    kind: str,
    is_kind: Callable[[Path], bool],
    overwrite: bool,
    add: bool = False,
) -> Iterator[Path]:
    """Give a path to write to; on success, move what was written there to `target`.

    Parameters
    ----------
    target
        Where the file is to be.
    suffix
        The ending that its name must have, such as ``.gpkg``.
    kind
        What it is, for messages.
    is_kind
        Says whether an existing file is of that kind; no other file is ever replaced.
    overwrite
        Replace an existing file.
    add
        Begin with a copy of the target, if there is one, and replace it by what the copy has become.

    Yields
    ------
    Path
        A file that does not exist yet, in a temporary folder beside the target; with `add`, the copy.

    Raises
    ------
    UsageError
        If the name has another ending.
    StoreExistsError
        If the target exists and `overwrite` is false, or it is something else.
    InputError
        If the folder is missing or cannot be written to, or the disk is full.
    LockedError
        If another program is writing to the target, or has written to it in the meantime.
    IntegrityError
        If the new file has not been closed.
    """
    _check_suffix(target, suffix, kind)
    place = target.resolve()  # a link stays a link: what it leads to is replaced
    sweep(place.parent)  # even if it refuses: a run may have been killed when the target was there already
    _refuse(target, kind, is_kind, overwrite or add)
    _refuse_if_open(place)
    with aside(target, place.parent) as folder:
        path = folder / f"new{suffix}"
        copied = _state(place) if add and place.exists() else None
        if copied is not None:
            if not os.access(place, os.W_OK):
                raise InputError(f"{target} cannot be written to", hint="ask its owner, or name another file")
            with _named(target):
                shutil.copy(place, path)  # with its permissions
        yield path
        # Again, as late as can be: writing took its time.
        _refuse(target, kind, is_kind, overwrite or add)
        _refuse_if_open(place)
        if add and copied != (_state(place) if place.exists() else None):
            raise LockedError(
                f"{target} was changed by another program in the meantime", hint="run the same command again"
            )
        for ending in _COMPANIONS:
            if path.with_name(path.name + ending).exists():  # what is in it would be lost
                raise IntegrityError(
                    f"{target}: the new file was not closed", hint="run the same command again"
                )
        with _named(target):
            flush(path)
            path.replace(place)
            if sys.platform != "win32":  # folders cannot be flushed there
                flush(place.parent)


@contextmanager
def aside(target: Path, parent: Path) -> Iterator[Path]:
    """Make a folder for a file that is being written, locked as long as it is used, and remove it."""
    with _named(target):
        folder = tempfile.TemporaryDirectory(prefix=_ASIDE, dir=parent)
    while (handle := _lock(folder.name)) is None:
        # Another export has swept it away before it was locked.
        folder.cleanup()
        with _named(target):
            folder = tempfile.TemporaryDirectory(prefix=_ASIDE, dir=parent)
    try:
        with folder:
            yield Path(folder.name)
    finally:
        os.close(handle)


def _lock(folder: str) -> int | None:
    """Lock a folder; None if it is gone."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with suppress(OSError):  # a file system without locks: nobody sweeps there
        fcntl.flock(handle, fcntl.LOCK_EX)
    if Path(folder).exists():
        return handle
    os.close(handle)
    return None


def sweep(parent: Path) -> None:
    """Remove the folders of exports that were killed: the lock of a folder ends with its process."""
    for folder in parent.glob(f"{_ASIDE}*"):
        with suppress(OSError):  # somebody else's, or gone: either way not in the way
            handle = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(handle)


@contextmanager
def _named(target: Path) -> Iterator[None]:
    """Turn errors of the operating system into ours, with the target's name in place of the temporary one."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{target} could not be written: {error.strerror or error}") from error
