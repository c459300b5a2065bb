"""Sums over sections of patches, added up by several threads and yet the same in every bit.

A thread owns the sections that it takes: it reads them, multiplies them on one core, and adds up what it
finds in memory of its own. The results of sections are added in their order, whichever is ready first, and
their number depends on the patches alone. So neither the number of threads nor their timing shows in the sum.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

__all__ = ["Sections", "blas_threads", "one_blas_thread"]

Section = Callable[[int], Iterator[npt.NDArray[np.float32]]]
"""``section(size)`` yields its patches in blocks ``(size, feature)`` float32, the last one smaller, always in
the same order. A block may be overwritten when the next one is asked for."""

Found = TypeVar("Found")

_CONTROLLER = ThreadpoolController()


def one_blas_thread() -> Any:
    """Let each product of matrices take one core, until the context that this returns ends."""
    return _CONTROLLER.limit(limits=1, user_api="blas")


def blas_threads() -> int:
    """Return how many threads multiply matrices: as many as there are cores, or as the user says."""
    counts = [library["num_threads"] for library in _CONTROLLER.info() if library["user_api"] == "blas"]
    return max(counts, default=os.cpu_count() or 1)


class _StoppedError(Exception):
    """Nobody wants the section any more."""


@dataclass(frozen=True)
class Sections:
    """All patches, in sections.

    Parameters
    ----------
    parts
        The sections. A single one is read by the caller's thread.
    rows
        Number of patches in all.
    size
        Patches of a block.
    threads
        How many sections are read at a time.
    """

    parts: Sequence[Section]
    rows: int
    size: int
    threads: int = 1

    def add_up(
        self,
        find: Callable[[int, Iterator[npt.NDArray[np.float32]]], Found],
        add: Callable[[Found], None],
        done: Callable[[int], None],
    ) -> None:
        """Find something in every section and add it up in their order.

        Parameters
        ----------
        find
            Called as ``find(number of the section, its blocks)`` in any thread.
        add
            Called with what was found, section by section, in the caller's thread.
        done
            Called with the number of patches so far after each block, in the caller's thread.

        Raises
        ------
        ValueError
            If there are more or fewer patches than `rows`.
        """
        seen = 0

        def count(rows: int) -> None:
            nonlocal seen
            if rows:
                seen += rows
                done(seen)

        if len(self.parts) == 1:
            add(find(0, _counted(self.parts[0](self.size), count)))
        else:
            self._share(find, add, count)
        if seen != self.rows:
            raise ValueError(f"the source promised {self.rows} patches and gave {seen}")

    def _share(
        self,
        find: Callable[[int, Iterator[npt.NDArray[np.float32]]], Found],
        add: Callable[[Found], None],
        count: Callable[[int], None],
    ) -> None:
        news: SimpleQueue[int] = SimpleQueue()  # patches of a block that was used; 0 where a section ended
        stopped = threading.Event()

        def tell(rows: int) -> None:
            if stopped.is_set():
                raise _StoppedError
            news.put(rows)

        def work(number: int) -> Found:
            # Products with NaN would warn; what numpy does about that is set for each thread.
            with np.errstate(invalid="ignore", over="ignore"):
                return find(number, _counted(self.parts[number](self.size), tell))

        waiting: deque[Future[Found]] = deque()
        begun = 0
        # Some BLAS libraries are limited thread by thread.
        pool = ThreadPoolExecutor(self.threads, initializer=one_blas_thread)
        try:
            while begun < len(self.parts) or waiting:
                # One more than there are threads, so that none waits while the oldest is added. Not more,
                # since each holds a sum.
                while begun < len(self.parts) and len(waiting) <= self.threads:
                    waiting.append(pool.submit(work, begun))
                    waiting[-1].add_done_callback(lambda _: news.put(0))
                    begun += 1
                while rows := news.get():
                    count(rows)
                while waiting and waiting[0].done():
                    add(waiting.popleft().result())
            while not news.empty():  # of sections that were ready before their news was read
                count(news.get())
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)


def _counted(
    blocks: Iterator[npt.NDArray[np.float32]], count: Callable[[int], None]
) -> Iterator[npt.NDArray[np.float32]]:
    for block in blocks:
        yield block
        count(len(block))
