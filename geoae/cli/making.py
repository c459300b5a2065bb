"""Commands that make cubes: ingest and demo."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from geoae.cli.options import DryRun, Json, Overwrite, Quiet, emit, note, size
from geoae.cli.progress import progress
from geoae.errors import UsageError

__all__ = ["register"]


class EdgeChoice(StrEnum):
    """What to do with pixels that do not fill a patch."""

    drop = "drop"
    pad = "pad"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(ingest)
    app.command()(demo)


def _bbox(text: str | None) -> Any:
    from geoae.grid import Bounds  # put off

    if text is None:
        return None
    try:
        xmin, ymin, xmax, ymax = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--bbox is xmin,ymin,xmax,ymax, not {text!r}") from None
    if xmin >= xmax or ymin >= ymax:
        raise UsageError(f"--bbox {text!r} is empty: xmin < xmax and ymin < ymax")
    return Bounds(xmin, ymin, xmax, ymax)


def ingest(
    folder: Annotated[Path, typer.Argument(help="Folder with the rasters, searched recursively.")],
    out: Annotated[str | None, typer.Option(help="The cube; FOLDER's name + .zarr here by default.")] = None,
    catalog: Annotated[str | None, typer.Option(help="Name or path of a catalog.")] = None,
    pattern: Annotated[
        str | None, typer.Option(help='How files are named, for the generic catalog: "{scene}_{kind}.tif".')
    ] = None,
    patch: Annotated[int, typer.Option(min=1, help="Side of a patch in pixels.")] = 128,
    stride: Annotated[
        int | None, typer.Option(min=1, help="Step between patches; the patch by default.")
    ] = None,
    edge: Annotated[EdgeChoice, typer.Option(help="Pixels that do not fill a patch.")] = EdgeChoice.drop,
    min_valid: Annotated[
        float, typer.Option(min=0, max=1, help="Share of valid pixels that later steps need.")
    ] = 0.5,
    city: Annotated[list[str] | None, typer.Option(help="Only this city; may be repeated.")] = None,
    scene: Annotated[list[str] | None, typer.Option(help="Only this scene; may be repeated.")] = None,
    bbox: Annotated[str | None, typer.Option(help="Only scenes that touch xmin,ymin,xmax,ymax.")] = None,
    bbox_crs: Annotated[str | None, typer.Option(help="CRS of --bbox; each scene's own by default.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many scenes.")] = None,
    resolution: Annotated[
        float | None, typer.Option(help="Resample all scenes to this pixel size, m.")
    ] = None,
    mixed_resolution: Annotated[bool, typer.Option(help="Accept pixel sizes that differ.")] = False,
    skip_bad: Annotated[bool, typer.Option(help="Keep unusable scenes as void instead of failing.")] = False,
    follow_symlinks: Annotated[bool, typer.Option(help="Follow links that leave the folder.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; all processors by default.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="A Dask scheduler, tcp://host:8786.")] = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Make a cube of patches from a folder of rasters.

    The shipped catalog that explains most scenes is taken unless --catalog says otherwise. A run that was
    interrupted goes on where it was.
    """
    from geoae.ingestion import ingest as run  # put off
    from geoae.planning import Selection  # put off

    selection = Selection(tuple(city or ()), tuple(scene or ()), _bbox(bbox), bbox_crs, limit)
    with progress(quiet or json) as report:
        result = run(
            folder,
            catalog=catalog,
            pattern=pattern,
            out=out,
            patch=patch,
            stride=stride,
            edge=edge.value,
            min_valid=min_valid,
            selection=selection,
            resolution=resolution,
            mixed_resolution=mixed_resolution,
            skip_bad=skip_bad,
            follow_symlinks=follow_symlinks,
            workers=workers,
            scheduler=scheduler,
            overwrite=overwrite,
            dry_run=dry_run,
            progress=lambda stage, done, total: report(stage, done, total, {}),
            announce=lambda planned: note(_plan_text(planned), quiet=quiet or json),
        )
    if dry_run:
        note(_plan_text(result), quiet=quiet or json)
    emit(_ingest_document(result, dry_run), as_json=json, text=_ingest_text(result, dry_run))
    return 4 if result.partial else 0


def _plan_text(report: Any) -> str:
    """Say what will be ingested, what not, and how large it gets."""
    from geoae.ingestion import COMPRESSED  # put off

    plan = report.plan
    cities = sorted({s.scene.fields.get("city", "") for s in plan.scenes} - {""})
    lines = [
        f"{plan.catalog.title}: {len(plan.scenes)} scenes"
        + (f" of {', '.join(cities)}" if cities else "")
        + f", {plan.patches.n_patches} patches of {plan.patches.patch} pixels"
    ]
    for name, ways in plan.counts().items():
        lines.append(f"  {name}: " + ", ".join(f"{number} {how}" for how, number in sorted(ways.items())))
    short = sum(1 for count in plan.patches.counts if count == 0)
    if short:
        lines.append(f"  {short} scenes hold no patch")
    dropped = int(plan.patches.dropped_pixels.sum())
    if dropped:
        lines.append(f"  {dropped} pixels at the edges lie in no patch (--edge pad keeps them)")
    free = "" if report.free_bytes is None else f", {size(report.free_bytes)} free"
    on_disk = size(report.n_bytes * COMPRESSED)
    lines.append(f"  about {on_disk} on disk, {size(report.n_bytes)} of pixels{free}")
    for title, items in (("ignored", plan.ignored), ("problem", plan.problems), ("note", plan.notes)):
        lines += [f"  {title}: {item}" for item in items[:5]]
        if len(items) > 5:
            lines.append(f"  and {len(items) - 5} more; --json --dry-run lists all")
    return "\n".join(lines)


def _ingest_text(report: Any, dry_run: bool) -> str:
    if dry_run:
        return f"{report.cube} would be made"
    text = f"{report.cube} " + ("made" if report.created else "is complete already, nothing done")
    if report.resumed:
        text += f", {report.resumed} of {report.plan.n_shards} shards were there"
    if report.bad:
        text += f"; {len(report.bad)} scenes skipped: " + "; ".join(
            f"{k}: {v}" for k, v in report.bad.items()
        )
    return text


def _ingest_document(report: Any, dry_run: bool) -> dict[str, Any]:
    plan = report.plan
    return {
        "cube": report.cube,
        "cube_id": report.cube_id,
        "dry_run": dry_run,
        "created": report.created,
        "resumed_shards": report.resumed,
        "catalog": plan.catalog.name,
        "scenes": len(plan.scenes),
        "patches": plan.patches.n_patches,
        "modalities": plan.counts(),
        "bytes": report.n_bytes,
        "free_bytes": report.free_bytes,
        "dropped_pixels": int(plan.patches.dropped_pixels.sum()),
        "skipped": dict(report.bad),
        "ignored": list(plan.ignored),
        "problems": list(plan.problems),
        "notes": list(plan.notes),
    }


def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write.")] = Path("demo"),
    tiles: Annotated[int, typer.Option(min=1, help="Tiles in each city.")] = 10,
    views: Annotated[int, typer.Option(min=1, help="Most views of a tile.")] = 3,
    size: Annotated[int, typer.Option(min=64, help="Side of a view in pixels.")] = 512,
    only_data: Annotated[
        bool, typer.Option("--only-data", help="Write the synthetic scenes only, FOLDER/us3d.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a synthetic US3D folder and run every step on it."""
    from geoae.demo import run_demo  # put off

    with progress(quiet or json) as report:
        made = run_demo(
            folder,
            tiles=tiles,
            views=views,
            size=size,
            only_data=only_data,
            say=lambda text: note(text, quiet=quiet or json),
            progress=report,
        )
    emit({"made": made}, as_json=json, text="\n".join(map(str, made)))
