"""Commands that write files for other programs: polygons for GIS and data frames."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from geoae.cli.options import (
    CubeOption,
    DryRun,
    Json,
    Overwrite,
    Quiet,
    cubes_here,
    emit,
    find_cube,
    note,
    size,
)
from geoae.errors import UsageError

__all__ = ["register"]

_Clusters = Annotated[str | None, typer.Option(help="Clusters to export; the only ones by default.")]
_Classes = Annotated[str | None, typer.Option(help="Class table of the summaries.")]
_Projection = Annotated[str | None, typer.Option(help="Projection to export.")]
_City = Annotated[list[str] | None, typer.Option(help="Only this city; may be repeated.")]
_Scene = Annotated[list[str] | None, typer.Option(help="Only this scene; may be repeated.")]
_Split = Annotated[str | None, typer.Option(help="Only this part: test, or NAME:test.")]

_NAMED = 5
"""Scenes that a remark names; --json has them all."""


class Kind(StrEnum):
    """What rasters show."""

    clusters = "clusters"
    classes = "classes"
    summary = "summary"
    fractions = "fractions"


class _Export(TyperGroup):
    """A group in which ``export FILE`` is short for ``export patches FILE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, *ctx.help_option_names}
        # Options may come before the file, so whatever is no command belongs to the one for files.
        if args and args[0] not in known and not ctx.resilient_parsing:
            args = ["patches", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    export = typer.Typer(
        cls=_Export,
        no_args_is_help=True,
        help="Write files for other programs; `geoae export FILE` is short for `geoae export patches FILE`.",
        pretty_exceptions_enable=False,
    )
    export.command()(patches)
    export.command()(rasters)
    export.command()(latents)
    app.add_typer(export, name="export")
    app.command()(cite)


def patches(
    path: Annotated[Path, typer.Argument(help="clusters.gpkg, or .parquet for GeoParquet.")],
    cube: CubeOption = None,
    clusters: _Clusters = None,
    classes: _Classes = None,
    projection: _Projection = None,
    city: _City = None,
    scene: _Scene = None,
    split: _Split = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add to a GeoPackage; its other layers and their styles stay.")
    ] = False,
    prefix: Annotated[
        str, typer.Option(help="Begin the name of every layer of a GeoPackage with this.")
    ] = "",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the patches as polygons with class, height and cluster, styled for QGIS."""
    from geoae.exports import export_geopackage, export_geoparquet  # put off

    writers = {".gpkg": export_geopackage, ".parquet": export_geoparquet}
    if path.suffix.lower() not in writers:
        raise UsageError(f"export writes .gpkg or .parquet, not {path.suffix or path.name!r}")
    only_geopackage = {"add": add, "prefix": prefix} if path.suffix.lower() == ".gpkg" else {}
    if not only_geopackage and (add or prefix):
        raise UsageError(f"{path} has no layers: --add and --prefix are for a GeoPackage")
    report = writers[path.suffix.lower()](
        find_cube(cube),
        path,
        clusters=clusters,
        table=classes,
        projection=projection,
        cities=city or (),
        scenes=scene or (),
        split=split,
        overwrite=overwrite,
        dry_run=dry_run,
        **only_geopackage,
    )
    for text in report.warnings:
        note(f"warning: {text}", quiet=quiet)
    layers = [vars(layer) for layer in report.layers]
    text = f"{report.path}: {report.patches} patches in " + ", ".join(x["name"] for x in layers)
    text += f", at most about {size(report.n_bytes)}" if dry_run else f", {size(report.n_bytes)}"
    if report.kept:
        text += f"; {len(report.kept)} other layers stay"
    text += "; nothing was written" if dry_run else ""
    emit({**vars(report), "layers": layers}, as_json=json, text=text)


def rasters(
    folder: Annotated[Path, typer.Argument(help="Folder for the rasters; made if it is not there.")],
    cube: CubeOption = None,
    kind: Annotated[list[Kind] | None, typer.Option(help="Only this kind; may be repeated.")] = None,
    clusters: _Clusters = None,
    classes: _Classes = None,
    city: _City = None,
    scene: _Scene = None,
    split: _Split = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write clusters and summaries as cloud optimized GeoTIFFs, one pixel a patch.

    Each scene with a CRS gets a file of each kind. Scenes without one are counted and named.
    """
    from geoae.exports import export_rasters  # put off

    report = export_rasters(
        find_cube(cube),
        folder,
        kinds=[one.value for one in kind or ()],
        clusters=clusters,
        table=classes,
        cities=city or (),
        scenes=scene or (),
        split=split,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    for text in report.warnings:
        note(f"warning: {text}", quiet=quiet)
    for reason in sorted(set(report.left_out.values())):
        names = [name for name, why in report.left_out.items() if why == reason]
        listed = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        note(f"{len(names)} scenes with {reason} left out: {listed}", quiet=quiet)
    total = size(sum(file.n_bytes for file in report.files))
    scenes = len({file.scene for file in report.files})
    text = f"{report.path}: {len(report.files)} rasters of {scenes} scenes, "
    text += f"at most about {total}; nothing was written" if dry_run else total
    emit({**vars(report), "files": [vars(file) for file in report.files]}, as_json=json, text=text)


def latents(
    path: Annotated[Path, typer.Argument(help="The GeoParquet file, latents.parquet.")],
    cube: CubeOption = None,
    latents: Annotated[
        str | None, typer.Option(help="Name of the latents; the only ones by default.")
    ] = None,
    clusters: Annotated[
        str | None, typer.Option(help="Clusters to export; the only ones of the latents by default.")
    ] = None,
    classes: _Classes = None,
    projection: _Projection = None,
    city: _City = None,
    scene: _Scene = None,
    split: _Split = None,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="Put a PNG of each patch into the file.")
    ] = False,
    thumbnail_size: Annotated[int, typer.Option(min=1, help="Most pixels along a side of a thumbnail.")] = 64,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write latents as GeoParquet, one row a patch, as Embedding Atlas opens it."""
    from geoae.exports import export_latents  # put off

    report = export_latents(
        find_cube(cube),
        path,
        latents=latents,
        clusters=clusters,
        table=classes,
        projection=projection,
        cities=city or (),
        scenes=scene or (),
        split=split,
        thumbnails=thumbnails,
        thumbnail_side=thumbnail_size,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    for text in report.warnings:
        note(f"warning: {text}", quiet=quiet)
    places = "--vector vector" if report.projection is None else "--x proj_x --y proj_y"
    pictures = " --image thumbnail" if report.thumbnail_side else ""
    note(f"open it: embedding-atlas {path} {places}{pictures}", quiet=quiet or dry_run)
    text = f"{report.path}: {report.patches} vectors of {report.latent_dim} components"
    if report.thumbnail_side:
        text += f", thumbnails of {report.thumbnail_side} pixels"
    text += f", at most about {size(report.n_bytes)}" if dry_run else f", {size(report.n_bytes)}"
    if report.left_out:
        text += f"; {report.left_out} patches have no vector"
    text += "; nothing was written" if dry_run else ""
    emit({**vars(report), "dry_run": dry_run}, as_json=json, text=text)


def cite(
    cube: CubeOption = None,
    bibtex: Annotated[bool, typer.Option("--bibtex", help="Print entries of BibTeX.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say whom to cite: the data set of a cube with its licence, geoae, and the encoders of its latents.

    Without a cube, geoae alone.
    """
    from geoae.citations import cite as run  # put off

    if bibtex and json:
        raise UsageError("--bibtex and --json are two forms of one answer", hint="choose one")
    found = run(find_cube(cube) if cube is not None or cubes_here() else None)
    if found.data is None:
        note("no cube here: geoae alone; --cube names one", quiet=quiet)
    emit(found.document(), as_json=json, text=found.bibtex() if bibtex else found.text())
