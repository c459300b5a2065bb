"""Workers elsewhere: tasks on a Dask cluster, any part of which may die.

Dask itself gives the tasks of a dead worker to another one; a task that runs twice gives the same bytes.
What Dask gives up becomes one line here, and no wait lasts longer than somebody is there to be waited for.
"""

import logging
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from geoae.errors import GeoaeError, UsageError
from geoae.raster import ignore_missing_places
from geoae.shards import ShardTask, run_task

__all__ = ["dask_client", "run_on_workers"]

_LOOK = 0.1
"""Seconds between looks at what has changed."""

_PATIENCE = 15.0
"""Seconds for which nothing may go on because workers are paused for memory."""

_LOGGER = logging.getLogger("geoae")


class _SchedulerGoneError(Exception):
    """The scheduler does not know of our tasks any more."""


class _PausedError(Exception):
    """All that is left waits for workers that are paused for memory."""

    def __init__(self, paused: Mapping[str, Mapping[str, Any]], *, others: bool) -> None:
        address, worker = next(iter(paused.items()))
        used, limit = worker["metrics"]["memory"] / 1e9, worker["memory_limit"] / 1e9
        threads = worker["nthreads"]
        super().__init__(
            f"{len(paused)} Dask worker{'s are' if len(paused) > 1 else ' is'} paused for memory, the first "
            f"{address} at {used:.2f} of {limit:.2f} GB with {threads} thread{'s' * (threads > 1)}"
        )
        self.others = others
        """Whether there are workers that are not paused."""


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
        If workers die again and again at one task, if they stay paused for memory, or if the scheduler
        has gone; or as `run_task` does.
    """
    stuck = False
    while tasks:
        left, paused = _round(tasks, client, advance)
        # Dask leaves to a worker what it was given before it was paused. Another one may make that, but not
        # again and again where nothing gets done.
        if paused is not None and (not paused.others or (stuck and len(left) == len(tasks))):
            raise GeoaeError(
                f"{tasks[0].cube} waits for memory: {paused}",
                hint="give workers more memory (dask worker --memory-limit) or fewer threads (--nthreads) "
                "and run the same command, which goes on",
            )
        stuck = len(left) == len(tasks)
        tasks = left


def _round(
    tasks: list[ShardTask], client: Any, advance: Callable[[Iterable[int]], None]
) -> tuple[list[ShardTask], _PausedError | None]:
    """Hand tasks to the cluster and wait; return those that are not done, and for which workers they wait."""
    from distributed import Event, KilledWorker  # put off, see `dask_client`

    address = client.scheduler.address
    stop = Event(f"geoae-{secrets.token_hex(8)}", client=client)
    futures = client.map(_run_elsewhere, tasks, stop=stop, pure=False)
    left = {future.key: task for future, task in zip(futures, tasks, strict=True)}
    try:
        for future in _done(futures, client):
            advance(left.pop(future.key).shards)
    except _PausedError as paused:
        _end(futures, client, stop)
        return list(left.values()), paused
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
    return [], None


def _run_elsewhere(task: ShardTask, stop: Any) -> list[int]:
    """Make the shards of a task on a worker, whose errors have to travel."""
    ignore_missing_places()
    try:
        return run_task(task, stop)
    except GeoaeError as error:
        plain = type(error)(error.message, hint=error.hint)
    # Outside of the handler: the cause is an error of GDAL, which cannot be pickled.
    raise plain


def _connected(client: Any) -> bool:
    """Say whether the scheduler is there, as far as is known; Dask tries to reconnect for half a minute."""
    comm = client.scheduler_comm
    return client.status == "running" and comm is not None and not comm.closed()


def _done(futures: list[Any], client: Any) -> Iterator[Any]:
    """Yield tasks as they are done; raise what one raised, and the errors above, not wait forever."""
    from distributed import as_completed  # put off, see `dask_client`

    coming = as_completed(futures, loop=client.loop)
    left = {future.key for future in futures}
    watch = _Watch(client)
    while not coming.is_empty():
        if coming.has_ready():
            future = next(coming)
            if future.cancelled():  # all are when the connection is lost, and when a scheduler is restarted
                raise _SchedulerGoneError
            if future.status == "error":
                future.result()  # it is here already, and raises
            left.remove(future.key)
            yield future
            # What a task returns is not fetched: the journal has it. Now Dask may forget the task, which
            # it would make again if its worker died later.
            future.release()
            watch.begin()
        elif _connected(client):
            watch.look(left)
            time.sleep(_LOOK)
        else:
            raise _SchedulerGoneError


class _Watch:
    """Looks now and then whether tasks wait for nothing but paused workers."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._told = False
        self.begin()

    def begin(self) -> None:
        """Begin anew, since something got done."""
        self._next = time.monotonic() + _PATIENCE / 4
        self._since: float | None = None

    def look(self, keys: Set[str]) -> None:
        """Look, if it is time to; raise `_PausedError` when nothing went on for too long."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _PATIENCE / 4
        try:
            workers = _ask(self._client, "identity")["workers"]
            paused = _paused(self._client, keys, workers)
        except OSError:  # a worker died right now, or is too busy to answer
            workers, paused = None, None
        if workers == {} and not self._told:
            # No fault: a cluster may start workers when it has work, or one that was lost again.
            _LOGGER.warning("%s has no worker: waiting for one", self._client.scheduler.address)
            self._told = True
        if paused is None:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since >= _PATIENCE:
            raise paused


def _paused(client: Any, keys: Set[str], workers: Mapping[str, Mapping[str, Any]]) -> _PausedError | None:
    """Return the paused workers that tasks wait for; None if anything may bring one of the tasks on."""
    paused = {address: worker for address, worker in workers.items() if worker["status"] == "paused"}
    if not paused:
        return None
    others = len(paused) < len(workers)
    if others:
        assigned = _ask(client, "processing", workers=None)
        if not keys <= {key for address in paused for key in assigned.get(address, ())}:
            return None
    return None if _run_now(client, keys) else _PausedError(paused, others=others)


def _run_now(client: Any, keys: Set[str]) -> bool:
    """Say whether a thread of any worker runs one of the tasks."""
    stacks = _ask(client, "call_stack", keys=None)
    return any(not keys.isdisjoint(of_worker) for of_worker in stacks.values())


def _ask(client: Any, question: str, **arguments: Any) -> Any:
    """Ask the scheduler; an OSError if there is no answer for long."""
    return client.sync(getattr(client.scheduler, question), callback_timeout=_PATIENCE, **arguments)


def _end(futures: list[Any], client: Any, stop: Any) -> None:
    """Let tasks end after their shard, as in threads: when this returns, nobody writes any more."""
    keys = {future.key for future in futures}
    # The scheduler may go meanwhile, too, which must not hide the error that brought us here.
    with suppress(OSError, CancelledError):
        if _connected(client):
            stop.set()
    # A task that begins after that writes nothing. So those that are queued are not waited for: a worker
    # that is paused might never begin them.
    while _connected(client):
        # No answer is no proof: a worker may be dying, or busy.
        with suppress(OSError, CancelledError):
            if not _run_now(client, keys):
                break
        time.sleep(_LOOK)
    client.cancel(futures)
