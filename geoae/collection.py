"""Several cubes as one: analysis across cubes of equal schema."""

import os
from collections.abc import Sequence

import numpy as np
import xarray as xr

from geoae import schema
from geoae.cube import Cube
from geoae.dataset import open_cube
from geoae.errors import UsageError

__all__ = ["open_cubes"]


def open_cubes(paths: Sequence[str | os.PathLike[str]], *, split: str | None = None) -> xr.Dataset:
    """Open several cubes of equal schema as one lazy Dataset.

    Parameters
    ----------
    paths
        Paths or fsspec URLs, at least one.
    split
        Keep only patches of one part of a split, see `geoae.open_cube`.

    Returns
    -------
    xarray.Dataset
        All patches in the order of the cubes, numbered anew along ``patch``. ``cube (patch)`` is the
        position of the cube in `paths` and ``cube_patch (patch)`` the patch's number there. Layers and
        modalities that not all cubes have are left out, and named in the attribute ``left_out``. Tables
        of scenes stay in their cubes.

    Raises
    ------
    ValueError
        If no path is given.
    UsageError
        If patch size, bands or dtypes differ, or a latent layer has another length; one line says what.
    """
    if not paths:
        raise ValueError("open_cubes needs at least one path")
    cubes = [Cube.open(path) for path in paths]
    _check(cubes)
    parts = [_part(open_cube(cube, split=split), number) for number, cube in enumerate(cubes)]
    common = set.intersection(*({str(n) for n in part.variables} for part in parts))
    every = set.union(*({str(n) for n in part.variables} for part in parts))
    for name in sorted(common):
        shapes = {tuple(n for d, n in part[name].sizes.items() if d != schema.PATCH) for part in parts}
        if len(shapes) > 1:
            raise UsageError(
                f"{name} has shapes {sorted(shapes)} in the cubes", hint="use cubes of equal schema"
            )
    parts = [part.drop_vars([n for n in part.variables if n not in common]) for part in parts]
    whole = xr.concat(
        parts, schema.PATCH, data_vars="minimal", coords="minimal", compat="override", join="override"
    )
    whole = whole.assign_coords({schema.PATCH: np.arange(whole.sizes[schema.PATCH])})
    whole.attrs = {
        "title": " + ".join(cube.location.name for cube in cubes),
        "geoae_cubes": [cube.cube_id for cube in cubes],
        "left_out": sorted(every - common),
    }
    return whole


def _check(cubes: Sequence[Cube]) -> None:
    """Refuse cubes whose patches do not mean the same."""
    first = cubes[0]
    for other in cubes[1:]:
        differs = []
        if other.patch_size != first.patch_size:
            differs.append(f"patches of {other.patch_size} pixels, not {first.patch_size}")
        for name in first.modalities:
            if name not in other.modalities:
                continue
            if other.bands(name) != first.bands(name):
                differs.append(f"{name} with bands {', '.join(other.bands(name))}")
            if other.array(name).dtype != first.array(name).dtype:
                differs.append(f"{name} of {other.array(name).dtype}, not {first.array(name).dtype}")
        if differs:
            raise UsageError(
                f"{other.location.name} does not go with {first.location.name}: it has {'; '.join(differs)}"
            )


def _part(dataset: xr.Dataset, number: int) -> xr.Dataset:
    """Leave tables of scenes and remember where each patch comes from."""
    dataset = dataset.drop_dims([schema.SCENE], errors="ignore").drop_vars("scene_number", errors="ignore")
    per_modality = [n for n, v in dataset.variables.items() if schema.MODALITY in v.dims]
    # Cubes may have different modalities: their shares of valid pixels become one variable each.
    fractions = dataset["valid_fraction"] if "valid_fraction" in dataset.variables else None
    names = [] if fractions is None else [str(n) for n in dataset[schema.MODALITY].to_numpy()]
    dataset = dataset.drop_vars(per_modality)
    if fractions is not None:
        dataset = dataset.assign_coords(
            {f"{name}_valid_fraction": (schema.PATCH, fractions[:, i].data) for i, name in enumerate(names)}
        )
    return dataset.assign_coords(
        cube=(schema.PATCH, np.full(dataset.sizes[schema.PATCH], number, np.int32)),
        cube_patch=(schema.PATCH, dataset[schema.PATCH].to_numpy()),
    )
