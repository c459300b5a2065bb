"""Summaries of patches: which classes they hold and how high they are.

`summarize` writes the layer; the arithmetic is in `geoae.summaries.statistics`. Two shards
are in memory at a time.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from geoae.catalog import VOID, Catalog, ClassTable
from geoae.chunks import RowReader
from geoae.cube import Cube
from geoae.errors import InputError, UsageError
from geoae.layers import would_write, write_layer
from geoae.mixing import threads
from geoae.provenance import Record
from geoae.schema import CODES_TABLE, PATCH, UNUSED, flag_attributes, layer_path, valid_name
from geoae.summaries.statistics import (
    PERCENTILES,
    FloatArray,
    HeightStatistics,
    IntArray,
    class_counts,
    class_fractions,
    count_codes,
    dominant_classes,
    height_statistics,
)

__all__ = ["choose_height", "choose_label", "summarize"]

HEIGHTS_ONLY = "heights"
"""Name of the summary of a cube without labels."""

Progress = Callable[[int, int], None]


def summarize(
    cube: Cube | str | os.PathLike[str],
    *,
    table: str | None = None,
    percentiles: Sequence[float] = PERCENTILES,
    min_valid: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> str:
    """Summarise the labels and heights of every patch and write them as a layer.

    Parameters
    ----------
    cube
        The cube, or its path.
    table
        Name of a class table of the cube's catalog; None for the catalog's default. ``codes`` makes a
        class of every label code that the cube holds, which is also what None does where the catalog
        has no class table. A cube without labels has none: its layer is ``summaries/heights``.
    percentiles
        Percentiles of the heights, 0 to 100.
    min_valid
        A patch has a class (a height) only where at least this fraction of its pixels has a label (a
        height); None for the cube's own.
    overwrite
        Replace the layer if it exists.
    progress
        Called as ``progress(done, total)`` in patches.
    dry_run
        Refuse what would be refused, read no pixel and write nothing.

    Returns
    -------
    str
        Path of the layer in the cube, such as ``summaries/dfc2019``.

    Raises
    ------
    InputError
        If the cube has neither labels nor heights.
    UsageError
        If the catalog has no such class table.
    StoreExistsError
        If the layer exists and was made with other options.
    """
    cube = Cube.open(cube)
    percentiles = _checked_percentiles(percentiles)
    label, height = choose_label(cube), choose_height(cube)
    if label is None and height is None:
        raise InputError(
            f"{cube.path} has neither labels nor heights: nothing to summarise",
            hint="the catalog's modalities of role label and height make them",
        )
    name, classes = _choose_table(cube.catalog, table) if label else (HEIGHTS_ONLY, None)
    minimum = cube.min_valid if min_valid is None else min_valid
    options = {"table": name, "percentiles": list(percentiles), "min_valid": minimum}
    options |= {"label": label, "height": height}
    record = Record(made_by="summarize", options=options, inputs={"cube": cube.cube_id})
    path = layer_path("summaries", name)
    if dry_run:
        would_write(cube, path, record, {}, overwrite=overwrite)
        return path
    rows = _Rows.empty(cube.n_patches, len(percentiles))
    names = [] if label is None else [label, valid_name(label)]
    names += [] if height is None else [height]

    def summarise(part: slice, pixels: dict[str, npt.NDArray[Any]]) -> None:
        if label is not None:
            rows.codes[part] = count_codes(pixels[label], pixels[valid_name(label)])
        if height is not None:
            found = height_statistics(pixels[height], percentiles)
            rows.heights.mean[part], rows.heights.std[part] = found.mean, found.std
            rows.heights.percentile[part], rows.heights.valid[part] = found.percentile, found.valid

    for done in _each_shard(cube, names, summarise):
        if progress is not None:
            progress(done, cube.n_patches)
    dataset = xr.Dataset()
    if name == CODES_TABLE and classes is None:
        classes = _table_of_codes(rows.codes, cube.catalog)
    if classes is not None and label is not None:
        dataset = dataset.merge(_class_variables(rows, classes, cube.catalog, minimum, cube.patch_size**2))
        dataset.attrs |= {"class_table": name, "label_modality": label}
    if height is not None:
        dataset = dataset.merge(_height_variables(rows.heights, percentiles, height, minimum))
        dataset.attrs |= {"height_modality": height}
    record = record.model_copy(update={"counts": _counts(dataset, cube.n_patches)})
    write_layer(cube, path, dataset, record, overwrite=overwrite)
    return path


def choose_label(cube: Cube) -> str | None:
    """Return the label modality that summaries and plots read: the first; None if there is none."""
    return next(iter(cube.by_role("label")), None)


def choose_height(cube: Cube) -> str | None:
    """Return the height modality that summaries and plots read.

    Heights above ground before surfaces: a surface says as much about the terrain as about what
    stands on it. The two are never mixed in one variable.
    """
    names = cube.by_role("height")
    surface = {name: cube.catalog.modalities[name].quantity != "above-ground" for name in names}
    return min(names, key=lambda name: surface[name], default=None)


def _each_shard(
    cube: Cube, names: Sequence[str], work: Callable[[slice, dict[str, npt.NDArray[Any]]], None]
) -> Iterator[int]:
    """Do some work on the pixels of every shard, in threads; yield how many patches are done."""
    readers = {name: RowReader(cube.location / name, cube.array(name)) for name in names}
    # Each thread has its buffers: fresh memory for every shard costs as much as the counting.
    free: SimpleQueue[dict[str, npt.NDArray[Any]]] = SimpleQueue()
    for _ in range(threads()):
        free.put({n: np.empty((cube.shard_length, *r.shape[1:]), r.dtype) for n, r in readers.items()})

    def read_and_work(part: slice) -> int:
        length: int = part.stop - part.start
        buffers = free.get()
        try:
            pixels = {name: buffer[:length] for name, buffer in buffers.items()}
            for name, reader in readers.items():
                reader.read(part.start, part.stop, pixels[name])
            work(part, pixels)
        finally:
            free.put(buffers)
        return length

    with ThreadPoolExecutor(threads()) as pool:
        yield from accumulate(pool.map(read_and_work, cube.shards()))


@dataclass(frozen=True)
class _Rows:
    """What is gathered from the shards: some numbers for every patch."""

    codes: IntArray
    heights: HeightStatistics

    @classmethod
    def empty(cls, n: int, percentiles: int) -> "_Rows":
        heights = HeightStatistics(
            np.full(n, np.nan), np.full(n, np.nan), np.full((n, percentiles), np.nan), np.zeros(n)
        )
        return cls(np.zeros((n, 256), np.int64), heights)


def _checked_percentiles(percentiles: Sequence[float]) -> tuple[float, ...]:
    checked = tuple(float(p) for p in percentiles)
    if not all(0 <= p <= 100 for p in checked) or len(set(checked)) != len(checked):
        raise ValueError(f"percentiles are different numbers from 0 to 100, not {checked}")
    return tuple(sorted(checked))


def _choose_table(catalog: Catalog, name: str | None) -> tuple[str, ClassTable | None]:
    """Return the name of a class table, and the table; None for that of the codes, still to be counted."""
    name = name or catalog.default_class_table or CODES_TABLE
    if name not in catalog.class_tables and name != CODES_TABLE:
        known = ", ".join([*catalog.class_tables, CODES_TABLE])
        raise UsageError(f"catalog {catalog.name} has no class table {name!r}", hint=f"it has: {known}")
    return name, catalog.class_tables.get(name)


def _table_of_codes(codes: IntArray, catalog: Catalog) -> ClassTable | None:
    """Make a class of every code that occurs; None where no pixel has one."""
    there = np.flatnonzero(codes.sum(axis=0)[:VOID]).tolist()
    return ClassTable.of_codes(there, catalog.codes) if there else None


def _class_variables(
    rows: _Rows, table: ClassTable, catalog: Catalog, min_valid: float, pixels: int
) -> xr.Dataset:
    known = rows.codes.sum(axis=1) >= min_valid * pixels  # every valid pixel has one code
    all_counts = class_counts(rows.codes, table)
    counts = np.where(known[:, None], all_counts, 0)
    fraction = class_fractions(counts)
    codes = [entry.code for entry in table.classes]
    names = [entry.name for entry in table.classes]
    dominant = {
        "long_name": "most frequent class of the patch",
        "comment": "of the pixels that have a class; ties go to the lowest code; -1 where there is none",
        **flag_attributes([UNUSED, *codes], ["none", *names]),
    }
    void = _void_codes(rows.codes, table, catalog)
    return xr.Dataset(
        {
            "dominant_class": (PATCH, dominant_classes(counts, codes), dominant),
            "class_fraction": (
                (PATCH, "class"),
                fraction.astype(np.float32),
                {"long_name": "fraction of the labelled pixels that are of a class", "units": "1"},
            ),
            "labelled_fraction": (
                PATCH,
                (all_counts.sum(axis=1) / pixels).astype(np.float32),
                {
                    "long_name": "fraction of the patch's pixels that have a class",
                    "units": "1",
                    "void_codes": [code for code, _, _ in void],
                    "void_pixels": [count for _, count, _ in void],
                    "void_names": [name for _, _, name in void],
                },
            ),
            "purity": (
                PATCH,
                fraction.max(axis=1).astype(np.float32),
                {"long_name": "fraction of the labelled pixels that are of the dominant class", "units": "1"},
            ),
        },
        coords={
            "class": ("class", np.array(names, dtype=object), {"long_name": "class"}),
            "class_code": (
                "class",
                np.array(codes, dtype=np.int16),
                {"long_name": "label code of the class"},
            ),
            "class_color": (
                "class",
                np.array([entry.color for entry in table.classes], dtype=object),
                {"long_name": "colour of the class in plots, #rrggbb"},
            ),
        },
    )


def _void_codes(codes: IntArray, table: ClassTable, catalog: Catalog) -> list[tuple[int, int, str]]:
    """List the codes that occur and have no class: code, pixels in the cube, name or ""."""
    total = codes.sum(axis=0)
    void = (table.lookup() == VOID) & (total > 0)
    return [(int(code), int(total[code]), catalog.codes.get(int(code), "")) for code in np.flatnonzero(void)]


def _height_variables(
    heights: HeightStatistics, percentiles: Sequence[float], modality: str, min_valid: float
) -> xr.Dataset:
    known = (heights.valid > 0) & (heights.valid >= min_valid)
    metres = {"units": "m", "height_modality": modality}

    def keep(values: FloatArray) -> npt.NDArray[np.float32]:
        mask = known if values.ndim == 1 else known[:, None]
        return np.where(mask, values, np.nan).astype(np.float32)

    variables: dict[str, Any] = {
        "mean_height": (
            PATCH,
            keep(heights.mean),
            {"long_name": f"mean of {modality}", **metres, "comment": "NaN where no height is known"},
        ),
        "height_std": (
            PATCH,
            keep(heights.std),
            {"long_name": f"standard deviation of {modality}", **metres},
        ),
        "height_valid": (
            PATCH,
            heights.valid.astype(np.float32),
            {"long_name": f"fraction of the patch's pixels that have {modality}", "units": "1"},
        ),
    }
    if not percentiles:
        return xr.Dataset(variables)
    variables["height_percentile"] = (
        (PATCH, "percentile"),
        keep(heights.percentile),
        {"long_name": f"percentiles of {modality}", **metres},
    )
    coordinate = ("percentile", np.asarray(percentiles, dtype=np.float64), {"units": "percent"})
    return xr.Dataset(variables, coords={"percentile": coordinate})


def _counts(dataset: xr.Dataset, patches: int) -> dict[str, int]:
    counts = {"patches": patches}
    if "dominant_class" in dataset:
        counts["with_class"] = int((dataset["dominant_class"].to_numpy() != UNUSED).sum())
    if "mean_height" in dataset:
        counts["with_height"] = int(np.isfinite(dataset["mean_height"].to_numpy()).sum())
    return counts
