"""Loops that take turns: each in a process of its own, all but one waiting.

A worker makes `steps` of training for every line that it reads, and prints what they took. So what slows a
machine down for a while slows all loops down alike, and none is started anew for each repeat.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

__all__ = ["Worker", "paced"]


def paced(batches: Iterator[Any], steps: int, warm: int) -> Iterator[Any]:
    """Pass batches on; after `warm` of them, and after every `steps` more, report and wait for a line.

    Processor time counts from the end of the turn before, so that reading ahead while it waits is not free.
    """
    begun, used, count = time.perf_counter(), time.process_time(), -warm
    for batch in batches:
        if count >= 0 and count % steps == 0:
            row = {"seconds": (time.perf_counter() - begun) / steps}
            now = time.process_time()
            row["cpu"], used = (now - used) / steps, now
            print(json.dumps(row), flush=True)
            if not sys.stdin.readline():
                return
            begun = time.perf_counter()
        yield batch
        count += 1


class Worker:
    """A process that waits for its turns.

    Parameters
    ----------
    command
        What is run; it calls `paced`, or does the same.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._command = command
        self._read()  # until it is warm

    def turn(self) -> dict[str, float]:
        """Let it do its steps, and return the seconds and the processor time of one."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._end()
            raise RuntimeError(f"{' '.join(self._command)} ended with status {self._process.returncode}")
        row: dict[str, float] = json.loads(line)
        return row

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self._end()

    def _end(self) -> None:
        self._process.communicate()  # closes its input, which ends it
