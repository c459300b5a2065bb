"""Memory of a process that makes and drops large arrays all the time."""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

# From malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TRIM = 2**31 - 1
_PAD = 256 * 2**20


def keep_freed_memory() -> bool:
    """Let this process use freed memory again instead of giving it back to the system.

    glibc maps every large array anew, and the kernel clears its pages: when a network is trained, that costs
    as much as the arithmetic. Call it before the first large array. It changes the whole process, hence only
    a command does it, never an import.

    Returns
    -------
    bool
        Whether this C library can.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _TRIM), (_M_TOP_PAD, _PAD))
    taken = [int(mallopt(ctypes.c_int(what), ctypes.c_int(value))) for what, value in settings]
    return taken == [1] * len(settings)
