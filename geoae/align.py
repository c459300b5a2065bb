"""Alignment: every modality of a scene on one reference grid.

`SceneReader` gives plain numpy windows and is what ingestion calls; `align` is the lazy xarray view of
the same, for notebooks and checks.

What lies on the reference grid is copied bit for bit. What does not is warped in fixed blocks of the
reference grid, each from its own source window with a halo (see `geoae.warp`), so that a pixel's value
does not depend on the window, patch or task that asked for it.
"""

import math
from collections import OrderedDict
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from geoae import schema
from geoae.catalog import Catalog, Modality
from geoae.errors import SceneError
from geoae.grid import Window
from geoae.pixels import Pixels, clean, void_pixels
from geoae.raster import RasterHeader, RasterReader
from geoae.scene import SceneHeader
from geoae.warp import source_ratio, source_window, warp

__all__ = ["BLOCK", "SceneReader", "Scratch", "align", "channels_of"]

BLOCK = 512
"""Side of a warp block in pixels of the reference grid, at most."""

BLOCK_BYTES = 1 << 27
"""Most bytes of source pixels that one warp block needs: under a coarse reference blocks are smaller."""

_HISTOGRAM_ROWS = 256


def channels_of(modality: str, description: Modality, header: RasterHeader | None) -> tuple[str, ...]:
    """Name the bands of an image: the catalog's, else ``band_1`` and so on from its header."""
    if header is None and description.bands is None and description.band_indices is None:
        raise ValueError(f"the bands of {modality!r} are known neither from the catalog nor from a file")
    return description.band_names(0 if header is None else header.count)


class Scratch:
    """Memory that is used again for every window: fresh memory costs more than some decoders do."""

    def __init__(self) -> None:
        self._memory: dict[str, npt.NDArray[np.uint8]] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return an array of unknown content, valid until the next call with that name."""
        size = math.prod(shape) * dtype.itemsize
        if name not in self._memory or len(self._memory[name]) < size:
            self._memory[name] = np.empty(size, np.uint8)
        return self._memory[name][:size].view(dtype).reshape(shape)


class SceneReader:
    """Read windows of a scene's reference grid. Open it in the task and the thread that reads.

    Parameters
    ----------
    header
        The scene with its checked headers.
    catalog
        How the data set looks.
    cache_bytes
        Memory for warped blocks that neighbouring windows share.
    scratch
        Memory to read into, which the readers of one thread may share: what `read` returns is then valid
        until the next reading of that modality. None for fresh memory.
    """

    def __init__(
        self,
        header: SceneHeader,
        catalog: Catalog,
        *,
        cache_bytes: int = 96 * 2**20,
        scratch: Scratch | None = None,
    ) -> None:
        if header.grid is None:
            raise SceneError(f"scene {header.scene.key} has no grid: {header.status}")
        self.header = header
        self.grid = header.grid
        self._catalog = catalog
        self._cache_bytes = cache_bytes
        self._scratch = scratch
        self._readers: dict[str, RasterReader] = {}
        self._files = ExitStack()
        self._blocks: OrderedDict[tuple[str, int, int], Pixels] = OrderedDict()
        self._stretches: dict[str, npt.NDArray[np.float64]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        self._files.close()
        self._readers.clear()
        self._blocks.clear()

    def read(self, modality: str, window: Window) -> Pixels | None:
        """Read a window of one modality on the reference grid.

        Parameters
        ----------
        modality
            Its name in the catalog.
        window
            In pixels of the reference grid; what lies outside the grid is void.

        Returns
        -------
        Pixels or None
            None if the scene has no such modality.

        Raises
        ------
        SceneError
            If a file cannot be decoded; the message names file, band and window.
        """
        how = self.header.provided.get(modality, "missing")
        if how == "missing":
            return None
        inside = window.clipped(self.grid.shape)
        if inside != window:
            return self._padded(modality, window, inside)
        if how == "extracted":
            return self._extract(modality, window)
        if self.grid.same_as(self.header.grids[modality]):
            return self._clean(modality, self._read_source(modality, window))
        return self._warped(modality, window)

    def _padded(self, modality: str, window: Window, inside: Window) -> Pixels | None:
        pixels = self.read(modality, inside)
        if pixels is None:
            return None
        top, left = inside.y - window.y, inside.x - window.x
        shape = (window.height, window.width)
        # As everywhere: heights are NaN where void, images 0, also those of floating-point numbers.
        void = math.nan if self._catalog.modalities[modality].role == "height" else 0
        values = np.full((*pixels.values.shape[:-2], *shape), void, pixels.values.dtype)
        valid = np.zeros(shape, bool)
        part = np.s_[..., top : top + inside.height, left : left + inside.width]
        values[part] = pixels.values
        valid[part] = pixels.valid
        return Pixels(values, valid)

    def _reader(self, modality: str) -> RasterReader:
        if modality not in self._readers:
            reader = RasterReader(self.header.headers[modality])
            self._readers[modality] = self._files.enter_context(reader)
        return self._readers[modality]

    def _read_source(self, modality: str, window: Window) -> npt.NDArray[Any]:
        bands = self._catalog.modalities[modality].band_indices
        header = self.header.headers[modality]
        shape = (header.count if bands is None else len(bands), window.height, window.width)
        out = None if self._scratch is None else self._scratch.take(modality, shape, np.dtype(header.dtype))
        return self._reader(modality).read(window, bands, out)

    def _clean(self, modality: str, raw: npt.NDArray[Any]) -> Pixels:
        return clean(self._catalog.modalities[modality], self.header.headers[modality], raw)

    def _extract(self, modality: str, window: Window) -> Pixels:
        """Make an 8-bit picture of some bands of another image."""
        extraction = self._catalog.modalities[modality].extract
        if extraction is None:
            raise ValueError(f"{modality!r} is not extracted from another modality")
        description = self._catalog.modalities[extraction.modality]
        names = channels_of(extraction.modality, description, self.header.headers.get(extraction.modality))
        positions = [names.index(name) for name in extraction.bands]
        if modality not in self._stretches:
            self._stretches[modality] = self._percentiles(
                extraction.modality, positions, extraction.percentiles
            )
        # After the percentiles, which read the same modality.
        source = self.read(extraction.modality, window)
        if source is None:
            raise SceneError(f"scene {self.header.scene.key}: {extraction.modality} is missing")
        limits = self._stretches[modality]
        values = source.values[positions].astype(np.float32)
        low = limits[:, 0, None, None].astype(np.float32)
        span = np.maximum(limits[:, 1] - limits[:, 0], 1)[:, None, None].astype(np.float32)
        # Black means void in an 8-bit picture, so the darkest valid pixel gets 1.
        scaled = np.clip(np.rint((values - low) * (254 / span)) + 1, 1, 255).astype(np.uint8)
        scaled[:, ~source.valid] = 0
        return Pixels(scaled, source.valid)

    def _percentiles(
        self, modality: str, positions: list[int], percentiles: tuple[float, float]
    ) -> npt.NDArray[np.float64]:
        """Percentiles ``(band, 2)`` of all valid pixels of the source file, strip by strip."""
        header = self.header.headers[modality]
        if np.dtype(header.dtype).kind != "u" or np.dtype(header.dtype).itemsize > 2:
            raise SceneError(
                f"scene {self.header.scene.key}: a picture can be extracted from 8- or 16-bit unsigned "
                f"bands, not from {header.dtype}"
            )
        counts = np.zeros((len(positions), 65536), np.int64)
        height, width = header.grid.shape
        for y in range(0, height, _HISTOGRAM_ROWS):
            strip = Window(y, 0, min(_HISTOGRAM_ROWS, height - y), width)
            pixels = self._clean(modality, self._read_source(modality, strip))
            for i, position in enumerate(positions):
                counts[i] += np.bincount(pixels.values[position][pixels.valid], minlength=65536)
        return np.array([_histogram_percentiles(row, percentiles) for row in counts])

    def _warped(self, modality: str, window: Window) -> Pixels:
        """Assemble a window from warped blocks."""
        parts: dict[tuple[int, int], Pixels] = {}
        side = self._side(modality)
        first_y, first_x = window.y // side, window.x // side
        last_y, last_x = (window.y + window.height - 1) // side, (window.x + window.width - 1) // side
        for by in range(first_y, last_y + 1):
            for bx in range(first_x, last_x + 1):
                parts[by, bx] = self._block(modality, by, bx)
        sample = parts[first_y, first_x].values
        values = np.empty((*sample.shape[:-2], window.height, window.width), sample.dtype)
        valid = np.empty((window.height, window.width), bool)
        for (by, bx), block in parts.items():
            y0, x0 = by * side - window.y, bx * side - window.x
            height, width = block.valid.shape
            ys, xs = max(y0, 0), max(x0, 0)
            ye, xe = min(y0 + height, window.height), min(x0 + width, window.width)
            source = np.s_[..., ys - y0 : ye - y0, xs - x0 : xe - x0]
            values[..., ys:ye, xs:xe] = block.values[source]
            valid[ys:ye, xs:xe] = block.valid[source]
        return Pixels(values, valid)

    def _side(self, modality: str) -> int:
        """Return the side of a modality's warp blocks, from the grids alone: it is always the same."""
        header = self.header.headers[modality]
        pixel_bytes = header.count * max(np.dtype(header.dtype).itemsize, 4)
        ratio = source_ratio(self.header.grids[modality], self.grid)
        side = BLOCK
        while side > 1 and (side * ratio) ** 2 * pixel_bytes > BLOCK_BYTES:
            side //= 2
        return side

    def _block(self, modality: str, by: int, bx: int) -> Pixels:
        key = (modality, by, bx)
        if key in self._blocks:
            self._blocks.move_to_end(key)
            return self._blocks[key]
        side = self._side(modality)
        block = self._warp_block(modality, Window(by * side, bx * side, side, side).clipped(self.grid.shape))
        self._blocks[key] = block
        while sum(b.values.nbytes + b.valid.nbytes for b in self._blocks.values()) > self._cache_bytes:
            if len(self._blocks) == 1:
                break
            self._blocks.popitem(last=False)
        return block

    def _warp_block(self, modality: str, window: Window) -> Pixels:
        description = self._catalog.modalities[modality]
        source, target = self.header.grids[modality], self.grid.sub(window)
        read = source_window(target, source, scene_grid=self.grid)
        shape = (window.height, window.width)
        if read is None:
            count = len(channels_of(modality, description, self.header.headers[modality]))
            return void_pixels(description, self.header.headers[modality].dtype, count, shape)
        pixels = self._clean(modality, self._read_source(modality, read))
        return warp(
            pixels,
            source.sub(read),
            target,
            scene_grid=self.grid,
            source_grid=source,
            resampling=description.resampling,
        )


def _histogram_percentiles(
    counts: npt.NDArray[np.int64], percentiles: tuple[float, float]
) -> tuple[float, float]:
    """Return the values below which a share of the counted pixels lies; 0 and 1 for none."""
    total = int(counts.sum())
    if not total:
        return 0.0, 1.0
    cumulative = np.cumsum(counts)
    low, high = (int(np.searchsorted(cumulative, total * p / 100)) for p in percentiles)
    return float(low), float(high)


def _read_window(
    header: SceneHeader, catalog: Catalog, modality: str, what: str, block_info: Any = None
) -> npt.NDArray[Any]:
    """Read one Dask block: opens and closes the files itself, so it can run anywhere."""
    location = block_info[None]["array-location"][-2:]
    (y0, y1), (x0, x1) = location
    with SceneReader(header, catalog) as reader:
        pixels = reader.read(modality, Window(y0, x0, y1 - y0, x1 - x0))
    if pixels is None:
        raise SceneError(f"scene {header.scene.key} has no {modality}")
    values: npt.NDArray[Any] = getattr(pixels, what)
    return values


def align(header: SceneHeader, catalog: Catalog, *, chunk: int = 1024) -> xr.Dataset:
    """Give a scene as one lazy Dataset on its reference grid.

    Parameters
    ----------
    header
        The scene, see `geoae.scene.read_scene`.
    catalog
        How the data set looks.
    chunk
        Side of a Dask chunk in pixels.

    Returns
    -------
    xarray.Dataset
        For each modality that is there: images ``(<name>_band, y, x)``, heights and labels ``(y, x)``,
        and masks ``<name>_valid (y, x)`` for images and labels; all backed by Dask. Pixels are read
        when they are computed.

    Raises
    ------
    SceneError
        If the scene has no usable grid.
    """
    import dask.array as da  # put off: only this view needs Dask's arrays, and they cost 0.3 s

    if header.grid is None:
        raise SceneError(f"scene {header.scene.key} has no grid: {header.status}")
    height, width = header.grid.shape
    chunks = (
        tuple(min(chunk, height - y) for y in range(0, height, chunk)),
        tuple(min(chunk, width - x) for x in range(0, width, chunk)),
    )

    def lazy(modality: str, what: str, dtype: Any, lead: tuple[int, ...] = ()) -> Any:
        return da.map_blocks(
            _read_window,
            header,
            catalog,
            modality,
            what,
            chunks=(*((n,) for n in lead), *chunks),
            dtype=dtype,
            meta=np.empty((0,) * (len(lead) + 2), dtype),
        )

    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {}
    for name, description in catalog.modalities.items():
        how = header.provided.get(name, "missing")
        if how == "missing":
            continue
        attributes = {"long_name": description.title, "alignment": how}
        if description.role == "image":
            dim = schema.band_dim(name)
            bands = channels_of(name, description, header.headers.get(name))
            dtype = "uint8" if how == "extracted" else header.headers[name].dtype
            variables[name] = ((dim, "y", "x"), lazy(name, "values", dtype, (len(bands),)), attributes)
            coordinates[dim] = list(bands)
        elif description.role == "height":
            variables[name] = (("y", "x"), lazy(name, "values", "float32"), {**attributes, "units": "m"})
        else:
            variables[name] = (("y", "x"), lazy(name, "values", "uint8"), attributes)
        if description.role != "height":
            variables[schema.valid_name(name)] = (("y", "x"), lazy(name, "valid", "bool"))
    attributes = {
        "scene": header.scene.key,
        "crs": header.grid.crs or "",
        "transform": header.grid.transform[:6],
    }
    return xr.Dataset(variables, coordinates, attributes)
