"""Workers elsewhere: tasks on a Dask cluster, any part of which may die.

Dask itself gives the tasks of a dead worker to another one; a task that runs twice gives the same bytes.
What Dask gives up becomes one line here, and no wait lasts longer than somebody is there to be waited for.
"""

import logging
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from geoae.errors import GeoaeError, UsageError
from geoae.shards import ShardTask, run_task

__all__ = ["dask_client", "run_on_workers"]

_LOOK = 0.1
"""Seconds between looks at what has changed."""


def dask_client(scheduler: str | None, workers: int | None) -> AbstractContextManager[Any] | None:
    """Return the Dask client to use.

    Parameters
    ----------
    scheduler
        Address of a Dask scheduler; None for the active client of this process.
    workers
        Number of threads here; if given, the active client is not used.

    Returns
    -------
    context manager of distributed.Client, or None
        None for threads here. On leaving, a client that was made here is closed, no other.

    Raises
    ------
    UsageError
        If distributed is not installed, or no scheduler answers.
    """
    if scheduler is None and (workers is not None or "distributed" not in sys.modules):
        return None
    try:
        # put off: the core runs locally without distributed, which costs 0.5 s and is an extra
        from distributed import Client, default_client
    except ImportError:
        raise UsageError(
            "--scheduler needs the package distributed", hint="pip install 'geoae[distributed]'"
        ) from None
    if scheduler is not None:
        try:
            return _closing(Client(scheduler))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"no Dask scheduler answers at {scheduler}: {error}", hint="start one with: dask scheduler"
            ) from None
    try:
        return nullcontext(default_client())
    except ValueError:
        return None


@contextmanager
def _closing(client: Any) -> Iterator[Any]:
    """Close a client at the end."""
    try:
        yield client
    finally:
        logger = logging.getLogger("distributed.client")
        level = logger.level
        if not _connected(client):
            # It tries to connect again; Dask would log that we end that, with a traceback.
            logger.setLevel(logging.CRITICAL + 1)
        client.close()
        logger.setLevel(level)


def run_on_workers(tasks: list[ShardTask], client: Any, advance: Callable[[Iterable[int]], None]) -> None:
    """Make the shards of all tasks on the workers of a Dask cluster.

    Parameters
    ----------
    tasks
        What to make.
    client
        A distributed.Client.
    advance
        Called with the shards of each task that is done.

    Raises
    ------
    GeoaeError
        If workers die again and again at one task, or the scheduler has gone; or as `run_task` does.
    """
    from distributed import Event, KilledWorker  # put off, see `dask_client`

    address = client.scheduler.address
    stop = Event(f"geoae-{secrets.token_hex(8)}", client=client)
    futures = client.map(_run_elsewhere, tasks, stop=stop, pure=False)
    made = {future.key: task.shards for future, task in zip(futures, tasks, strict=True)}
    try:
        for future in _done(futures, client):
            advance(made[future.key])
    except _SchedulerGoneError:
        # Its workers end by themselves, and no `stop` would reach them.
        raise GeoaeError(
            f"the Dask scheduler {address} has gone, or was restarted",
            hint="start it again and run the same command: it goes on with the shards that are missing",
        ) from None
    except KilledWorker as error:
        _end(futures, client, stop)
        # Which task it was is not known: Dask suspects those, too, that were only queued for a dead worker.
        raise GeoaeError(
            f"{error.allowed_failures + 1} Dask workers died one after another over the same shards of "
            f"{tasks[0].cube}, the last one {error.last_worker.address}",
            hint="mostly they want memory: give workers more and run the same command, which goes on",
        ) from None
    except BaseException:
        _end(futures, client, stop)
        raise


def _run_elsewhere(task: ShardTask, stop: Any) -> list[int]:
    """Make the shards of a task on a worker, whose errors have to travel."""
    try:
        return run_task(task, stop)
    except GeoaeError as error:
        plain = type(error)(error.message, hint=error.hint)
    # Outside of the handler: the cause is an error of GDAL, which cannot be pickled.
    raise plain


class _SchedulerGoneError(Exception):
    """The scheduler does not know of our tasks any more."""


def _connected(client: Any) -> bool:
    """Say whether the scheduler is there, as far as is known; Dask tries to reconnect for half a minute."""
    comm = client.scheduler_comm
    return client.status == "running" and comm is not None and not comm.closed()


def _done(futures: list[Any], client: Any) -> Iterator[Any]:
    """Yield tasks as they are done; raise what one raised, and `_SchedulerGoneError`, not wait forever."""
    from distributed import as_completed  # put off, see `dask_client`

    coming = as_completed(futures, loop=client.loop)
    while not coming.is_empty():
        if coming.has_ready():
            future = next(coming)
            if future.cancelled():  # all are when the connection is lost, and when a scheduler is restarted
                raise _SchedulerGoneError
            if future.status == "error":
                future.result()  # it is here already, and raises
            yield future
            # What a task returns is not fetched: the journal has it. Now Dask may forget the task, which
            # it would make again if its worker died later.
            future.release()
        elif _connected(client):
            time.sleep(_LOOK)
        else:
            raise _SchedulerGoneError


def _end(futures: list[Any], client: Any, stop: Any) -> None:
    """Let tasks end after their shard, as in threads: when this returns, nobody writes any more."""
    from distributed import wait  # put off, see `dask_client`

    # The scheduler may go meanwhile, too, which must not hide the error that brought us here.
    with suppress(OSError, CancelledError):
        if _connected(client):
            stop.set()
        # Without workers nobody writes, and nobody would end what is left.
        while (left := [f for f in futures if not f.done()]) and _connected(client) and client.nthreads():
            with suppress(TimeoutError):
                wait(left, timeout=1)
