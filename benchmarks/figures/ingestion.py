"""Ingestion beside the sum of what cannot be left out: decoding the files and encoding the shards."""

import hashlib
import shutil
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Figure
from benchmarks.measure import Setting, Work, cores
from geoae.flushing import flush_below

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


def _fresh(setting: Setting, what: str) -> Path:
    """Name a place that nothing was ever at.

    ext4 avoids the inodes of files removed within the last minute, and looks at each of them for each new
    file: where a cube was just removed, the next one takes a tenth longer.
    """
    number = len([*setting.folder.glob(f"fresh-{what}-*.zarr")])
    return setting.folder / f"fresh-{what}-{number}.zarr"


def remove_fresh(folder: Path) -> None:
    """Remove what the figures have made."""
    for path in folder.glob("fresh-*"):
        shutil.rmtree(path)


def _ingest(setting: Setting, scenes: int) -> Work:
    from geoae.ingestion import ingest
    from geoae.planning import Selection

    out = _fresh(setting, str(scenes))

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


class _Bare:
    """What ingestion cannot leave out of a scene, in memory that is there; one for each thread."""

    def __init__(self, setting: Setting, into: Path | None = None) -> None:
        from numcodecs.blosc import Blosc

        from geoae.chunks import chunk_codecs

        shift = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}

        def codec(dtype: str) -> Blosc:
            blosc = chunk_codecs(np.dtype(dtype).itemsize)[0]
            said: dict[str, Any] = dict(blosc.to_dict())["configuration"]  # type: ignore[assignment]
            return Blosc(said["cname"], said["clevel"], shift[said["shuffle"]], said["blocksize"])

        size, side = setting.size, min(_SIDE, setting.size)
        number = size // side
        self._source, self._into = setting.source, into
        self._whole = {kind: np.zeros((bands, size, size), dtype) for kind, (bands, dtype) in _KINDS.items()}
        self._patches = {
            kind: np.zeros((number, number, bands, side, side), dtype)
            for kind, (bands, dtype) in _KINDS.items()
        }
        self._valid = np.zeros((number, number, side, side), bool)
        self._codecs = {kind: codec(dtype) for kind, (_, dtype) in _KINDS.items()}
        self.spent = {"decoding": 0.0, "codecs": 0.0, "masks": 0.0}

    def scene(self, key: str) -> None:
        """Decode, cut and encode a scene; hash and write it where there is a folder to write to."""
        import rasterio

        for kind, raster in self._whole.items():
            start = time.thread_time()
            with rasterio.open(self._source / f"{key}_{kind}.tif") as source:
                source.read(out=raster)
            self.spent["decoding"] += time.thread_time() - start
            number, _, bands, side, _ = self._patches[kind].shape
            cut = raster[:, : number * side, : number * side].reshape(bands, number, side, number, side)
            self._patches[kind][...] = cut.transpose(1, 3, 0, 2, 4)
            self._encode(f"{key}-{kind}", self._patches[kind], self._codecs[kind])
            if kind in _MASKED:
                start = time.thread_time()
                valid = np.bitwise_or.reduce(raster, axis=0) != 0
                self.spent["masks"] += time.thread_time() - start
                cut = valid[: number * side, : number * side].reshape(number, side, number, side)
                self._valid[...] = cut.swapaxes(1, 2)
                self._encode(f"{key}-{kind}-valid", self._valid, self._codecs["CLS"])

    def _encode(self, name: str, patches: np.ndarray, blosc: Any) -> None:
        import google_crc32c

        values = patches.reshape(-1, *patches.shape[2:])
        start = time.thread_time()
        pieces = []
        for first in range(0, len(values), _CHUNK):
            pieces.append(blosc.encode(values[first : first + _CHUNK]))
            google_crc32c.value(pieces[-1])
        self.spent["codecs"] += time.thread_time() - start
        if self._into is not None:
            digest = hashlib.sha256()
            for piece in pieces:
                digest.update(piece)
            with (self._into / name).open("wb") as file:
                file.writelines(pieces)


def _keys(setting: Setting) -> list[str]:
    return sorted({path.name.rsplit("_", 1)[0] for path in setting.source.iterdir()})


def _environment() -> Any:
    import rasterio

    return rasterio.Env(
        GDAL_NUM_THREADS="1", GDAL_CACHEMAX=64 << 20, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"
    )


@contextmanager
def _without_warning() -> Iterator[None]:
    """Silence rasterio about files without a CRS, in all threads: around them, not in each."""
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def floor(setting: Setting) -> Work:
    """Decode each file and encode its patches and masks once, in one thread, into memory that is there.

    Counted is the processor time of the two and of finding the masks, divided by the cores. Cutting
    patches, hashing, writing files and planning are not counted: they should cost next to nothing.
    """
    keys, bare = _keys(setting), _Bare(setting)

    def work() -> dict[str, float]:
        with _without_warning(), _environment():
            for key in keys:
                bare.scene(key)
        counted = sum(bare.spent.values())
        return {"seconds": counted / cores(), "cpu": counted, **bare.spent}

    return work


def loop(setting: Setting) -> Work:
    """Do all that ends in a shard, in as many threads as cores: also cut, hash, write and flush.

    No plan, no journal, no checks, no statistics: what a loop of forty lines would do.
    """
    keys = iter(_keys(setting))
    turn = threading.Lock()
    into = _fresh(setting, "bare")
    into.mkdir()
    threads = [_Bare(setting, into) for _ in range(cores())]

    def run(bare: _Bare) -> None:
        with _environment():
            while True:
                with turn:
                    key = next(keys, None)
                if key is None:
                    return
                bare.scene(key)

    def work() -> dict[str, float]:
        with _without_warning(), ThreadPoolExecutor(len(threads)) as pool:
            for done in [pool.submit(run, bare) for bare in threads]:
                done.result()
        flush_below(into)
        return {}

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
        "ingest-bare",
        "ingest",
        "floor: a loop that also cuts, hashes and writes",
        {"geoae": whole, "other": loop},
        "time",
        None,
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
