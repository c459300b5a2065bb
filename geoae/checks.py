"""Checking a catalog against a folder: what an ingest would take, before it takes anything."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geoae.align import SceneReader
from geoae.catalog import VOID, Catalog
from geoae.errors import SceneError, UsageError
from geoae.grid import Window
from geoae.pixels import Pixels
from geoae.planning import check_pixel_sizes, settle_types
from geoae.scene import SceneHeader, find_scenes, read_scene

__all__ = ["CatalogCheck", "check_catalog"]

SCENES = 12
"""Usable scenes from which pixels are read, spread over all of them."""

SIDE = 256
"""Side of a window that is read, in pixels; one in the middle of a scene."""

_MANY_VOIDS = 0.98
"""Share of void pixels in a sample from which on a unit, range or nodata value is suspected."""


@dataclass(frozen=True)
class CatalogCheck:
    """What an ingest of a folder with a catalog would take.

    Parameters
    ----------
    catalog
        Name of the catalog.
    scenes
        All scenes with their headers, by key.
    ignored, excluded
        Rasters that the catalog does not explain, and those that it leaves out on purpose.
    problems
        What an ingest would stop at or leave out, one line each, the scene first.
    remarks
        What is worth knowing and no fault, one line each.
    codes
        For each label: codes of a sample with their pixels.
    outside
        Codes among these that the default class table does not name.
    """

    catalog: str
    scenes: tuple[SceneHeader, ...]
    ignored: tuple[str, ...]
    excluded: tuple[str, ...]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    codes: Mapping[str, Mapping[int, int]]
    outside: Mapping[str, tuple[int, ...]]

    @property
    def ok(self) -> bool:
        """Whether an ingest would take every scene."""
        return not self.problems

    def provided(self) -> dict[str, dict[str, int]]:
        """Return, for each modality that is there, how many usable scenes have it in which way."""
        counts: dict[str, Counter[str]] = {}
        for header in self.scenes:
            for name, how in header.provided.items() if header.ok else ():
                counts.setdefault(name, Counter())[how] += 1
        return {name: dict(ways) for name, ways in counts.items() if set(ways) != {"missing"}}


@dataclass
class _Found:
    """What a sample of one modality holds."""

    pixels: int = 0
    void: int = 0
    low: float = np.inf
    high: float = -np.inf
    codes: Counter[int] = field(default_factory=Counter)


def check_catalog(
    folder: str | Path,
    catalog: Catalog,
    *,
    follow_symlinks: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> CatalogCheck:
    """Say what an ingest of a folder would take; reads all headers and a few pixels, writes nothing.

    Parameters
    ----------
    folder
        Folder with the rasters.
    catalog
        How the data set is said to look.
    follow_symlinks
        Follow links that lead out of the folder.
    progress
        Called as ``progress(stage, done, total)``.

    Raises
    ------
    InputError
        If the folder is missing, unreadable or empty.
    CatalogError
        If the catalog explains no file at all.
    """
    finding = find_scenes(folder, catalog, follow_symlinks=follow_symlinks)
    headers = []
    for number, scene in enumerate(finding.scenes):
        if progress is not None:
            progress("headers", number, len(finding.scenes))
        headers.append(read_scene(scene, catalog))
    headers = settle_types(catalog, headers)[2]
    found, unreadable = _sample([header for header in headers if header.ok], catalog, progress)
    problems = [*finding.problems, *(f"{h.scene.key}: {h.status}" for h in headers if not h.ok), *unreadable]
    try:
        check_pixel_sizes([header for header in headers if header.ok])
    except UsageError as error:
        problems.append(f"{error.message}; at ingest, {error.hint}")
    lookup = _lookup(catalog)
    codes = {
        name: dict(sorted(seen.codes.items()))
        for name, seen in found.items()
        if catalog.modalities[name].role == "label"
    }
    outside = {
        name: tuple(code for code in seen if lookup[code] == VOID and code != VOID)
        for name, seen in codes.items()
    }
    return CatalogCheck(
        catalog=catalog.name,
        scenes=tuple(headers),
        ignored=finding.ignored,
        excluded=finding.excluded,
        problems=tuple(problems),
        remarks=(
            *_remarks(catalog, found),
            *(f"{header.scene.key}: {note}" for header in headers for note in header.notes),
        ),
        codes=codes,
        outside={name: found_codes for name, found_codes in outside.items() if found_codes},
    )


def _lookup(catalog: Catalog) -> npt.NDArray[np.uint8]:
    if catalog.default_class_table is None:
        return np.zeros(256, np.uint8)  # without a class table every code is a class
    return catalog.class_tables[catalog.default_class_table].lookup()


def _sample(
    headers: Sequence[SceneHeader], catalog: Catalog, progress: Callable[[str, int, int], None] | None
) -> tuple[dict[str, _Found], list[str]]:
    found: dict[str, _Found] = {}
    problems = []
    steps = sorted({round(i) for i in np.linspace(0, len(headers) - 1, min(SCENES, len(headers)))})
    for done, position in enumerate(steps):
        if progress is not None:
            progress("pixels", done, len(steps))
        header = headers[position]
        try:
            with SceneReader(header, catalog) as reader:
                height, width = (min(side, SIDE) for side in reader.grid.shape)
                middle = ((reader.grid.height - height) // 2, (reader.grid.width - width) // 2)
                for name in catalog.modalities:
                    pixels = reader.read(name, Window(*middle, height, width))
                    if pixels is not None:
                        _add(found.setdefault(name, _Found()), pixels, catalog.modalities[name].role)
        except SceneError as error:
            problems.append(f"{header.scene.key}: {error}")
    return found, problems


def _add(found: _Found, pixels: Pixels, role: str) -> None:
    found.pixels += pixels.valid.size
    found.void += int(pixels.valid.size - pixels.valid.sum())
    if not pixels.valid.any():
        return
    values = pixels.values[..., pixels.valid]
    found.low, found.high = min(found.low, float(values.min())), max(found.high, float(values.max()))
    if role == "label":
        found.codes += Counter(
            {int(code): int(n) for code, n in zip(*np.unique(values, return_counts=True), strict=True)}
        )


def _remarks(catalog: Catalog, found: Mapping[str, _Found]) -> list[str]:
    remarks = []
    for name, seen in found.items():
        modality = catalog.modalities[name]
        share = seen.void / seen.pixels
        if share >= _MANY_VOIDS:
            remarks.append(
                f"{name}: {share:.0%} of a sample is void; check nodata, "
                + ("unit, void and valid_range" if modality.role == "height" else "black_is_void")
            )
        elif modality.role == "height":
            remarks.append(f"{name}: {seen.low:.4g} to {seen.high:.4g} m in a sample, {share:.0%} void")
        limits = modality.range
        if (
            limits is not None
            and seen.low <= seen.high
            and not limits[0] <= seen.low <= seen.high <= limits[1]
        ):
            remarks.append(
                f"{name}: a sample has {seen.low:g} to {seen.high:g}, outside of its range "
                f"{limits[0]:g} to {limits[1]:g}"
            )
    return remarks
