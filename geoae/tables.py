"""The small tables of a cube: per-patch variables, scene tables, coordinates, root attributes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine

from geoae import schema
from geoae.grid import Grid
from geoae.planning import IngestPlan, pixel_size
from geoae.provenance import digest_of
from geoae.store import ArraySpec

__all__ = ["root_attributes", "small_arrays"]

_NOWHERE = Grid(None, Affine.identity(), (1, 1))
"""Stands for the grid of a scene whose headers could not be read; its shape is stored as 0 x 0."""


def small_arrays(
    plan: IngestPlan, entries: Mapping[int, dict[str, Any]], failures: Mapping[int, str]
) -> dict[str, tuple[ArraySpec, npt.NDArray[Any]]]:
    """Return the per-patch variables, scene tables and coordinates with their values.

    Parameters
    ----------
    plan
        The plan.
    entries
        The journal by shard: counts of valid pixels per patch and modality.
    failures
        Scenes that could not be read, with the reason.
    """
    arrays: dict[str, tuple[ArraySpec, npt.NDArray[Any]]] = {}

    def add(name: str, dims: tuple[str, ...], dtype: str, values: Any, attributes: Mapping[str, Any]) -> None:
        # zarr takes variable-length strings as numpy's own string type.
        array = np.asarray(values, dtype=np.dtypes.StringDType() if dtype == "str" else dtype)
        arrays[name] = (ArraySpec(array.shape, dims, dtype, attributes=attributes), array)

    scenes = _scene_table(plan, failures)
    for name, (dims, dtype, attributes) in schema.SCENE_VARIABLES.items():
        add(name, (schema.SCENE, *dims), dtype, scenes[name], attributes)
    patches = _patch_table(plan, scenes)
    for name, (dims, dtype, attributes) in schema.PATCH_VARIABLES.items():
        add(name, (schema.PATCH, *dims), dtype, patches[name], attributes)
    for dim, labels in schema.FIXED_COORDINATES.items():
        add(dim, (dim,), "str", labels, {})
    add(schema.MODALITY, (schema.MODALITY,), "str", plan.modalities, {"long_name": "modality"})
    counts = np.stack(
        [np.concatenate([entries[s]["valid"][m] for s in sorted(entries)]) for m in plan.modalities], axis=1
    )
    add(
        "valid_fraction",
        (schema.PATCH, schema.MODALITY),
        "float32",
        counts / plan.patches.patch**2,
        {"long_name": "share of valid pixels", "units": "1"},
    )
    for name in plan.modalities:
        if plan.catalog.modalities[name].role == "image":
            dim = schema.band_dim(name)
            add(dim, (dim,), "str", plan.bands[name], {"long_name": "band"})
            described = plan.catalog.modalities[name].bands
            if described is not None and all(b.wavelength is not None for b in described):
                for what, title in (("wavelength", "centre wavelength"), ("bandwidth", "bandwidth")):
                    values = [np.nan if getattr(b, what) is None else getattr(b, what) for b in described]
                    attributes = {"long_name": title, "units": "nm"}
                    add(f"{name}_{what}", (dim,), "float64", values, attributes)
    return arrays


def _scene_table(plan: IngestPlan, failures: Mapping[int, str]) -> dict[str, Any]:
    grids = [h.grid or _NOWHERE for h in plan.scenes]
    fields = [h.scene.fields for h in plan.scenes]
    return {
        "scene_name": [h.scene.key for h in plan.scenes],
        "scene_city": [f.get("city", "") for f in fields],
        "scene_tile": [f.get("tile", "") for f in fields],
        "scene_view": [f.get("view", "") for f in fields],
        "scene_crs": [g.crs or "" for g in grids],
        "scene_transform": [list(g.transform)[:6] for g in grids],
        "scene_shape": [g.shape if h.grid else (0, 0) for g, h in zip(grids, plan.scenes, strict=True)],
        "scene_status": [failures.get(i, h.status) for i, h in enumerate(plan.scenes)],
        "scene_modalities": [
            " ".join(
                f"{name}={h.provided.get(name, 'missing').replace(' ', '_')}" for name in plan.modalities
            )
            for h in plan.scenes
        ],
    }


def _patch_table(plan: IngestPlan, scenes: Mapping[str, Any]) -> dict[str, Any]:
    number = plan.patches.scene_number
    row, col = plan.patches.row_col
    y, x = plan.patches.y_x_start
    transform = np.asarray(scenes["scene_transform"], float)[number]
    side = plan.patches.patch
    # The four corners of each patch: (corner, patch).
    ys, xs = np.stack([y, y, y + side, y + side]), np.stack([x, x + side, x, x + side])
    east = transform[:, 0] * xs + transform[:, 1] * ys + transform[:, 2]
    north = transform[:, 3] * xs + transform[:, 4] * ys + transform[:, 5]
    sizes = np.array([pixel_size(h) for h in plan.scenes], float).reshape(-1, 2)[number]
    text = {
        name: np.array(scenes[f"scene_{source}"], dtype=np.dtypes.StringDType())[number]
        for name, source in (("scene_id", "name"), ("city", "city"), ("tile", "tile"), ("view", "view"))
    }
    return {
        "patch": np.arange(plan.patches.n_patches),
        **text,
        "scene_number": number,
        "row": row,
        "col": col,
        "y_start": y,
        "x_start": x,
        "bounds": np.stack([east.min(0), north.min(0), east.max(0), north.max(0)], axis=1),
        "pixel_size_x": sizes[:, 0],
        "pixel_size_y": sizes[:, 1],
    }


def root_attributes(plan: IngestPlan, digests: Mapping[str, str]) -> dict[str, Any]:
    """Return the attributes of the root group.

    Parameters
    ----------
    plan
        The plan.
    digests
        Digest of each array of the root.
    """
    coordinates = [*schema.COORDINATES, *schema.FIXED_COORDINATES, schema.MODALITY, "valid_fraction"]
    coordinates += [n for n in digests if n.endswith(("_band", "_wavelength", "_bandwidth"))]
    attributes: dict[str, Any] = {
        "Conventions": "CF-1.11",
        "title": f"Patches of {plan.catalog.title}",
        "coordinates": " ".join(coordinates),
        "geoae_format": schema.FORMAT,
        "geoae_cube": digest_of({"plan": plan.digest, "arrays": dict(digests)}),
        "geoae_plan": plan.digest,
        "geoae_shard_length": plan.shard_length,
        "geoae_options": {
            "patch": plan.patches.patch,
            "stride": plan.patches.stride,
            "edge": plan.patches.edge,
            "min_valid": plan.min_valid,
            "resolution": plan.resolution,
        },
        "geoae_catalog": plan.catalog.model_dump(mode="json"),
        "geoae_arrays": dict(digests),
    }
    if plan.catalog.licence:
        attributes["license"] = plan.catalog.licence
    if plan.catalog.citation:
        attributes["references"] = plan.catalog.citation
    return attributes
