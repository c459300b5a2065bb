"""Commands that write layers of patches: summarize, cluster, project, footprints."""

from pathlib import Path
from typing import Annotated

import typer

from geoae.cli.options import CubeOption, DryRun, Json, Overwrite, Quiet, emit, find_cube, note
from geoae.cli.progress import progress
from geoae.schema import CODES_TABLE

__all__ = ["register"]

_CODES_HINT = (
    "note: the catalog has no class table, so every label code is a class of its own; to name, colour or "
    "void classes, ingest with a catalog that has one: `geoae catalogs init FOLDER` starts it"
)

_FEW = 16
"""Clusters whose sizes a line lists one by one."""

Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(summarize)
    app.command()(cluster)
    app.command()(project)
    app.command()(footprints)


def summarize(
    cube: CubeOption = None,
    classes: Annotated[
        str | None, typer.Option(help="Class table of the catalog; its default if not named.")
    ] = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compute dominant class, class fractions, purity and heights of every patch."""
    from geoae.summaries import summarize as run  # put off

    with progress(quiet or json) as report:
        path = run(
            find_cube(cube),
            table=classes,
            overwrite=overwrite,
            progress=lambda done, total: report("summarize", done, total, {}),
            dry_run=dry_run,
        )
    if path == f"summaries/{CODES_TABLE}" and classes is None:
        note(_CODES_HINT, quiet=quiet)
    text = f"{path} can be made; nothing was written" if dry_run else path
    emit({"path": path, "dry_run": dry_run}, as_json=json, text=text)


def cluster(
    latents: Annotated[str, typer.Option(help="Name of the latents.")],
    cube: CubeOption = None,
    k: Annotated[int, typer.Option("--k", min=1, help="Number of clusters.")] = 8,
    method: Annotated[str, typer.Option(help="minibatch-kmeans or kmeans.")] = "minibatch-kmeans",
    whiten: Annotated[bool, typer.Option(help="Give all components equal weight.")] = False,
    seed: Seed = 0,
    name: Annotated[str | None, typer.Option(help="Name of the clusters; the latents' by default.")] = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Group patches by their latent vectors; write clusters/NAME."""
    from geoae.clusters import cluster as run  # put off

    report = run(
        find_cube(cube),
        latents=latents,
        k=k,
        method=method,  # type: ignore[arg-type]
        whiten=whiten,
        seed=seed,
        name=name,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    for text in report.notes:
        note(f"note: {text}", quiet=quiet)
    silhouette = "" if report.silhouette is None else f", silhouette {report.silhouette:.3f}"
    sizes = ", ".join(map(str, report.size))
    if len(report.size) > _FEW:
        sizes = f"{report.size[0]} to {report.size[-1]}"
    text = f"{report.path}: {report.k} clusters of {sizes} patches{silhouette}"
    if report.unused:
        text += f"; {report.unused} patches have no latents"
    text += "; nothing was written" if dry_run else ""
    emit({**vars(report), "dry_run": dry_run}, as_json=json, text=text)


def project(
    latents: Annotated[str, typer.Option(help="Name of the latents.")],
    cube: CubeOption = None,
    method: Annotated[str, typer.Option(help="pca.")] = "pca",
    components: Annotated[int, typer.Option(min=1, help="Number of axes.")] = 2,
    seed: Seed = 0,
    name: Annotated[str | None, typer.Option(help="Name of the projection.")] = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Lay latent vectors out on a few axes; write projections/NAME."""
    from geoae.projections import project as run  # put off

    report = run(
        find_cube(cube),
        latents=latents,
        method=method,  # type: ignore[arg-type]
        components=components,
        seed=seed,
        name=name,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    for text in getattr(report, "notes", ()):
        note(f"note: {text}", quiet=quiet)
    text = report.path
    if dry_run:
        text += f": {report.axes} axes for {report.used} patches; nothing was written"
    emit({**vars(report), "dry_run": dry_run}, as_json=json, text=text)


def footprints(
    source: Annotated[
        Path,
        typer.Argument(help="Folder with *_DSM.txt and the like, or a .csv or .gpkg of tiles."),
    ],
    cube: CubeOption = None,
    crs: Annotated[
        str | None, typer.Option(help="CRS of the footprints where neither they nor the catalog say it.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the footprints.")] = "tiles",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say where the tiles of scenes without a CRS lie, approximately; write footprints/NAME.

    Exports then have a layer of tiles with counts of their patches. No raster and no patch gets a CRS.
    """
    from geoae.footprints import place_tiles  # put off

    report = place_tiles(find_cube(cube), source, name=name, crs=crs, overwrite=overwrite)
    for what, tiles in (
        ("tiles have no footprint", report.without),
        ("footprints fit no tile", report.unused),
    ):
        if tiles:
            more = f" and {len(tiles) - 5} more" if len(tiles) > 5 else ""
            note(f"note: {len(tiles)} {what}: {', '.join(tiles[:5])}{more}", quiet=quiet)
    text = f"{report.path}: {report.tiles} tiles with {report.patches} patches, approximate"
    emit(vars(report), as_json=json, text=text)
