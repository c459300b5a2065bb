"""Run geoae commands that are killed with SIGKILL right before their n-th change of the file system.

A process of its own, see `Killer`, imports everything once and forks for each command, so that
dozens of moments cost little more than one.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Job:
    """A command in a folder, and before which change it is killed; 0 counts the changes only."""

    folder: str
    arguments: Sequence[str]
    moment: int = 0


@dataclass(frozen=True)
class Outcome:
    """Exit code (-9 if it was killed), number of changes, and what it printed on stderr."""

    code: int
    changes: int
    errors: str


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
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
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
    child = os.fork()
    if not child:
        os.chdir(job.folder)
        errors = os.open(log.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        counter = os.open(count.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        _watch(job.moment, counter)
        from geoae.cli import main

        main(list(job.arguments))
    _, status = os.waitpid(child, 0)
    outcome = Outcome(os.waitstatus_to_exitcode(status), len(count.read_bytes()), log.read_text())
    log.unlink()
    count.unlink()
    return outcome


def _watch(moment: int, counter: int) -> None:
    """Count each change below the working folder; end the process before the one that is meant."""
    here = str(Path.cwd())
    seen = [0]

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not (mode and set(mode) & set("wxa+")) and not (flags or 0) & _WRITING:
                return
        elif event in _CHANGES:
            path = arguments[0]
        else:
            return
        path = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if path.startswith("/") and not path.startswith(here):
            return
        seen[0] += 1
        if seen[0] == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(counter, b".")

    sys.addaudithook(hook)


if __name__ == "__main__":
    # Everything that commands import late, so that forks need not.
    for module in ("clusters", "encoding", "ingestion", "projections", "summaries", "verification"):
        importlib.import_module(f"geoae.{module}")
    importlib.import_module("geoae_pca")
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps([asdict(_fork(Job(**job))) for job in json.loads(line)]), flush=True)
