"""The plan of an ingest: everything about a cube that headers can tell, before any pixel is read.

Equal plans make equal cubes. A plan therefore holds no time, host or absolute path.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from geoae import schema
from geoae.align import channels_of
from geoae.catalog import Catalog
from geoae.errors import InputError, SceneError, UsageError
from geoae.patches import Edge, PatchPlan, inner_chunk, plan_patches
from geoae.provenance import digest_of
from geoae.scene import SceneHeader, find_scenes, read_scene
from geoae.selection import Selection
from geoae.store import ArraySpec

__all__ = ["IngestPlan", "Selection", "check_pixel_sizes", "plan_ingest", "settle_types"]

_ALGORITHM = 2
"""Raise it when equal plans would no longer give equal bytes: resuming across versions is refused."""

_MIXED = 1.10
"""Largest ratio of pixel sizes in one cube: Jacksonville and Omaha differ by 1.08."""


@dataclass(frozen=True)
class IngestPlan:
    """All scenes with their headers, all patches, all arrays.

    Parameters
    ----------
    catalog
        How the data set looks.
    scenes
        Headers in key order, unusable ones included if they were to be skipped.
    patches
        Where the patches lie.
    min_valid
        Share of valid pixels below which a patch is left out of fits and latents.
    resolution
        Pixel size in metres that all scenes were resampled to; None for their own.
    ignored, problems, notes
        What a user should hear of: files that nothing explains, what could not be used, remarks.
    """

    catalog: Catalog
    scenes: tuple[SceneHeader, ...]
    patches: PatchPlan
    min_valid: float
    resolution: float | None = None
    ignored: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    bands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that at least one usable scene has, in the catalog's order."""
        return tuple(name for name in self.catalog.modalities if name in self.dtypes)

    @cached_property
    def pixel_arrays(self) -> dict[str, ArraySpec]:
        """The arrays of pixels and masks by name."""
        plain = self._pixel_specs(None, None)
        per_patch = sum(
            int(np.prod(spec.shape[1:])) * np.dtype(spec.dtype).itemsize for spec in plain.values()
        )
        shard = self.patches.shard_length(per_patch)
        return self._pixel_specs(shard, inner_chunk(shard))

    def _pixel_specs(self, shard: int | None, chunk: int | None) -> dict[str, ArraySpec]:
        n, side = self.patches.n_patches, self.patches.patch
        specs: dict[str, ArraySpec] = {}
        for name in self.modalities:
            description = self.catalog.modalities[name]
            attributes: dict[str, Any] = {"long_name": description.title, "geoae_role": description.role}
            dims: tuple[str, ...] = (schema.PATCH, "y", "x")
            shape: tuple[int, ...] = (n, side, side)
            if description.role == "image":
                dims = (schema.PATCH, schema.band_dim(name), "y", "x")
                shape = (n, len(self.bands[name]), side, side)
                attributes |= {"units": "1", "ancillary_variables": schema.valid_name(name)}
                if description.range is not None:
                    attributes["valid_range"] = list(description.range)
            elif description.role == "height":
                standard = "height" if description.quantity == "above-ground" else "surface_altitude"
                attributes |= {"units": "m", "standard_name": standard}
            else:
                codes = sorted(self.catalog.codes)
                attributes |= {"ancillary_variables": schema.valid_name(name)}
                attributes |= schema.flag_attributes(codes, (self.catalog.codes[c] for c in codes))
            specs[name] = ArraySpec(shape, dims, self.dtypes[name], shard, chunk, attributes)
            if description.role != "height":
                mask = {"long_name": f"whether {name} was measured", "geoae_role": "mask"}
                specs[schema.valid_name(name)] = ArraySpec(
                    (n, side, side), (schema.PATCH, "y", "x"), "bool", shard, chunk, mask, False
                )
        return specs

    @property
    def shard_length(self) -> int:
        """Patches in a shard."""
        return next(iter(self.pixel_arrays.values())).shard or 1

    @property
    def n_shards(self) -> int:
        """Shards of each array."""
        return next(iter(self.pixel_arrays.values())).n_shards

    @property
    def n_bytes(self) -> int:
        """Bytes of all pixels before compression."""
        return sum(
            int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize for spec in self.pixel_arrays.values()
        )

    @property
    def shard_bytes(self) -> int:
        """Bytes of a full shard of all arrays before compression."""
        return self.n_bytes * self.shard_length // max(self.patches.n_patches, 1)

    @property
    def document(self) -> dict[str, Any]:
        """The plan as JSON values; its digest names the plan. Made anew each time: it is large."""
        return {
            "format": schema.FORMAT,
            "algorithm": _ALGORITHM,
            "catalog": self.catalog.digest(),
            "patch": self.patches.patch,
            "stride": self.patches.stride,
            "edge": self.patches.edge,
            "min_valid": self.min_valid,
            "resolution": self.resolution,
            "scenes": [_describe(header) for header in self.scenes],
            "arrays": {
                name: [list(spec.shape), spec.dtype, spec.shard, spec.chunk]
                for name, spec in self.pixel_arrays.items()
            },
        }

    @cached_property
    def digest(self) -> str:
        """Digest of `document`."""
        return digest_of(json.loads(json.dumps(self.document)))

    def counts(self) -> dict[str, dict[str, int]]:
        """Return, for each modality, how many usable scenes have it in which way."""
        return {
            name: dict(Counter(h.provided.get(name, "missing") for h in self.scenes if h.status == "ok"))
            for name in self.modalities
        }


def _describe(header: SceneHeader) -> dict[str, Any]:
    """Say all about a scene that decides its bytes in the cube."""
    grid = header.grid
    return {
        "key": header.scene.key,
        "fields": dict(sorted(header.scene.fields.items())),
        "status": header.status,
        "provided": dict(sorted(header.provided.items())),
        "grid": None if grid is None else [grid.crs, list(grid.transform)[:6], list(grid.shape)],
        "files": {
            name: [source.name, *(_describe_file(header, name) if name in header.headers else ())]
            for name, source in sorted(header.scene.sources.items())
        },
    }


def _describe_file(header: SceneHeader, name: str) -> list[Any]:
    """Say all of a file's header that decides its pixels in the cube."""
    file, grid = header.headers[name], header.grids.get(name)
    place = None if grid is None else [grid.crs, list(grid.transform)[:6], list(grid.shape)]
    # As text, since NaN is a usual nodata value and no JSON.
    numbers = [str(file.nodata), [str(n) for n in (*file.scales, *file.offsets)]]
    return [file.file_bytes, file.count, file.dtype, file.layout, place, *numbers]


def _resampled(header: SceneHeader, metres: float) -> SceneHeader:
    """Replace a scene's grid by one of another pixel size on the same ground."""
    if header.grid is None or header.status != "ok":
        return header
    sizes = header.grid.pixel_size_metres()
    if math.isnan(sizes[0]):
        raise UsageError(
            f"--resolution needs a CRS, and scene {header.scene.key} has none",
            hint="leave --resolution out; use --mixed-resolution to accept different pixel sizes",
        )
    height = max(round(header.grid.height * sizes[1] / metres), 1)
    width = max(round(header.grid.width * sizes[0] / metres), 1)
    grid = header.grid.rescaled((height, width))
    if grid.same_as(header.grid):
        return header
    provided = {name: "warped" if how == "copied" else how for name, how in header.provided.items()}
    return replace(header, grid=grid, provided=provided)


def check_pixel_sizes(headers: Sequence[SceneHeader]) -> None:
    """Refuse scenes whose pixel sizes differ.

    Raises
    ------
    UsageError
        If they do by more than 10 %; scenes without a CRS do not count.
    """
    sizes = {h.scene.key: math.sqrt(math.prod(pixel_size(h))) for h in headers if h.grid is not None}
    known = {key: size for key, size in sizes.items() if not math.isnan(size)}
    if not known:
        return
    low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    if known[high] > _MIXED * known[low]:
        raise UsageError(
            f"pixel sizes differ: {known[low]:.4g} m in {low}, {known[high]:.4g} m in {high}",
            hint="--resolution METRES resamples all scenes, --mixed-resolution accepts them as they are",
        )


def pixel_size(header: SceneHeader) -> tuple[float, float]:
    """Return a scene's pixel size (x, y) in metres; NaN where no CRS tells it."""
    return (math.nan, math.nan) if header.grid is None else header.grid.pixel_size_metres()


def settle_types(
    catalog: Catalog, headers: Sequence[SceneHeader]
) -> tuple[dict[str, tuple[str, ...]], dict[str, str], list[SceneHeader]]:
    """Find bands and dtype of each modality; scenes that differ from most get a status."""
    kinds: dict[str, Counter[tuple[tuple[str, ...], str]]] = {}
    for header in headers:
        for name, kind in _image_kinds(catalog, header).items():
            kinds.setdefault(name, Counter())[kind] += 1
    # Of equally many, the first in key order.
    common = {name: counted.most_common(1)[0][0] for name, counted in kinds.items()}
    settled: list[SceneHeader] = []
    for header in headers:
        odd = {n: kind for n, kind in _image_kinds(catalog, header).items() if kind != common[n]}
        status = header.status
        for name, (bands, dtype) in odd.items():
            most, usual = common[name]
            count = "1 band" if len(bands) == 1 else f"{len(bands)} bands"
            status = f"{name} has {count} of {dtype}, most scenes have {len(most)} of {usual}"
        settled.append(replace(header, status=status))
    dtypes: dict[str, str] = {}
    for header in settled:
        for name, how in header.provided.items() if header.status == "ok" else ():
            if how != "missing":
                role = catalog.modalities[name].role
                dtypes[name] = common[name][1] if role == "image" else _DTYPES[role]
    return {name: common[name][0] for name in dtypes if name in common}, dtypes, settled


_DTYPES = {"height": "float32", "label": "uint8"}
"""Types of pixels that do not depend on the files."""


def _image_kinds(catalog: Catalog, header: SceneHeader) -> dict[str, tuple[tuple[str, ...], str]]:
    """Return bands and dtype of each image of a usable scene."""
    kinds = {}
    for name, how in header.provided.items() if header.status == "ok" else ():
        description = catalog.modalities[name]
        if how != "missing" and description.role == "image":
            dtype = "uint8" if how == "extracted" else header.headers[name].dtype
            kinds[name] = (channels_of(name, description, header.headers.get(name)), dtype)
    return kinds


def plan_ingest(
    folder: str | Path,
    catalog: Catalog,
    *,
    patch: int = 128,
    stride: int | None = None,
    edge: Edge = "drop",
    min_valid: float = 0.5,
    selection: Selection | None = None,
    resolution: float | None = None,
    mixed_resolution: bool = False,
    skip_bad: bool = False,
    follow_symlinks: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> IngestPlan:
    """Find the scenes of a folder, check their headers and plan a cube.

    Parameters
    ----------
    folder
        Folder with the rasters, searched recursively.
    catalog
        How the data set looks.
    patch, stride, edge
        See `geoae.patches.plan_patches`.
    min_valid
        Share of valid pixels, 0 to 1, below which a patch is left out of fits and latents.
    selection
        Which scenes to take.
    resolution
        Resample all scenes to this pixel size in metres.
    mixed_resolution
        Accept pixel sizes that differ by more than 10 %.
    skip_bad
        Keep scenes that cannot be used as void, with their status, instead of failing.
    follow_symlinks
        Follow symbolic links that lead out of the folder.
    progress
        Called as ``progress(stage, done, total)``.

    Raises
    ------
    InputError
        If the folder holds no usable scene, or, without `skip_bad`, one that cannot be used.
    UsageError
        If pixel sizes differ and nothing says what to do.
    ValueError
        If `min_valid` is no share, or a size is not positive.
    """
    if not 0 <= min_valid <= 1:
        raise ValueError(f"min_valid is a share between 0 and 1, not {min_valid}")
    if resolution is not None and not resolution > 0:
        raise ValueError(f"resolution is a pixel size in metres, not {resolution}")
    selection = selection or Selection()
    finding = find_scenes(folder, catalog, follow_symlinks=follow_symlinks)
    chosen = selection.by_name(finding.scenes)
    headers: list[SceneHeader] = []
    for number, scene in enumerate(chosen):
        if progress is not None:
            progress("headers", number, len(chosen))
        headers.append(read_scene(scene, catalog))
    nowhere = selection.without_place(headers)
    headers = selection.by_place(headers)
    if not headers:
        raise InputError(f"no scene of {folder} is selected", hint="check --city, --scene and --bbox")
    if resolution is not None:
        headers = [_resampled(header, resolution) for header in headers]
    bands, dtypes, headers = settle_types(catalog, headers)
    bad = [h for h in headers if h.status != "ok"]
    if bad and not skip_bad:
        more = f" (and {len(bad) - 1} more scenes)" if len(bad) > 1 else ""
        raise SceneError(
            f"scene {bad[0].scene.key}: {bad[0].status}{more}", hint="--skip-bad leaves such scenes out"
        )
    usable = [h for h in headers if h.status == "ok" and h.grid is not None]
    if not usable:
        raise SceneError(f"none of {len(headers)} scenes can be used; the first: {bad[0].status}")
    if not mixed_resolution:
        check_pixel_sizes(usable)
    patches = plan_patches(
        [None if h.grid is None else h.grid.shape for h in headers], patch=patch, stride=stride, edge=edge
    )
    if not patches.n_patches:
        largest = max((h.grid.shape for h in usable if h.grid is not None), key=math.prod)
        raise InputError(
            f"no scene of {folder} holds a patch of {patch} pixels; "
            f"the largest is {largest[0]} x {largest[1]}",
            hint="a smaller --patch, or --edge pad",
        )
    return IngestPlan(
        catalog=catalog,
        scenes=tuple(headers),
        patches=patches,
        min_valid=min_valid,
        resolution=resolution,
        ignored=finding.ignored,
        problems=(*finding.problems, *nowhere, *(f"{h.scene.key}: {h.status}" for h in bad)),
        notes=tuple(f"{h.scene.key}: {note}" for h in headers for note in h.notes),
        bands=bands,
        dtypes=dtypes,
    )
