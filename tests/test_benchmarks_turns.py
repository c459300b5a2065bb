"""Loops that take turns: who reports when, and who waits for whom."""

import io
import json
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # the benchmarks are not installed

from benchmarks.turns import Worker, paced  # noqa: E402


def test_a_loop_reports_after_its_warm_up_and_after_every_turn(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n"))  # two turns
    reported = []
    for number in paced(iter(range(100)), steps=3, warm=2):
        reported += [number] * len(capsys.readouterr().out.splitlines())
    last = capsys.readouterr().out.splitlines()
    assert reported == [2, 5]  # before these batches
    assert number == 7
    assert len(last) == 1
    assert json.loads(last[0]).keys() == {"seconds", "cpu"}


def test_a_worker_waits_for_its_turn_and_ends_with_its_owner():
    code = (
        "import itertools, time; from benchmarks.turns import paced\n"
        "for _ in paced(itertools.count(), 2, 1): time.process_time()"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{code}"]
    with Worker(command) as worker:
        first, second = worker.turn(), worker.turn()
    assert first.keys() == second.keys() == {"seconds", "cpu"}
    assert worker._process.returncode == 0


def test_a_worker_that_fails_says_so():
    with pytest.raises(RuntimeError, match="ended with status 3"):
        Worker([sys.executable, "-c", "raise SystemExit(3)"])
