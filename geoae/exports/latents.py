"""Latents as GeoParquet: a vector for each patch beside what is known of it, for Embedding Atlas and others.

Columns are those of `geoae.exports.geoparquet`, and ``vector``, a list of float32. With thumbnails also
``thumbnail``, a struct of ``bytes`` (PNG) and ``path``, as Hugging Face's data sets and Embedding Atlas have
images. The metadata ``geoae_cube`` says of which cube the numbers in ``patch_id`` are, so that `geoae.attach`
brings the vectors back.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from geoae.attachments import CUBE_ID
from geoae.cube import Cube
from geoae.errors import InputError, UsageError
from geoae.exports.columns import export_table
from geoae.exports.geoparquet import LateColumn, plan_geoparquet, write_geoparquet
from geoae.exports.table import ExportTable
from geoae.exports.target import check_target, is_parquet, replacing
from geoae.exports.thumbnails import Thumbnails
from geoae.schema import layer_path

__all__ = ["LatentsReport", "export_latents"]

VECTOR = "vector"
THUMBNAIL = "thumbnail"
_PNG = 200
"""Bytes of a small picture beside its pixels: head, filters, the name in the column."""

SIDE = 64
"""Default side of a thumbnail in pixels: what fits beside a row of a table."""


@dataclass(frozen=True)
class LatentsReport:
    """What an export of latents wrote.

    Parameters
    ----------
    path
        The file.
    latents
        The layer.
    patches, left_out
        Patches in the file, and chosen ones that have no vector.
    latent_dim
        Length of the vectors.
    projection
        The layer of the columns ``proj_x`` and ``proj_y``; None if the cube has none of these latents.
    thumbnail_side
        Pixels along a side of the thumbnails; 0 without.
    n_bytes
        Size of the file; in a dry run about the most that it can be.
    warnings
        One line each: stale layers, scenes that could not be placed on the globe.
    """

    path: str
    latents: str
    patches: int
    left_out: int
    latent_dim: int
    projection: str | None
    thumbnail_side: int
    n_bytes: int
    warnings: tuple[str, ...]


def export_latents(
    cube: str | os.PathLike[str] | Cube,
    path: str | os.PathLike[str],
    *,
    latents: str | None = None,
    clusters: str | None = None,
    table: str | None = None,
    projection: str | None = None,
    cities: Sequence[str] = (),
    scenes: Sequence[str] = (),
    split: str | None = None,
    thumbnails: bool = False,
    thumbnail_side: int = SIDE,
    overwrite: bool = False,
    dry_run: bool = False,
) -> LatentsReport:
    """Export latents as GeoParquet, one row a patch, as Embedding Atlas opens it.

    Parameters
    ----------
    cube
        The cube, or its path or URL.
    path
        The file, ``*.parquet``.
    latents
        Name of the latents; the only ones if None.
    clusters, table, projection, cities, scenes, split
        As for `export_geopackage`; clusters and projections are by themselves those of the latents.
    thumbnails
        Put a picture of each patch into the file.
    thumbnail_side
        Most pixels along a side of a picture: larger patches are averaged down.
    overwrite
        Replace an existing Parquet file.
    dry_run
        Say what would be written, write nothing.

    Returns
    -------
    LatentsReport

    Raises
    ------
    UsageError, StoreExistsError, InputError
        As for `export_geoparquet`; and if there are several latents and none is named, or no patch that was
        chosen has a vector.
    """
    if thumbnail_side < 1:
        raise ValueError(f"thumbnails need at least one pixel, not {thumbnail_side}")
    target, cube = Path(path), Cube.open(cube)
    if cube.location.is_local and target.resolve().is_relative_to(cube.location.path.resolve()):
        raise UsageError(f"{target} lies in the cube", hint="name a file outside of it")
    name = latents or _only(cube)
    layer = cube.layer(layer_path("latents", name))
    z = layer["z"].to_numpy()  # (patch, component)
    known = np.isfinite(z).all(axis=1)

    def choose() -> tuple[ExportTable, int, Thumbnails | None]:
        """Return the table, how many chosen patches have no vector, and what makes the pictures."""
        exported = export_table(
            cube,
            latents=name,
            clusters=clusters,
            table=table,
            projection=projection,
            cities=cities,
            scenes=scenes,
            split=split,
        )
        kept = known[exported.patch_id]
        if not kept.any():
            raise InputError(f"no patch that was chosen has a vector in latents/{name}")
        exported = exported.only(kept)
        exported = replace(exported, metadata={**exported.metadata, CUBE_ID: cube.cube_id})
        pictures = Thumbnails.of(cube, exported.patch_id, thumbnail_side) if thumbnails else None
        return exported, int((~kept).sum()), pictures

    if dry_run:
        check_target(target, suffix=".parquet", kind="Parquet file", is_kind=is_parquet, overwrite=overwrite)
        exported, left_out, pictures = choose()
        _, warnings, n_bytes = plan_geoparquet(exported)
        picture = 0 if pictures is None else 3 * pictures.side**2 + _PNG
        n_bytes += len(exported.patch_id) * (4 * z.shape[1] + 4 + picture)
    else:
        with replacing(
            target, suffix=".parquet", kind="Parquet file", is_kind=is_parquet, overwrite=overwrite
        ) as new:
            exported, left_out, pictures = choose()
            rows = exported.patch_id
            late = [_vectors(z, rows, name)]
            if pictures is not None:
                late.append(_thumbnails(pictures, rows))
            _, warnings = write_geoparquet(exported, new, late=late)
        n_bytes = target.stat().st_size
    return LatentsReport(
        path=str(target),
        latents=f"latents/{name}",
        patches=len(exported.patch_id),
        left_out=left_out,
        latent_dim=z.shape[1],
        projection=exported.projection,
        thumbnail_side=0 if pictures is None else pictures.side,
        n_bytes=n_bytes,
        warnings=(*exported.warnings, *warnings),
    )


def _only(cube: Cube) -> str:
    """Return the name of the only latents.

    Raises
    ------
    UsageError
        If there are none, or several.
    """
    names = [info.name for info in cube.layers() if info.kind == "latents"]
    if not names:
        raise UsageError(f"{cube.location.name} has no latents", hint="geoae encode --plugin pca makes some")
    if len(names) > 1:
        raise UsageError(
            f"{cube.location.name} has several latents: {', '.join(names)}", hint=f"--latents {names[0]}"
        )
    return names[0]


def _vectors(
    z: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]", rows: np.ndarray, name: str
) -> LateColumn:
    def read(part: slice) -> pa.Array:
        block = z[rows[part]]
        starts = np.arange(0, block.size + 1, block.shape[1], dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(starts), pa.array(block.ravel(), pa.float32()))

    return LateColumn(VECTOR, pa.list_(pa.field("item", pa.float32())), f"Latent vector, {name}", read)


def _thumbnails(pictures: Thumbnails, rows: np.ndarray) -> LateColumn:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

    def read(part: slice) -> pa.Array:
        files = pictures.of_rows(rows[part])
        names = [f"{row}.png" for row in rows[part]]
        return pa.StructArray.from_arrays(
            [pa.array(files, pa.binary()), pa.array(names, pa.string())], fields=list(kind)
        )

    return LateColumn(THUMBNAIL, kind, f"Picture: {pictures.display.title}", read)
