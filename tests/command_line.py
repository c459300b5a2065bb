"""Run geoae commands: in this process for their answers, in one of their own for pipes and signals."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(sys.executable).with_name("geoae")


@dataclass(frozen=True)
class Answer:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON on stdout, which holds nothing else."""
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    @property
    def error(self) -> str:
        """The message of the only error, which is one line and perhaps one of advice, without traceback."""
        lines = self.err.splitlines()
        wrong = [i for i, line in enumerate(lines) if line.startswith("error: ")]
        assert len(wrong) == 1, self.err
        assert [line[:7] for line in lines[wrong[0] + 1 :]] in ([], ["  try: "]), self.err
        assert "Traceback" not in self.err
        return lines[wrong[0]].removeprefix("error: ")

    @property
    def advice(self) -> str:
        """What the error says to try."""
        return self.err.splitlines()[-1].removeprefix("  try: ")


Run = Callable[..., Answer]


@contextmanager
def _signals_kept() -> Any:
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """Make a function that runs a command in this process."""
    from geoae.cli import main

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        with _signals_kept(), pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Answer(int(end.value.code or 0), out, err)

    return run


def spawn(
    *arguments: object, folder: Path, environment: dict[str, str] | None = None
) -> "subprocess.Popen[str]":
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [PROGRAM, *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )


def finish(process: "subprocess.Popen[str]") -> Answer:
    """Wait for a process."""
    out, err = process.communicate()
    return Answer(process.returncode, out, err)


def shell(script: str, folder: Path) -> Answer:
    """Run a line of bash with ``geoae`` on its path."""
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def commands() -> dict[Sequence[str], Any]:
    """Every command, subcommands too, by its words."""
    import typer

    from geoae.cli import app

    def walk(command: Any, words: tuple[str, ...]) -> Any:
        inside = getattr(command, "commands", None)
        if inside is None:
            yield words, command
        for name, one in (inside or {}).items():
            yield from walk(one, (*words, name))

    return dict(walk(typer.main.get_command(app), ()))
