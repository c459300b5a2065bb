"""Attachments: latents that were made elsewhere become a layer of the cube like any other."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geoae import schema
from geoae.attachments.matching import WAYS, Way, match_rows
from geoae.attachments.reading import ForeignLatents, read_latents
from geoae.attachments.vectors import CUBE_ID
from geoae.cube import Cube
from geoae.errors import InputError, UsageError
from geoae.latents import shard_rows
from geoae.layers import LayerWriter, would_write
from geoae.provenance import Record
from geoae.store import ArraySpec

__all__ = ["CUBE_ID", "AttachReport", "attach"]


@dataclass(frozen=True)
class AttachReport:
    """What `attach` did.

    Parameters
    ----------
    path
        The layer.
    file, sha256
        Name and digest of the file.
    matched_by
        How the patch of a row was found: ``patch``, ``cell``, ``window``, or ``order``.
    vector
        Column or array of the vectors.
    latent_dim
        Length of the vectors.
    attached, missing
        Patches with a vector, and patches without.
    created
        False if an equal layer was there, or in a dry run.
    """

    path: str
    file: str
    sha256: str
    matched_by: str
    vector: str
    latent_dim: int
    attached: int
    missing: int
    created: bool = True


def attach(
    cube: Cube | str | os.PathLike[str],
    file: str | os.PathLike[str],
    *,
    name: str,
    vector: str | None = None,
    by: Way | None = None,
    origin: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> AttachReport:
    """Bring latents that were made elsewhere into a cube as ``latents/<name>``.

    The layer is a copy: committed, verified, clustered and exported like one that `encode` wrote. Its record
    holds the file's name and sha256, how its rows were matched and what you say of its origin.

    Parameters
    ----------
    cube
        The cube, or its path.
    file
        ``.parquet`` with a column of lists or numbered columns, ``.npy``, ``.npz``, or a Zarr store. Rows
        name their patch in the columns (or one-dimensional arrays) ``patch``; or ``scene_id, row, col``; or
        ``scene_id, y_start, x_start``, the window's first pixel. An array without any has a row for every
        patch, in order. Patches without a row, or with a row of NaN, have no vector.
    name
        Name of the layer.
    vector
        Column or array of the vectors, ``emb_*`` for numbered columns; found if None.
    by
        ``patch``, ``cell`` or ``window``: the columns to go by alone. If None, all that the file has must
        agree, and a file that names another cube is refused.
    origin
        Where the latents come from, in your words: model, version, weights.
    overwrite
        Replace the layer if it exists.
    dry_run
        Read and check everything, write nothing.

    Returns
    -------
    AttachReport

    Raises
    ------
    InputError
        If the file cannot be read, its rows are not patches of this cube, or a vector is no vector.
    UsageError
        If the format is unknown, or it is not clear which column is meant.
    StoreExistsError
        If the layer exists, is another one, and `overwrite` is off.
    """
    if by is not None and by not in WAYS:  # typed on a command line
        raise UsageError(f"unknown way {by!r}", hint=f"it is one of {', '.join(WAYS)}")
    path = schema.layer_path("latents", name)
    cube = Cube.open(cube)
    found = read_latents(Path(file), vector=vector, most=cube.n_patches)
    if found.cube_id not in (None, cube.cube_id) and by in (None, "patch"):
        raise InputError(
            f"{found.name} is of the cube {str(found.cube_id)[:19]}, this is {cube.cube_id[:19]}",
            hint="--by cell or --by window goes by scenes, if those are the same",
        )
    rows, way = match_rows(
        found.name, found.keys, cube.table(), by=by, n_rows=len(found.z), ordered=found.ordered
    )
    attached = int(np.isfinite(found.z[:, 0]).sum())
    if not attached:
        raise InputError(f"{found.name} has no row with a vector")
    record = Record(
        made_by="attach",
        options={
            "file": found.name,
            "sha256": found.digest,
            "matched_by": way,
            "vector": found.vector,
            "origin": origin,
        },
        inputs={"cube": cube.cube_id},
        counts={"attached": attached, "missing": cube.n_patches - attached},
    )
    report = AttachReport(
        path=path,
        file=found.name,
        sha256=found.digest,
        matched_by=way,
        vector=found.vector,
        latent_dim=found.z.shape[1],
        attached=attached,
        missing=cube.n_patches - attached,
        created=not dry_run,
    )
    spec = _spec(cube, found.z.shape[1])
    if dry_run:
        would_write(cube, path, record, {"z": spec}, overwrite=overwrite)
        return report
    return _write(cube, path, found, rows, record, report, spec, overwrite=overwrite)


def _spec(cube: Cube, width: int) -> ArraySpec:
    return ArraySpec(
        (cube.n_patches, width),
        (schema.PATCH, "component"),
        "float32",
        shard_rows(cube, width),
        cube.shard_length,
        {"long_name": "latent vector; NaN for patches that have none", "units": "1"},
    )


def _write(
    cube: Cube,
    path: str,
    found: ForeignLatents,
    rows: np.ndarray[Any, Any],
    record: Record,
    report: AttachReport,
    spec: ArraySpec,
    *,
    overwrite: bool,
) -> AttachReport:
    row_of = np.full(cube.n_patches, schema.UNUSED)
    row_of[rows] = np.arange(len(rows))
    shape = spec.shape
    with LayerWriter(cube, path, record, {"z": spec}, overwrite=overwrite) as writer:
        if writer.exists:
            return AttachReport(**{**vars(report), "created": False})
        done = writer.done()
        for shard in range(writer.n_shards):
            if shard not in done:
                length = spec.shard or len(row_of)
                of = row_of[shard * length : (shard + 1) * length]
                z = np.full((len(of), shape[1]), np.nan, np.float32)
                z[of >= 0] = found.z[of[of >= 0]]
                writer.write(shard, {"z": z})
        _, dtype, patch_attributes = schema.PATCH_VARIABLES[schema.PATCH]
        index = np.arange(cube.n_patches, dtype=dtype)
        small = {
            schema.PATCH: (
                ArraySpec(index.shape, (schema.PATCH,), dtype, attributes=patch_attributes),
                index,
            )
        }
        source = [cube.catalog.citation or cube.catalog.title]
        writer.commit(
            small,
            schema.geoemb_attributes(
                dimensions=shape[1],
                model=record.options["origin"] or f"not stated ({found.name}, {found.digest})",
                source_data=source,
                patch=cube.patch_size,
                stride=cube.stride,
            ),
            counts=record.counts,
        )
    return report
