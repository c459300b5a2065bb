"""The demo: a synthetic US3D folder, and every step of the way to a map."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from geoae.clusters import cluster
from geoae.cube import Cube
from geoae.encoding import encode
from geoae.errors import IntegrityError, UsageError
from geoae.exports import export_geopackage, export_geoparquet
from geoae.ingestion import ingest
from geoae.plots import plot_cluster_examples, plot_latents, plot_map, plot_reconstructions
from geoae.projections import project
from geoae.registry import encoder_info
from geoae.summaries import summarize
from geoae.testing import write_us3d
from geoae.verification import verify

__all__ = ["run_demo"]

PATCH = 64
VAE, EPOCHS = "vae", 10
LATENT_DIM = 64
CLUSTERS = 8

Progress = Callable[[str, int, int, Mapping[str, float]], None]


def _silent(_stage: str, _done: int, _total: int, _values: Mapping[str, float]) -> None:
    """Report nothing."""


def run_demo(
    folder: str | Path,
    *,
    tiles: int = 10,
    views: int = 3,
    size: int = 512,
    only_data: bool = False,
    say: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> list[Path]:
    """Write synthetic scenes and run every step on them.

    Parameters
    ----------
    folder
        Where to write: ``us3d/``, ``us3d.zarr``, figures, ``clusters.gpkg``, ``clusters.parquet``.
    tiles, views, size
        Tiles of each city, most views of a tile, side of a view in pixels.
    only_data
        Write the scenes only.
    say
        Called with each step in words.
    progress
        Called as ``progress(stage, done, total, values)``.

    Returns
    -------
    list of Path
        What was made.

    Raises
    ------
    UsageError
        If the folder holds scenes that this demo does not write.
    IntegrityError
        If the cube is not what was written: the machine's disk or memory is broken.
    """
    folder = Path(folder)
    scenes, path = folder / "us3d", folder / "us3d.zarr"
    report: Progress = progress or _silent
    say(f"writing {tiles} tiles of two cities, up to {views} views each, {size} x {size} pixels")
    written = write_us3d(
        scenes,
        tiles=tiles,
        views=views,
        size=size,
        progress=lambda done, total: report("synthesise", done, total, {}),
    )
    strange = sorted({*scenes.rglob("*.tif")} - {*written})
    if strange:
        raise UsageError(
            f"{scenes} holds other scenes too: {strange[0].name}", hint="another folder: `geoae demo FOLDER`"
        )
    if only_data:
        return [scenes]
    say(f"geoae ingest us3d/ --patch {PATCH}")
    ingest(scenes, out=path, patch=PATCH, progress=lambda stage, done, total: report(stage, done, total, {}))
    cube = Cube.open(path)
    say("geoae summarize")
    summarize(cube)
    vae = encoder_info(VAE)
    names = ["pca"] if vae.problem else [VAE, "pca"]
    if vae.problem:
        say(f"  the demo leaves the VAE out: {vae.problem} ({vae.hint})")
    for name in names:
        options = {"latent_dim": LATENT_DIM} | ({"epochs": EPOCHS} if name == VAE else {})
        given = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in options.items())
        say(f"geoae encode --plugin {name} {given}")
        found = encode(cube, plugin=name, options=options, progress=report)
        figures = [f"{k.replace('_', ' ')} {v:.3f}" for k, v in found.metrics.items() if v is not None]
        say("  " + ", ".join([f"{found.latent_dim} components of {found.encoded} patches", *figures]))
    # The code of a VAE has equal variance in all units, so that distances in it say little about classes.
    shown = "pca"
    say(f"geoae cluster --latents {shown} --k {CLUSTERS}")
    cluster(cube, latents=shown, k=CLUSTERS)
    say(f"geoae project --latents {shown}")
    project(cube, latents=shown)
    made = [scenes, path]
    drawings: dict[str, Callable[[], Figure]] = {
        f"reconstructions --latents {','.join(names)}": lambda: plot_reconstructions(cube, names),
        **{f"latents --latents {name}": partial(plot_latents, cube, name) for name in names},
        f"map --clusters {shown}": lambda: plot_map(cube, shown),
        f"examples --clusters {shown}": lambda: plot_cluster_examples(cube, shown),
    }
    for command, draw in drawings.items():
        say(f"geoae plot {command}")
        target = folder / f"{command.split()[0]}-{command.split()[-1].replace(',', '-')}.png"
        draw().savefig(str(target), dpi=200, metadata={"Software": None})
        made.append(target)
    for name, export in (("clusters.gpkg", export_geopackage), ("clusters.parquet", export_geoparquet)):
        say(f"geoae export {name}")
        export(cube, folder / name, clusters=shown, overwrite=True)
        made.append(folder / name)
    say("geoae verify")
    checked = verify(cube)
    if not checked.ok:
        raise IntegrityError(f"{path}: {checked.findings[0].what}", hint=checked.findings[0].hint)
    say(f"  {checked.files} files, all as written")
    return made
