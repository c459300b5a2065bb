"""Making shards: the task that reads scenes and writes runs of whole shards of a cube.

A task owns its shards: no other task writes them. It may run twice, on any machine: it gives the same
bytes. What it did is told by one small journal file a shard beside the store.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from geoae import schema
from geoae.align import SceneReader, Scratch
from geoae.catalog import Catalog
from geoae.errors import SceneError
from geoae.grid import Window
from geoae.journal import note
from geoae.location import Location
from geoae.patches import PatchPlan
from geoae.scene import SceneHeader
from geoae.store import open_array, shard_key, write_shard

__all__ = ["Kept", "ShardTask", "run_task"]

_OPEN_SCENES = 2
"""Scenes kept open in a task: patches come in scene order, so the last one is enough; one to spare."""


@dataclass(frozen=True)
class ShardTask:
    """A run of consecutive shards and all that is needed to make them.

    Parameters
    ----------
    cube
        Path or URL of the store that is being written.
    journal
        Path or URL of the folder of journal files.
    shards
        Which shards.
    shard_length
        Patches in a shard.
    patches
        The plan of patches of all scenes.
    scenes
        Headers of the scenes that these shards touch, by number.
    catalog
        How the data set looks.
    void
        Scenes by number whose patches are all void because a read failed somewhere, with the reason.
    skip_bad
        Write a scene that cannot be read as void, and say so in the journal.
    """

    cube: str
    journal: str
    shards: range
    shard_length: int
    patches: PatchPlan
    scenes: Mapping[int, SceneHeader]
    catalog: Catalog
    modalities: tuple[str, ...]
    void: Mapping[int, str] = field(default_factory=dict)
    skip_bad: bool = False


@dataclass(frozen=True)
class _Strip:
    """Patches of one shard that form a full rectangle of rows and columns in one scene."""

    scene: int
    first: int  # position of the first patch in the shard
    rows: int
    cols: int
    window: Window


class Kept:
    """What tasks that one thread does one after the other need not make anew: memory and open arrays.

    Fresh buffers for every shard cost more in page faults than the copies.

    Attributes
    ----------
    scratch, shards
        Memory to read windows into, and to put shards together in.
    """

    def __init__(self) -> None:
        self.scratch = Scratch()
        self.shards = Scratch()
        self._arrays: dict[str, zarr.Array[Any]] = {}

    def array(self, location: Location) -> "zarr.Array[Any]":
        """Open an array, or return it if it is open: nobody makes it anew meanwhile."""
        if str(location) not in self._arrays:
            self._arrays[str(location)] = open_array(location, read_only=False)
        return self._arrays[str(location)]


def run_task(
    task: ShardTask,
    stop: threading.Event | None = None,
    progress: Callable[[int], None] | None = None,
    kept: Kept | None = None,
) -> list[int]:
    """Make the shards of a task.

    Parameters
    ----------
    task
        What to make.
    stop
        Checked between shards; when set, the task ends early.
    progress
        Called with the number of patches after each shard.
    kept
        What another task in this thread has left; None to begin with nothing.

    Returns
    -------
    list of int
        The shards that were written.

    Raises
    ------
    SceneError
        If a scene cannot be read and `skip_bad` is off.
    """
    root, journal = Location.of(task.cube), Location.of(task.journal)
    writer = _Writer(task, root, kept or Kept())
    done: list[int] = []
    try:
        for shard in task.shards:
            if stop is not None and stop.is_set():
                break
            entry = writer.make(shard)
            # Not before the disk has it: nor does a shard wait, and both are compared when work is resumed.
            note(journal, shard, entry, durable=False)
            done.append(shard)
            if progress is not None:
                progress(entry["patches"])
    finally:
        writer.close()
    return done


class _Writer:
    """Buffers, open scenes and open arrays of one task."""

    def __init__(self, task: ShardTask, root: Location, kept: Kept) -> None:
        self._task = task
        self._root = root
        self._readers: OrderedDict[int, SceneReader] = OrderedDict()
        self._failed: dict[int, str] = dict(task.void)
        names = [*task.modalities]
        names += [schema.valid_name(m) for m in task.modalities if self._role(m) != "height"]
        self._arrays = {name: kept.array(root / name) for name in names}
        self._scratch = kept.scratch
        self._buffers = {
            name: kept.shards.take(name, (task.shard_length, *array.shape[1:]), array.dtype)
            for name, array in self._arrays.items()
        }

    def _role(self, modality: str) -> str:
        return self._task.catalog.modalities[modality].role

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()

    def make(self, shard: int) -> dict[str, Any]:
        task = self._task
        start = shard * task.shard_length
        stop = min(start + task.shard_length, task.patches.n_patches)
        strips = list(_strips(task.patches, start, stop))
        failures: dict[int, str] = {}
        for strip in strips:
            self._fill(strip, failures)
        for strip in strips:
            # A scene may have failed after its first strips were read.
            if strip.scene in failures:
                self._void(strip)
        files: dict[str, list[Any]] = {}
        for name, array in self._arrays.items():
            digest, size = write_shard(self._root / name, array, shard, self._buffers[name][: stop - start])
            files[f"{name}/{shard_key(shard, array.ndim)}"] = [digest, size]
        return {
            "shard": shard,
            "patches": stop - start,
            "files": files,
            "valid": {m: self._count_valid(m, stop - start) for m in task.modalities},
            "failures": {str(scene): why for scene, why in failures.items()},
        }

    def _count_valid(self, modality: str, n: int) -> list[int]:
        """Count the valid pixels of each patch; patch by patch, numpy is six times as fast as by axis."""
        if self._role(modality) == "height":
            return [int(np.count_nonzero(np.isfinite(patch))) for patch in self._buffers[modality][:n]]
        return [int(np.count_nonzero(patch)) for patch in self._buffers[schema.valid_name(modality)][:n]]

    def _fill(self, strip: _Strip, failures: dict[int, str]) -> None:
        """Read a strip, or write down why its scene cannot be used."""
        number = strip.scene
        if self._task.scenes[number].status != "ok":
            self._void(strip)
            return
        if number not in self._failed:
            try:
                for modality in self._task.modalities:
                    self._fill_modality(strip, modality)
            except SceneError as error:
                if not self._task.skip_bad:
                    raise
                self._failed[number] = str(error)
        if number in self._failed:
            failures[number] = self._failed[number]

    def _reader(self, scene: int) -> SceneReader:
        if scene not in self._readers:
            while len(self._readers) >= _OPEN_SCENES:
                self._readers.popitem(last=False)[1].close()
            self._readers[scene] = SceneReader(
                self._task.scenes[scene], self._task.catalog, scratch=self._scratch
            )
        return self._readers[scene]

    def _void(self, strip: _Strip) -> None:
        for modality in self._task.modalities:
            self._void_modality(strip, modality)

    def _void_modality(self, strip: _Strip, modality: str) -> None:
        part = slice(strip.first, strip.first + strip.rows * strip.cols)
        self._buffers[modality][part] = np.nan if self._role(modality) == "height" else 0
        if self._role(modality) != "height":
            self._buffers[schema.valid_name(modality)][part] = False

    def _fill_modality(self, strip: _Strip, modality: str) -> None:
        pixels = self._reader(strip.scene).read(modality, strip.window)
        if pixels is None:
            self._void_modality(strip, modality)
            return
        self._scatter(strip, self._buffers[modality], pixels.values)
        if self._role(modality) != "height":
            self._scatter(strip, self._buffers[schema.valid_name(modality)], pixels.valid)

    def _scatter(self, strip: _Strip, buffer: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
        """Cut a strip ``(..., y, x)`` into its patches ``(row * col, ..., y, x)``."""
        side, stride = self._task.patches.patch, self._task.patches.stride
        views = np.lib.stride_tricks.sliding_window_view(values, (side, side), axis=(-2, -1))
        views = views[..., ::stride, ::stride, :, :]  # (..., row, col, y, x)
        cut = np.moveaxis(views, (-4, -3), (0, 1))  # (row, col, ..., y, x)
        part = buffer[strip.first : strip.first + strip.rows * strip.cols]
        part.reshape(strip.rows, strip.cols, *part.shape[1:])[...] = cut


def _strips(plan: PatchPlan, start: int, stop: int) -> Iterator[_Strip]:
    """Cut the patches `start` to `stop` into rectangles of one scene, as few as possible.

    Full rows go together; what is left of a row at either end is a rectangle of its own.
    """
    scene, row, col = plan.places(start, stop)
    pieces: list[tuple[int, int, int, int, int]] = []  # scene, first, row, col, count
    keys = list(zip(scene.tolist(), row.tolist(), strict=True))
    position = 0
    for (number, r), group in groupby(keys):
        count = len(list(group))
        pieces.append((number, position, r, int(col[position]), count))
        position += count
    while pieces:
        number, first, r, c, count = pieces.pop(0)
        rows = 1
        while pieces and pieces[0][0] == number and pieces[0][3:] == (c, count):
            pieces.pop(0)
            rows += 1
        height = (rows - 1) * plan.stride + plan.patch
        width = (count - 1) * plan.stride + plan.patch
        yield _Strip(number, first, rows, count, Window(r * plan.stride, c * plan.stride, height, width))
