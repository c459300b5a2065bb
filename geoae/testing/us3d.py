"""A synthetic US3D: folders of images that look, are named and are flawed like those of DFC2019's Track 1."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import rasterio
import tifffile
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from geoae.testing.camera import acquisition
from geoae.testing.canvas import GSD, FloatArray, generator
from geoae.testing.plans import CITIES, tile_number, tile_rank
from geoae.testing.town import build_town
from geoae.testing.views import SyntheticView, expose, tile_views

__all__ = [
    "KINDS",
    "Layout",
    "Missing",
    "MsiLayout",
    "Progress",
    "write_georeferenced",
    "write_us3d",
]

#: Kinds of files of a view, in the order in which they are written.
KINDS = ("RGB", "MSI", "AGL", "CLS")

Layout = Literal["track1", "train", "flat"]
MsiLayout = Literal["hwc", "bands"]
Missing = float | Mapping[str, Sequence[str]]
Progress = Callable[[int, int], None]


def _numbers(city: str, tiles: int | Sequence[int]) -> list[int]:
    """Return the tile numbers of a city, ascending."""
    if city not in CITIES:
        raise ValueError(f"unknown city {city!r}: choose from {', '.join(sorted(CITIES))}")
    if isinstance(tiles, int):
        if not 1 <= tiles <= 997:
            raise ValueError(f"tiles must be between 1 and 997, got {tiles}")
        return sorted(tile_number(city, k) for k in range(tiles))
    wrong = [tile for tile in tiles if not 0 <= tile < 997]
    if wrong:
        raise ValueError(f"tile numbers must be between 0 and 996, got {wrong[0]}")
    return sorted(set(tiles))


def _absent(name: str, missing: Missing, seed: int) -> frozenset[str]:
    """Return the kinds of files that a scene lacks."""
    if isinstance(missing, Mapping):
        return frozenset(missing.get(name, ()))
    rng = generator(seed, "missing", name)
    if rng.random() >= missing:
        return frozenset()
    # Most people leave out the big MSI files; validation scenes come without truth.
    lacking: tuple[tuple[str, ...], ...] = (("MSI",), ("MSI",), ("AGL", "CLS"), ("AGL",), ("CLS",), ("RGB",))
    return frozenset(lacking[int(rng.integers(len(lacking)))])


def _folder(layout: Layout, kind: str, rank: int) -> str:
    """Return the folder of a file inside the data set."""
    if layout == "flat":
        return "."
    if kind == "MSI":
        part = f"Track1-MSI-{rank % 3 + 1}"
    else:
        part = "Track1-RGB" if kind == "RGB" else "Track1-Truth"
    return part if layout == "track1" else f"Train-{part}/{part}"


def write_us3d(
    folder: str | Path,
    *,
    cities: Sequence[str] = ("JAX", "OMA"),
    tiles: int | Sequence[int] = 10,
    views: int = 3,
    size: int = 512,
    seed: int = 0,
    layout: Layout = "track1",
    msi_layout: MsiLayout = "hwc",
    missing: Missing | None = None,
    quirks: bool = True,
    compress: str | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Write a synthetic US3D data set.

    A view depends on nothing but `seed`, `size`, its city, tile and number: the same bytes whatever else is
    asked for.

    Parameters
    ----------
    folder : path
        Created where it does not exist; files of the same name are replaced.
    cities : sequence of str, optional
        Of "JAX" and "OMA".
    tiles : int or sequence of int, optional
        How many tiles a city, or the numbers of the tiles (0..996).
    views : int, optional
        Greatest number of views of a tile; tiles have between one and this many.
    size : int, optional
        Side of the images, pixels of 0.32 m. The real ones have 1024.
    seed : int, optional
        Another seed, another data set.
    layout : {"track1", "train", "flat"}, optional
        Folders: ``Track1-RGB``, ``Track1-MSI-1|2|3``, ``Track1-Truth``; the same inside ``Train-...``
        folders; or all in one.
    msi_layout : {"hwc", "bands"}, optional
        "hwc": written by tifffile as H x W x 8 without saying so in the header, which GDAL opens as one band
        of width 8, like the real files; "bands": by GDAL, band first.
    missing : float or mapping, optional
        Share of the scenes that lack some file, or scene name to the kinds it lacks. By default 0.1 with
        `quirks`, else 0.
    quirks : bool, optional
        Flaw the truth as the real one is (see `make_view`).
    compress : str, optional
        GDAL's name of a compression for all but the "hwc" MSI, which has none.
    progress : callable, optional
        Called with the number of views done and of all views.

    Returns
    -------
    list of Path
        The files, sorted.

    Raises
    ------
    ValueError
        Unknown city, layout or kind, or a number out of range.
    """
    if layout not in get_args(Layout) or msi_layout not in get_args(MsiLayout):
        raise ValueError(f"unknown layout {layout!r} or msi_layout {msi_layout!r}")
    if size < 16 or views < 1:
        raise ValueError(f"size must be at least 16 and views at least 1, got {size} and {views}")
    if missing is None:
        missing = 0.1 if quirks else 0.0
    if isinstance(missing, Mapping) and (
        odd := {kind for kinds in missing.values() for kind in kinds} - set(KINDS)
    ):
        raise ValueError(f"unknown kind {min(odd)!r} in missing: choose from {', '.join(KINDS)}")
    plan = [
        (city, tile, tile_views(city, tile, views, seed)) for city in cities for tile in _numbers(city, tiles)
    ]
    total, done = sum(len(numbers) for _, _, numbers in plan), 0
    root, written = Path(folder), []
    for city, tile, numbers in plan:
        town = build_town(city, tile, size, seed)
        for view in numbers:
            made = expose(town, view, seed, quirks)
            for kind in KINDS:
                if kind in _absent(made.name, missing, seed):
                    continue
                path = root / _folder(layout, kind, tile_rank(city, tile)) / f"{made.name}_{kind}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(path, kind, made, msi_layout, compress)
                written.append(path)
            done += 1
            if progress is not None:
                progress(done, total)
    return sorted(written)


def _write(path: Path, kind: str, made: SyntheticView, msi_layout: MsiLayout, compress: str | None) -> None:
    """Write one file as the real data set has it: without CRS, transform, nodata tag."""
    if kind == "MSI" and msi_layout == "hwc":
        write_hwc(path, made.msi)
        return
    rasters: dict[str, NDArray[np.generic]] = {
        "RGB": made.rgb,
        "MSI": made.msi,
        "AGL": made.agl[None],
        "CLS": made.label[None],
    }
    _write_gtiff(path, rasters[kind], compress=compress)


def write_hwc(path: Path, image: NDArray[np.uint16]) -> None:
    """Write a band-first image by tifffile as H x W x bands: GDAL takes it for H pages of W x bands.

    Parameters
    ----------
    path : Path
    image : ndarray, shape (band, y, x), uint16
    """
    rows = np.ascontiguousarray(np.moveaxis(image, 0, -1))
    tifffile.imwrite(
        path, rows, photometric="minisblack", metadata=None, description=json.dumps({"shape": rows.shape})
    )


def _write_gtiff(
    path: Path, image: NDArray[np.generic], *, compress: str | None = None, **profile: object
) -> None:
    """Write a band-first raster as GeoTIFF."""
    count, rows, cols = image.shape
    if compress is not None:
        profile = {**profile, "compress": compress}
    if count == 3 and image.dtype == np.uint8:
        profile = {**profile, "photometric": "RGB", "interleave": "pixel"}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", NotGeoreferencedWarning
        )  # these files have no place on earth, on purpose
        with rasterio.open(
            path, "w", driver="GTiff", width=cols, height=rows, count=count, dtype=image.dtype.name, **profile
        ) as sink:
            sink.write(image)


def write_georeferenced(
    folder: str | Path,
    *,
    cities: Sequence[str] = ("JAX", "OMA"),
    tiles: int | Sequence[int] = 2,
    size: int = 512,
    seed: int = 0,
    truth_scale: int = 1,
    quirks: bool = True,
    compress: str | None = "deflate",
    progress: Progress | None = None,
) -> list[Path]:
    """Write the same towns as true orthophotos with a CRS, so that maps can be drawn of them.

    One view a tile, number 1, seen from the zenith; UTM zones 17N (JAX) and 15N (OMA), the tiles of a city
    side by side with a gap of a tenth. Besides RGB, MSI (band first), AGL and CLS there is ``DSM``, named
    alike: terrain and what stands on it. Voids of AGL and DSM are NaN, declared as nodata.

    Parameters
    ----------
    folder : path
        One flat folder.
    cities, tiles, size, seed, quirks, progress
        As in `write_us3d`.
    truth_scale : int, optional
        Write AGL, DSM and CLS with pixels this many times as large (means, and every n-th label); divides
        `size`.
    compress : str, optional
        GDAL's name of a compression.

    Returns
    -------
    list of Path
        The files, sorted.

    Raises
    ------
    ValueError
        Unknown city, or a number out of range.
    """
    if truth_scale < 1 or size % truth_scale:
        raise ValueError(f"truth_scale must divide size, got {truth_scale} and {size}")
    root, written = Path(folder), []
    root.mkdir(parents=True, exist_ok=True)
    plan = [(city, tile) for city in cities for tile in _numbers(city, tiles)]
    for done, (city, tile) in enumerate(plan, start=1):
        zenith = replace(acquisition(city, 1, seed), off_nadir=0.0)
        made = expose(build_town(city, tile, size, seed), 1, seed, quirks, zenith)
        place, rank = CITIES[city], tile_rank(city, tile)
        pitch = round(size * GSD * 1.1 / 10) * 10.0 or 10.0
        west, north = place.origin[0] + rank % 5 * pitch, place.origin[1] - rank // 5 * pitch
        pixel = GSD * truth_scale
        fine = {"crs": f"EPSG:{place.epsg}", "transform": Affine(GSD, 0, west, 0, -GSD, north)}
        coarse = {"crs": f"EPSG:{place.epsg}", "transform": Affine(pixel, 0, west, 0, -pixel, north)}
        for kind, image, grid in (
            ("RGB", made.rgb, fine),
            ("MSI", made.msi, fine),
            ("AGL", _coarsen(made.agl, truth_scale)[None], {**coarse, "nodata": np.nan}),
            ("DSM", _coarsen(made.dsm, truth_scale)[None], {**coarse, "nodata": np.nan}),
            (
                "CLS",
                made.label[truth_scale // 2 :: truth_scale, truth_scale // 2 :: truth_scale][None],
                coarse,
            ),
        ):
            path = root / f"{made.name}_{kind}.tif"
            _write_gtiff(path, image, compress=compress, **grid)
            written.append(path)
        if progress is not None:
            progress(done, len(plan))
    return sorted(written)


def _coarsen(height: FloatArray, scale: int) -> FloatArray:
    """Return means over blocks of scale x scale cells; void where one of them is."""
    if scale == 1:
        return height
    rows, cols = height.shape
    blocks = height.reshape(rows // scale, scale, cols // scale, scale)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)
