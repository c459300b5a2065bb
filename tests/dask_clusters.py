"""Dask clusters whose workers may die, for tests of what geoae does then."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command_line import runner

from geoae import assembly, workers


def runner_by_shard(capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run commands in a folder; each shard is a task."""
    monkeypatch.setattr(assembly, "RUN_BYTES", 1)
    monkeypatch.chdir(folder)
    return runner(capsys)


@contextmanager
def nannied(n_workers: int = 1, *, memory_limit: Any = 0, **settings: Any) -> Iterator[Any]:
    """Start workers of one thread with nannies; a task is given up when a worker dies the second time."""
    import dask
    from distributed import LocalCluster

    # A nanny has all the time it needs to start a worker again.
    settings["distributed.deploy.lost-worker-timeout"] = "1h"
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            memory_limit=memory_limit,
            processes=True,
            dashboard_address=":0",
            silence_logs=60,
            scheduler_kwargs={"allowed_failures": 1},
        ) as made,
    ):
        yield made


def on_workers(monkeypatch: pytest.MonkeyPatch, function: Any) -> None:
    """Let workers call this in place of the real thing; a nested function travels by value."""
    monkeypatch.setattr(workers, "_run_elsewhere", function)
