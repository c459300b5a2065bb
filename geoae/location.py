"""Locations: folders on a local disk, or on anything that fsspec knows.

Only what a commit needs: whole files read and written at once, listings, renames, and a lock.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from zarr.storage import FsspecStore, LocalStore

from geoae.errors import GeoaeError, InputError, IntegrityError, LockedError
from geoae.flushing import begin_flush, flush, flush_below

__all__ = ["Location", "is_partial", "work_folder"]

_PARTIAL = ".partial-"
"""Start of the names of files that are being written here; zarr's own end in ``.partial``."""


@dataclass(frozen=True)
class Location:
    """A folder on a file system: local, or anything that fsspec knows.

    Parameters
    ----------
    fs
        The file system.
    root
        The folder's path on it.
    """

    fs: fsspec.AbstractFileSystem
    root: str

    @classmethod
    def of(cls, path: "str | os.PathLike[str] | Location") -> "Location":
        """Make a location from a path or an fsspec URL.

        Raises
        ------
        InputError
            If the URL's protocol is unknown or its package is not installed.
        """
        if isinstance(path, Location):
            return path
        text = os.fspath(path)
        if "://" not in text and "::" not in text:
            # Locks and journals lie beside the store: it needs one name, whatever links lead to it.
            return cls(LocalFileSystem(), str(Path(text).resolve()))
        try:
            fs, root = fsspec.core.url_to_fs(text)
        except (ImportError, ValueError) as error:
            raise InputError(f"cannot open {text!r}: {error}") from None
        return cls(fs, root.rstrip("/"))

    def __truediv__(self, name: str) -> "Location":
        return Location(self.fs, f"{self.root}/{name}")

    def __str__(self) -> str:
        return self.root if self.is_local else f"{self._protocol}://{self.root}"

    @property
    def _protocol(self) -> str:
        protocol = self.fs.protocol
        return protocol if isinstance(protocol, str) else protocol[0]

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.root.rsplit("/", 1)[-1]

    def beside(self, suffix: str) -> "Location":
        """Return the location of the same name with a suffix, such as ``cube.zarr.work``."""
        return Location(self.fs, self.root + suffix)

    @property
    def is_local(self) -> bool:
        """Whether this is a folder of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    @property
    def path(self) -> Path:
        """The local path.

        Raises
        ------
        InputError
            If the location is not local.
        """
        if not self.is_local:
            raise InputError(f"{self} is not a local folder")
        return Path(self.root)

    def zarr(self, *, read_only: bool = True) -> LocalStore | FsspecStore:
        """Return the Zarr store whose root is this location."""
        if self.is_local:
            return LocalStore(self.root, read_only=read_only)
        return FsspecStore.from_url(str(self), read_only=read_only)

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or a folder."""
        return bool(self.fs.exists(f"{self.root}/{name}" if name else self.root))

    def is_folder(self, name: str) -> bool:
        """Whether there is a folder of that name."""
        return bool(self.fs.isdir(f"{self.root}/{name}"))

    def get(self, name: str) -> bytes | None:
        """Read a file; None if there is none."""
        try:
            content = self.fs.cat_file(f"{self.root}/{name}")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        return bytes(content)

    def sha256(self, name: str) -> str | None:
        """Return the sha256 of a file in hexadecimal; None if there is none."""
        content = self.get(name)
        return None if content is None else hashlib.sha256(content).hexdigest()

    def get_json(self, name: str) -> Any:
        """Read a JSON file; None if there is none.

        Raises
        ------
        IntegrityError
            If it is not JSON.
        """
        content = self.get(name)
        if content is None:
            return None
        try:
            return json.loads(content)
        except ValueError as error:
            raise IntegrityError(
                f"{self}/{name} is not JSON: {error}",
                hint="run `geoae verify`; ingest again with --overwrite",
            ) from None

    def put(self, name: str, *content: bytes, durable: bool = True) -> None:
        """Write a file so that a reader sees the old one, or all of the new one.

        Parameters
        ----------
        name
            The file.
        content
            Its bytes, in one piece or several.
        durable
            Wait until the disk has it and its name; for what must not be lost with the power.

        Raises
        ------
        GeoaeError
            If the disk is full or the place cannot be written.
        """
        if not self.is_local:
            self.fs.pipe_file(f"{self.root}/{name}", b"".join(content))
            return
        target = Path(f"{self.root}/{name}")
        # Not mkstemp: its files are private, and to ask for the umask is to change it for all threads.
        temporary = target.with_name(f"{_PARTIAL}{secrets.token_hex(8)}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                # Not by one writev, which takes twice as long.
                file.writelines(content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
                else:
                    begin_flush(file.fileno())
            temporary.replace(target)
            if durable:
                flush(target.parent)  # the name, too
        except OSError as error:
            raise GeoaeError(
                f"cannot write {target}: {error.strerror}", hint="check room and permissions there"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()  # it is gone if all went well

    def put_json(self, name: str, value: Any, *, durable: bool = True) -> None:
        """Write JSON, see `put`."""
        content = json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode()
        self.put(name, content, durable=durable)

    def names(self, folder: str = "") -> list[str]:
        """Return the names directly below a folder, sorted; none if it does not exist."""
        self.fs.invalidate_cache()
        path = f"{self.root}/{folder}" if folder else self.root
        try:
            found = self.fs.ls(path, detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(str(name).rstrip("/").rsplit("/", 1)[-1] for name in found)

    def find(self) -> dict[str, int]:
        """Return every file below as ``{relative name: bytes}``, sorted by name."""
        if self.is_local:
            return dict(sorted(_walk(self.root)))
        # fsspec caches listings; another process may have written since.
        self.fs.invalidate_cache()
        found = self.fs.find(self.root, detail=True)
        start = len(self.root) + 1
        return {name[start:]: int(found[name]["size"]) for name in sorted(found)}

    def remove(self) -> None:
        """Remove the folder and everything below; nothing if there is none."""
        if self.is_local:
            shutil.rmtree(self.root, ignore_errors=not Path(self.root).exists())
        elif self.fs.exists(self.root):
            self.fs.rm(self.root, recursive=True)

    def flush(self) -> None:
        """Wait until the disk has all files and folders below, and the name of this folder itself.

        Raises
        ------
        GeoaeError
            If it cannot: a disk may refuse now what it took before.
        """
        if not self.is_local:
            return  # an object that was put is there
        try:
            flush_below(self.root)
        except OSError as error:
            raise GeoaeError(
                f"cannot write {self}: {error.strerror or error}",
                hint="make room or choose another place, then run the same command again: it resumes",
            ) from error

    def sweep(self) -> None:
        """Remove files that killed writers left half-written. Hold the lock of what lies here."""
        if not self.is_local:
            return  # objects appear whole or not at all
        for name in self.find():
            if is_partial(name):
                self.remove_file(name)

    def remove_file(self, name: str) -> None:
        """Remove one file; nothing if there is none."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(f"{self.root}/{name}")

    def move_to(self, target: "Location") -> None:
        """Rename this folder; atomic on one local file system, and on the disk when this returns."""
        if self.is_local:
            target.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.rename(target.path)
            flush(target.path.parent)
            flush(self.path.parent)
        else:
            self.fs.mv(self.root, target.root, recursive=True)

    @contextlib.contextmanager
    def lock(self, name: str, *, wait: bool = False, shared: bool = False) -> Iterator[None]:
        """Hold a lock; it ends with the process, whatever kills it.

        Local locks are the operating system's (`flock`). Elsewhere a file is created exclusively and
        must be removed by hand after a crash.

        Parameters
        ----------
        name
            What is locked.
        wait
            Wait for the other run instead of failing; for locks that are held for moments. Local only.
        shared
            Hold it beside others who share it, but not beside one who does not. Elsewhere than on a
            local disk nothing is held.

        Raises
        ------
        LockedError
            If another run holds it.
        """
        held = LockedError(
            f"another run is writing {name!r} of {self}",
            hint="wait for it to end, then run the command again",
        )
        if not self.is_local and shared:
            yield
            return
        if not self.is_local:
            key = f"{self.root}/{name}.lock"
            try:
                self.fs.pipe_file(key, b"", mode="create")
            except FileExistsError:
                raise LockedError(held.message, hint=f"if no other run exists, remove {key}") from None
            try:
                yield
            finally:
                self.fs.rm_file(key)
            return
        file = self.path / "locks" / f"{name.replace('/', '_')}.lock"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handle = file.open("ab")
        except OSError as error:
            raise GeoaeError(
                f"cannot write in {self}: {error.strerror}", hint="check its permissions"
            ) from None
        with handle:
            try:
                how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
                fcntl.flock(handle, how | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise held from None
            yield


def _walk(root: str) -> Iterator[tuple[str, int]]:
    """Yield all files below a folder with their sizes, as fsspec does, which takes five times as long.

    A link to a folder is a file, as is a link to nothing. What vanishes meanwhile is left out.
    """
    folders = [""]
    while folders:
        above = folders.pop()
        try:
            found = os.scandir(f"{root}/{above}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        with found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{above}{entry.name}/")
                    continue
                try:
                    size = entry.stat().st_size
                except FileNotFoundError:
                    if not entry.is_symlink():
                        continue
                    size = 0
                yield above + entry.name, size


def work_folder(cube: Location) -> Location:
    """Return the folder beside a cube that holds its journals, locks and logs."""
    return cube.beside(".work")


def is_partial(name: str) -> bool:
    """Say whether a file is one that a writer, geoae or zarr, has not finished.

    Examples
    --------
    >>> is_partial("msi/c/0/0/0/0.0123456789abcdef.partial"), is_partial("msi/c/0/0/0/0")
    (True, False)
    """
    last = name.rsplit("/", 1)[-1]
    return last.startswith(_PARTIAL) or last.endswith(".partial")
