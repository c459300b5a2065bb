"""Ingestion beside the sum of what cannot be left out: decoding the files and encoding the shards."""

import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Figure
from benchmarks.measure import Setting, Work, cores

_KINDS = {"MSI": (8, "uint16"), "RGB": (3, "uint8"), "AGL": (1, "float32"), "CLS": (1, "uint8")}
_MASKED = ("MSI", "RGB", "CLS")
_SIDE = 128
_CHUNK = 16


def prepare(setting: Setting) -> None:
    """Make the cube that other figures read."""
    make_cube(setting.source, setting.cube, min(_SIDE, setting.size))


def make_cube(source: Path, cube: Path, patch: int) -> None:
    """Make a cube that is kept from run to run; again where this geoae would make another one."""
    from geoae.errors import StoreExistsError
    from geoae.ingestion import ingest

    try:
        ingest(source, out=cube, patch=patch)
    except StoreExistsError:
        ingest(source, out=cube, patch=patch, overwrite=True)


def _remove(cube: Path) -> None:
    for path in (cube, cube.with_name(cube.name + ".work")):
        shutil.rmtree(path, ignore_errors=True)


def _ingest(setting: Setting, scenes: int) -> Work:
    from geoae.ingestion import ingest
    from geoae.planning import Selection

    out = setting.folder / f"fresh-{scenes}.zarr"
    _remove(out)

    def work() -> dict[str, float]:
        report = ingest(
            setting.source, out=out, patch=min(_SIDE, setting.size), selection=Selection(limit=scenes)
        )
        return {"patches": report.plan.patches.n_patches, "raw_bytes": report.n_bytes}

    return work


def whole(setting: Setting) -> Work:
    """Ingest all scenes."""
    return _ingest(setting, setting.scenes)


def quarter(setting: Setting) -> Work:
    """Ingest a quarter of the scenes, to see whether memory grows with their number."""
    return _ingest(setting, max(setting.scenes // 4, 1))


def floor(setting: Setting) -> Work:
    """Decode each file and encode its patches and masks once, in one thread, into memory that is there.

    Counted is the processor time of the two and of finding the masks, divided by the cores. Cutting
    patches, hashing, writing files and planning are not counted: they should cost next to nothing.
    """
    import google_crc32c
    import rasterio
    from numcodecs.blosc import Blosc
    from rasterio.errors import NotGeoreferencedWarning

    from geoae.chunks import chunk_codecs

    size, side = setting.size, min(_SIDE, setting.size)
    number = size // side
    shift = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}

    def codec(dtype: str) -> Blosc:
        blosc = chunk_codecs(np.dtype(dtype).itemsize)[0]
        said: dict[str, Any] = dict(blosc.to_dict())["configuration"]  # type: ignore[assignment]
        return Blosc(said["cname"], said["clevel"], shift[said["shuffle"]], said["blocksize"])

    keys = sorted({path.name.rsplit("_", 1)[0] for path in setting.source.iterdir()})
    whole = {kind: np.zeros((bands, size, size), dtype) for kind, (bands, dtype) in _KINDS.items()}
    patches = {
        kind: np.zeros((number, number, bands, side, side), dtype) for kind, (bands, dtype) in _KINDS.items()
    }
    codecs = {kind: codec(dtype) for kind, (_, dtype) in _KINDS.items()}

    def work() -> dict[str, float]:
        spent = {"decoding": 0.0, "codecs": 0.0, "masks": 0.0}

        def encode(values: np.ndarray, blosc: Blosc) -> None:
            start = time.process_time()
            for first in range(0, len(values), _CHUNK):
                google_crc32c.value(blosc.encode(values[first : first + _CHUNK]))
            spent["codecs"] += time.process_time() - start

        options = {
            "GDAL_NUM_THREADS": "1",
            "GDAL_CACHEMAX": 64,
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        }
        with rasterio.Env(**options), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            for key in keys:
                for kind, raster in whole.items():
                    start = time.process_time()
                    with rasterio.open(setting.source / f"{key}_{kind}.tif") as source:
                        source.read(out=raster)
                    spent["decoding"] += time.process_time() - start
                    cut = raster[:, : number * side, : number * side]
                    cut = cut.reshape(len(raster), number, side, number, side).transpose(1, 3, 0, 2, 4)
                    patches[kind][...] = cut
                    encode(patches[kind].reshape(-1, *patches[kind].shape[2:]), codecs[kind])
                    if kind in _MASKED:
                        start = time.process_time()
                        valid = np.bitwise_or.reduce(raster, axis=0) != 0
                        spent["masks"] += time.process_time() - start
                        valid = valid[: number * side, : number * side]
                        valid = valid.reshape(number, side, number, side).swapaxes(1, 2)
                        encode(np.ascontiguousarray(valid).reshape(-1, side, side), codecs["CLS"])
        counted = sum(spent.values())
        return {"seconds": counted / cores(), "cpu": counted, **spent}

    return work


def _scenes(setting: Setting) -> tuple[int, str]:
    return setting.scenes, "scenes"


FIGURES = (
    Figure(
        "ingest",
        "ingest",
        "floor: (decoding + masks + codecs) / cores",
        {"geoae": whole, "other": floor},
        "time",
        1.25,
        amount=_scenes,
    ),
    Figure(
        "ingest-memory",
        "ingest, all scenes",
        "a quarter of them (memory must be flat)",
        {"geoae": whole, "other": quarter},
        "memory",
        1.1,
        most=650e6,
        once=True,
    ),
)
