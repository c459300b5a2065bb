"""Summaries of patches beside reading the bytes that they are made of."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.figures import Figure
from benchmarks.measure import Setting, Work, cores


def _reading(names: Sequence[str], threads: int = 1) -> Callable[[Setting], Work]:
    """Return the side that only decodes some arrays, shard by shard into memory that is there."""

    def side(setting: Setting) -> Work:
        from geoae.chunks import RowReader
        from geoae.cube import Cube

        cube = Cube.open(setting.cube)
        readers = [RowReader(cube.location / name, cube.array(name)) for name in names]
        parts = cube.shards()

        def read(some: list[slice]) -> None:
            buffers = [np.zeros((cube.shard_length, *r.shape[1:]), r.dtype) for r in readers]
            for part in some:
                for reader, buffer in zip(readers, buffers, strict=True):
                    reader.read(part.start, part.stop, buffer[: part.stop - part.start])

        def work() -> dict[str, float]:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(read, [parts[i::threads] for i in range(threads)]))
            return {"bytes": sum(float(np.prod(r.shape)) * r.dtype.itemsize for r in readers)}

        return work

    return side


def _reading_by_zarr(name: str) -> Callable[[Setting], Work]:
    """Return the side that reads an array shard by shard as zarr does it, without geoae."""

    def side(setting: Setting) -> Work:
        import zarr

        array = zarr.open_array(setting.cube / name, mode="r")
        shard = (array.shards or array.chunks)[0]

        def work() -> dict[str, float]:
            for start in range(0, array.shape[0], shard):
                array[start : start + shard]
            return {"bytes": float(array.nbytes)}

        return work

    return side


def fractions(setting: Setting) -> Work:
    """Read labels and masks, count codes, make fractions of classes."""
    from geoae.chunks import RowReader
    from geoae.cube import Cube
    from geoae.summaries.statistics import class_counts, class_fractions, count_codes

    cube = Cube.open(setting.cube)
    label, mask = (RowReader(cube.location / n, cube.array(n)) for n in ("label", "label_valid"))
    table = cube.catalog.class_tables[str(cube.catalog.default_class_table)]
    labels = np.zeros((cube.shard_length, *label.shape[1:]), label.dtype)
    valid = np.zeros((cube.shard_length, *mask.shape[1:]), mask.dtype)

    def work() -> dict[str, float]:
        total = 0.0
        for part in cube.shards():
            n = part.stop - part.start
            label.read(part.start, part.stop, labels[:n])
            mask.read(part.start, part.stop, valid[:n])
            found = class_fractions(class_counts(count_codes(labels[:n], valid[:n]), table))
            total += float(np.nansum(found))
        return {"sum": total}

    return work


def heights(setting: Setting) -> Work:
    """Read heights, take their means and deviations."""
    from geoae.chunks import RowReader
    from geoae.cube import Cube
    from geoae.summaries.statistics import height_statistics

    cube = Cube.open(setting.cube)
    reader = RowReader(cube.location / "agl", cube.array("agl"))
    buffer = np.zeros((cube.shard_length, *reader.shape[1:]), reader.dtype)

    def work() -> dict[str, float]:
        total = 0.0
        for part in cube.shards():
            n = part.stop - part.start
            reader.read(part.start, part.stop, buffer[:n])
            total += float(np.nansum(height_statistics(buffer[:n], ()).mean))
        return {"sum": total}

    return work


def everything(setting: Setting) -> Work:
    """Run the command: classes, heights with percentiles, and the layer written."""
    from geoae.cube import Cube
    from geoae.layers import remove_layer
    from geoae.summaries import summarize

    cube = Cube.open(setting.cube)
    for info in cube.layers():
        if info.kind == "summaries":
            remove_layer(cube, info.path)

    def work() -> dict[str, float]:
        summarize(setting.cube)
        return {}

    return work


FIGURES = (
    Figure(
        "classes",
        "class fractions",
        "floor: reading labels and masks",
        {"geoae": fractions, "other": _reading(("label", "label_valid"))},
        "time",
        2.0,
    ),
    Figure(
        "heights",
        "mean height and its deviation",
        "floor: reading heights",
        {"geoae": heights, "other": _reading(("agl",))},
        "time",
        1.2,
    ),
    Figure(
        "heights-zarr",
        "mean height and its deviation",
        "floor: reading heights by zarr itself",
        {"geoae": heights, "other": _reading_by_zarr("agl")},
        "time",
        1.2,
    ),
    Figure(
        "summarize",
        "summarize: classes, heights, percentiles, layer",
        "floor: reading them, as many threads",
        {"geoae": everything, "other": _reading(("label", "label_valid", "agl"), cores())},
        "time",
        None,
    ),
)
