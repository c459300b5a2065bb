"""Mixing: rows in random order without a random read for each, or in their own order, ahead of their use.

Rows are read by chunks, what is compressed together. A block is some chunks that are in memory together:
of the whole cube at random, or one after the other. Its rows leave it in random order, or in their own.
Two buffers take turns: while the rows of one block leave, the next block is decoded.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from geoae.chunks import RowReader

__all__ = [
    "Block",
    "Piece",
    "Rows",
    "checked_rows",
    "in_chunks",
    "plan_blocks",
    "read_rows",
    "stream",
    "threads",
]

Rows = npt.NDArray[np.int64]
Raw = Mapping[str, npt.NDArray[Any]]

_MOST_THREADS = 8
"""Decoding feeds one consumer; more threads than this would wait for it."""


@dataclass(frozen=True)
class Block:
    """Rows that are in memory together.

    Parameters
    ----------
    groups
        The rows, chunk by chunk, ascending in each.
    order
        ``(row,)``: the order in which they leave, as positions in all groups together.
    """

    groups: tuple[Rows, ...]
    order: Rows


class Piece(NamedTuple):
    """Some rows of a batch and where their values are.

    Parameters
    ----------
    values
        Buffers ``(row, ...)`` by the name of the array.
    positions
        Places of the rows in the buffers.
    rows
        Numbers of the rows.
    """

    values: Raw
    positions: Rows
    rows: Rows


def threads() -> int:
    """Return how many threads decode."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, _MOST_THREADS)


def checked_rows(rows: Rows, n_rows: int) -> Rows:
    """Sort rows and check them.

    Parameters
    ----------
    rows
        Numbers of rows in any order.
    n_rows
        How many rows there are.

    Raises
    ------
    ValueError
        If one is not there, or is named twice: reading by chunks would take that for its neighbour.

    Examples
    --------
    >>> checked_rows(np.array([5, 2]), 6)
    array([2, 5])
    """
    ascending = np.sort(np.asarray(rows, np.int64))
    if len(ascending) and not 0 <= ascending[0] <= ascending[-1] < n_rows:
        raise ValueError(f"rows lie between 0 and {n_rows - 1}, not {ascending[0]} and {ascending[-1]}")
    if (np.diff(ascending) == 0).any():
        raise ValueError("rows hold one row twice")
    return ascending


def plan_blocks(rows: Rows, chunk: int, capacity: int, seed: int | None) -> list[Block]:
    """Divide rows into blocks.

    Parameters
    ----------
    rows
        Ascending numbers of rows.
    chunk
        Rows that are compressed together.
    capacity
        Least rows of a block, but for the last one; a block has fewer than `chunk` more.
    seed
        Of the order of the chunks and of the rows in a block; None leaves all in their own order.

    Examples
    --------
    >>> [block.groups for block in plan_blocks(np.array([0, 1, 5, 6, 9]), 4, 3, None)]
    [(array([0, 1]), array([5, 6])), (array([9]),)]
    """
    groups = _by_chunk(rows, chunk)
    rng = None if seed is None else np.random.default_rng(seed)
    if rng is not None:
        groups = [groups[i] for i in rng.permutation(len(groups))]
    blocks: list[Block] = []
    begun: list[Rows] = []
    count = 0
    for number, group in enumerate(groups):
        begun.append(group)
        count += len(group)
        if count >= capacity or number + 1 == len(groups):
            order = np.arange(count) if rng is None else rng.permutation(count)
            blocks.append(Block(tuple(begun), order))
            begun, count = [], 0
    return blocks


def _by_chunk(rows: Rows, chunk: int) -> list[Rows]:
    return np.split(rows, np.flatnonzero(np.diff(rows // chunk)) + 1) if len(rows) else []


def _buffers(readers: Mapping[str, RowReader], rows: int) -> Raw:
    return {name: np.empty((rows, *reader.shape[1:]), reader.dtype) for name, reader in readers.items()}


def _decode(readers: Mapping[str, RowReader], group: Rows, buffers: Raw, position: int) -> None:
    """Read the rows of one chunk into the buffers from a position on."""
    first, last = int(group[0]), int(group[-1]) + 1
    for name, reader in readers.items():
        out = buffers[name][position : position + len(group)]
        if last - first == len(group):
            reader.read(first, last, out)
        else:
            whole = np.empty((last - first, *reader.shape[1:]), reader.dtype)
            reader.read(first, last, whole)
            np.take(whole, group - first, axis=0, out=out)


class _Reading:
    """The chunks of a block on their way into buffers.

    Parameters
    ----------
    pool
        The threads.
    readers, groups, buffers
        From where, what, and whereto.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        readers: Mapping[str, RowReader],
        groups: Sequence[Rows],
        buffers: Raw,
    ) -> None:
        self._pool, self._readers, self._groups, self._buffers = pool, readers, groups, buffers
        self._ends = np.cumsum([len(group) for group in groups])
        self._begun = 0
        self._pending: list[Future[None]] = []

    def begin(self, share: float) -> None:
        """Hand chunks to the threads until this share of them is begun."""
        stop = math.ceil(share * len(self._groups))
        for group, end in zip(self._groups[self._begun : stop], self._ends[self._begun : stop], strict=True):
            position = int(end) - len(group)
            self._pending.append(self._pool.submit(_decode, self._readers, group, self._buffers, position))
        self._begun = max(stop, self._begun)

    def wait(self) -> None:
        """Wait for what was begun."""
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()


def stream(
    readers: Mapping[str, RowReader], blocks: Sequence[Block], size: int, *, ahead: bool = True
) -> Iterator[list[Piece]]:
    """Read blocks and iterate over batches.

    Parameters
    ----------
    readers
        What to read, by name.
    blocks
        From `plan_blocks`; each but the last has at least `size` rows.
    size
        Rows of a batch; the last one may be smaller.
    ahead
        Decode the next block while the batches of this one are in use. Else all threads decode its share
        before each batch, and none afterwards: for a user that needs every core.

    Yields
    ------
    list of Piece
        One batch, of one block or of two. Use it before asking for the next: buffers are used again.
    """
    if not blocks:
        return
    most = max(len(block.order) for block in blocks)
    buffers = [_buffers(readers, most) for _ in blocks[:2]]
    pool = ThreadPoolExecutor(threads())
    try:
        reading = _Reading(pool, readers, blocks[0].groups, buffers[0])
        reading.begin(1)
        left: list[Piece] = []  # the batch that the last block could not fill
        for number, block in enumerate(blocks):
            values = buffers[number % 2]
            reading.begin(1)
            reading.wait()
            rows = np.concatenate(block.groups)
            more = number + 1 < len(blocks)

            def piece(
                start: int, stop: int, block: Block = block, rows: Rows = rows, values: Raw = values
            ) -> Piece:
                positions = block.order[start:stop]
                return Piece(values, positions, rows[positions])

            start = 0
            if left:
                start = min(size - len(left[0].rows), len(rows))
                yield [*left, piece(0, start)]
                left = []
            # Not before here: the batch above still came from the other buffer.
            if more:
                reading = _Reading(pool, readers, blocks[number + 1].groups, buffers[(number + 1) % 2])
                if ahead:
                    reading.begin(1)
            for begin in range(start, len(rows), size):
                if more and not ahead:
                    reading.begin(min(begin + size, len(rows)) / len(rows))
                    reading.wait()
                if more and begin + size > len(rows):
                    left = [piece(begin, len(rows))]
                else:
                    yield [piece(begin, begin + size)]
    finally:
        # A reader that stops early must not wait for a block that nobody wants.
        pool.shutdown(cancel_futures=True)


def in_chunks(readers: Mapping[str, RowReader], rows: Rows, chunk: int) -> Iterator[Piece]:
    """Read ascending rows chunk by chunk in the thread that asks for them.

    Use a piece before asking for the next: its buffer, which the processor's cache may hold, is used again.
    """
    groups = _by_chunk(rows, chunk)
    buffers = _buffers(readers, max((len(group) for group in groups), default=0))
    for group in groups:
        _decode(readers, group, buffers, 0)
        yield Piece(buffers, np.arange(len(group)), group)


def read_rows(readers: Mapping[str, RowReader], rows: Rows, chunk: int) -> Piece:
    """Read rows in any order, also the same one twice."""
    unique, positions = np.unique(rows, return_inverse=True)
    buffers = _buffers(readers, len(unique))
    with ThreadPoolExecutor(threads()) as pool:
        reading = _Reading(pool, readers, _by_chunk(unique, chunk), buffers)
        reading.begin(1)
        reading.wait()
    return Piece(buffers, positions, rows)
