"""A cube and its layers as one lazy Dataset: what notebooks open."""

import os

import numpy as np
import xarray as xr

from geoae import schema
from geoae.cube import Cube
from geoae.errors import UsageError
from geoae.splits import parse_split

__all__ = ["open_cube"]


def open_cube(path: "str | os.PathLike[str] | Cube", *, split: str | None = None) -> xr.Dataset:
    """Open a cube and all its layers as one lazy Dataset.

    Parameters
    ----------
    path
        Path or fsspec URL.
    split
        Keep only patches of ``train``, ``validation`` or ``test`` of the split ``default``;
        ``name:train`` for another split.

    Returns
    -------
    xarray.Dataset
        Pixels ``(patch, <modality>_band, y, x)`` chunked by shard; per-patch coordinates; the default
        class table's summary and the default split as coordinates; other layers' variables prefixed by
        their name, such as ``pca_z (patch, pca_component)``.

    Raises
    ------
    NotACubeError, IncompleteError
        If the path holds no complete cube.
    UsageError
        If the split does not exist.
    """
    cube = Cube.open(path)
    dataset = _by_shard(xr.open_zarr(cube.location.zarr(), chunks=None), cube.shard_length)
    dataset.attrs = {k: v for k, v in dataset.attrs.items() if k not in ("geoae_arrays", "geoae_catalog")}
    table = cube.catalog.default_class_table
    for info in cube.layers():
        layer = _by_shard(cube.layer(info.path), cube.shard_length)
        # Tables that are not per patch, such as the centres of clusters, stay in their layer.
        other = [n for n, v in layer.data_vars.items() if schema.PATCH not in v.dims]
        layer = layer.drop_vars([schema.PATCH, *other], errors="ignore")
        layer = layer.drop_vars([n for n, v in layer.coords.items() if not set(v.dims) <= _dims(layer)])
        names = {
            str(n): schema.merged_name(info.kind, info.name, str(n), default_table=table)
            for n in [*layer.variables, *layer.dims]
            if n != schema.PATCH
        }
        layer = layer.rename({old: new for old, new in names.items() if old != new})
        for variable in layer.variables.values():
            variable.attrs["geoae_layer"] = info.path
        if info.stale:
            layer.attrs["stale"] = list(info.stale)
        dataset = dataset.assign({str(n): v for n, v in layer.data_vars.items()})
        dataset = dataset.assign_coords({str(n): v for n, v in layer.coords.items()})
        if info.kind in ("splits", "summaries"):
            dataset = dataset.set_coords([str(n) for n in layer.data_vars])
    return dataset if split is None else _select_split(dataset, split)


def _dims(dataset: xr.Dataset) -> set[str]:
    """Return the dimensions of the data variables."""
    return {str(dim) for variable in dataset.data_vars.values() for dim in variable.dims}


def _by_shard(dataset: xr.Dataset, length: int) -> xr.Dataset:
    """Chunk what is stored by shards; small tables stay one lazy array each."""
    large = [n for n, v in dataset.variables.items() if v.ndim > 1 and v.encoding.get("shards")]
    if not large:
        return dataset
    # By themselves: with their coordinates, which stay as they are, it takes ten times as long.
    chunked = xr.Dataset({n: dataset.variables[n] for n in large}).chunk({schema.PATCH: length})
    return dataset.assign({n: chunked.variables[n] for n in large})


def _select_split(dataset: xr.Dataset, split: str) -> xr.Dataset:
    """Keep the patches of one part of a split."""
    name, part = parse_split(split)
    variable = schema.merged_name("splits", name, "split")
    if variable not in dataset.variables:
        raise UsageError(f"the cube has no split {name!r}", hint="make one with `geoae split`")
    rows = np.flatnonzero(dataset[variable].to_numpy() == schema.SPLIT_NAMES.index(part))
    return dataset.isel({schema.PATCH: rows})
