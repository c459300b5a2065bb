"""Commands that write files for other programs: polygons for GIS and data frames."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from geoae.cli.options import CubeOption, Json, Overwrite, Quiet, emit, find_cube, note
from geoae.errors import UsageError

__all__ = ["register"]


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
    app.add_typer(export, name="export")


def patches(
    path: Annotated[Path, typer.Argument(help="clusters.gpkg, or .parquet for GeoParquet.")],
    cube: CubeOption = None,
    clusters: Annotated[
        str | None, typer.Option(help="Clusters to export; the only ones by default.")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Class table of the summaries.")] = None,
    projection: Annotated[str | None, typer.Option(help="Projection to export.")] = None,
    city: Annotated[list[str] | None, typer.Option(help="Only this city; may be repeated.")] = None,
    scene: Annotated[list[str] | None, typer.Option(help="Only this scene; may be repeated.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this part: test, or NAME:test.")] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add to a GeoPackage; its other layers and their styles stay.")
    ] = False,
    prefix: Annotated[
        str, typer.Option(help="Begin the name of every layer of a GeoPackage with this.")
    ] = "",
    overwrite: Overwrite = False,
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
        **only_geopackage,
    )
    for text in report.warnings:
        note(f"warning: {text}", quiet=quiet)
    layers = [vars(layer) for layer in report.layers]
    text = f"{report.path}: {report.patches} patches in " + ", ".join(x["name"] for x in layers)
    if report.kept:
        text += f"; {len(report.kept)} other layers stay"
    emit({**vars(report), "layers": layers}, as_json=json, text=text)
