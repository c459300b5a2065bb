"""Latents: the shards of a layer of latent vectors, their sizes, and how they are computed.

An encoder that allows it is called by several threads at a time, each of which reads its patches and computes
with one core. On a processor that beats arithmetic by all cores at once: nobody waits for the slowest part of
every operation, and while one thread decompresses, another one multiplies.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt

from geoae import schema
from geoae.batches import CubePatches
from geoae.calls import Wants, calling, compute
from geoae.cube import Cube
from geoae.fitting import Progress
from geoae.layers import LayerWriter
from geoae.mixing import threads
from geoae.models import Model
from geoae.store import ArraySpec

__all__ = ["compute_shards", "latent_specs", "shard_rows"]

BATCH = 256
"""Most patches per call of an encoder; fixed, so that equal cubes give equal calls."""

_BATCH_BYTES = 56 * 2**20
"""Of the images of a batch where every thread has one of its own. From 64 MB on glibc asks the system for the
memory of a thread each time, which has to be cleared."""

_SHARD_BYTES = 4 * 2**20
_SHARD_ROWS = 4096
"""A shard of latents: a few MB, so that small vectors do not make thousands of files, and at most so
many patches, so that a killed run loses little."""

_TITLES = {
    "z": "latent vector; NaN for patches that cannot be used",
    "log_var": "logarithm of the variance of the latent distribution",
    "error": "root mean square error of the reconstruction over valid pixels, normalised units",
    "band_error": "the same, channel by channel",
    "reconstruction": "what the decoder makes of the latent vector, normalised units",
}
_DIMS = {"error": (), "band_error": ("channel",), "reconstruction": ("channel", "y", "x")}

Rows = npt.NDArray[np.int64]
Values = Mapping[str, npt.NDArray[np.float32]]


def shard_rows(cube: Cube, width: int) -> int:
    """Return the patches in a shard of latents of `width` numbers each: whole shards of the cube's pixels."""
    length = cube.shard_length
    return max(min(_SHARD_BYTES // (4 * width), _SHARD_ROWS) // length, 1) * length


def latent_specs(cube: Cube, model: Model, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, ArraySpec]:
    """Describe the arrays of a latent layer; their shards are whole numbers of the cube's.

    Parameters
    ----------
    cube
        The cube.
    model
        The model.
    shapes
        By the name of the array: shape of what is stored of a patch.
    """
    length = cube.shard_length
    rows = shard_rows(cube, max(math.prod(shape) for shape in shapes.values()))
    specs = {}
    for name, shape in shapes.items():
        dims = _DIMS.get(name, ("component",))
        attributes: dict[str, Any] = {"long_name": _TITLES.get(name, name), "units": "1"}
        if "channel" in dims:
            attributes["channels"] = [str(c.channel) for c in model.spec.target or model.spec.channels]
        if name == "reconstruction":
            # value = number * scale + offset, channel by channel
            scale = model.spec.target_normalisation or model.spec.normalisation
            attributes |= {"offset": list(scale.offset), "scale": list(scale.scale)}
        specs[name] = ArraySpec(
            (cube.n_patches, *shape), (schema.PATCH, *dims), "float32", rows, length, attributes
        )
    return specs


def compute_shards(
    model: Model,
    source: CubePatches,
    specs: Mapping[str, ArraySpec],
    writer: LayerWriter,
    wants: Wants,
    progress: Progress | None = None,
) -> None:
    """Compute and write the shards that are not there yet.

    Parameters
    ----------
    model
        The model.
    source
        The usable patches.
    specs
        From `latent_specs`.
    writer
        Of the layer.
    wants
        What is wanted of a decoder.
    progress
        Told which patches are begun.

    Raises
    ------
    PluginError
        If the encoder breaks its contract.
    """
    done = writer.done()
    n_patches = specs["z"].shape[0]
    length = specs["z"].shard or n_patches
    shards = np.split(source.rows, np.searchsorted(source.rows, range(length, n_patches, length)))
    results = _computed(model, source, [rows for k, rows in enumerate(shards) if k not in done], wants)
    with closing(results):
        for shard, rows in enumerate(shards):
            start, stop = shard * length, min((shard + 1) * length, n_patches)
            if progress is not None:
                progress("encode", start, n_patches, {})
            if shard in done:
                continue
            values = {n: np.full((stop - start, *s.shape[1:]), np.nan, np.float32) for n, s in specs.items()}
            missing = len(rows)
            while missing:
                index, computed = next(results)
                for name, into in values.items():
                    into[index - start] = computed[name]
                missing -= len(index)
            writer.write(shard, values)
    if progress is not None:
        progress("encode", n_patches, n_patches, {})


def _computed(
    model: Model, source: CubePatches, shards: Sequence[Rows], wants: Wants
) -> Generator[tuple[Rows, Values], None, None]:
    """Compute patches, shard by shard; yield rows and what is stored of them, none of two shards."""
    encoder, who = model.encoder, model.spec.encoder_name
    with calling(who, "single_threaded"):
        alone = encoder.single_threaded()
    if alone is None:
        for rows in shards:
            for batch in source.only(rows).batches(BATCH):
                yield batch.index, compute(encoder, batch, who, wants)
        return
    read = source.here()

    def work(rows: Rows) -> Values:
        with alone:
            return compute(encoder, read(rows), who, wants, cores=1)

    size = _rows_of_a_thread(source)
    # Between chunks, none of which is then read twice.
    parts = [
        p for rows in shards for p in np.split(rows, np.flatnonzero(np.diff(rows // size)) + 1) if len(p)
    ]
    yield from _by_threads(work, parts)


def _rows_of_a_thread(source: CubePatches) -> int:
    """Return how many patches a thread takes at a time: whole chunks."""
    y, x = source.patch_shape
    rows = min(_BATCH_BYTES // (4 * len(source.channels) * y * x), BATCH)
    return max(rows // source.chunk, 1) * source.chunk


def _by_threads(
    work: Callable[[Rows], Values], parts: Sequence[Rows]
) -> Generator[tuple[Rows, Values], None, None]:
    """Yield parts and what threads make of them, in order; not many are ahead of their use."""
    count = threads()
    pending: deque[tuple[Rows, Future[Values]]] = deque()
    pool = ThreadPoolExecutor(count)
    try:
        for rows in parts:
            pending.append((rows, pool.submit(work, rows)))
            if len(pending) > 2 * count:  # some for each thread while a shard is written
                begun, future = pending.popleft()
                yield begun, future.result()
        for begun, future in pending:
            yield begun, future.result()
    finally:
        # After an error or an interruption each thread ends with its part.
        pool.shutdown(cancel_futures=True)
