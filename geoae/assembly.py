"""Assembly: from a plan to a complete, verified, visible store.

Runs of whole shards go to Dask. A journal beside the store tells what is done, and what a killed run left
is taken over where its bytes are still right. The root's ``zarr.json`` is written last.
"""

import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from dask.base import compute
from dask.delayed import delayed
from dask.threaded import get as in_threads

from geoae.commits import layer_members
from geoae.errors import IncompleteError
from geoae.journal import PLAN, noted, planned
from geoae.location import Location
from geoae.patches import plan_runs
from geoae.planning import IngestPlan
from geoae.raster import ignore_missing_places
from geoae.shards import Kept, ShardTask, run_task
from geoae.store import (
    METADATA,
    array_digest,
    check_shards,
    consolidated,
    create_array,
    group_document,
    is_array,
    write_array,
)
from geoae.tables import root_attributes, small_arrays
from geoae.workers import dask_client, run_on_workers

__all__ = ["RUN_BYTES", "Progress", "assemble"]

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``."""

RUN_BYTES = 192 * 2**20
"""Uncompressed pixels of one task: 8 shards of US3D, so that 1.08 scenes are decoded for each scene."""


def assemble(
    plan: IngestPlan,
    cube: Location,
    work: Location,
    workers: int | None,
    scheduler: str | None,
    *,
    skip_bad: bool,
    progress: Progress | None,
) -> int:
    """Write all shards that the journal lacks, verify, and publish the cube.

    Parameters
    ----------
    plan
        What to write.
    cube
        Where; nothing there is readable before the end.
    work
        Folder of the journal.
    workers, scheduler
        Threads, or the address of a Dask scheduler.
    skip_bad
        Write scenes that cannot be read as void.
    progress
        Called as ``progress(stage, done, total)``.

    Returns
    -------
    int
        How many shards an earlier run had written.

    Raises
    ------
    SceneError
        If a scene cannot be read and `skip_bad` is off.
    IncompleteError
        If a shard is missing at the end; the same command again writes it.
    """
    journal = work / "journal"
    begun = planned(work)
    if begun is None or begun["digest"] != plan.digest:
        journal.remove()
        cube.remove()
        work.put_json(PLAN, {"digest": plan.digest, "plan": plan.document})
    cube.sweep()
    work.sweep()
    for name, spec in plan.pixel_arrays.items():
        if not is_array(cube / name):
            create_array(cube / name, spec)
    entries = _read_journal(plan, cube, journal, skip_bad=skip_bad)
    resumed = len(entries)
    while True:
        failures = _failures(entries)
        todo = [s for s in range(plan.n_shards) if s not in entries]
        if todo:
            # Without the failures of an earlier run, so that each shard finds its own: the reason that is
            # stored must not depend on which shard came first.
            tasks = _tasks(plan, cube, journal, todo, {}, skip_bad=skip_bad)
        else:
            # A failure may show in one shard of a scene only; its other shards become void, too.
            todo = [s for s in range(plan.n_shards) if _outdated(plan, entries[s], s, failures)]
            tasks = _tasks(plan, cube, journal, todo, failures, skip_bad=skip_bad)
        if not todo:
            break
        _compute(tasks, plan, workers, scheduler, progress)
        for shard in todo:
            entry = _entry(journal, shard)
            if entry is None:
                raise IncompleteError(
                    f"shard {shard} of {cube} was not written", hint="run the command again"
                )
            entries[shard] = entry
    journal.flush()  # `verify` and `repair` go by it later
    _commit(plan, cube, entries, failures)
    return resumed


def _read_journal(
    plan: IngestPlan, cube: Location, journal: Location, *, skip_bad: bool
) -> dict[int, dict[str, Any]]:
    """Read what earlier runs did, keeping only shards whose files still have the recorded digests.

    Shards in which an earlier run skipped a scene are made again if nothing may be skipped now.
    """
    entries: dict[int, dict[str, Any]] = {}
    for shard in range(plan.n_shards):
        entry = _entry(journal, shard)  # a power cut may leave an empty file, which is none
        if (
            entry is not None
            and (skip_bad or not entry["failures"])
            and all(cube.sha256(key) == digest for key, (digest, _) in entry["files"].items())
        ):
            entries[shard] = entry
    return entries


def _entry(journal: Location, shard: int) -> dict[str, Any] | None:
    """Read a journal file, its counts as arrays: as lists they are most of what thousands of them take."""
    entry = noted(journal, shard)
    if entry is not None:
        entry["valid"] = {name: np.array(counts, np.int32) for name, counts in entry["valid"].items()}
    return entry


def _outdated(plan: IngestPlan, entry: dict[str, Any], shard: int, failures: Mapping[int, str]) -> bool:
    """Say whether a shard holds patches of a scene that failed elsewhere and is not void here yet."""
    if not failures:
        return False
    start = shard * plan.shard_length
    inside = set(plan.patches.places(start, start + plan.shard_length)[0].tolist())
    return bool((failures.keys() & inside) - {int(s) for s in entry["failures"]})


def _failures(entries: Mapping[int, dict[str, Any]]) -> dict[int, str]:
    """Return scene -> reason, from the first shard that noticed."""
    failures: dict[int, str] = {}
    for shard in sorted(entries):
        for scene, why in entries[shard]["failures"].items():
            failures.setdefault(int(scene), why)
    return failures


def _tasks(
    plan: IngestPlan,
    cube: Location,
    journal: Location,
    todo: list[int],
    void: Mapping[int, str],
    *,
    skip_bad: bool,
) -> list[ShardTask]:
    """Make a task of each run of consecutive shards; runs do not depend on workers or on what is done."""
    wanted = set(todo)
    tasks = []
    for run in plan_runs(plan.n_shards, plan.shard_bytes, RUN_BYTES):
        for piece in _consecutive([s for s in run if s in wanted]):
            first, last = piece.start * plan.shard_length, piece.stop * plan.shard_length
            numbers = sorted(set(plan.patches.places(first, last)[0].tolist()))
            tasks.append(
                ShardTask(
                    cube=str(cube),
                    journal=str(journal),
                    shards=piece,
                    shard_length=plan.shard_length,
                    patches=plan.patches,
                    scenes={n: plan.scenes[n] for n in numbers},
                    catalog=plan.catalog,
                    modalities=plan.modalities,
                    void={n: void[n] for n in numbers if n in void},
                    skip_bad=skip_bad,
                )
            )
    return tasks


def _consecutive(numbers: list[int]) -> list[range]:
    runs: list[range] = []
    for n in numbers:
        if runs and runs[-1].stop == n:
            runs[-1] = range(runs[-1].start, n + 1)
        else:
            runs.append(range(n, n + 1))
    return runs


def _compute(
    tasks: list[ShardTask],
    plan: IngestPlan,
    workers: int | None,
    scheduler: str | None,
    progress: Progress | None,
) -> None:
    """Hand the tasks to Dask and wait."""
    total = plan.patches.n_patches
    state = {"done": total - sum(_patches(plan, task.shards) for task in tasks)}
    lock = threading.Lock()

    def advance(patches: int) -> None:
        with lock:
            state["done"] += patches
            if progress is not None:
                progress("patches", state["done"], total)

    client = dask_client(scheduler, workers)
    if client is not None:
        with client as cluster:
            run_on_workers(tasks, cluster, lambda shards: advance(_patches(plan, shards)))
        return
    stop = threading.Event()
    running = _Running()
    left, idle = iter(tasks), list[Kept]()

    def run_next() -> None:
        try:
            kept = idle.pop()
        except IndexError:  # not asked for before: another thread may take the last one in between
            kept = Kept()
        try:
            # Not a task bound to each call: Dask takes calls at random, and the small tasks have to be last.
            run_task(next(left), stop, advance, kept)
        finally:
            idle.append(kept)

    # pure=False: two tasks are never the same work.
    calls = [delayed(running.call, pure=False, traverse=False)(run_next) for _ in tasks]
    with warnings.catch_warnings():  # puts back the list of filters, whatever threads that warp made of it
        ignore_missing_places()
        try:
            # The function, not its name: for a name Dask imports distributed first, half a second long.
            compute(*calls, scheduler=in_threads, num_workers=workers)
        except BaseException:
            # Tasks that run already end after their shard. Only then nobody writes behind our back, and the
            # lock may go.
            stop.set()
            running.wait()
            raise


def _patches(plan: IngestPlan, shards: Iterable[int]) -> int:
    """Count the patches of some shards; the last shard may have fewer than the others."""
    n, length = plan.patches.n_patches, plan.shard_length
    return sum(min(length, n - shard * length) for shard in shards)


class _Running:
    """Counts calls that are under way in other threads."""

    def __init__(self) -> None:
        self._number = 0
        self._changed = threading.Condition()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with self._changed:
            self._number += 1
        try:
            return function(*arguments)
        finally:
            with self._changed:
                self._number -= 1
                self._changed.notify_all()

    def wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._number)


def _commit(
    plan: IngestPlan, cube: Location, entries: Mapping[int, dict[str, Any]], failures: Mapping[int, str]
) -> None:
    """Verify all shards, write the small arrays, and publish the root by its ``zarr.json``."""
    shards: dict[str, dict[str, str]] = {name: {} for name in plan.pixel_arrays}
    sizes: dict[str, dict[str, int]] = {name: {} for name in plan.pixel_arrays}
    for entry in entries.values():
        for path, (digest, size) in entry["files"].items():
            name, key = path.split("/", 1)
            shards[name][key] = digest
            sizes[name][key] = size
    problems: list[str] = []
    digests: dict[str, str] = {}
    for name, spec in plan.pixel_arrays.items():
        problems += check_shards(cube / name, spec, sizes[name])
        digests[name] = array_digest(cube / name, shards=shards[name])[0]
    if problems:
        raise IncompleteError(
            f"{cube}: {problems[0]}" + (f" (and {len(problems) - 1} more)" if problems[1:] else ""),
            hint="run the same command again",
        )
    small = small_arrays(plan, entries, failures)
    for name, (spec, values) in small.items():
        write_array(cube / name, spec, values)
        digests[name] = array_digest(cube / name)[0]
    attributes = root_attributes(plan, digests)
    # There are layers only where a root that was lost is written again.
    members = consolidated(cube, list(digests)) | layer_members(cube)
    # Shards did not wait for the disk, nor did those of a run that was killed.
    cube.flush()
    cube.put(METADATA, group_document(attributes, members))
