"""The command that brings in latents made elsewhere: attach."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from geoae.cli.options import CubeOption, DryRun, Json, Overwrite, Quiet, emit, find_cube, note

__all__ = ["register"]


class Columns(StrEnum):
    """Columns of a file that say which patch a row is."""

    patch = "patch"
    cell = "cell"
    window = "window"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(attach)


def attach(
    file: Annotated[Path, typer.Argument(help="A .parquet, .npy or .npz file, or a Zarr store.")],
    name: Annotated[str, typer.Option(help="Name of the layer of latents.")],
    cube: CubeOption = None,
    vector: Annotated[
        str | None,
        typer.Option(help="Column or array of the vectors, emb_* for numbered columns; found by default."),
    ] = None,
    by: Annotated[
        Columns | None,
        typer.Option(
            help="Columns to go by: patch; cell: scene_id, row, col; window: scene_id, y_start, x_start."
        ),
    ] = None,
    origin: Annotated[
        str | None, typer.Option(help="Where the latents come from, in your words: model, version.")
    ] = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Bring latents that were made elsewhere into the cube as latents/NAME."""
    from geoae.attachments import attach as run  # put off

    report = run(
        find_cube(cube),
        file,
        name=name,
        vector=vector,
        by=None if by is None else by.value,
        origin=origin,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    if origin is None and report.created:
        note("note: nothing says where the latents come from; --origin TEXT stores it", quiet=quiet)
    text = f"{report.path}: {report.attached} patches, {report.latent_dim} components from {report.file}"
    if report.missing:
        text += f"; {report.missing} patches have none"
    if dry_run:
        text += "; nothing was written"
    elif not report.created:
        text += " (there already, nothing done)"
    emit({**vars(report), "dry_run": dry_run}, as_json=json, text=text)
