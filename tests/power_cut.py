"""What a power cut leaves of a folder: a model of a disk that keeps no more than it was made to keep.

A file's bytes are on the disk once the file is flushed, a name once its folder is. Anything else may be there
or not. `Disk.image` builds the two worst cases: names that were not flushed are gone, or they are there
and their files are empty.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

Entries = dict[str, tuple[int, bool]]  # name -> inode, whether it is a folder


class Disk:
    """Watches what is flushed below a folder; what is there in the beginning is on the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._content: dict[int, bytes] = {}
        self._names: dict[int, Entries] = {}
        self._open: list[int] = []  # an inode that is held is not given to another file
        for folder, _, files in os.walk(root):
            for path in (Path(folder), *(Path(folder, name) for name in files)):
                self._keep(os.open(path, os.O_RDONLY), path)

    def flushed(self, descriptor: int) -> None:
        """Stand in for `os.fsync`."""
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_relative_to(self.root):
            self._keep(os.dup(descriptor), path)

    def close(self) -> None:
        """Let go of all files."""
        for descriptor in self._open:
            os.close(descriptor)

    def _keep(self, descriptor: int, path: Path) -> None:
        self._open.append(descriptor)
        inode = os.fstat(descriptor).st_ino
        if path.is_dir():
            self._names[inode] = _entries(path)
        else:
            with suppress(FileNotFoundError):
                self._content[inode] = path.read_bytes()

    def image(self, target: Path, *, names: bool) -> Path:
        """Build what is left.

        Parameters
        ----------
        target
            A folder that does not exist yet.
        names
            Whether names that were not flushed are there.
        """
        self._build(self.root.stat().st_ino, self.root, target, names)
        return target

    def _build(self, inode: int, now: Path | None, target: Path, names: bool) -> None:
        target.mkdir(parents=True)
        entries = self._names.get(inode, {})
        if names and now is not None:
            entries = _entries(now)
        for name, (number, is_folder) in entries.items():
            if is_folder:
                self._build(number, now / name if names and now is not None else None, target / name, names)
            else:
                (target / name).write_bytes(self._content.get(number, b""))


def _entries(folder: Path) -> Entries:
    with os.scandir(folder) as found:
        return {entry.name: (entry.inode(), entry.is_dir()) for entry in found}


def cut_at_every_rename(
    monkeypatch: pytest.MonkeyPatch, root: Path, chosen: Callable[[Path, Path], bool], images: Path
) -> tuple[Disk, list[tuple[str, Path]]]:
    """Take images right after some renames, which then may be on the disk before anything else.

    Parameters
    ----------
    monkeypatch
        Undoes the watching.
    root
        The folder to watch.
    chosen
        Told source and target of a rename: whether to take images.
    images
        Where to put them.

    Returns
    -------
    Disk
        To be asked for more.
    list of tuple of str and Path
        Becomes the images: what was renamed, and the folder as a power cut leaves it.
    """
    disk = Disk(root)
    taken: list[tuple[str, Path]] = []
    monkeypatch.setattr(os, "fsync", disk.flushed)

    def watch(real: Callable[[Path, Any], Any]) -> Callable[[Path, Any], Any]:
        def rename(path: Path, target: Any) -> Any:
            if not path.is_relative_to(root) or not chosen(path, Path(target)):
                return real(path, target)
            what = Path(target).relative_to(root).as_posix()
            known = disk._names.get(Path(target).parent.stat().st_ino)
            inode, is_folder = path.stat().st_ino, path.is_dir()
            done = real(path, target)
            # The journal of a file system may bring a rename to the disk before what came earlier.
            if known is not None:
                known[Path(target).name] = (inode, is_folder)
            for names in (False, True):
                taken.append((what, disk.image(images / str(len(taken)), names=names)))
            return done

        return rename

    for method in ("replace", "rename"):
        monkeypatch.setattr(Path, method, watch(getattr(Path, method)))
    return disk, taken
