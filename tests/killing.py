"""Run geoae commands that something befalls before their n-th change of the file system, or after a while.

A process of its own, see `Killer`, imports everything once and forks for each command, so that
dozens of moments cost little more than one.
"""

import contextlib
import errno
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_TAKES_ROOM = {"open", "os.mkdir", "os.link", "os.symlink"}


@dataclass(frozen=True)
class Job:
    """A command in a folder, and what befalls it before which change.

    Parameters
    ----------
    folder, arguments
        Where and what.
    moment
        Before which change below the folder; 0 counts the changes only.
    how
        ``SIGKILL`` or another signal's name; ``full``: from then on the disk is full.
    reads
        Count files that are opened for reading, too; for commands that change nothing.
    delay
        Seconds after which it is killed, whatever it is doing then; 0 for never.
    """

    folder: str
    arguments: Sequence[str]
    moment: int = 0
    how: str = "SIGKILL"
    reads: bool = False
    delay: float = 0


@dataclass(frozen=True)
class Outcome:
    """Exit code (-9 if it was killed), number of changes, what it printed, and how long it took."""

    code: int
    changes: int
    errors: str
    seconds: float


class Killer(AbstractContextManager["Killer"]):
    """Runs commands one after another, each in a fork of its own.

    Parameters
    ----------
    modules
        What the commands import late beside geoae itself, such as torch: imported once, before the forks.
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules

    def __enter__(self) -> Self:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, __file__, *self._modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run some commands."""
        self._server.stdin.write(json.dumps([asdict(job) for job in jobs]) + "\n")
        self._server.stdin.flush()
        return [Outcome(**outcome) for outcome in json.loads(self._server.stdout.readline())]


def _fork(job: Job) -> Outcome:
    log, count = Path(job.folder) / "stderr.txt", Path(job.folder) / "changes.txt"
    start = time.monotonic()
    child = os.fork()
    if not child:
        os.chdir(job.folder)
        errors = os.open(log.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        counter = os.open(count.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        # A shell that runs the tests in the background ignores Ctrl-C for all its children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _watch(job, counter)
        from geoae.cli import main

        code = 1
        try:
            main(list(job.arguments))
        except SystemExit as end:
            code = int(end.code or 0)
            if job.how != "SIGKILL":
                raise  # how a command ends that was interrupted is looked at, too
        finally:
            if job.how == "SIGKILL":
                sys.stdout.flush()
                os._exit(code)  # to end a fork of a process full of threads the usual way takes a second
    if job.delay:
        ended = os.pidfd_open(child)
        if not select.select([ended], [], [], job.delay)[0]:
            os.kill(child, signal.SIGKILL)
        os.close(ended)
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - start
    changes = len(count.read_bytes()) if count.exists() else 0
    errors_text = log.read_text() if log.exists() else ""
    log.unlink(missing_ok=True)
    count.unlink(missing_ok=True)
    return Outcome(os.waitstatus_to_exitcode(status), changes, errors_text, seconds)


def _watch(job: Job, counter: int) -> None:
    """Count each change below the working folder; strike before the one that is meant."""
    here = str(Path.cwd())
    seen = [0]

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = bool(mode and set(mode) & set("wxa+")) or bool((flags or 0) & _WRITING)
            if not writes and not job.reads:
                return
        elif event in _CHANGES:
            path, writes = arguments[0], True
        else:
            return
        path = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if path.startswith("/") and not path.startswith(here):
            return
        seen[0] += 1
        if job.how == "full":
            # What is open already could still be written to: less can be said than on a disk that is full.
            if job.moment and seen[0] >= job.moment and writes and event in _TAKES_ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        elif seen[0] == job.moment:
            os.kill(os.getpid(), signal.Signals[job.how])
        os.write(counter, b".")

    sys.addaudithook(hook)


if __name__ == "__main__":
    # Everything that commands import late, so that forks need not.
    for module in (
        "clusters", "encoding", "exports", "ingestion", "projections", "repairs", "summaries", "verification"
    ):  # fmt: skip
        importlib.import_module(f"geoae.{module}")
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for module in ("dask.array", "geoae_pca", "importlib_metadata", "pyarrow.pandas_compat", "zarrs"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps([asdict(_fork(Job(**job))) for job in json.loads(line)]), flush=True)
