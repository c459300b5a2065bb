"""Waiting for the disk: what a process writes may lie in memory for half a minute before it is there.

Nothing is committed before the disk has it. What begins to be written at once leaves little to wait for then.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["begin_flush", "flush", "flush_below"]

_THREADS = 8
"""Threads that wait for the disk: several at once share the waits of its own journal."""


_WRITE = 2
"""SYNC_FILE_RANGE_WRITE of Linux."""


def _begin() -> Callable[[int, int, int, int], int] | None:
    """Find the system's call that begins to write a file out; Python has no name for it."""
    call = getattr(ctypes.CDLL(None), "sync_file_range", None) if sys.platform.startswith("linux") else None
    if call is not None:
        call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return call


_sync_file_range = _begin()


def begin_flush(descriptor: int) -> None:
    """Let the disk begin to take a file's bytes, and wait for nothing; where the system can.

    Writing a cube takes less processor time so, too. Flushing each file in a thread beside the work made
    all others wait for the journal of the file system.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, 0, 0, _WRITE)  # it may refuse: `flush` says what is wrong


def flush(path: str | Path) -> None:
    """Wait until the disk has a file's bytes, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_below(root: str | Path) -> None:
    """Wait until the disk has all files and folders below a folder, and the name of the folder itself.

    Raises
    ------
    OSError
        If it cannot: a disk may refuse now what it took before.
    """
    # One iterator for all: a call for each of 65,000 files and folders would take 130 MB.
    left, turn = _below(root), threading.Lock()

    def work() -> None:
        while True:
            with turn:
                path = next(left, None)
            if path is None:
                return
            flush(path)

    with ThreadPoolExecutor(_THREADS) as pool:
        for done in [pool.submit(work) for _ in range(_THREADS)]:
            done.result()


def _below(root: str | Path) -> Iterator[str | Path]:
    yield Path(root).parent
    for folder, _, names in os.walk(root):
        for name in names:
            yield f"{folder}/{name}"
        yield folder
